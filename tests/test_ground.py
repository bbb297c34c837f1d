"""The floor under a motion."""

from __future__ import annotations

import numpy as np
import pytest

from mclip.runtime.ground import hover_of

FPS = 30.0


def test_a_body_that_floats_is_brought_down_and_none_below_the_floor() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        heights = (0.08 * random.random(60)).astype(np.float32)
        hover = hover_of(heights, FPS)
        assert (hover <= heights + 1e-7).all()
    np.testing.assert_allclose(hover_of(np.full(60, 0.05, np.float32), FPS), 0.05, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_a_leap_stays_as_high_as_it_is(seconds: float) -> None:
    # A parabola of flight between two times on the floor.
    air = np.linspace(-1.0, 1.0, round(seconds * FPS))
    heights = np.concatenate([np.zeros(20), 9.81 / 8 * seconds**2 * (1.0 - air**2), np.zeros(20)]).astype(np.float32)
    assert hover_of(heights, FPS).max() < 1e-6


def test_who_climbs_is_left_alone() -> None:
    assert not hover_of(np.linspace(0.0, 1.0, 60, dtype=np.float32), FPS).any()


def test_it_changes_slowly_and_a_single_frame_has_one_too() -> None:
    heights = np.where(np.arange(90) < 45, 0.0, 0.1).astype(np.float32)
    assert np.abs(np.diff(hover_of(heights, FPS))).max() < 0.01
    np.testing.assert_allclose(hover_of(np.array([0.1], np.float32), FPS), [0.1])
