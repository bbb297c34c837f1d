"""The floor under a motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.geometry import Array, axis_angle_to_matrix
from mclip.motion import Motion
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import forward_kinematics

# Below the floor go this share of the frames at most: single bad ones.
_BELOW_FLOOR = 0.02


def floor_of(motion: Motion) -> float:
    """The height the body stands on, metres."""
    return floor_under(lowest(motion))


def lowest(motion: Motion) -> NDArray[np.float32]:
    """Height (T,) of the lowest skin in each frame, metres."""
    return lowest_of(axis_angle_to_matrix(motion.pose), motion.transl)


def floor_under(heights: NDArray[np.float32]) -> float:
    """The height a body stands on whose lowest skin is so high (T,), metres."""
    return float(np.sort(heights)[int(_BELOW_FLOOR * len(heights))])


def lowest_of(rotations: Array, transl: Array) -> NDArray[np.float32]:
    """`lowest` (..., T) of local rotations (..., T, 24, 3, 3) and transl (..., T, 3)."""
    return lowest_point(forward_kinematics(rotations, transl)[1]).astype(np.float32)
