"""Paths through latent space, and the motions on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mclip.errors import UsageError
from mclip.geometry import angle_between, axis_angle_to_matrix
from mclip.motion import Motion
from mclip.pack import Pack
from mclip.runtime.bases import Source
from mclip.runtime.engine import Engine
from mclip.runtime.interpolate import End, along, blend, check_options, ease, steps_between, to_end
from mclip.skeleton.smpl import forward_kinematics
from tests.fakes import swinging

LATENTS = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32)
UNIT = LATENTS / np.linalg.norm(LATENTS, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def engine(tiny_pack: Pack) -> Engine:
    return Engine(tiny_pack)


@pytest.fixture(scope="module")
def ends(engine: Engine) -> list[End]:
    files = [Source(f"{joint}.npz", swinging(joint, 0, seed=2, frames=20)) for joint in ("head", "spine1")]
    return [to_end(engine, source) for source in (files[0], Source("bends", None), files[1])]


def turned(first: Motion, second: Motion) -> float:
    """The largest difference of any joint's rotation, radians."""
    matrices = [axis_angle_to_matrix(motion.pose.astype(np.float64)) for motion in (first, second)]
    return float(angle_between(*matrices).max())


@pytest.mark.parametrize("path", ["slerp", "linear"])
def test_the_path_goes_through_its_ends(path: str) -> None:
    assert np.allclose(along(LATENTS, np.array([0.0, 1.0, 2.0]), path), LATENTS, atol=1e-6)


def test_slerp_stays_on_the_sphere_and_goes_at_one_speed() -> None:
    points = along(UNIT[:2], np.linspace(0, 1, 9)).astype(np.float64)
    assert np.allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-6)
    angles = np.arccos(np.sum(points[1:] * points[:-1], axis=1))
    assert np.allclose(angles, np.arccos(UNIT[0] @ UNIT[1]) / 8, atol=1e-5)
    assert np.linalg.matrix_rank(np.concatenate([UNIT[:2], points]), tol=1e-4) == 2  # in the plane of the two ends


def test_slerp_changes_lengths_evenly_and_linear_goes_straight() -> None:
    at = np.linspace(0, 1, 5)
    lengths = np.linalg.norm(LATENTS[:2], axis=1)
    points = along(LATENTS[:2], at)
    assert np.allclose(np.linalg.norm(points, axis=1), lengths[0] + at * (lengths[1] - lengths[0]), rtol=1e-5)
    assert np.allclose(along(LATENTS, np.array([1.25]), "linear"), 0.75 * LATENTS[1] + 0.25 * LATENTS[2], atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ends_in_one_line_need_no_circle(sign: float) -> None:
    pair = np.stack([UNIT[0], np.float32(sign) * UNIT[0]])
    assert np.isfinite(along(pair, np.linspace(0, 1, 5))).all()


def test_easing_is_slow_at_every_end_and_meets_them() -> None:
    at = np.linspace(0, 2, 201)
    eased = ease(at, "smooth")
    assert eased[[0, 100, 200]].tolist() == [0, 1, 2] and eased[50] == pytest.approx(0.5)
    speed = np.diff(eased) / 0.01
    assert (speed >= 0).all() and speed[[0, 99, 100, 199]].max() < 0.05 and speed[50] == pytest.approx(1.5, abs=0.01)
    assert np.array_equal(ease(at, "linear"), at)


def test_steps_start_and_end_with_the_recordings(engine: Engine, ends: list[End]) -> None:
    steps = steps_between(engine, ends, 5, path="slerp", easing="linear")
    assert [step.at for step in steps] == [0, 0.5, 1, 1.5, 2]
    assert {len(step.motion) for step in steps} == {20}
    for step, end in ((steps[0], ends[0]), (steps[-1], ends[2])):
        assert end.recording is not None
        assert turned(step.motion, end.recording) < 1e-4
        assert np.abs(step.motion.transl - end.recording.transl).max() < 1e-4
    assert [step.caption for step in steps[:3]] == ["100% head.npz", "50% head.npz + 50% bends", "100% bends"]
    assert steps[1].motion.origin["ends"] == ["head.npz", "bends", "spine1.npz"]


def test_a_text_end_is_what_generate_makes(engine: Engine) -> None:
    from mclip.runtime.tasks import Prompt, generate

    texts = [to_end(engine, Source(text, None)) for text in ("nods", "bends")]
    steps = steps_between(engine, texts, 2, path="linear", easing="smooth", seconds=0.5)
    for step, text in zip(steps, ("nods", "bends"), strict=True):
        made = next(generate(engine, [Prompt(text, 0.5)])).motion
        assert turned(step.motion, made) < 1e-4 and np.abs(step.motion.transl - made.transl).max() < 1e-4


def test_a_long_recording_is_represented_by_its_most_typical_window(engine: Engine) -> None:
    walk, fall = swinging("head", 0, seed=2, frames=100), swinging("left_shoulder", 2, seed=5, frames=20)
    mixed = replace(walk, pose=np.concatenate([fall.pose, walk.pose[20:]]))
    end = to_end(engine, Source("mixed.npz", mixed))
    assert end.recording is not None and len(end.recording) == end.frames == 20
    assert turned(end.recording, walk.slice(0, 20)) < turned(end.recording, fall) or not np.allclose(
        end.recording.pose[:, 1:], fall.pose[:, 1:], atol=1e-3
    )


def test_a_blend_is_one_motion_without_jumps(engine: Engine, ends: list[End]) -> None:
    steps = steps_between(engine, ends, 5, path="slerp", easing="linear")
    whole = blend(steps).motion
    # Four overlaps of a third to two thirds.
    assert 20 + 4 * 6 <= len(whole) <= 20 + 4 * 14
    assert turned(whole.slice(0, 6), steps[0].motion.slice(0, 6)) < 1e-3

    def speed(motion: Motion) -> float:
        joints = forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)[1]
        return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).max())

    assert speed(whole) < 2 * max(speed(step.motion) for step in steps)


def test_a_recording_is_not_stretched(engine: Engine, ends: list[End]) -> None:
    short = to_end(engine, Source("short.npz", swinging("head", 0, seed=2, frames=12)))
    assert {len(s.motion) for s in steps_between(engine, [short, ends[1]], 3, path="slerp", easing="linear")} == {12}
    with pytest.raises(UsageError, match=r"0\.4 s of short\.npz"):
        steps_between(engine, [short, ends[1]], 3, path="slerp", easing="linear", seconds=0.5)


@pytest.mark.parametrize(
    ("ends", "steps", "path", "easing", "said"),
    [
        (1, 5, "slerp", "linear", "2 to 10 ends"),
        (11, 20, "slerp", "linear", "2 to 10 ends"),
        (3, 2, "slerp", "linear", "between 3"),
        (2, 51, "slerp", "linear", "and 50"),
        (2, 5, "arc", "linear", "'arc'"),
        (2, 5, "slerp", "cubic", "'cubic'"),
    ],
)
def test_wrong_numbers_and_names_are_told(ends: int, steps: int, path: str, easing: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_options(ends, steps, path, easing)
