"""What data sets of labels (BABEL, HumanML3D) say about AMASS's recordings, in one form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mclip.data.labels import MAX_CAPTION, MAX_LABEL_BYTES
from mclip.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One label of a recording.

    start, end  seconds by the annotation's clock (`Annotation.stretch`); None means the beginning and the end
    caption     as it was written; processed: as the data set cleaned it, or "" if it did not
    label       the action class; categories: all of them, None if the data set has none and `label` stands for them
    layer       labels of one layer and recording hold frames by turns, the later one first (mclip.data.store)
    """

    start: float | None
    end: float | None
    caption: str
    processed: str
    label: str
    categories: tuple[str, ...] | None
    layer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """The labels of one recording.

    path      as the data set writes it; key: what it is found by (mclip.data.amass)
    split     "train", "val" or "test", or None if the data set has none
    seconds   what the annotators took the recording to last, or None
    rate      frames per second they took it to be thinned to, or None
    """

    path: str
    key: str
    split: str | None
    segments: tuple[Segment, ...]
    seconds: float | None = None
    rate: float | None = None

    def stretch(self, fps: float, frames: int) -> float:
        """Seconds of the file for one second by the annotation's clock; fps and frames: of the file.

        Annotators who took a recording to last twice as long as it does made their labels twice as long, too; durations
        that agree are equal but for rounding. Frames were thinned by keeping every n-th, for the largest whole n that
        leaves `rate` a second or more.
        """
        if self.seconds is not None:
            return frames / fps / self.seconds if self.disagrees(fps, frames) else 1.0
        if self.rate is not None:
            return self.rate * max(int(fps / self.rate), 1) / fps
        return 1.0

    def disagrees(self, fps: float, frames: int) -> bool:
        """Whether file and annotators disagree on the duration by more than 2 % and two frames."""
        off = 0.0 if self.seconds is None else abs(frames / fps - self.seconds)
        return off > max(0.02 * (self.seconds or 0.0), 2 / fps)


def read_text(path: Path, hint: str) -> str:
    """A text file, whole. Raises DataError, with the hint, when it is missing, too large or not UTF-8."""
    if not path.is_file():
        raise DataError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}", hint)
    if path.stat().st_size > MAX_LABEL_BYTES:
        raise DataError(f"{path}: is larger than {MAX_LABEL_BYTES >> 20} MiB", hint)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8", hint) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: Path, hint: str) -> Any:
    """A JSON file, whole. Raises DataError as `read_text`, and when it is not JSON, such as half of it."""
    text = read_text(path, hint)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        whole = text.strip()
        half = error.pos >= len(text.rstrip()) - 1 or (whole.startswith("{") and not whole.endswith("}"))
        what = "breaks off: its JSON has no end" if half else "is not JSON"
        raise DataError(f"{path}: {what} (character {error.pos} of {len(text)}: {error.msg})", hint) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})", hint) from None


def one_line(text: str) -> str:
    """A caption with inner white space as single spaces, cut to what a caption may have."""
    # HDF5 pads with NUL: a caption of nothing else would be empty.
    return " ".join(text.replace("\0", " ").split())[:MAX_CAPTION]
