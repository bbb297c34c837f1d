"""Everything mclip raises on purpose.

    MclipError                exit 1   ours; never raised itself
    ├── UsageError            exit 2   options that contradict each other, or an output that may not be overwritten
    ├── RecipeError           exit 3   a recipe file: key, type or range
    ├── DataError             exit 4   a folder, label file or store
    │   └── MotionError       exit 4   a motion file or array
    ├── AssetError            exit 5   a licensed or external file, or an optional package, is missing
    ├── PackError             exit 6   a pack that is missing, corrupt or too new
    └── DeviceError           exit 7   the requested device is not available

The message says what is wrong and where; the hint says what to do next. Both together fit in three lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class MclipError(Exception):
    """A failure the user can understand and act on.

    message: what is wrong, and where (a path, a key, a line).
    hint: the next step; empty when the message already says it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[MclipError], tuple[str, str]]:
        # Worker processes send errors back to their parent.
        return type(self), (self.message, self.hint)


class UsageError(MclipError):
    """Options contradict each other, or an output may not be written."""

    exit_code = 2


class RecipeError(MclipError):
    """A recipe has an unknown key, a wrong type or a value out of range."""

    exit_code = 3


class DataError(MclipError):
    """A folder, label file or store cannot be used."""

    exit_code = 4


class MotionError(DataError):
    """A motion file or array has the wrong format, shape or values."""


class AssetError(MclipError):
    """A licensed or external file, or an optional package, is missing."""

    exit_code = 5


class PackError(MclipError):
    """A pack is missing, corrupt, or newer than this mclip."""

    exit_code = 6


class DeviceError(MclipError):
    """The requested device is not available."""

    exit_code = 7


def choices(value: str, known: Iterable[str]) -> str:
    """A hint for someone who typed `value` instead of one of the known names."""
    names = list(known)
    return meant(value, names) + f"choose one of {', '.join(names)}"


def meant(value: str, known: Iterable[str]) -> str:
    """A question about the known name that `value` is a slip of, with a space after it, or ""."""
    import difflib  # only when something went wrong

    near = difflib.get_close_matches(value.lower(), list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


def shown(value: object, limit: int = 60) -> str:
    """A value out of a file as it fits into a message.

    Python's own words for a value may be longer than memory allows (lists of lists that stand for each other), nested
    too deeply, or refused (numbers of thousands of digits).
    """
    if isinstance(value, dict | list | tuple | set):
        return "a table" if isinstance(value, dict) else f"a list of {len(value)}"
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[:limit]}..."
