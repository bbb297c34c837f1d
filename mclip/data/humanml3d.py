"""HumanML3D's captions for AMASS's recordings. https://github.com/EricGuo5513/HumanML3D

A folder with `index.csv`, and `texts/` in it or in its folder `HumanML3D/`:

    index.csv         source_path, start_frame, end_frame, new_name: which frames, after thinning to 20 a second, of
                      "./pose_data/KIT/3/kick_high_left02_poses.npy" are the motion "000000.npy"
    texts/000000.txt  a caption on each line: caption#words with their kinds#start#end, in seconds of that motion; 0 and
                      0 mean all of it

An excerpt's captions are alternatives: training draws one of them, and a joined window caption has the last. Its
mirrored motions (names with M) are none here: training mirrors. Its own split goes by excerpt, not by recording, so
that parts of one recording are trained and tested on; it is not used.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

from mclip.data.amass import dataset_of, recording_key
from mclip.data.annotations import Annotation, Segment, one_line, read_text
from mclip.errors import DataError

COLUMNS = ("source_path", "start_frame", "end_frame", "new_name")
FPS = 20.0
# Seconds that HumanML3D cuts from the beginning of every recording of a data set before it counts frames.
_CUT = {"EyesJapanDataset": 3.0, "HDM05": 3.0, "TotalCapture": 1.0, "PosePrior": 1.0, "Transitions": 0.5}
_HINT = "the folder is a clone of HumanML3D with index.csv, and texts.zip unpacked to texts/"


def read_humanml3d(folder: Path) -> list[Annotation]:
    """All excerpts with their captions; one of several captions of an excerpt is the action class of all.

    Raises DataError, with file and line, for what is missing or of another layout.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}", _HINT)
    texts = _texts(folder)
    path = folder / "index.csv"
    rows = csv.reader(read_text(path, _HINT).splitlines())
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataError(f"{path}:1: has no column {missing[0]!r}", f"columns: {', '.join(COLUMNS)}")
    annotations = []
    for row in rows:
        where = f"{path}:{rows.line_num}"
        if len(row) != len(header):
            raise DataError(f"{where}: has {len(row)} cells, the header has {len(header)}", _HINT)
        source, start, end, name = (dict(zip(header, row, strict=True))[column].strip() for column in COLUMNS)
        if name.startswith("M"):
            continue
        stem = name.removesuffix(".npy")
        if not stem.isalnum():
            raise DataError(f"{where}: new_name is {name!r}, not a name such as 000000.npy", _HINT)
        text = texts / f"{stem}.txt"
        if not text.exists():
            raise DataError(f"{where}: its captions are missing, {text}", _HINT)
        key = recording_key(source)
        shift = _CUT.get(dataset_of(key), 0.0)
        first, last = _frame(start, f"{where}: start_frame"), _frame(end, f"{where}: end_frame")
        segments = _segments(text, shift + first / FPS, shift + last / FPS)
        annotations.append(Annotation(path=source, key=key, split=None, rate=FPS, segments=segments))
    if not annotations:
        raise DataError(f"{path}: has no rows", _HINT)
    return annotations


def humanml3d_files(folder: Path) -> list[Path]:
    """The files that `read_humanml3d` reads."""
    return [folder / "index.csv", *sorted(path for path in _texts(folder).glob("*.txt") if path.name[:1] != "M")]


def _texts(folder: Path) -> Path:
    for texts in (folder / "texts", folder / "HumanML3D" / "texts"):
        if texts.is_dir():
            return texts
    raise DataError(f"{folder}: has no folder texts/", _HINT)


def _frame(value: str, where: str) -> int:
    # isdecimal allows digits of other scripts, as int does.
    if not value.isdecimal() or len(value) > 9:
        raise DataError(f"{where} is {value!r}, not a frame number", _HINT)
    return int(value)


def _segments(path: Path, start: float, end: float) -> tuple[Segment, ...]:
    """The captions of an excerpt that lies from start to end of its recording, in seconds of 20 frames."""
    segments: list[Segment] = []
    for number, line in enumerate(read_text(path, _HINT).splitlines(), start=1):
        if not line.strip():
            continue
        # A caption may hold "#" itself.
        parts = line.rsplit("#", 3)
        caption = one_line(parts[0])
        if len(parts) < 4 or not caption:
            raise DataError(f"{path}:{number}: is not caption#words#start#end", _HINT)
        first, last = (_seconds(part, f"{path}:{number}") for part in parts[2:])
        segments.append(
            Segment(
                start=start + first,
                end=min(start + last, end) if last > first else end,
                caption=caption,
                processed="",
                label=segments[0].label if segments else caption,
                categories=(),
                layer=0,
            )
        )
    return tuple(segments)


def _seconds(value: str, where: str) -> float:
    """Seconds; HumanML3D has "nan" for none, which means 0."""
    try:
        seconds = float(value)
    except ValueError:
        raise DataError(f"{where}: {value!r} is not a number of seconds", _HINT) from None
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), 86_400.0)
