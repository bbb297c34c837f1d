"""The rendered frames of a store: which frames, and how they are drawn and encoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mclip.body.model import Body, load_body
from mclip.errors import UsageError
from mclip.motion import Motion
from mclip.render.camera import DESCRIPTION
from mclip.render.frames import CLIP_SIZE, MAX_SIZE, clip_frames

# One picture, of the middle frame, for each stretch of this many frames: MotionCLIP's window.
WINDOW = 60
# Pictures of a long recording are drawn and encoded some at a time: these many bytes of them, 41 at CLIP's size.
_AT_ONCE = 8 << 20
# Mean error 0.36 of 255 at 2.9 kB a picture; method 4 is half as fast again for 4 % less.
_WEBP = {"quality": 90, "method": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How frames are drawn.

    renderer  "numba", "numpy" or "pyrender"
    size      pixels on each side
    body      an SMPL file, or None for the free body

    Raises UsageError for a size out of range.
    """

    renderer: str = "numba"
    size: int = CLIP_SIZE
    body: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE:
            raise UsageError(f"--size {self.size} is not between 1 and {MAX_SIZE} pixels")

    @property
    def camera(self) -> str:
        """The camera in words, for the store."""
        return f"{DESCRIPTION}, {self.size} px"


def draw(motion: Motion, drawing: Drawing) -> list[tuple[int, bytes]]:
    """A WebP picture of the middle frame of each window of a motion, the last, shorter one included: (frame, file).

    Raises UsageError and AssetError for a renderer or body that cannot be used.
    """
    frames = [(start + min(start + WINDOW, len(motion))) // 2 for start in range(0, len(motion), WINDOW)]
    body, count = _body(drawing.body), max(1, _AT_ONCE // (4 * drawing.size**2))
    made: list[bytes] = []
    for start in range(0, len(frames), count):
        part = frames[start : start + count]
        pictures = clip_frames(body, motion, part, size=drawing.size, backend=drawing.renderer)
        made += [_encode(picture) for picture in pictures]
    return list(zip(frames, made, strict=True))


@cache
def _body(path: Path | None) -> Body:
    return load_body(path)


def _encode(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", **_WEBP)
    return file.getvalue()
