"""Skinning compiled by numba; the same contract as mclip.body.skinning.skin_frames_numpy. Import it late."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.body.jit import compiled


@compiled
def skin_frames(
    turn: NDArray[np.float32],
    shift: NDArray[np.float32],
    rest: NDArray[np.float32],
    joints: NDArray[np.int32],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write the skinned vertices into out (R, V, 3); see skin_frames_numpy."""
    for frame in range(out.shape[0]):
        shape = rest[min(frame, rest.shape[0] - 1)]
        for v in range(out.shape[1]):
            x, y, z = shape[v, 0], shape[v, 1], shape[v, 2]
            sx = sy = sz = np.float32(0.0)
            for k in range(joints.shape[1]):
                w = weights[v, k]
                if w != 0.0:
                    j = joints[v, k]
                    m = turn[frame, j]
                    sx += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + shift[frame, j, 0])
                    sy += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + shift[frame, j, 1])
                    sz += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + shift[frame, j, 2])
            out[frame, v, 0] = sx
            out[frame, v, 1] = sy
            out[frame, v, 2] = sz
