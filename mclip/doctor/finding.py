"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

OK, WARNING, ERROR = "ok", "warning", "error"
# Of a terminal.
WIDTH = 80
_STATUS, _NAME = 9, 16


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    name    what: the same for each finding of a check
    status  OK; WARNING: something optional does not work, or not as well as it could; ERROR: mclip cannot work
    text    what was found
    step    what to type or to do about it, a line each; "" where nothing is to be done
    """

    name: str
    status: str
    text: str
    step: str = ""

    def lines(self) -> list[str]:
        """The finding as text of WIDTH columns; commands are not broken within words."""
        first = f"{self.status:{_STATUS}}{self.name:{_NAME}}"
        text = wrapped(self.text, _STATUS + _NAME)
        steps = [f"{'':{_STATUS}}> {line}" for step in self.step.splitlines() for line in wrapped(step, _STATUS + 2)]
        return [first + text[0], *(" " * len(first) + line for line in text[1:]), *steps]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What the user wants looked at besides the machine; None for what was not given."""

    amass: Path | None = None
    babel: Path | None = None
    bodies: Path | None = None
    clip_weights: Path | None = None


def wrapped(text: str, indent: int) -> list[str]:
    """A text as lines that fit behind `indent` columns; words longer than that are not broken."""
    # File names and other programs' messages may hold anything.
    clean = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return wrap(clean, WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
