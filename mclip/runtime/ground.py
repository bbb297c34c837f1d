"""The floor under a motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import forward_kinematics

# Below the floor go this share of the frames at most: single bad ones.
_BELOW_FLOOR = 0.02


def floor_of(motion: Motion) -> float:
    """The height the body stands on, metres."""
    return float(np.sort(lowest(motion))[int(_BELOW_FLOOR * len(motion))])


def lowest(motion: Motion) -> NDArray[np.float32]:
    """Height (T,) of the lowest skin in each frame, metres."""
    _, joints = forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)
    return lowest_point(joints).astype(np.float32)
