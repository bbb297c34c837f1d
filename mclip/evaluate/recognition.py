"""Naming what a motion shows: by labels' captions, and by the bare names of a list of classes.

BABEL-60 and BABEL-120 are the first 60 and 120 action classes of BABEL (Punnakkal et al. 2021). MotionCLIP's own
evaluation cuts the motions of a split (val) into pieces of 100 frames, drops the rest, draws one window of 60 frames in
each, leaves out windows with none of the classes, and embeds the bare class names. A window counts as recognised if
any of its classes is among the nearest k. Three scores of the same ranking:

    any       that rule
    strict    only the class that fills most of the window's frames counts; of equals the earlier in the list
    balanced  strict, averaged within each class that is some window's main class, then over these classes
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.data.captions import WindowCaptions
from mclip.data.pieces import pieces, places
from mclip.data.store import MotionStore
from mclip.errors import DataError, UsageError, shown
from mclip.evaluate.retrieval import ranks_of
from mclip.runtime.babel import BABEL_60, BABEL_120

# Frames of a piece to frames of a window drawn in it: 100 to 60.
PIECE = 5 / 3
TOP = (1, 5)
LISTS = {"babel-60": BABEL_60, "babel-120": BABEL_120}
# BABEL's list of 150 classes has 3 kB.
MAX_CLASS_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """Shares of windows recognised, see the module docstring.

    windows: how many; classes: how many are some window's main class
    """

    windows: int
    classes: int
    any_top1: float
    any_top5: float
    strict_top1: float
    strict_top5: float
    balanced_top1: float
    balanced_top5: float


@dataclass(frozen=True, slots=True)
class Named:
    """A class name said of frames start to stop (exclusive) of a store."""

    start: int
    stop: int
    name: str


def class_scores(scores: NDArray[np.float32], frames: NDArray[np.int64]) -> ClassScores:
    """Score a ranking of classes.

    scores (n, M): how near each class is to each window; a tie counts against the right one
    frames (n, M): how many of the window's frames show each class; each window has some
    """
    main = frames.argmax(axis=1)
    first = ranks_of(scores, frames > 0)
    strict = ranks_of(scores, np.arange(scores.shape[1]) == main[:, None])
    figures: dict[str, float] = {}
    for top in TOP:
        figures[f"any_top{top}"] = float((first <= top).mean())
        figures[f"strict_top{top}"] = float((strict <= top).mean())
        figures[f"balanced_top{top}"] = float(
            np.mean([(strict[main == each] <= top).mean() for each in np.unique(main)])
        )
    return ClassScores(windows=len(scores), classes=len(np.unique(main)), **figures)


def names_of(store: MotionStore, split: str) -> list[Named]:
    """What the categories of a store's captions say about the motions of a split; each frame at most once a name."""
    heard = WindowCaptions(store)
    said: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for motion in np.flatnonzero(np.array(store.split) == split).tolist():
        first = int(store.offsets[motion])
        for row, start, stop in heard.parts(motion):
            for label in store.captions.categories(row).tolist():
                said[store.labels[label]].append((first + start, first + stop))
    return [Named(start, stop, name) for name in sorted(said) for start, stop in _merge(said[name])]


def _merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals that cover the same frames and do not overlap."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(intervals):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def draw_windows(store: MotionStore, split: str, length: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Windows (n, 2), start and stop in store frames: one of `length` frames in each piece (module docstring)."""
    piece = round(length * PIECE)
    starts = np.array(
        [
            start
            for motion in range(len(store))
            if store.split[motion] == split
            for start, _ in pieces(int(store.offsets[motion]), int(store.offsets[motion + 1]), piece)
        ],
        np.int64,
    )
    starts += random.integers(0, places(piece, length), len(starts))
    return np.stack([starts, starts + length], axis=-1)


def count_frames(windows: NDArray[np.int64], named: Sequence[Named], classes: Sequence[str]) -> NDArray[np.int64]:
    """How many frames of each window show each class (n, M); the spans of one name do not overlap."""
    column = {name: index for index, name in enumerate(classes)}
    result = np.zeros((len(windows), len(classes)), np.int64)
    for each in named:
        if each.name in column:
            shared = np.minimum(windows[:, 1], each.stop) - np.maximum(windows[:, 0], each.start)
            result[:, column[each.name]] += np.maximum(shared, 0)
    return result


def find_classes(name: str) -> tuple[str, ...]:
    """A list of classes by name (LISTS), or from a file: see `read_classes`."""
    return LISTS[name] if name in LISTS else read_classes(Path(name))


def read_classes(path: Path) -> tuple[str, ...]:
    """A list of classes from a file: one name a line, or a JSON object of names and numbers as BABEL gives it.

    Raises DataError when it cannot be read, UsageError for less than two classes or one twice.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CLASS_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror})", f"give {', '.join(LISTS)}, or a file with one class a line"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text", "write one class a line") from None
    if len(content) > MAX_CLASS_BYTES:
        raise DataError(f"{path}: is larger than {MAX_CLASS_BYTES // 1_000_000} MB, no list of classes")
    names = _from_json(path, text) if text.lstrip().startswith("{") else [line.strip() for line in text.splitlines()]
    classes = tuple(name for name in names if name)
    if twice := sorted(name for name, count in Counter(classes).items() if count > 1):
        raise UsageError(f"{path}: has {shown(twice[0])} twice", "write each class once")
    if len(classes) < 2:
        raise UsageError(f"{path}: has {len(classes)} classes, there is nothing to choose from", "one class a line")
    return classes


def _from_json(path: Path, text: str) -> list[str]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})", "write one class a line") from None
    if not isinstance(table, dict) or not all(type(number) is int for number in table.values()):
        raise DataError(f"{path}: is no object of class names and their numbers", 'such as {"walk": 0, "stand": 1}')
    return sorted(table, key=table.__getitem__)
