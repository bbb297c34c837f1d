"""Rotations as numpy arrays. Matrices act on column vectors; quaternions are wxyz; angles are radians.

6D means the first two *rows* of the matrix, as in MotionCLIP and PyTorch3D (Zhou et al., CVPR 2019, describe columns).
Every function takes any number of leading axes and computes in the precision it is given.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]

# Y-up (BVH, glTF, SMPL's rest pose) to Z-up (AMASS, our world): (x, y, z) -> (x, -z, y).
Y_UP_TO_Z_UP: NDArray[np.float64] = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def axis_angle_to_matrix(axis_angle: Array) -> Array:
    """Axis-angle (..., 3) to rotation matrices (..., 3, 3), by Rodrigues' formula."""
    angle = _not_zero(np.linalg.norm(axis_angle, axis=-1, keepdims=True))[..., None]  # (..., 1, 1)
    k = cross_matrix(axis_angle)
    # (1 - cos(a)) / a^2 would lose its digits where the angle is small.
    first, second = np.sin(angle) / angle, 2.0 * np.square(np.sin(angle / 2.0) / angle)
    result: Array = np.eye(3, dtype=axis_angle.dtype) + first * k + second * (k @ k)
    return result


def _not_zero(angle: Array) -> Array:
    """The angle (...), or one that can be divided by and is its own sine and tangent to the last digit."""
    result: Array = np.maximum(angle, 1e-10)
    return result


def cross_matrix(vector: Array) -> Array:
    """The matrix (..., 3, 3) of the cross product with vector (..., 3)."""
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)


def matrix_to_quaternion(matrix: Array) -> Array:
    """Rotation matrices (..., 3, 3) to unit quaternions (..., 4) with w >= 0.

    Of the four algebraically equal forms the best conditioned one is taken (Shepperd 1978).
    """
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    candidates = np.stack(
        [
            np.stack(
                [1 + trace, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1
            ),
            np.stack(
                [
                    m[..., 2, 1] - m[..., 1, 2],
                    1 + 2 * xx - trace,
                    m[..., 0, 1] + m[..., 1, 0],
                    m[..., 0, 2] + m[..., 2, 0],
                ],
                -1,
            ),
            np.stack(
                [
                    m[..., 0, 2] - m[..., 2, 0],
                    m[..., 0, 1] + m[..., 1, 0],
                    1 + 2 * yy - trace,
                    m[..., 1, 2] + m[..., 2, 1],
                ],
                -1,
            ),
            np.stack(
                [
                    m[..., 1, 0] - m[..., 0, 1],
                    m[..., 0, 2] + m[..., 2, 0],
                    m[..., 1, 2] + m[..., 2, 1],
                    1 + 2 * zz - trace,
                ],
                -1,
            ),
        ],
        axis=-2,
    )  # (..., 4, 4)
    best = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(candidates, best[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    result: Array = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return result


def quaternion_to_matrix(quaternion: Array) -> Array:
    """Quaternions (..., 4), of any length but zero, to rotation matrices (..., 3, 3)."""
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    flat = np.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        axis=-1,
    )  # fmt: skip
    return flat.reshape(*w.shape, 3, 3)


def quaternion_to_axis_angle(quaternion: Array) -> Array:
    """Unit quaternions (..., 4) to axis-angle (..., 3) with angles in [0, pi]."""
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    sine = _not_zero(np.linalg.norm(vector, axis=-1, keepdims=True))
    result: Array = vector * (2.0 * np.arctan2(sine, w) / sine)
    return result


def matrix_to_axis_angle(matrix: Array) -> Array:
    """Rotation matrices (..., 3, 3) to axis-angle (..., 3) with angles in [0, pi]."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_rot6d(matrix: Array) -> Array:
    """Rotation matrices (..., 3, 3) to 6D (..., 6)."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def rot6d_to_matrix(rot6d: Array) -> Array:
    """6D (..., 6) to the nearest-by-Gram-Schmidt rotation matrices (..., 3, 3)."""
    x, y = rot6d_to_rows(rot6d)
    return np.stack([x, y, np.cross(x, y)], axis=-2)


def rot6d_to_rows(rot6d: Array) -> tuple[Array, Array]:
    """The first two rows, (..., 3) each, of `rot6d_to_matrix`."""
    first, second = rot6d[..., :3], rot6d[..., 3:]
    x = first / np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-8)
    second = second - np.sum(x * second, axis=-1, keepdims=True) * x
    return x, second / np.maximum(np.linalg.norm(second, axis=-1, keepdims=True), 1e-8)


def euler_to_matrix(angles: Array, order: str) -> Array:
    """Intrinsic Euler angles (..., n), n = len(order), to matrices (..., 3, 3).

    order: axes such as "ZXY", first applied leftmost: the result is R_Z(angles[0]) R_X(angles[1]) R_Y(angles[2]), as
    the channels of a BVH joint are read.
    """
    result = np.broadcast_to(np.eye(3, dtype=angles.dtype), (*angles.shape[:-1], 3, 3))
    for index, axis in enumerate(order):
        result = result @ rotation_about("XYZ".index(axis), angles[..., index])
    return result


def rotation_about(axis: int, angle: Array) -> Array:
    """Rotations (..., 3, 3) by angle (...) about coordinate axis 0, 1 or 2."""
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*angle.shape, 3, 3), dtype=angle.dtype)
    second, third = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1.0
    matrix[..., second, second] = matrix[..., third, third] = cosine
    matrix[..., second, third] = -sine
    matrix[..., third, second] = sine
    return matrix


