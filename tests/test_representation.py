from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mclip.geometry import angle_between, axis_angle_to_matrix, matrix_to_rot6d, rotation_about
from mclip.motion import Motion
from mclip.names import REPRESENTATIONS
from mclip.runtime.representation import (
    LEGACY,
    features_to_motion,
    heading,
    mirror_features,
    motion_to_features,
    overwrite_root,
    representation,
    to_features,
    world_to_motion,
)
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


def test_every_representation_a_recipe_may_name_is_there() -> None:
    assert [representation(name).name for name in REPRESENTATIONS] == list(REPRESENTATIONS)


def test_legacy_features_are_the_rotations_and_the_swing_of_the_right_ankle() -> None:
    motion = random_motion(7)
    features = motion_to_features(motion, LEGACY)
    np.testing.assert_allclose(features[:, :24], matrix_to_rot6d(axis_angle_to_matrix(motion.pose)), atol=1e-6)
    pelvis, ankle = (joints(motion)[:, JOINT[name]] for name in ("pelvis", "right_ankle"))
    swing = ankle - pelvis
    np.testing.assert_allclose(features[:, 24, :3], swing - swing[0], atol=1e-5)
    assert (features[:, 24, 3:] == 0).all()
    # Windows are cut before they are written: each begins at zero.
    np.testing.assert_allclose(motion_to_features(motion.slice(3, 7), LEGACY)[0, 24], 0, atol=1e-7)


def test_legacy_features_keep_poses_and_headings_but_no_path() -> None:
    motion = random_motion(8)
    back = features_to_motion(motion_to_features(motion, LEGACY), 30, LEGACY)
    expected, found = (axis_angle_to_matrix(each.pose.astype(np.float64)) for each in (motion, back))
    assert angle_between(expected, found).max() < 1e-3
    assert (back.transl == 0).all()


def test_legacy_generation_stands_upright_facing_minus_y() -> None:
    features = motion_to_features(random_motion(9), LEGACY)
    generated = world_to_motion(LEGACY.decode_generated(features), 30)
    standing = axis_angle_to_matrix(np.array([np.pi / 2, 0, 0]))
    assert angle_between(axis_angle_to_matrix(generated.pose[:, 0].astype(np.float64)), standing).max() < 1e-5
    # Everything below the root stays as it was.
    np.testing.assert_allclose(generated.pose[:, 1:], features_to_motion(features, 30, LEGACY).pose[:, 1:], atol=1e-5)
    overwritten = overwrite_root(features)
    # Half a turn about X: upright where Y points down.
    np.testing.assert_allclose(
        overwritten[:, 0], np.tile(matrix_to_rot6d(rotation_about(0, np.array(np.pi))), (7, 1)), atol=1e-6
    )
    assert not np.array_equal(features, overwritten)


def test_legacy_mirroring_exchanges_left_and_right_and_keeps_padding() -> None:
    motion = random_motion(10)
    features = motion_to_features(motion, LEGACY)
    mirrored = LEGACY.mirror(features)
    pelvis = joints(motion)[:, :1]
    expected = (joints(motion) - pelvis)[:, list(MIRROR)] * np.array([-1, 1, 1])
    found = joints(features_to_motion(mirrored, 30, LEGACY))
    np.testing.assert_allclose(found - found[:, :1], expected, atol=3e-4)
    swing = expected[:, JOINT["right_ankle"]]
    np.testing.assert_allclose(mirrored[:, 24, :3], swing - swing[0], atol=3e-4)
    np.testing.assert_allclose(LEGACY.mirror(mirrored), features, atol=1e-6)
    features[5:] = 0
    assert (LEGACY.mirror(features)[5:] == 0).all()
