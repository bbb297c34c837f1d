"""Windows of a store's frames as features: what every batch is made of.

`gather_numpy` is the definition. What is drawn most, smpl24, has a form compiled by numba, which gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.data.store import MotionStore
from mclip.geometry import Array, rot6d_to_rows
from mclip.runtime.representation import COLUMNS, MIRROR_SIGNS, ROWS, SMPL24, Representation, heading
from mclip.skeleton.smpl import MIRROR


def gather(
    store: MotionStore,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    length: int,
    speed: NDArray[np.float64],
    kind: Representation,
    mirror: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Windows of `length` frames from store frames start (B,) on, at speeds (B,), ending before stop (B,).

    mirror (B,): which of them are mirrored; None for none.
    Returns features (B, length, 25, 6), zero where padded, and mask (B, length).
    """
    if mirror is None:
        mirror = np.zeros(len(start), bool)
    fill = _kernel() if kind is SMPL24 else None
    if fill is None:
        return gather_numpy(store, start, stop, length, speed, kind, mirror)
    features = np.empty((len(start), length, ROWS, COLUMNS), np.float32)
    mask = np.empty((len(start), length), bool)
    # A window's second frame lies between the store's, or is the span's last, or they all are frames of the store.
    between = length > 1 and bool(((speed % 1 != 0) & (start + speed < stop - 1)).any())
    first = store.rotations[start, :1]
    if between:
        first = _lerp(first, store.rotations[np.minimum(start + 1, stop - 1), :1], np.float32(0))
        _make_orthonormal(first)
    angle = heading(np.stack(rot6d_to_rows(first[:, 0]), axis=-2))
    fill(
        np.asarray(store.rotations).reshape(-1, 24 * COLUMNS),
        np.asarray(store.transl),
        *(start, stop, speed, between),
        np.stack([np.cos(angle), np.sin(angle)]),
        *(mirror, np.array(MIRROR), MIRROR_SIGNS),
        features.reshape(*mask.shape, ROWS * COLUMNS),
        mask,
    )
    return features, mask


def gather_numpy(
    store: MotionStore,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    length: int,
    speed: NDArray[np.float64],
    kind: Representation,
    mirror: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`gather`, in any representation."""
    at = start[:, None] + np.arange(length) * speed[:, None]  # (B, T) in store frames
    last = (stop - 1)[:, None]
    mask = at <= last + 1e-6
    at = np.minimum(at, last)
    low = at.astype(np.int64)
    if np.array_equal(low, at):
        rotations, transl = store.rotations[low], store.transl[low]
    else:
        high, fraction = np.minimum(low + 1, last), (at - low).astype(np.float32)[..., None]
        # Neighbouring frames are a few degrees apart: a straight line in 6D, made orthonormal again, is an arc then
        # (and still within 0.3 degrees of one for frames 35 degrees apart).
        rotations = _lerp(store.rotations[low], store.rotations[high], fraction[..., None])
        _make_orthonormal(rotations)
        transl = _lerp(store.transl[low], store.transl[high], fraction)
    features = kind.encode(rotations, transl)
    features[~mask] = 0.0
    features[mirror] = kind.mirror(features[mirror])
    return features, mask


def _lerp(low: Array, high: Array, fraction: Any) -> Array:
    result: Array = low + fraction * (high - low)
    return result


def _make_orthonormal(rot6d: Array) -> None:
    """Gram-Schmidt on 6D rotations (..., 6) in place: what `rot6d_to_matrix` does, in a third of the time."""
    first, second = rot6d[..., :3], rot6d[..., 3:]
    first /= np.sqrt(np.einsum("...i,...i", first, first))[..., None]
    second -= np.einsum("...i,...i", first, second)[..., None] * first
    second /= np.sqrt(np.einsum("...i,...i", second, second))[..., None]


@cache
def _kernel() -> Callable[..., None] | None:
    # numba takes half a second to import, and there may be no wheel of it.
    try:
        from mclip.data.gather_numba import fill
    except ImportError:
        return None
    return fill
