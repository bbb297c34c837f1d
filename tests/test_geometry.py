"""mclip.geometry against scipy and against itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mclip import geometry as g

Array = NDArray[np.float64]

_COORDINATE = st.floats(-1.0, 1.0)


@st.composite
def axis_angles(draw: st.DrawFn) -> Array:
    """Rotations of every size, the difficult ones (tiny, near pi, pi) often."""
    axis = np.array([draw(_COORDINATE) for _ in range(3)])
    length = np.linalg.norm(axis)
    axis = axis / length if length > 1e-3 else np.array([0.0, 1.0, 0.0])
    angle = draw(
        st.one_of(
            st.floats(0.0, np.pi),
            st.floats(0.0, 1e-3),
            st.floats(1e-12, 1e-6),
            st.floats(np.pi - 1e-6, np.pi),
            st.sampled_from([0.0, np.pi / 2, np.pi]),
        )
    )
    result: Array = axis * angle
    return result


@given(axis_angles())
def test_axis_angle_to_matrix_agrees_with_scipy(axis_angle: Array) -> None:
    assert g.axis_angle_to_matrix(axis_angle) == pytest.approx(Rotation.from_rotvec(axis_angle).as_matrix(), abs=1e-12)


@given(axis_angles())
def test_axis_angle_survives_the_way_through_matrices(axis_angle: Array) -> None:
    back = g.matrix_to_axis_angle(g.axis_angle_to_matrix(axis_angle))
    assert np.linalg.norm(back) <= np.pi + 1e-12
    # At pi, axis and opposite axis are the same rotation: compare rotations.
    assert g.axis_angle_to_matrix(back) == pytest.approx(g.axis_angle_to_matrix(axis_angle), abs=1e-9)


@given(axis_angles(), st.sampled_from([1e-3, 1e-6, 1e-15]))
def test_tiny_rotations_keep_their_digits(axis_angle: Array, scale: float) -> None:
    tiny = axis_angle * scale
    assert g.matrix_to_axis_angle(g.axis_angle_to_matrix(tiny)) == pytest.approx(tiny, rel=1e-9, abs=1e-15 * scale)


@given(axis_angles())
@example(np.array([-3.0, 0.1, 0.0]))
@example(np.array([0.1, -3.0, 0.0]))
@example(np.array([0.1, 0.0, -3.0]))
def test_quaternions_agree_with_scipy(axis_angle: Array) -> None:
    matrix = g.axis_angle_to_matrix(axis_angle)
    quaternion = g.matrix_to_quaternion(matrix)
    x, y, z, w = Rotation.from_rotvec(axis_angle).as_quat()
    expected = np.array([w, x, y, z])
    assert quaternion[0] >= 0
    assert abs(quaternion @ expected) == pytest.approx(1.0, abs=1e-12)
    for same in (quaternion, -quaternion, 3 * quaternion):
        assert g.quaternion_to_matrix(same) == pytest.approx(matrix, abs=1e-9)
    back = g.quaternion_to_axis_angle(-quaternion)
    assert np.linalg.norm(back) <= np.pi + 1e-12
    assert g.axis_angle_to_matrix(back) == pytest.approx(matrix, abs=1e-9)


@given(axis_angles())
def test_six_dimensions_are_the_first_two_rows_and_give_the_matrix_back(axis_angle: Array) -> None:
    matrix = g.axis_angle_to_matrix(axis_angle)
    rot6d = g.matrix_to_rot6d(matrix)
    assert np.array_equal(rot6d, np.concatenate([matrix[0], matrix[1]]))
    assert g.rot6d_to_matrix(rot6d) == pytest.approx(matrix, abs=1e-9)


@given(st.lists(st.floats(-5.0, 5.0), min_size=6, max_size=6))
def test_any_six_numbers_that_span_a_plane_give_a_rotation(values: list[float]) -> None:
    first, second = np.array(values[:3]), np.array(values[3:])
    if np.linalg.norm(np.cross(first, second)) < 1e-2:
        return
    matrix = g.rot6d_to_matrix(np.array(values))
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


@given(
    st.lists(st.floats(-7.0, 7.0), min_size=3, max_size=3),
    st.sampled_from(["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "ZXZ"]),
)
def test_euler_angles_are_intrinsic_as_scipys_capitals(angles: list[float], order: str) -> None:
    expected = Rotation.from_euler(order, angles).as_matrix()
    assert g.euler_to_matrix(np.array(angles), order) == pytest.approx(expected, abs=1e-12)


@given(axis_angles())
def test_zxy_angles_give_the_matrix_back(axis_angle: Array) -> None:
    matrix = g.axis_angle_to_matrix(axis_angle)
    assert g.euler_to_matrix(g.matrix_to_euler_zxy(matrix), "ZXY") == pytest.approx(matrix, abs=1e-6)


@given(st.floats(-np.pi, np.pi), st.floats(-np.pi, np.pi), st.sampled_from([-1.0, 1.0]), st.floats(-1e-8, 1e-8))
def test_zxy_angles_hold_at_the_pole(z: float, y: float, sign: float, off: float) -> None:
    matrix = g.euler_to_matrix(np.array([z, sign * np.pi / 2 + off, y]), "ZXY")
    assert g.euler_to_matrix(g.matrix_to_euler_zxy(matrix), "ZXY") == pytest.approx(matrix, abs=1e-6)


@given(axis_angles(), axis_angles(), st.floats(0.0, 1.0))
def test_slerp_turns_evenly_along_the_shorter_arc(start: Array, end: Array, fraction: float) -> None:
    a, b = (g.matrix_to_quaternion(g.axis_angle_to_matrix(value)) for value in (start, end))
    mixed = g.slerp(a, b, np.array(fraction))
    assert np.linalg.norm(mixed) == pytest.approx(1.0)
    middle = g.quaternion_to_matrix(mixed)
    first, second = g.quaternion_to_matrix(a), g.quaternion_to_matrix(b)
    whole = float(g.angle_between(first, second))
    assert float(g.angle_between(first, middle)) == pytest.approx(fraction * whole, abs=1e-6)
    assert float(g.angle_between(middle, second)) == pytest.approx((1 - fraction) * whole, abs=1e-6)


@given(axis_angles(), axis_angles())
def test_angle_between_agrees_with_scipy(first: Array, second: Array) -> None:
    expected = (Rotation.from_rotvec(first).inv() * Rotation.from_rotvec(second)).magnitude()
    angle = g.angle_between(g.axis_angle_to_matrix(first), g.axis_angle_to_matrix(second))
    assert float(angle) == pytest.approx(expected, abs=1e-6)


@given(st.lists(_COORDINATE, min_size=3, max_size=3), st.lists(_COORDINATE, min_size=3, max_size=3), st.booleans())
def test_rotation_between_directions_is_the_smallest(start: list[float], end: list[float], opposite: bool) -> None:
    a = np.array(start)
    b = -a if opposite else np.array(end)
    if min(np.linalg.norm(a), np.linalg.norm(b)) < 1e-3:
        return
    matrix = g.rotation_between(a, b)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    assert matrix @ a == pytest.approx(b, abs=1e-6)
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-9)
    wanted = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    assert float(g.angle_between(np.eye(3), matrix)) == pytest.approx(wanted, abs=1e-6)


def test_no_angles_are_no_rotation() -> None:
    assert np.array_equal(g.euler_to_matrix(np.zeros((4, 0)), ""), np.tile(np.eye(3), (4, 1, 1)))


def test_rotation_about_an_axis_follows_the_right_hand() -> None:
    quarter = np.array(np.pi / 2)
    assert g.rotation_about(0, quarter) @ [0, 1, 0] == pytest.approx([0, 0, 1])
    assert g.rotation_about(1, quarter) @ [0, 0, 1] == pytest.approx([1, 0, 0])
    assert g.rotation_about(2, quarter) @ [1, 0, 0] == pytest.approx([0, 1, 0])


def test_y_up_becomes_z_up_and_front_stays_in_front_of_left() -> None:
    assert (g.Y_UP_TO_Z_UP @ [0, 1, 0]).tolist() == [0, 0, 1]
    assert (g.Y_UP_TO_Z_UP @ [1, 0, 0]).tolist() == [1, 0, 0]
    assert (g.Y_UP_TO_Z_UP @ [0, 0, 1]).tolist() == [0, -1, 0]


def quaternion(axis_angle: g.Array) -> g.Array:
    return g.matrix_to_quaternion(g.axis_angle_to_matrix(axis_angle))


ROTATIONS: dict[str, Callable[[g.Array, g.Array], g.Array]] = {
    "axis_angle_to_matrix": lambda a, b: g.axis_angle_to_matrix(a),
    "matrix_to_quaternion": lambda a, b: quaternion(a),
    "matrix_to_axis_angle": lambda a, b: g.matrix_to_axis_angle(g.axis_angle_to_matrix(a)),
    "matrix_to_rot6d": lambda a, b: g.matrix_to_rot6d(g.axis_angle_to_matrix(a)),
    "rot6d_to_matrix": lambda a, b: g.rot6d_to_matrix(np.concatenate([a, b], axis=-1)),
    "matrix_to_euler_zxy": lambda a, b: g.matrix_to_euler_zxy(g.axis_angle_to_matrix(a)),
    "euler_to_matrix": lambda a, b: g.euler_to_matrix(a, "ZXY"),
    "quaternion_to_matrix": lambda a, b: g.quaternion_to_matrix(np.concatenate([a, b[..., :1]], axis=-1)),
    "slerp": lambda a, b: g.slerp(quaternion(a), quaternion(b), a[..., 0]),
    "rotation_between": g.rotation_between,
    "angle_between": lambda a, b: g.angle_between(g.axis_angle_to_matrix(a), g.axis_angle_to_matrix(b)),
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_many_at_once_are_as_one_by_one_and_in_the_precision_given(name: str) -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 5, 24, 3))
    first[0, :3] = [[1e-12, 0, 0], [np.pi / 2, 0, 0], [1, 0, 0]]
    second[0, 1:3] = [[-1, 0, 0], [2, 0, 0]]
    made = ROTATIONS[name](first, second)
    for place in np.ndindex(5, 24):
        np.testing.assert_allclose(made[place], ROTATIONS[name](first[place], second[place]), atol=1e-12)
    single = ROTATIONS[name](first.astype(np.float32), second.astype(np.float32))
    assert single.dtype == np.float32
    assert single.shape == made.shape
    np.testing.assert_allclose(single[1:], made[1:], atol=2e-4)


@pytest.mark.parametrize("axis", np.concatenate([np.eye(3), -np.eye(3)]).tolist())
def test_opposite_directions_have_a_half_turn_between_them(axis: list[float]) -> None:
    a = np.array(axis)
    matrix = g.rotation_between(a, -a)
    assert matrix @ a == pytest.approx(-a)
    assert np.trace(matrix) == pytest.approx(-1.0)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_vectors_too_short_for_a_direction_stay_finite() -> None:
    assert np.isfinite(g.rot6d_to_matrix(np.array([0.0, 0, 0, 0, 1e-9, 0]))).all()
    short = 1e-5 * np.eye(3)
    assert g.rotation_between(short[1], short[2]) @ [0, 1, 0] == pytest.approx([0, 0, 1])


def test_between_a_rotation_and_itself_there_is_nothing_but_itself() -> None:
    # Of a quaternion and itself the product is often a little more than one.
    turns = quaternion(np.random.default_rng(1).normal(size=(100, 3)))
    np.testing.assert_allclose(g.slerp(turns, turns, np.full(100, 0.3)), turns, atol=1e-12)
