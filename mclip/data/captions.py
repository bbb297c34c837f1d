"""The captions of a store's motions, from a label file's rows or from file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mclip.data.labels import Label, caption_from_name, match_labels, swap_left_right
from mclip.data.store import StoreWriter


@dataclass(slots=True)
class CaptionTable:
    """The captions' columns (mclip.data.store) while they are gathered.

    texts, labels  numbered in order of appearance
    classes        motion -> the action class of its first caption
    split          motion -> the split that the label file wants
    notes          what the user should know
    """

    motion: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    stop: list[int] = field(default_factory=list)
    text: list[int] = field(default_factory=list)
    mirrored: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    split: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, motion: int, start: int, stop: int, caption: str, label: str) -> None:
        """Say `caption` of frames start to stop (exclusive) of a motion."""
        self.motion.append(motion)
        self.start.append(start)
        self.stop.append(stop)
        self.text.append(self.texts.setdefault(caption, len(self.texts)))
        self.mirrored.append(self.texts.setdefault(swap_left_right(caption), len(self.texts)))
        self.label.append(self.labels.setdefault(label, len(self.labels)))
        self.classes.setdefault(motion, label)

    def write(self, writer: StoreWriter) -> None:
        """Write captions, texts and labels."""
        for name in ("motion", "start", "stop", "text", "mirrored", "label"):
            writer.array(f"captions/{name}", np.array(getattr(self, name), np.int32))
        writer.strings("texts", list(self.texts))
        writer.strings("labels", list(self.labels))


def captions_from_names(paths: Sequence[str], frames: Sequence[int]) -> CaptionTable:
    """A caption for each motion whose file name, take or folder has words; frames: the motions' lengths."""
    table = CaptionTable()
    for motion, path in enumerate(paths):
        caption = caption_from_name(path)
        if caption:
            table.add(motion, 0, frames[motion], caption, caption)
    _note_bare(table, len(paths))
    return table


def captions_from_labels(
    rows: Sequence[Label], paths: Sequence[str], frames: Sequence[int], skipped: Sequence[str], fps: float
) -> CaptionTable:
    """The rows as captions, ordered by motion; frames: the motions' lengths, skipped: files that have no motion."""
    table = CaptionTable()
    matched, missing = match_labels(rows, paths)
    outside = 0
    for motion, row in sorted(matched, key=lambda pair: pair[0]):
        if row.split is not None:
            table.split[motion] = row.split
        length = frames[motion]
        start = 0 if row.start is None else round(row.start * fps)
        stop = length if row.end is None else min(round(row.end * fps), length)
        if start < stop:
            table.add(motion, start, stop, row.caption, row.label)
        else:
            outside += 1
    known, missing = match_labels(missing, skipped)
    if known:
        table.notes.append(f"{len(known)} of {len(rows)} label rows are about skipped files")
    if missing:
        where = ", ".join(f"line {row.line}: {row.path}" for row in missing[:3])
        table.notes.append(f"{len(missing)} of {len(rows)} label rows match no motion ({where})")
    if outside:
        table.notes.append(f"{outside} of {len(rows)} label rows cover no frame of their motion")
    _note_bare(table, len(paths))
    return table


def _note_bare(table: CaptionTable, motions: int) -> None:
    bare = motions - len(table.classes)
    if bare:
        table.notes.append(f"{bare} of {motions} motions have no caption")
