"""Errors of a decoded motion, against what was done to it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.body.model import load_body
from mclip.body.skinning import pose_vertices
from mclip.evaluate.reconstruction import mean_distance, rot6d_error, rotation_error, velocity_error, window_errors
from mclip.geometry import axis_angle_to_matrix, matrix_to_rot6d, rotation_about
from mclip.motion import Motion
from mclip.runtime.representation import features_to_motion, motion_to_features

FPS = 30.0


@pytest.fixture
def features() -> NDArray[np.float32]:
    """Two thirds of a second of a body that moves all joints."""
    random = np.random.default_rng(0)
    pose = random.normal(0, 0.3, (20, 24, 3)).astype(np.float32)
    pose[:, 0, 0] += np.pi / 2
    transl = np.cumsum(random.normal(0, 0.02, (20, 3)), axis=0).astype(np.float32)
    return motion_to_features(Motion(pose=pose, transl=transl, fps=FPS))


def test_a_perfect_reconstruction_has_no_error(features: NDArray[np.float32]) -> None:
    errors = window_errors(features.copy(), features, FPS, load_body())
    assert errors.mpjpe_root == errors.mpjpe_absolute == errors.vertex_root == errors.vertex_absolute == 0
    assert errors.velocity == errors.rot6d == 0
    assert errors.rotation == pytest.approx(0, abs=1e-4)


def test_a_body_a_metre_away_is_wrong_by_a_metre_and_right_once_the_pelvises_meet(
    features: NDArray[np.float32],
) -> None:
    moved = features.copy()
    moved[:, 24, :3] += np.array([0.6, 0.0, 0.8], np.float32)
    errors = window_errors(moved, features, FPS, load_body())
    assert errors.mpjpe_absolute == pytest.approx(1000, abs=1e-2)
    assert errors.vertex_absolute == pytest.approx(1000, abs=1e-2)
    assert (errors.mpjpe_root, errors.vertex_root) == pytest.approx((0, 0), abs=1e-2)
    assert errors.velocity == pytest.approx(0, abs=1e-1)
    assert errors.rot6d == 0


def test_a_body_that_drifts_is_wrong_by_its_speed(features: NDArray[np.float32]) -> None:
    moved = features.copy()
    moved[:, 24, 1] += np.arange(20, dtype=np.float32) * 0.5 / FPS
    assert window_errors(moved, features, FPS, load_body()).velocity == pytest.approx(500, abs=0.1)


def test_a_turned_joint_counts_by_its_angle(features: NDArray[np.float32]) -> None:
    turned = features.copy()
    matrix = axis_angle_to_matrix(features_to_motion(features, FPS).pose.astype(np.float64))
    matrix[:, 4] = matrix[:, 4] @ rotation_about(2, np.array(np.radians(48.0)))
    turned[:, 4] = matrix_to_rot6d(matrix)[:, 4]
    errors = window_errors(turned, features, FPS, load_body())
    assert errors.rotation == pytest.approx(48 / 24, abs=1e-3)  # one joint of 24
    assert errors.rot6d == pytest.approx(((turned - features) ** 2).sum() / (20 * 24 * 6), rel=1e-5)


def test_vertices_are_those_of_the_skinned_body(features: NDArray[np.float32]) -> None:
    other = features[::-1].copy()
    body = load_body()
    made, real = (pose_vertices(body, features_to_motion(each, FPS)) for each in (other, features))
    expected = 1000 * np.sqrt(((made.astype(np.float64) - real) ** 2).sum(axis=-1)).mean()
    assert window_errors(other, features, FPS, body).vertex_absolute == pytest.approx(expected, rel=1e-4)


def test_the_error_of_plain_arrays_by_hand() -> None:
    real = np.zeros((2, 2, 3), np.float32)
    made = np.array([[[3, 4, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]], np.float32)
    assert mean_distance(made, real) == pytest.approx(1000 * (5 + 1) / 4)
    # Both points change by their whole way in a tenth of a second.
    assert velocity_error(made, real, 10.0) == pytest.approx(1000 * (50 + 10) / 2)
    assert velocity_error(made[:1], real[:1], 10.0) == 0
    assert rot6d_error(np.full((3, 6), 0.1), np.zeros((3, 6))) == pytest.approx(0.01)


@pytest.mark.parametrize("degrees", [0.01, 1.0, 90.0, 179.9])
def test_the_angle_between_rotations_is_the_one_between_them(degrees: float) -> None:
    random = np.random.default_rng(1)
    axis = random.normal(size=(50, 3))
    first = axis_angle_to_matrix(random.normal(size=(50, 3)))
    turn = axis_angle_to_matrix(np.radians(degrees) * axis / np.linalg.norm(axis, axis=-1, keepdims=True))
    assert rotation_error(matrix_to_rot6d(first), matrix_to_rot6d(turn @ first)) == pytest.approx(degrees, rel=1e-4)
