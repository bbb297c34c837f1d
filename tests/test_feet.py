"""Feet that stand where they stand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.evaluate.generation import movement
from mclip.geometry import Array, angle_between, axis_angle_to_matrix, rotation_about
from mclip.runtime.feet import reach_for, stand, stand_as
from mclip.runtime.ground import floor_under
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import JOINT, forward_kinematics

FPS = 30.0
FRAMES = 60
LEFT = {part: JOINT[f"left_{part}"] for part in ("hip", "knee", "ankle", "foot")}
LEGS = [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("hip", "knee", "ankle")]


def standing(bend: float = 0.4, turn: float = 0.0) -> tuple[Array, Array]:
    """Rotations (T, 24, 3, 3) and transl (T, 3) of a body on the floor with bent knees, that faces `turn`."""
    rotations = np.tile(np.eye(3), (FRAMES, 24, 1, 1))
    rotations[:, 0] = rotation_about(2, np.array(turn)) @ rotation_about(0, np.array(np.pi / 2))
    for side in ("left", "right"):
        for part, share in (("hip", -0.5), ("knee", 1.0), ("ankle", -0.5)):
            rotations[:, JOINT[f"{side}_{part}"]] = rotation_about(0, np.array(share * bend))
    transl = np.zeros((FRAMES, 3))
    transl[:, 2] -= floor_under(lowest_point(positions(rotations, transl)))
    return rotations, transl


def held(rotations: Array, transl: Array) -> Array:
    return stand(rotations, *forward_kinematics(rotations, transl), FPS)


def positions(rotations: Array, transl: Array) -> NDArray[np.float32]:
    return forward_kinematics(rotations, transl)[1]


def drifting(speed: float, turn: float = 0.0) -> tuple[Array, Array]:
    """A standing body that glides, to and fro, so that its feet slide at `speed` at most."""
    rotations, transl = standing(turn=turn)
    swing = 2 * np.pi * np.arange(FRAMES) / FRAMES
    transl[:, 0] += speed * FRAMES / FPS / (2 * np.pi) * np.sin(swing)
    return rotations, transl


def test_a_leg_reaches_where_its_ankle_is_moved() -> None:
    random = np.random.default_rng(0)
    upper, lower = random.normal(size=(2, 200, 3))
    upper *= 0.44 / np.linalg.norm(upper, axis=-1, keepdims=True)
    lower *= 0.45 / np.linalg.norm(lower, axis=-1, keepdims=True)
    hip, move = random.normal(size=(200, 3)), 0.05 * random.normal(size=(200, 3))
    leg = np.linalg.norm(upper + lower + move, axis=-1)
    near = (leg < 0.87) & (leg > 0.05)
    bend, turn = reach_for(hip, hip + upper, hip + upper + lower, move)
    new_upper = (turn @ upper[..., None])[..., 0]
    new_lower = (turn @ bend @ lower[..., None])[..., 0]
    np.testing.assert_allclose((new_upper + new_lower)[near], (upper + lower + move)[near], atol=1e-9)
    # In its own plane: the knee's axis turns with the thigh alone.
    axis = np.cross(upper, lower)
    np.testing.assert_allclose((bend @ axis[..., None])[..., 0], axis, atol=1e-9)
    assert near.sum() > 100


def test_a_leg_that_is_not_asked_to_move_stays_and_none_is_stretched() -> None:
    hip, knee, ankle = np.array([0.0, 0.0, 0.9]), np.array([0.0, -0.05, 0.47]), np.array([0.0, 0.0, 0.04])
    for turns in reach_for(hip, knee, ankle, np.zeros(3)):
        np.testing.assert_allclose(turns, np.eye(3), atol=1e-7)
    for far in (0.1, 0.5, 5.0):
        bend, turn = reach_for(hip, knee, ankle, np.array([far, 0.0, 0.0]))
        reached = hip + turn @ (knee - hip + bend @ (ankle - knee))
        # It gives way over the ground: the foot is as high as it was.
        assert reached[2] == pytest.approx(ankle[2], abs=1e-6)
        assert np.linalg.norm(reached - hip) <= np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee)
        assert 0.05 < reached[0] < far


def test_a_body_that_stands_still_is_left_as_it_is() -> None:
    rotations, transl = standing()
    np.testing.assert_allclose(held(rotations, transl), rotations, atol=1e-6)


@pytest.mark.parametrize("turn", [0.0, 2.0])
def test_sliding_feet_are_held_and_nothing_else_moves(turn: float) -> None:
    rotations, transl = drifting(0.2, turn)
    before, after = positions(rotations, transl), positions(held(rotations, transl), transl)
    assert movement(before, FPS).slid / movement(before, FPS).contacts > 0.1
    assert movement(after, FPS).slid / movement(after, FPS).contacts < 1e-3
    np.testing.assert_allclose(after[..., 2][:, LEFT["foot"]], before[..., 2][:, LEFT["foot"]], atol=1e-5)
    others = [joint for joint in range(24) if "left_" not in list(JOINT)[joint] and "right_" not in list(JOINT)[joint]]
    np.testing.assert_array_equal(after[:, others], before[:, others])


def test_feet_keep_their_direction_in_the_world() -> None:
    rotations, transl = drifting(0.2)
    before, _ = forward_kinematics(rotations, transl)
    after, _ = forward_kinematics(held(rotations, transl), transl)
    assert angle_between(after[:, LEFT["foot"]].astype(float), before[:, LEFT["foot"]].astype(float)).max() < 1e-3


def test_feet_stand_as_anothers_do_and_slide_no_more() -> None:
    rotations, transl = drifting(0.2)
    world, joints = forward_kinematics(rotations, transl)
    assert stand_as(joints, rotations, world, joints, FPS) is rotations
    given = positions(*standing())
    after = positions(stand_as(given, rotations, world, joints, FPS), transl)
    assert np.ptp(after[:, LEFT["foot"], :2], axis=0).max() < 1e-3
    # When the other's go, these are free.
    given[:, :, 1] -= np.arange(FRAMES)[:, None] / FPS
    assert stand_as(given, rotations, world, joints, FPS) is rotations


def test_feet_that_go_are_not_held() -> None:
    rotations, transl = standing()
    transl[:, 1] -= 1.0 * np.arange(FRAMES) / FPS
    assert held(rotations, transl) is rotations


@pytest.mark.parametrize("height", [0.1, 1.0])
def test_who_is_in_the_air_is_left_alone(height: float) -> None:
    rotations, transl = drifting(0.2)
    transl[:, 2] += height
    assert held(rotations, transl) is rotations


def test_who_kneels_is_left_alone() -> None:
    rotations, transl = drifting(0.2)
    for side in ("left", "right"):
        rotations[:, JOINT[f"{side}_hip"]] = np.eye(3)
        rotations[:, JOINT[f"{side}_knee"]] = rotation_about(0, np.array(np.pi / 2))
    transl[:, 2] -= floor_under(lowest_point(positions(rotations, transl)))
    assert held(rotations, transl) is rotations


def test_legs_come_and_go_without_a_jerk() -> None:
    # The left foot stands for half a second, drifting, between two steps.
    rotations, transl = standing()
    drift = np.linspace(0.0, 1.0, FRAMES)
    transl[:, 1] -= 0.3 * drift
    lift = np.clip(np.abs(drift - 0.5) - 0.15, 0.0, None)
    for part, share in (("hip", -3.0), ("knee", 6.0), ("ankle", -3.0)):
        more = axis_angle_to_matrix(share * lift[:, None] * np.array([1.0, 0.0, 0.0]))
        rotations[:, LEFT[part]] = rotations[:, LEFT[part]] @ more
    result = held(rotations, transl)
    toes, own = (positions(each, transl)[:, LEFT["foot"], :2] for each in (result, rotations))
    assert np.linalg.norm(np.diff(toes[25:36], axis=0), axis=1).max() * FPS < 0.01
    assert np.linalg.norm(np.diff(own[25:36], axis=0), axis=1).min() * FPS > 0.1
    assert np.abs(toes - own)[0].max() < 0.05
    # Change of the turn from frame to frame, radians; 0.1 for a leg that is let go at once.
    turned, before = (angle_between(each[:-1, LEGS], each[1:, LEGS]) for each in (result, rotations))
    assert np.abs(np.diff(turned - before, axis=0)).max() < 0.03


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_moments_are_no_mishap(frames: int) -> None:
    rotations, transl = drifting(0.2)
    result = held(rotations[:frames], transl[:frames])
    assert np.isfinite(result).all()
    assert result.shape == (frames, 24, 3, 3)