def matrix_to_euler_zxy(matrix: Array) -> Array:
    """Rotation matrices (..., 3, 3) to intrinsic angles (..., 3) about Z, X, Y, the usual order of BVH channels.

    At the pole (X at +-90 degrees) only the sum of Z and Y is determined: Y is set to zero.
    """
    cosine = np.hypot(matrix[..., 2, 0], matrix[..., 2, 2])
    x = np.arctan2(matrix[..., 2, 1], cosine)
    pole = cosine < 1e-7
    z = np.where(
        pole, np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0]), np.arctan2(-matrix[..., 0, 1], matrix[..., 1, 1])
    )
    y = np.where(pole, 0.0, np.arctan2(-matrix[..., 2, 0], matrix[..., 2, 2]))
    return np.stack([z, x, y], axis=-1)


def slerp(start: Array, end: Array, fraction: Array) -> Array:
    """Spherical interpolation of unit quaternions start, end (..., 4) by fraction (...), along the shorter arc."""
    dot = np.sum(start * end, axis=-1, keepdims=True)
    end = np.where(dot < 0, -end, end)
    half = _not_zero(np.arccos(np.minimum(np.abs(dot), 1.0)))
    t = np.asarray(fraction)[..., None]
    mixed = np.sin((1.0 - t) * half) * start + np.sin(t * half) * end
    result: Array = mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)
    return result


def rotation_between(start: Array, end: Array) -> Array:
    """The smallest rotations (..., 3, 3) that turn directions start (..., 3) into directions end (..., 3)."""
    a = start / np.linalg.norm(start, axis=-1, keepdims=True)
    b = end / np.linalg.norm(end, axis=-1, keepdims=True)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    cosine = np.sum(a * b, axis=-1, keepdims=True)
    # Opposite directions: any axis at a right angle will do.
    x, y, _ = np.eye(3, dtype=a.dtype)
    other = np.cross(a, np.where(np.abs(a[..., :1]) < 0.9, x, y))
    other = other / np.linalg.norm(other, axis=-1, keepdims=True)
    axis = np.where(sine < 1e-9, other, axis / _not_zero(sine))
    return axis_angle_to_matrix(axis * np.arctan2(sine, cosine))


def angle_between(first: Array, second: Array) -> Array:
    """The angle (...) of the rotation that takes first (..., 3, 3) to second (..., 3, 3), in [0, pi]."""
    relative = np.swapaxes(first, -1, -2) @ second
    result: Array = np.linalg.norm(matrix_to_axis_angle(relative), axis=-1)
    return result
