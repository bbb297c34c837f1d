"""The caption of a window, against the original's per-frame labels written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclip.data.captions import CaptionTable, WindowCaptions
from mclip.data.store import MotionStore, read_store, write_store

LENGTHS = (90, 60, 200)
WORDS = ("walk", "turn left", "wave", "stand", "jump", "sit down", "transition")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[CaptionTable], MotionStore]:
    """A function that puts captions into a store of three still motions."""

    def build(table: CaptionTable) -> MotionStore:
        path, count = tmp_path / "motions.h5", len(LENGTHS)
        rest = np.tile(np.array([1, 0, 0, 0, 1, 0], np.float32), (max(LENGTHS), 24, 1))
        with write_store(path, frames=sum(LENGTHS), fps=30.0, options={}) as writer:
            for length in LENGTHS:
                writer.add_motion(rest[:length], np.zeros((length, 3), np.float32))
            writer.array("offsets", np.cumsum([0, *LENGTHS], dtype=np.int64))
            for name in ("path", "sha256", "source"):
                writer.strings(name, [f"{name}{number}" for number in range(count)])
            writer.strings("gender", ["neutral"] * count)
            writer.splits(["train"] * count)
            writer.array("betas", np.zeros((count, 10), np.float32))
            table.write(writer)
            for name in ("path", "sha256", "reason"):
                writer.strings(f"skipped/{name}", [])
        return read_store(path)

    return build


def test_a_window_says_its_distinct_captions_in_alphabetical_order(make: Callable[[CaptionTable], MotionStore]) -> None:
    table = CaptionTable()
    layer = table.new_layer()
    table.add(0, 0, 30, "walks", "walk", processed="walk", categories=["walk", "forward movement"], layer=layer)
    table.add(0, 30, 50, "turns left", "turn", processed="turn", layer=layer)
    table.add(0, 50, 60, "walks", "walk", processed="walk", categories=[], layer=layer)
    table.add(1, 0, 60, "waving", "wave")
    table.add(1, 0, 60, "standing", "stand")
    store = make(table)
    captions = WindowCaptions(store)
    assert captions.text(0, 0, 60) == "turns left and walks"
    assert captions.text(0, 0, 60, processed=True) == "turn and walk"
    assert captions.text(0, 30, 50) == "turns left"
    # One frame is enough, and the last frame is not part of a span.
    assert captions.text(0, 49, 51) == "turns left and walks"
    assert captions.text(0, 50, 90) == "walks"
    assert captions.text(0, 60, 90) == ""
    assert captions.text(2, 0, 90) == ""
    assert captions.text(1, 20, 30) == "standing and waving"
    names = [store.labels[label] for label in captions.categories(0, 0, 60)]
    assert names == ["walk", "forward movement", "turn"]
    assert captions.categories(0, 50, 60) == []


def test_a_later_label_of_one_annotator_holds_the_frames(make: Callable[[CaptionTable], MotionStore]) -> None:
    table = CaptionTable()
    layer, other = table.new_layer(), table.new_layer()
    table.add(2, 20, 180, "walk", "walk", layer=layer)
    table.add(2, 60, 120, "wave", "wave", layer=layer)
    table.add(2, 0, 200, "exercise", "exercise", layer=other)
    captions = WindowCaptions(make(table))
    assert captions.rows(2, 70, 110) == [1, 2]
    assert captions.rows(2, 50, 70) == [0, 1, 2]
    assert captions.rows(2, 110, 130) == [0, 1, 2]
    assert captions.rows(2, 0, 20) == [2]


def _original(labels: list[tuple[int, int, str]], length: int, start: int, stop: int) -> str:
    """The original's way: a text per frame, written over by later labels, then the distinct ones of the window."""
    frames: Any = np.full(length, "", dtype=object)
    for first, last, text in labels:
        frames[first:last] = text
    return " and ".join(text for text in np.unique(frames[start:stop]) if text)


def test_random_windows_say_what_the_original_says(make: Callable[[CaptionTable], MotionStore]) -> None:
    random = np.random.default_rng(0)
    table, labels = CaptionTable(), dict[int, list[tuple[int, int, str]]]()
    for motion, length in enumerate(LENGTHS):
        layer, labels[motion] = table.new_layer(), []
        for _ in range(12):
            start, stop = sorted(random.choice(length + 1, 2, replace=False).tolist())
            word = str(random.choice(WORDS))
            labels[motion].append((start, stop, word))
            table.add(motion, start, stop, word, word, layer=layer)
    captions = WindowCaptions(make(table))
    said = set()
    for _ in range(500):
        motion = int(random.integers(len(LENGTHS)))
        start, stop = sorted(random.choice(LENGTHS[motion] + 1, 2, replace=False).tolist())
        text = captions.text(motion, start, stop)
        assert text == _original(labels[motion], LENGTHS[motion], start, stop)
        said.add(text)
    assert len(said) > 50
