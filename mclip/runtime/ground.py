"""The floor under a motion."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import forward_kinematics

# Below the floor go this share of the frames at most: single bad ones.
_BELOW_FLOOR = 0.02
# Longer than twice this nobody is in the air: seconds.
_AIRBORNE = 0.3
# Who is farther from the floor than this between two touches climbs or flies: metres.
_HOVERING = 0.15


def floor_of(motion: Motion) -> float:
    """The height the body stands on, metres."""
    return floor_under(lowest(motion))


def lowest(motion: Motion) -> NDArray[np.float32]:
    """Height (T,) of the lowest skin in each frame, metres."""
    return lowest_point(forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)[1]).astype(np.float32)


def floor_under(heights: NDArray[np.float32]) -> float:
    """The height a body stands on whose lowest skin is so high (T,), metres."""
    return float(np.sort(heights)[int(_BELOW_FLOOR * len(heights))])


def hover_of(heights: NDArray[np.float32], fps: float) -> NDArray[np.float32]:
    """How far a body that should touch the floor floats above it (T,), metres, of the heights of its lowest skin (T,).

    A mean of minima, both over the time that a leap may take: it changes slowly, and is nowhere more than the height.
    Zero for who leaves the floor for good.
    """
    reach = max(1, round(_AIRBORNE * fps))
    above = np.pad(np.maximum(heights, 0.0), 2 * reach, mode="edge")
    least = sliding_window_view(above, 2 * reach + 1).min(axis=-1)
    result: NDArray[np.float32] = sliding_window_view(least, 2 * reach + 1).mean(axis=-1, dtype=np.float32)
    return result if result.max() < _HOVERING else np.zeros_like(result)
