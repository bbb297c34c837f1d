"""Motions of any length as windows of the length a pack was trained for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Encoded(NamedTuple):
    """The windows of one motion.

    start, stop  (W,) int64 frames at the pack's rate, stop exclusive
    latents      (W, D) float32, one of each window
    fps          the pack's frames per second
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    latents: NDArray[np.float32]
    fps: float


def starts(frames: int, length: int, hop: int, *, even: bool = False) -> NDArray[np.int64]:
    """Starts (W,) of windows of `length` frames, at most `hop` apart, that cover all of `frames`, at least one of each.

    The last window ends with the motion. The others are `hop` apart and it may begin less than that after the one
    before it; or, if `even`, all are equally far apart, but for rounding. A motion shorter than a window has one, which
    is as long as it is.
    """
    last = max(0, frames - length)
    count = 1 + -(-last // hop)
    if even:
        return np.linspace(0, last, count).round().astype(np.int64)
    return np.minimum(hop * np.arange(count, dtype=np.int64), last)
