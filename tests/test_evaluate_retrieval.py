"""Ranks, against sorting every row by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.evaluate.retrieval import BATCH, MOTION_TO_TEXT, TEXT_TO_MOTION, Recall, ranks, ranks_of, recall, retrieve
from mclip.runtime.prior import unit


def _slow_rank(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> int:
    """Candidates best first, wrong ones before right ones of the same score: the place of the first right one."""
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], right[index]))
    return 1 + [bool(right[index]) for index in order].index(True)


def test_ranks_are_places_in_the_sorted_row() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 6, (200, 12)).astype(np.float32)  # many ties
    right = random.random((200, 12)) < 0.2
    right[np.arange(200), random.integers(0, 12, 200)] = True
    expected = [_slow_rank(*row) for row in zip(scores, right, strict=True)]
    np.testing.assert_array_equal(ranks_of(scores, right), expected)


def test_ranks_do_not_depend_on_how_many_rows_are_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    queries, candidates = random.normal(size=(50, 8)).astype(np.float32), random.normal(size=(30, 8)).astype(np.float32)
    right = np.eye(50, 30, dtype=bool) | (np.arange(30) == 7)
    whole = ranks(queries, candidates, right)
    monkeypatch.setattr("mclip.evaluate.retrieval._ROWS", 7)
    np.testing.assert_array_equal(ranks(queries, candidates, right), whole)


def test_recall_by_hand() -> None:
    found = recall(np.array([1, 1, 2, 3, 4, 5, 9, 10, 11, 100]))
    assert found == Recall(r1=0.2, r3=0.4, r5=0.6, r10=0.8, median_rank=4.5)


def _pairs(count: int, width: int = 16) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(2)
    texts = unit(random.normal(size=(count, width)).astype(np.float32))
    return unit(texts + 0.05 * random.normal(size=(count, width)).astype(np.float32)), texts


def test_motions_beside_their_captions_are_found_both_ways() -> None:
    motions, texts = _pairs(70)
    found = retrieve(motions, texts, np.arange(70), np.eye(70, dtype=bool), np.random.default_rng(0))
    perfect = Recall(1.0, 1.0, 1.0, 1.0, 1.0)
    assert set(found) == {"all", "distinct", "batches_of_32"}
    for ways in found.values():
        assert ways == {TEXT_TO_MOTION: perfect, MOTION_TO_TEXT: perfect}


def test_noise_is_found_by_chance() -> None:
    random = np.random.default_rng(3)
    count = 20 * BATCH
    motions, texts = (unit(random.normal(size=(count, 64)).astype(np.float32)) for _ in range(2))
    found = retrieve(motions, texts, np.arange(count), np.eye(count, dtype=bool), random)
    for way in (TEXT_TO_MOTION, MOTION_TO_TEXT):
        assert found["all"][way].median_rank == pytest.approx(count / 2, rel=0.1)
        # A share k of 32; the deviation of a share of 640 is 0.018 at most.
        assert found["batches_of_32"][way].r10 == pytest.approx(10 / 32, abs=0.06)
        assert found["batches_of_32"][way].r1 == pytest.approx(1 / 32, abs=0.03)


def test_the_same_caption_of_another_motion_is_right() -> None:
    # Motions 0 and 1 have caption 0; motion 1 is nearer to it. Motion 2 has caption 1.
    texts = np.array([[1, 0], [0, 1]], np.float32)
    motions = unit(np.array([[0.2, 1.0], [1.0, 0.1], [0.3, 1.0]], np.float32))
    captions, right = np.array([0, 0, 1]), np.array([[1, 0], [1, 0], [0, 1]], bool)
    found = retrieve(motions, texts, captions, right, np.random.default_rng(0))
    assert set(found) == {"all", "distinct"}  # three pairs make no batch
    # Both queries for caption 0 find motion 1; caption 1 finds motion 0 first.
    assert found["all"][TEXT_TO_MOTION].r1 == pytest.approx(2 / 3)
    assert found["distinct"][TEXT_TO_MOTION].r1 == pytest.approx(1 / 2)
    # Motion 0 sees one wrong caption before the two right ones; motion 2 is right at once.
    assert found["all"][MOTION_TO_TEXT].r1 == pytest.approx(2 / 3)
    # A caption that is repeated counts as often as it is there, among all, and once among distinct ones.
    right = np.array([[1, 0], [0, 1], [0, 1]], bool)
    motions = unit(np.array([[0.2, 1.0], [0.3, 1.0], [0.3, 1.0]], np.float32))
    found = retrieve(motions, texts, np.array([0, 1, 1]), right, np.random.default_rng(0))
    assert found["all"][MOTION_TO_TEXT].r3 == 1.0
    assert found["all"][MOTION_TO_TEXT].r1 == found["distinct"][MOTION_TO_TEXT].r1 == pytest.approx(2 / 3)
    with_three = ranks(motions[:1], texts[[0, 1, 1]], np.array([[True, False, False]]))
    assert with_three.tolist() == [3]


def test_batches_are_drawn_by_the_generator_alone() -> None:
    motions, texts = _pairs(100, 3)
    right = np.eye(100, dtype=bool)

    def drawn(seed: int) -> dict[str, dict[str, Recall]]:
        return retrieve(motions, texts, np.arange(100), right, np.random.default_rng(seed))

    assert drawn(1) == drawn(1)
    assert drawn(1)["all"] == drawn(2)["all"]
    assert drawn(1)["batches_of_32"] != drawn(2)["batches_of_32"]
