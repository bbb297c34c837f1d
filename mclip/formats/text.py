"""What the text formats share: limits, reading a file, and fast numbers."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.files import open_regular

# An hour of a 60-joint skeleton at 120 fps is 0.7 GB of text.
MAX_FILE_BYTES = 1 << 30
# Full hands and face stay below 200.
MAX_JOINTS = 1000
# float64 matrices of all joints and frames are held at once, about 200 bytes a joint and frame: 4 GB.
MAX_JOINT_FRAMES = 20_000_000
# More than this many, half a gigabyte, only if the file has a number for each: joints without channels cost it nothing.
FREE_JOINT_FRAMES = 2_000_000
# Angles in degrees, lengths in any unit; beyond it float32 squares overflow long before a user would see anything.
MAX_VALUE = 1e9


def read_text(path: Path) -> str:
    """The text of a file. Raises MotionError when it cannot be read or is larger than MAX_FILE_BYTES."""
    try:
        with open_regular(path) as file:
            # Asked for at most so many bytes, Python takes memory for all of them first.
            large = os.fstat(file.fileno()).st_size > MAX_FILE_BYTES
            content = b"" if large else file.read()
    except OSError as error:
        raise MotionError(f"{path}: cannot be read ({error.strerror or error})") from None
    if large:
        raise MotionError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB", "cut the file into pieces")
    # Joint names may be in any encoding; everything else is ASCII.
    text = content.decode("utf-8", errors="replace").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_size(path: Path, frames: int, joints: int, values: int) -> None:
    """Raise MotionError when so many frames of so many joints, of `values` numbers in the file, are too large."""
    if frames * joints > min(MAX_JOINT_FRAMES, max(FREE_JOINT_FRAMES, values)):
        raise MotionError(f"{path}: {frames} frames of {joints} joints are too many", "cut the file into pieces")


def first_bad(text: str) -> tuple[int, str]:
    """Line, counted from 1, and text of the first word that is not a number."""
    lines = text.splitlines()
    at = _first_bad_of(lines)
    words = lines[at].split() if lines else []
    return (at + 1, words[_first_bad_of(words)][:40]) if words else (1, text.strip()[:40])


def _first_bad_of(parts: list[str]) -> int:
    """The first of the parts that has anything but numbers, or the last: by halves, as each call takes its time."""
    low, high = 0, len(parts)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if numbers(parts[low:middle]) is None else (middle, high)
    return low


def numbers(text: str | list[str]) -> NDArray[np.float64] | None:
    """The numbers of a text, none beyond MAX_VALUE, or None if there is anything else."""
    if isinstance(text, list):
        text = " ".join(text)
    if not text.strip():
        return np.empty(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older numpy only warns of what it cannot read
            values = np.fromstring(text, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        return None
    return values if (np.abs(values) <= MAX_VALUE).all() else None


def number(word: str) -> float | None:
    """One number, or None."""
    values = numbers(word)
    return float(values[0]) if values is not None and len(values) == 1 else None
