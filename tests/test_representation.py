from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mclip.geometry import angle_between, axis_angle_to_matrix, matrix_to_rot6d, rotation_about
from mclip.motion import Motion
from mclip.runtime.representation import features_to_motion, heading, mirror_features, motion_to_features, to_features
from mclip.skeleton.smpl import JOINT, MIRROR, forward_kinematics


def random_motion(seed: int, frames: int = 7) -> Motion:
    random = np.random.default_rng(seed)
    pose = random.normal(0, 0.5, (frames, 24, 3)).astype(np.float32)
    pose[:, 0] += np.array([np.pi / 2, 0, 0], np.float32)  # standing in a Z-up world
    transl = np.cumsum(random.normal(0, 0.05, (frames, 3)), axis=0).astype(np.float32)
    return Motion(pose=pose, transl=transl, fps=30)


def joints(motion: Motion) -> np.ndarray:
    return forward_kinematics(axis_angle_to_matrix(motion.pose.astype(np.float64)), motion.transl)[1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_features_keep_all_but_heading_and_place(seed: int) -> None:
    motion = random_motion(seed)
    back = features_to_motion(motion_to_features(motion), motion.fps)
    # Local rotations below the root are the same; joints agree after one rigid motion on the ground.
    angles = angle_between(
        axis_angle_to_matrix(motion.pose[:, 1:].astype(np.float64)),
        axis_angle_to_matrix(back.pose[:, 1:].astype(np.float64)),
    )
    assert angles.max() < 1e-3
    distances = np.linalg.norm(joints(motion)[0, None] - joints(motion)[-1, :, None], axis=-1)
    np.testing.assert_allclose(
        distances, np.linalg.norm(joints(back)[0, None] - joints(back)[-1, :, None], axis=-1), atol=2e-4
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), angle=st.floats(-3.0, 3.0), x=st.floats(-5, 5), y=st.floats(-5, 5))
def test_features_do_not_change_when_the_motion_is_turned_and_moved(
    seed: int, angle: float, x: float, y: float
) -> None:
    motion = random_motion(seed)
    rotations = axis_angle_to_matrix(motion.pose.astype(np.float64))
    turn = rotation_about(2, np.array(angle))
    # SMPL turns the body about the pelvis' rest place, not about the origin; on the ground that is all transl knows.
    turned = rotations.copy()
    turned[:, 0] = turn @ rotations[:, 0]
    one = to_features(matrix_to_rot6d(rotations), motion.transl.astype(np.float64))
    other = to_features(matrix_to_rot6d(turned), motion.transl.astype(np.float64) @ turn.T + np.array([x, y, 0.0]))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_first_frame_faces_minus_y_at_the_origin() -> None:
    motion = random_motion(3)
    features = motion_to_features(motion)
    back = features_to_motion(features, 30)
    root = axis_angle_to_matrix(back.pose[:, 0].astype(np.float64))
    assert abs(heading(root)[0]) < 1e-5
    np.testing.assert_allclose(back.transl[0, :2], 0, atol=1e-6)
    np.testing.assert_allclose(back.transl[:, 2], motion.transl[:, 2], atol=1e-6)


def test_heading_survives_lying_on_the_back() -> None:
    standing = axis_angle_to_matrix(np.array([np.pi / 2, 0, 0]))
    lying = rotation_about(0, np.array(-np.pi / 2)) @ standing
    turn = rotation_about(2, np.array(0.7))
    assert heading(turn @ standing) == pytest.approx(0.7)
    assert heading(turn @ lying) == pytest.approx(0.7)


def test_mirroring_exchanges_left_and_right_joints() -> None:
    features = motion_to_features(random_motion(5))
    motion, mirrored = features_to_motion(features, 30), features_to_motion(mirror_features(features), 30)
    # The rest skeleton is symmetric to a tenth of a millimetre.
    expected = joints(motion)[:, list(MIRROR)] * np.array([-1, 1, 1])
    np.testing.assert_allclose(joints(mirrored), expected, atol=3e-4)
    assert MIRROR[JOINT["left_wrist"]] == JOINT["right_wrist"]
    np.testing.assert_allclose(mirror_features(mirror_features(features)), features, atol=0)
