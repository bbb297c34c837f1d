"""What texts speak of: the classifiers of a bank."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.export.reading import fit_reading
from mclip.runtime.prior import unit
from mclip.runtime.reading import Reading, action_names, split_label, style_names

LABELS = ("kick", "walk/normal", "walk/old", "wave", "wave/old")


# Which action it is lies in the first three numbers, which style in the fourth.
CENTRES = ((1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 1, 0, 1, 0), (0, 0, 1, 0, 0), (0, 0, 1, 1, 0))


def cloud(*centre: float, seed: int, count: int = 30) -> NDArray[np.float32]:
    """Unit vectors around a centre."""
    random = np.random.default_rng(seed)
    return unit((np.array(centre) + 0.2 * random.standard_normal((count, len(centre)))).astype(np.float32))


CAPTIONS = [cloud(*centre, seed=row, count=30 if row < 4 else 12) for row, centre in enumerate(CENTRES)]
READING = fit_reading(LABELS, CAPTIONS)


def test_labels_fall_apart_into_actions_and_styles() -> None:
    assert action_names(LABELS) == ["kick", "walk", "wave"]
    assert style_names(LABELS) == ["", "old"]
    assert split_label("walk/normal") == split_label("walk") == ("walk", "")
    assert READING.action_of.tolist() == [0, 1, 1, 2, 2]
    assert READING.style_of.tolist() == [0, 0, 1, 0, 1]


def test_unseen_wordings_are_read_right() -> None:
    for row, (label, centre) in enumerate(zip(LABELS, CENTRES, strict=True)):
        texts = cloud(*centre, seed=100 + row)
        action, style = split_label(label)
        assert (READING.actions(texts).argmax(axis=1) == action_names(LABELS).index(action)).mean() > 0.9
        assert (READING.styles(texts).argmax(axis=1) == style_names(LABELS).index(style)).mean() > 0.8


def test_what_is_said_are_logarithms_of_probabilities() -> None:
    texts = cloud(1, 1, 1, 1, 1, seed=7)
    for logarithms in (READING.actions(texts), READING.styles(texts)):
        np.testing.assert_allclose(np.exp(logarithms).sum(axis=1), 1.0, atol=1e-5)


def test_an_action_with_few_captions_counts_as_much() -> None:
    # Three captions of "kick" against thirty of "wave", and a text just between them.
    few = fit_reading(("kick", "wave"), [np.tile(CAPTIONS[0][:1], (3, 1)), np.tile(CAPTIONS[3][:1], (30, 1))])
    between = unit(CAPTIONS[0][:1] + CAPTIONS[3][:1])
    np.testing.assert_allclose(np.exp(few.actions(between)), 0.5, atol=0.02)


def test_the_fit_is_the_minimum() -> None:
    # Where no caption has a style, the loss is that of the captions alone, here by an independent formula. It is
    # convex: its minimum is where every step leads up.
    some = (0, 1, 3)
    fitted = fit_reading(tuple(LABELS[row].partition("/")[0] for row in some), [CAPTIONS[row] for row in some])
    embeddings = np.concatenate([CAPTIONS[row] for row in some]).astype(np.float64)
    classes = np.repeat([0, 1, 2], [len(CAPTIONS[row]) for row in some])
    share = 1.0 / np.bincount(classes)[classes]
    share /= share.sum()

    def loss(weights: NDArray[np.float64]) -> float:
        logits = embeddings @ weights[:, :-1].T + weights[:, -1]
        right = logits[np.arange(len(classes)), classes] - np.log(np.exp(logits).sum(axis=1))
        return float(-(share * right).sum() + 1e-4 * np.square(weights[:, :-1] / 20.0).sum())

    best = fitted.action_weights.astype(np.float64)
    random = np.random.default_rng(0)
    for _ in range(20):
        step = random.standard_normal(best.shape)
        assert loss(best + 0.1 * step) > loss(best)
        assert abs(loss(best + 1e-3 * step) - loss(best - 1e-3 * step)) / 2e-3 < 1e-3


def test_a_style_is_heard_of_actions_nobody_was_recorded_doing_in_it() -> None:
    kicked = cloud(1, 0, 0, 1, 0, seed=200)
    assert (READING.actions(kicked).argmax(axis=1) == 0).mean() > 0.9
    assert (READING.styles(kicked).argmax(axis=1) == 1).mean() > 0.8


def test_the_same_captions_give_the_same_classifiers() -> None:
    again = fit_reading(LABELS, CAPTIONS)
    np.testing.assert_array_equal(again.action_weights, READING.action_weights)
    np.testing.assert_array_equal(again.style_weights, READING.style_weights)


@pytest.mark.parametrize("width", [4, 6])
def test_a_reading_fits_its_labels_and_width_alone(width: int) -> None:
    assert READING.fits(LABELS, 5)
    assert not READING.fits(LABELS, width)
    assert not READING.fits(LABELS[1:], 5)
    broken = Reading(LABELS, READING.action_weights * np.float32(np.nan), READING.style_weights)
    assert not broken.fits(LABELS, 5)
