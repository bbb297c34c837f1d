"""Recognition among a list of classes: the original's rule, and the two beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mclip.data.captions import CaptionTable
from mclip.data.store import MotionStore, read_store, write_store
from mclip.errors import DataError, UsageError
from mclip.evaluate.recognition import (
    Named,
    class_scores,
    count_frames,
    draw_windows,
    find_classes,
    names_of,
    read_classes,
)


def test_the_three_scores_by_hand() -> None:
    scores = np.array(
        [
            [0.9, 0.5, 0.1, 0.0, 0.0, 0.0],  # shows 1 most and 0 a little: any, not strict
            [0.1, 0.9, 0.5, 0.0, 0.0, 0.0],  # shows 1 alone: both
            [0.0, 0.8, 0.9, 0.0, 0.0, 0.0],  # shows 1 alone, taken for 2
            [0.6, 0.5, 0.4, 0.3, 0.2, 0.1],  # shows 5 alone: not even among five
        ],
        np.float32,
    )
    frames = np.array([[20, 40, 0, 0, 0, 0], [0, 60, 0, 0, 0, 0], [0, 60, 0, 0, 0, 0], [0, 0, 0, 0, 0, 9]], np.int64)
    found = class_scores(scores, frames)
    assert (found.windows, found.classes) == (4, 2)
    assert (found.any_top1, found.any_top5) == (0.5, 0.75)
    assert (found.strict_top1, found.strict_top5) == (0.25, 0.75)
    # Class 1: one of three, then three of three; class 5: none.
    assert found.balanced_top1 == pytest.approx((1 / 3 + 0) / 2)
    assert found.balanced_top5 == pytest.approx((1 + 0) / 2)


def test_any_is_the_originals_rule_word_for_word() -> None:
    """For each window: are any of its classes among the indices of the k highest scores?"""
    random = np.random.default_rng(0)
    scores = random.normal(size=(300, 60)).astype(np.float32)
    frames = random.integers(1, 60, (300, 60)) * (random.random((300, 60)) < 0.04)
    frames[~frames.any(axis=1), 3] = 60
    found = class_scores(scores, frames)
    for top, value in ((1, found.any_top1), (5, found.any_top5)):
        hits = 0
        for row, shown in zip(scores, frames, strict=True):
            indices = np.argsort(-row)[:top]
            hits += any(label in indices for label in np.flatnonzero(shown))
        assert value == hits / 300
    assert found.strict_top1 <= found.any_top1 <= found.any_top5


def test_a_class_no_better_than_another_is_not_recognised() -> None:
    same = class_scores(np.ones((1, 3), np.float32), np.array([[0, 5, 0]]))
    assert (same.any_top1, same.any_top5) == (0.0, 1.0)


def test_frames_are_counted_against_a_frame_by_frame_list() -> None:
    named = [Named(0, 10, "walk"), Named(5, 30, "turn"), Named(28, 40, "walk"), Named(0, 40, "unheard of")]
    windows = np.array([[0, 12], [8, 20], [20, 32], [40, 52]])
    classes = ("turn", "walk", "sit")
    slow = [
        [sum(any(n.name == name and n.start <= t < n.stop for n in named) for t in range(*window)) for name in classes]
        for window in windows.tolist()
    ]
    np.testing.assert_array_equal(count_frames(windows, named, classes), slow)


def test_each_piece_of_a_split_gives_one_window_inside_it(tiny_store: MotionStore) -> None:
    # Motions of 50 frames; pieces of 20 / 0.6 = 33 frames, of which one fits.
    seen = set()
    for seed in range(20):
        windows = draw_windows(tiny_store, "test", 20, np.random.default_rng(seed))
        assert len(windows) == 3
        assert (windows[:, 1] - windows[:, 0] == 20).all()
        motions = [index for index, split in enumerate(tiny_store.split) if split == "test"]
        shift = windows[:, 0] - tiny_store.offsets[motions]
        assert ((shift >= 0) & (shift < 33 - 20)).all()
        seen |= set(shift.tolist())
    assert len(seen) > 8
    assert draw_windows(tiny_store, "test", 31, np.random.default_rng(0)).shape == (0, 2)


def test_a_store_names_its_motions_by_its_labels(tiny_store: MotionStore) -> None:
    named = names_of(tiny_store, "test")
    # Two captions of each motion, one label.
    assert len(named) == 3
    assert {each.name for each in named} == set(tiny_store.labels)
    assert all(each.stop - each.start == 50 for each in named)
    assert len(names_of(tiny_store, "train")) == 9


def test_a_frame_counts_once_for_a_name_and_where_it_is_heard(tmp_path: Path) -> None:
    table = CaptionTable()
    layer = table.new_layer()
    # One annotator: turning covers the middle of the walk. Another one saw a walk, too.
    table.add(1, 0, 40, "strolls", "walk", categories=["walk", "forward movement"], layer=layer)
    table.add(1, 10, 20, "turns", "turn", categories=["turn"], layer=layer)
    table.add(1, 5, 15, "goes", "walk", categories=["walk"])
    table.add(0, 0, 30, "sits", "sit", categories=[])
    with write_store(tmp_path / "store.h5", frames=70, fps=30.0, options={}) as writer:
        writer.add_motion(
            np.tile(np.eye(3)[:2].reshape(6), (70, 24, 1)).astype(np.float32), np.zeros((70, 3), np.float32)
        )
        writer.array("offsets", np.array([0, 30, 70], np.int64))
        writer.array("betas", np.zeros((2, 10), np.float32))
        strings = {"path": ["a", "b"], "sha256": ["0" * 64] * 2, "source": ["", ""], "gender": ["neutral"] * 2}
        for name, values in {**strings, **{f"skipped/{part}": [] for part in ("path", "sha256", "reason")}}.items():
            writer.strings(name, values)
        writer.splits(["val", "val"])
        table.write(writer)
    named = names_of(read_store(tmp_path / "store.h5"), "val")
    assert named == [
        Named(30, 40, "forward movement"),
        Named(50, 70, "forward movement"),
        Named(40, 50, "turn"),
        Named(30, 45, "walk"),
        Named(50, 70, "walk"),
    ]


def test_babels_classes_come_by_name(tmp_path: Path) -> None:
    assert len(find_classes("babel-60")) == 60 and find_classes("babel-120")[:60] == find_classes("babel-60")
    (tmp_path / "mine").write_text("walk\nrun")
    assert find_classes(str(tmp_path / "mine")) == ("walk", "run")


def test_classes_are_read_from_lines_and_from_babels_json(tmp_path: Path) -> None:
    lines, table = tmp_path / "classes.txt", tmp_path / "classes.json"
    lines.write_text("walk\n\n  stand \nturn\n")
    table.write_text('{"turn": 2, "walk": 0, "stand": 1}')
    assert read_classes(lines) == read_classes(table) == ("walk", "stand", "turn")


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"walk\n", UsageError, "nothing to choose from"),
        (b"", UsageError, "nothing to choose from"),
        (b"walk\nrun\nwalk\n", UsageError, "'walk' twice"),
        (b"\xff\xfe\x00", DataError, "not UTF-8"),
        (b'{"walk": ', DataError, "not JSON"),
        (b'{"walk": "x", "run": "y"}', DataError, "their numbers"),
        (b"walk\n" * 300_000, DataError, "larger than"),
    ],
)
def test_a_bad_list_of_classes_says_what_is_wrong(
    tmp_path: Path, content: bytes, error: type[Exception], said: str
) -> None:
    (tmp_path / "classes").write_bytes(content)
    with pytest.raises(error, match=said):
        read_classes(tmp_path / "classes")


def test_an_absent_list_of_classes_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_classes(tmp_path / "absent")
