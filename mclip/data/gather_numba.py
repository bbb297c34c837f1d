"""Windows in smpl24 compiled by numba, each frame in one pass. Import it late; mclip.data.gathering is the definition.

Sums are in numpy's order, so that the bits are numpy's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.body.jit import compiled

_JOINTS = 24
_ROOT = 6 * _JOINTS  # where the row of the root begins


@compiled
def fill(
    rotations: NDArray[np.float32],
    transl: NDArray[np.float32],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    speed: NDArray[np.float64],
    between: bool,
    turn: NDArray[np.float32],
    mirror: NDArray[np.bool_],
    joints: NDArray[np.int64],
    signs: NDArray[np.float32],
    features: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> None:
    """Write windows into features (B, T, 150) and mask (B, T).

    rotations (F, 144), transl (F, 3): of the store; start, stop, speed (B,): as for mclip.data.gathering.gather
    between: whether any window has frames that lie between the store's; turn (2, B): cosine and sine of headings
    mirror (B,), with joints (24,) and signs (6,): which windows are mirrored, and what that does to rotations
    """
    # Six planes of 24 numbers: joints go through the arithmetic side by side.
    p = np.empty(6 * _JOINTS, np.float32)
    zero = np.float32(0.0)
    for row in range(mask.shape[0]):
        last, cosine, sine, flip = stop[row] - 1, turn[0, row], turn[1, row], mirror[row]
        origin_x = origin_y = zero
        for t in range(mask.shape[1]):
            out = features[row, t]
            at = start[row] + t * speed[row]
            mask[row, t] = at <= last + 1e-6
            if not mask[row, t]:
                out[:] = zero
                if flip:  # zeros have signs, too
                    for j in range(_JOINTS):
                        for k in range(6):
                            out[6 * j + k] *= signs[k]
                    out[_ROOT] = -zero
                continue
            at = min(at, np.float64(last))
            low = np.int64(at)
            before, here = rotations[low], transl[low]
            x, y, z = here[0], here[1], here[2]
            if between:
                fraction, high = np.float32(at - low), min(low + 1, last)
                after, there = rotations[high], transl[high]
                x, y, z = x + fraction * (there[0] - x), y + fraction * (there[1] - y), z + fraction * (there[2] - z)
                for j in range(_JOINTS):
                    for k in range(6):
                        value = before[6 * j + k]
                        p[_JOINTS * k + j] = value + fraction * (after[6 * j + k] - value)
                for j in range(_JOINTS):
                    a, b, c = p[j], p[_JOINTS + j], p[2 * _JOINTS + j]
                    d, e, f = p[3 * _JOINTS + j], p[4 * _JOINTS + j], p[5 * _JOINTS + j]
                    size = np.sqrt(a * a + b * b + c * c)
                    a, b, c = a / size, b / size, c / size
                    along = a * d + b * e + c * f
                    d, e, f = d - along * a, e - along * b, f - along * c
                    size = np.sqrt(d * d + e * e + f * f)
                    p[j], p[_JOINTS + j], p[2 * _JOINTS + j] = a, b, c
                    p[3 * _JOINTS + j], p[4 * _JOINTS + j], p[5 * _JOINTS + j] = d / size, e / size, f / size
            else:
                for j in range(_JOINTS if flip else 1):
                    for k in range(6):
                        p[_JOINTS * k + j] = before[6 * j + k]
            if t == 0:
                origin_x, origin_y = x, y
            x, y = x - origin_x, y - origin_y
            for k in range(3):
                first, second = p[_JOINTS * k], p[_JOINTS * (3 + k)]
                p[_JOINTS * k] = cosine * first + sine * second
                p[_JOINTS * (3 + k)] = cosine * second - sine * first
            if flip:
                for j in range(_JOINTS):
                    for k in range(6):
                        out[6 * j + k] = p[_JOINTS * k + joints[j]] * signs[k]
            elif between:
                for j in range(_JOINTS):
                    for k in range(6):
                        out[6 * j + k] = p[_JOINTS * k + j]
            else:
                for i in range(_ROOT):
                    out[i] = before[i]
                for k in range(6):
                    out[k] = p[_JOINTS * k]
            x, y = cosine * x + sine * y, cosine * y - sine * x
            out[_ROOT], out[_ROOT + 1], out[_ROOT + 2] = -x if flip else x, y, z
            out[_ROOT + 3 :] = zero
