"""What the text formats share: limits, reading a file, and fast numbers."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError

# An hour of a 60-joint skeleton at 120 fps is 0.7 GB of text.
MAX_FILE_BYTES = 1 << 30
# Full hands and face stay below 200.
MAX_JOINTS = 1000
# float64 matrices of all joints and frames are held at once, about 200 bytes a joint and frame: 4 GB.
MAX_JOINT_FRAMES = 20_000_000
# Angles in degrees, lengths in any unit; beyond it float32 squares overflow long before a user would see anything.
MAX_VALUE = 1e9


def read_text(path: Path) -> str:
    """The text of a file. Raises MotionError when it cannot be read or is larger than MAX_FILE_BYTES."""
    try:
        with path.open("rb") as file:
            # Python sets aside as many bytes as are asked for, so a small file is asked for few.
            content = file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES) + 1)
    except OSError as error:
        raise MotionError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(content) > MAX_FILE_BYTES:
        raise MotionError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB", "cut the file into pieces")
    # Joint names may be in any encoding; everything else is ASCII.
    text = content.decode("utf-8", errors="replace").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
