"""The captions of a store's motions, from a label file's rows or from file names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mclip.data.annotations import Annotation
from mclip.data.journal import Length
from mclip.data.labels import Label, caption_from_name, match_labels, swap_left_right
from mclip.data.store import MotionStore, StoreWriter


@dataclass(slots=True)
class CaptionTable:
    """The captions' columns (mclip.data.store) while they are gathered.

    categories     caption -> its action categories
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
    layer: list[int] = field(default_factory=list)
    processed: list[int] = field(default_factory=list)
    categories: list[list[int]] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    split: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _layers: int = 0

    def add(
        self,
        motion: int,
        start: int,
        stop: int,
        caption: str,
        label: str,
        *,
        processed: str = "",
        categories: Sequence[str] | None = None,
        layer: int | None = None,
    ) -> None:
        """Say `caption` of frames start to stop (exclusive) of a motion.

        label: its action class; processed: the cleaned caption, if there is another; categories: all its action
        classes, by default the label alone; layer: see mclip.data.store, by default a new one.
        """
        self.motion.append(motion)
        self.start.append(start)
        self.stop.append(stop)
        self.text.append(self._text(caption))
        self.mirrored.append(self._text(swap_left_right(caption)))
        self.processed.append(self._text(processed or caption))
        self.label.append(self._label(label))
        self.categories.append([self._label(name) for name in ((label,) if categories is None else categories)])
        self.layer.append(self.new_layer() if layer is None else layer)
        self.classes.setdefault(motion, label)

    def new_layer(self) -> int:
        """A layer that no caption has."""
        self._layers += 1
        return self._layers - 1

    def _text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def _label(self, name: str) -> int:
        return self.labels.setdefault(name, len(self.labels))

    def write(self, writer: StoreWriter) -> None:
        """Write captions, categories, texts and labels."""
        for name in ("motion", "start", "stop", "text", "mirrored", "label", "layer", "processed"):
            writer.array(f"captions/{name}", np.array(getattr(self, name), np.int32))
        writer.array("categories/offsets", np.cumsum([0, *map(len, self.categories)], dtype=np.int64))
        writer.array("categories/label", np.array([label for row in self.categories for label in row], np.int32))
        writer.strings("texts", list(self.texts))
        writer.strings("labels", list(self.labels))


class WindowCaptions:
    """What a store's captions say of any window, joined as the original MotionCLIP joins them.

    A caption is heard in a window that has at least one of its frames. Where captions of one layer overlap (BABEL's
    frame labels of one annotator), the later row holds the frame, as in the original, so that an earlier one that is
    covered altogether is not heard; captions of different layers stand side by side.

    Where ours differs from the original: frames without a label add nothing (there they add an empty text, so that
    captions begin with " and " or are empty), sequence labels are joined with " and " (there with "and ": "walkand
    turn"), and categories are kept by time with the motion (there they are not resampled: at 120 frames per second they
    come from a quarter of the way to where the window is).
    """

    def __init__(self, store: MotionStore) -> None:
        self._store = store
        layers: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, key in enumerate(zip(store.captions.motion.tolist(), store.captions.layer.tolist(), strict=True)):
            layers[key].append(row)
        self._heard: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # motion -> (row, start, stop)
        for (motion, _), rows in layers.items():
            self._heard[motion] += self._visible(rows)
        for parts in self._heard.values():
            parts.sort()

    def _visible(self, rows: list[int]) -> list[tuple[int, int, int]]:
        """The parts (row, start, stop) of one layer's captions that no later row covers."""
        captions, parts = self._store.captions, list[tuple[int, int, int]]()
        for row in rows:
            start, stop = int(captions.start[row]), int(captions.stop[row])
            cut = [piece for r, a, b in parts for piece in ((r, a, min(b, start)), (r, max(a, stop), b))]
            parts = [*(piece for piece in cut if piece[1] < piece[2]), (row, start, stop)]
        return parts

    def rows(self, motion: int, start: int, stop: int) -> list[int]:
        """The captions heard in frames start to stop (exclusive) of a motion, in the store's order."""
        return list(dict.fromkeys(row for row, a, b in self._heard.get(motion, ()) if a < stop and start < b))

    def parts(self, motion: int) -> list[tuple[int, int, int]]:
        """Where the captions of a motion are heard: (row, start, stop), in the store's order."""
        return self._heard.get(motion, [])

    def text(self, motion: int, start: int, stop: int, *, processed: bool = False) -> str:
        """The window's caption: its distinct captions in alphabetical order, joined with " and "; "" if it has none.

        processed: join the cleaned captions. That of the mirrored window is `swap_left_right` of it.
        """
        captions = self._store.captions
        column = captions.processed if processed else captions.text
        return " and ".join(sorted({self._store.texts[column[row]] for row in self.rows(motion, start, stop)}))

    def categories(self, motion: int, start: int, stop: int) -> list[int]:
        """The window's distinct action categories, as indices into the store's labels."""
        captions = self._store.captions
        rows = self.rows(motion, start, stop)
        return list(dict.fromkeys(label for row in rows for label in captions.categories(row).tolist()))


