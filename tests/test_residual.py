"""Edits as changes of the user's own motion: what stays, and what moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mclip.errors import UsageError
from mclip.geometry import Array, angle_between, axis_angle_to_matrix, matrix_to_axis_angle, rotation_about
from mclip.motion import Motion
from mclip.runtime.ground import floor_of, lowest
from mclip.runtime.residual import PARTS, Change, apply, joint_weights
from mclip.skeleton.smpl import JOINT, JOINT_NAMES, forward_kinematics
from tests.test_windows import wandering

ALL = joint_weights(None)


def rotations(motion: Motion) -> Array:
    return axis_angle_to_matrix(motion.pose.astype(np.float64))


def grounded(motion: Motion) -> Motion:
    return replace(motion, transl=motion.transl - np.array([0, 0, floor_of(motion)], np.float32))


def change(keep: float = 1.0, frames: int = 45, turn: float = 0.0) -> Change:
    """A reconstruction, and an edit of it that bends the spine and an elbow, walks faster, and turns."""
    own = grounded(wandering(frames, seed=5))
    pose, transl = own.pose.copy(), own.transl.copy()
    pose[:, JOINT["spine2"], 0] += 0.5
    pose[:, JOINT["left_elbow"], 1] += 0.7
    pose[:, JOINT["left_hip"], 0] += 0.4
    spin = rotation_about(2, turn + np.linspace(0, 0.4, frames))
    pose[:, 0] = matrix_to_axis_angle(spin @ axis_angle_to_matrix(pose[:, 0].astype(np.float64)))
    transl[:, :2] += np.linspace(0, 2, frames)[:, None].astype(np.float32)
    return Change(own, replace(own, pose=pose, transl=transl), np.full(frames, keep))


@pytest.mark.parametrize("fps", [30.0, 120.0, 24.0])
def test_nothing_changed_gives_the_motion_back(fps: float) -> None:
    frames = round(45 * fps / 30)
    motion = replace(wandering(frames, seed=3), fps=fps)
    own = change().own
    same = apply(motion, Change(own, own, np.ones(45)), ALL)
    assert angle_between(rotations(same), rotations(motion)).max() < 1e-5
    assert np.abs(same.transl - motion.transl).max() < 1e-5
    assert (same.fps, len(same)) == (fps, frames)


def test_a_perfect_reconstruction_becomes_the_edit_itself() -> None:
    change_ = change()
    edited = apply(change_.own, change_, ALL)
    assert angle_between(rotations(edited), rotations(change_.edited)).max() < 1e-5
    assert np.abs(edited.transl[:, :2] - change_.edited.transl[:, :2]).max() < 1e-4


def test_without_detail_the_edit_stands_alone() -> None:
    change_ = change(keep=0.0)
    edited = apply(wandering(45, seed=9), change_, ALL)
    ours, theirs = rotations(edited), rotations(change_.edited)
    assert angle_between(ours[:, 1:], theirs[:, 1:]).max() < 1e-5
    steps = np.linalg.norm(np.diff(edited.transl[:, :2], axis=0), axis=1)
    assert np.allclose(steps, np.linalg.norm(np.diff(change_.edited.transl[:, :2], axis=0), axis=1), atol=1e-5)


def test_place_heading_and_floor_of_the_start_stay() -> None:
    motion = replace(wandering(45, seed=9), transl=wandering(45, seed=9).transl + np.array([0, 0, 7], np.float32))
    edited = apply(motion, change(turn=0.8), ALL)
    assert np.abs(edited.transl[0, :2] - motion.transl[0, :2]).max() < 1e-6
    relative = rotations(edited)[0, 0] @ rotations(motion)[0, 0].T
    assert abs(np.arctan2(relative[1, 0] - relative[0, 1], relative[0, 0] + relative[1, 1])) < 1e-6
    assert floor_of(edited) == pytest.approx(floor_of(motion), abs=1e-5)


def test_who_stands_goes_on_standing() -> None:
    motion = grounded(wandering(45, seed=5))
    edited = apply(motion, change(), ALL)
    change_ = change()
    wanted = lowest(motion) + lowest(change_.edited) - lowest(change_.own)
    shift = lowest(edited) - wanted
    assert np.ptp(shift) < 1e-4  # up to one height for the whole motion


def test_keep_root_keeps_path_and_heading() -> None:
    motion = wandering(45, seed=9)
    edited = apply(motion, change(), ALL, keep_root=True)
    assert np.abs(edited.transl[:, :2] - motion.transl[:, :2]).max() < 1e-5
    relative = rotations(edited)[:, 0] @ np.swapaxes(rotations(motion)[:, 0], -1, -2)
    yaw = np.arctan2(relative[:, 1, 0] - relative[:, 0, 1], relative[:, 0, 0] + relative[:, 1, 1])
    assert np.abs(yaw).max() < 1e-5
    assert angle_between(rotations(edited)[:, JOINT["spine2"]], rotations(motion)[:, JOINT["spine2"]]).min() > 0.3


@pytest.mark.parametrize("only", ["upper", "lower", "arms", "legs", "left_elbow", "head, arms"])
def test_only_leaves_other_joints_alone(only: str) -> None:
    motion = wandering(45, seed=9)
    weights = joint_weights(only)
    edited = apply(motion, change(), weights)
    untouched = weights == 0
    assert untouched.any() and np.array_equal(edited.pose[:, untouched], motion.pose[:, untouched])
    if weights[JOINT["left_elbow"]]:
        assert np.abs(edited.pose[:, JOINT["left_elbow"]] - motion.pose[:, JOINT["left_elbow"]]).min() > 0.01
    if not weights[JOINT["pelvis"]]:
        assert np.abs(edited.transl[:, :2] - motion.transl[:, :2]).max() < 1e-6


def test_parts_fade_in_on_the_trunk() -> None:
    motion, change_ = wandering(45, seed=9), change()
    whole, upper = (rotations(apply(motion, change_, weights)) for weights in (ALL, joint_weights("upper")))
    given, spine = rotations(motion), JOINT["spine2"]
    taken = angle_between(given[:, spine], upper[:, spine]) / angle_between(given[:, spine], whole[:, spine])
    assert np.allclose(taken, PARTS["upper"]["spine2"], atol=1e-4)
    assert [joint_weights("upper")[JOINT[f"spine{n}"]] for n in (1, 2, 3)] == [1 / 3, 2 / 3, 1.0]


def test_upper_and_lower_are_the_whole_body() -> None:
    assert {name for part in ("upper", "lower") for name in PARTS[part]} == set(JOINT_NAMES)
    assert not set(PARTS["upper"]) & set(PARTS["lower"])
    assert (joint_weights("upper,lower") > 0).all()


@pytest.mark.parametrize("only", ["", ",", "tail", "upper;lower"])
def test_a_part_there_is_not_is_told(only: str) -> None:
    with pytest.raises(UsageError, match="--only"):
        joint_weights(only)


def stroll(frames: int = 120, speed: float = 1.2, swing: float = 0.5, stoop: float = 0.0) -> Motion:
    """A body that walks along -Y at 30 frames per second, a step each half second, its legs swinging by radians."""
    own = grounded(wandering(frames, seed=5))
    pose, transl, at = np.zeros_like(own.pose), np.zeros_like(own.transl), np.arange(frames) / 30
    pose[:, 0] = [np.pi / 2, 0, 0]
    pose[:, JOINT["left_hip"], 0] = swing * np.sin(2 * np.pi * at)
    pose[:, JOINT["right_hip"], 0] = -swing * np.sin(2 * np.pi * at)
    pose[:, JOINT["spine2"], 0] = stoop
    transl[:, 1] = -speed * at
    return grounded(replace(own, pose=pose, transl=transl))


def test_a_change_of_manner_that_changes_nothing_gives_the_motion_back() -> None:
    motion, own = grounded(wandering(90, seed=3)), stroll(90)
    same = apply(motion, Change(own, own, np.zeros(90), manner=True), ALL)
    assert angle_between(rotations(same), rotations(motion)).max() < 1e-5
    assert np.abs(same.transl - motion.transl).max() < 1e-5


def test_a_slower_manner_takes_shorter_steps_however_stiff_the_legs_of_the_decoder() -> None:
    motion, glides = stroll(), stroll(speed=0.6, swing=0.05, stoop=0.6)
    changed = apply(motion, Change(motion, glides, np.ones(120), manner=True), ALL)
    assert np.abs(np.diff(changed.transl[:, 1])).sum() == pytest.approx(1.2 * 119 / 30 / 2, rel=0.05)
    np.testing.assert_allclose(changed.pose[:, JOINT["spine2"], 0], 0.6, atol=0.02)
    middle = slice(30, 90)  # where smoothing sees whole steps
    assert np.abs(changed.pose[middle, JOINT["left_hip"], 0]).max() == pytest.approx(0.25, abs=0.05)


def test_a_manner_keeps_the_path_and_the_steps_where_the_root_is_kept() -> None:
    motion, glides = stroll(), stroll(speed=0.6, swing=0.05, stoop=0.6)
    changed = apply(motion, Change(motion, glides, np.ones(120), manner=True), ALL, keep_root=True)
    np.testing.assert_allclose(changed.transl[:, :2], motion.transl[:, :2], atol=1e-6)
    assert np.abs(changed.pose[30:90, JOINT["left_hip"], 0]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("floor", [0.0, 0.7])
def test_a_manner_lets_feet_stand_when_the_motions_do(floor: float) -> None:
    """A body at rest whose own feet drift a little, made to bend its knees more and more."""
    motion, other = (stroll(90, speed=0.0, swing=0.0) for _ in range(2))
    for knee, hip in (("left_knee", "left_hip"), ("right_knee", "right_hip")):
        motion.pose[:, JOINT[knee], 0], motion.pose[:, JOINT[hip], 0] = 0.4, -0.2
        bend = 0.4 + 0.6 * np.linspace(0.0, 1.0, 90)
        other.pose[:, JOINT[knee], 0], other.pose[:, JOINT[hip], 0] = bend, -0.1 * bend
    motion = grounded(motion)
    motion.transl[:, 0] += np.float32(0.01) * np.linspace(0, 1, 90, dtype=np.float32)
    motion.transl[:, 2] += np.float32(floor)
    change_ = Change(motion, other, np.ones(90), manner=True)
    slid = []
    for weights in (ALL, joint_weights("upper,pelvis,left_hip,left_knee,left_ankle,right_hip,right_knee")):
        changed = apply(motion, change_, weights)
        _, joints = forward_kinematics(axis_angle_to_matrix(changed.pose), changed.transl)
        slid.append(np.ptp(joints[:, JOINT["left_foot"], :2], axis=0).max())
    # The feet of who has an ankle left out of the edit are not held.
    assert slid[0] == pytest.approx(0.01, abs=1e-3)
    assert slid[1] > 0.05


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_manner_of_a_moment_is_no_mishap(frames: int) -> None:
    motion = stroll(frames)
    changed = apply(motion, Change(motion, stroll(frames, speed=0.3, stoop=0.3), np.ones(frames), manner=True), ALL)
    assert np.isfinite(changed.pose).all() and np.isfinite(changed.transl).all()
