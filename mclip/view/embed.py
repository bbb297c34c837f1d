"""The numbers of a page: the body and motions, quantised and deflated, as the page's data.js unpacks them.

A block is a deflate stream (zlib) of columns one after another. Each column is delta-coded (the first value, then
differences that wrap around) and its bytes are sorted by significance, all low bytes first; both make deflate find
more. A block of

    a body      3 columns of V uint16 (x, y, z between `low` and `low + 65535 step`), 3 columns of F uint16 (corners of
                the triangles), 4 columns of V uint8 (joints) and 4 of V uint8 (their weights, out of 255)
    a motion    72 columns of T int16 (axis-angle of 24 joints, in units of pi / 32767), 3 columns of T int32 (root
                translation relative to `start`, in units of `unit` metres)
"""

from __future__ import annotations

import base64
import zlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.body.model import load_body
from mclip.motion import Motion
from mclip.skeleton.smpl import PARENTS

INFLUENCES = 4
# Metres: far below what can be seen. Whoever travels too far for it in 32 bits gets coarser steps.
UNIT = 1e-5
_LARGEST = 2.0**31 - 1
# A level more takes twice the time for one part in a hundred.
_LEVEL = 6


@cache
def embed_body() -> dict[str, Any]:
    """The free body as JSON values. No other body goes into a page: licensed ones may not be passed on."""
    body = load_body()
    low = body.v_template.min(axis=0).astype(np.float64)
    step = (body.v_template.max(axis=0) - low) / 65535
    joints, weights = body.strongest(INFLUENCES)
    columns = [
        *np.round((body.v_template - low) / step).astype("<u2").T,
        *body.faces.astype("<u2").T,
        *joints.astype(np.uint8).T,
        *np.round(weights * 255).astype(np.uint8).T,
    ]
    return {
        "vertices": len(body.v_template),
        "faces": len(body.faces),
        "low": low.tolist(),
        "step": step.tolist(),
        "joints": np.round(body.rest_joints(np.zeros(10, np.float32)).astype(np.float64), 6).tolist(),
        "parents": list(PARENTS),
        "data": _block(columns),
    }


def embed_motion(motion: Motion) -> dict[str, Any]:
    """The frames of a motion as JSON values."""
    travelled = motion.transl.astype(np.float64) - motion.transl[0]
    unit = max(UNIT, float(np.abs(travelled).max()) / _LARGEST)
    columns = [
        *np.round(_wrapped(motion.pose).reshape(len(motion), 72).T * (32767 / np.pi)).astype("<i2"),
        *np.round(travelled.T / unit).astype("<i4"),
    ]
    return {
        "frames": len(motion),
        "fps": motion.fps,
        "start": [float(value) for value in motion.transl[0]],
        "unit": unit,
        "data": _block(columns),
    }


def _wrapped(pose: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same rotations (..., 3) by at most half a turn."""
    angle = np.linalg.norm(pose.astype(np.float64), axis=-1, keepdims=True)
    short = angle - 2 * np.pi * np.round(angle / (2 * np.pi))
    return np.asarray(pose * (short / np.maximum(angle, 1e-12)))


def _block(columns: list[NDArray[Any]]) -> str:
    deflater = zlib.compressobj(_LEVEL)
    parts = []
    for column in columns:
        # Differences wrap around, here as in the page.
        unsigned = np.ascontiguousarray(column).view(f"<u{column.itemsize}")
        delta = np.diff(unsigned, prepend=unsigned.dtype.type(0))
        parts.append(deflater.compress(delta.view(np.uint8).reshape(-1, column.itemsize).T.tobytes()))
    return base64.b64encode(b"".join([*parts, deflater.flush()])).decode()