def add_annotations(
    table: CaptionTable,
    annotations: Sequence[Annotation],
    motions_of: Mapping[str, Sequence[int]],
    takes: Sequence[Length],
    fps: float,
    name: str,
) -> None:
    """The labels of a data set, ordered by motion.

    motions_of: recording (mclip.data.amass) -> its motions; takes: all motions; name: the data set, for the notes.
    Where the data set and the file disagree on a recording's duration the file is right: its labels are stretched with
    it, so that they stay on the poses they were given for.
    """
    matched = [(motion, annotation) for annotation in annotations for motion in motions_of.get(annotation.key, ())]
    outside, off = 0, list[tuple[Annotation, Length]]()
    for motion, annotation in sorted(matched, key=lambda pair: pair[0]):
        take = takes[motion]
        stretch = annotation.stretch(take.source_fps, take.source_frames)
        if annotation.disagrees(take.source_fps, take.source_frames):
            off.append((annotation, take))
        layers: dict[int, int] = {}
        for segment in annotation.segments:
            start = 0 if segment.start is None else round(segment.start * stretch * fps)
            stop = take.frames if segment.end is None else round(segment.end * stretch * fps)
            start, stop = max(start, 0), min(stop, take.frames)
            if start >= stop:
                outside += 1
                continue
            if segment.layer not in layers:
                layers[segment.layer] = table.new_layer()
            table.add(
                motion,
                start,
                stop,
                segment.caption,
                segment.label,
                processed=segment.processed,
                categories=segment.categories,
                layer=layers[segment.layer],
            )
    if off:
        annotation, take = off[0]
        table.notes.append(
            f"{name} and the files disagree on the duration of {len(off)} recordings, such as {annotation.path} "
            f"({annotation.seconds:g} s there, {take.source_frames / take.source_fps:g} s at {take.source_fps:g} fps "
            "here): the files are taken to be right, and labels stretched with them"
        )
    if outside:
        table.notes.append(f"{outside} labels of {name} cover no frame of their motion")


def add_names(table: CaptionTable, paths: Sequence[str], frames: Sequence[int]) -> None:
    """A caption for each motion whose file name, take or folder has words; frames: the motions' lengths."""
    for motion, path in enumerate(paths):
        caption = caption_from_name(path)
        if caption:
            table.add(motion, 0, frames[motion], caption, caption)


def add_labels(
    table: CaptionTable,
    rows: Sequence[Label],
    paths: Sequence[str],
    frames: Sequence[int],
    skipped: Sequence[str],
    fps: float,
) -> None:
    """The rows as captions, ordered by motion; frames: the motions' lengths, skipped: files that have no motion."""
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


def note_bare(table: CaptionTable, motions: int) -> None:
    """Say how many of the motions have no caption."""
    bare = motions - len(table.classes)
    if bare:
        table.notes.append(f"{bare} of {motions} motions have no caption")
