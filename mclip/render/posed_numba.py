"""Poses in, pictures out: skinning, camera fit and rasteriser in one pass, compiled by numba. Import it late.

Vertices never leave the processor's cache, and each frame is moved straight into the axes of its camera.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.body.jit import compiled
from mclip.render.camera import HALF_SIDE, MARGIN
from mclip.render.raster_numba import canvas, paint


@compiled
def draw_posed(
    turn: NDArray[np.float32],
    shift: NDArray[np.float32],
    rest: NDArray[np.float32],
    joints: NDArray[np.int32],
    weights: NDArray[np.float32],
    faces: NDArray[np.int32],
    axes: NDArray[np.float64],
    pictures: NDArray[np.uint8],
) -> None:
    """Draw frames into pictures (R, S, S, 4), each with the nearest camera that has the whole body in its picture.

    turn (R, 24, 3, 3), shift (R, 24, 3), rest (R or 1, V, 3), joints and weights (V, K): as in
    mclip.body.skinning.skin_frames_numpy; axes (R, 3, 3): of the cameras, whose fit is that of mclip.render.camera.fit
    """
    V, k = rest.shape[1], HALF_SIDE / MARGIN
    local = np.empty((V, 3))
    points, normal, depth, value = canvas(V, pictures.shape[1])
    moves = np.empty((turn.shape[1], 3, 4))
    for frame in range(pictures.shape[0]):
        for joint in range(turn.shape[1]):
            for row in range(3):
                for column in range(3):
                    moves[joint, row, column] = 0.0
                    for inner in range(3):
                        moves[joint, row, column] += axes[frame, row, inner] * turn[frame, joint, inner, column]
                moves[joint, row, 3] = 0.0
                for inner in range(3):
                    moves[joint, row, 3] += axes[frame, row, inner] * shift[frame, joint, inner]
        shape = rest[min(frame, rest.shape[0] - 1)]
        right = left = top = bottom = -np.inf
        for v in range(V):
            x, y, z = shape[v, 0], shape[v, 1], shape[v, 2]
            px = py = pz = 0.0
            for influence in range(joints.shape[1]):
                w = weights[v, influence]
                if w != 0.0:
                    m = moves[joints[v, influence]]
                    px += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
                    py += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
                    pz += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
            local[v, 0], local[v, 1], local[v, 2] = px, py, pz
            right, left = max(right, k * pz + px), max(left, k * pz - px)
            top, bottom = max(top, k * pz + py), max(bottom, k * pz - py)
        distance = max(right + left, top + bottom) / (2.0 * k)
        for v in range(V):
            local[v, 0] -= (right - left) / 2.0
            local[v, 1] -= (top - bottom) / 2.0
            local[v, 2] -= distance
        paint(local, faces, points, normal, depth, value, pictures[frame])
