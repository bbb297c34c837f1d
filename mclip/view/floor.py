"""The floor that bodies of a stage stand on: square tiles that fade to white away from a centre, the path walked so
far, and a soft shadow.

In camera axes right is level, so that everything about the floor is linear along a row of a picture. With the ray
through a pixel (x, y) at depth one, ray = x right + y up - back, a camera at height h above the floor sees the floor at

    h ray / (back_z - y up_z)

from its foot. `paint` has two backends that compute this and draw the same: numba's is in mclip.view.floor_numba.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mclip.render.camera import HALF_SIDE, Camera

# Metres: the side of a tile, and how far from the body the floor has faded to half.
TILE, REACH = 0.5, 1.0
# Metres: what one pixel sees is never thought to be smaller.
FINEST = 1e-4
# Where the floor has faded to one part in 2 ** FADED nothing is left of it in 8 bits.
FADED = 9.0
SHADOW = 0.30
TILES: NDArray[np.float64] = np.array([[234.0, 237.0, 241.0], [218.0, 223.0, 230.0]])
PATH: NDArray[np.float64] = np.array([120.0, 150.0, 190.0])
# Lines are drawn at this many samples per pixel and axis, and averaged. Points nearer than this are one, in samples.
_FINE, _APART = 2, 2.0

# layer, shadow, line, axes, eye, centre, reach, first, result: see paint_numpy
Paint: TypeAlias = Callable[
    [
        NDArray[np.uint8],
        NDArray[np.uint8],
        NDArray[np.uint8],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
        float,
        int,
        NDArray[np.uint8],
    ],
    None,
]


@cache
def find_paint() -> Paint:
    """The backend that there is."""
    try:
        from mclip.view.floor_numba import paint
    except ImportError:
        return paint_numpy
    return paint


def paint_numpy(
    layer: NDArray[np.uint8],
    shadow: NDArray[np.uint8],
    line: NDArray[np.uint8],
    axes: NDArray[np.float64],
    eye: NDArray[np.float64],
    centre: NDArray[np.float64],
    reach: float,
    first: int,
    result: NDArray[np.uint8],
) -> None:
    """Put a layer onto the floor, into columns of a picture: result (S, W, 4), from column `first` on, opaque.

    layer   (S, S, 4) a body on white, and how much of each pixel it covers
    shadow  (S, S) where it falls on the floor, 255 is all of a pixel
    line    (S, S) how much of a pixel the path covers, or (0, 0) for none
    axes    (3, 3) of the camera
    eye     (3,) where it is, metres, the last its height above the floor
    centre  (2,) metres, where the floor is clearest; reach: metres from there to where it has faded to half
    """
    size, width = result.shape[:2]
    wanted = slice(first, first + width)
    right, up, back = axes
    step = 2.0 * HALF_SIDE / size
    x = ((np.arange(size) + 0.5) * step - HALF_SIDE)[wanted, None]
    y = (HALF_SIDE - (np.arange(size) + 0.5) * step)[:, None, None]
    down = back[2] - y * up[2]  # (S, 1, 1), of a ray
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where((down > 0) & (eye[2] > 0), eye[2] / down, np.nan)
        ray = x * right[:2] + y * up[:2] - back[:2]  # (S, W, 2)
        seen = distance * ray
        # How far apart what neighbouring pixels see is.
        wide = np.abs(distance * step * right[:2]) + np.abs(distance * step * (up[:2] + ray * (up[2] / down)))
        strength = np.exp2(-np.square((seen + eye[:2] - centre) / reach).sum(axis=-1, keepdims=True))
        strength = np.where(strength > 2.0**-FADED, strength, 0.0)  # also where there is none
        # A pixel's share of dark tiles is a product of two integrals of a square wave, exact for a pixel's footprint.
        half = np.maximum(wide, FINEST) / (4 * TILE)
        middle = (seen + eye[:2]) / (2 * TILE)
        wave = (_triangle(middle - half) - _triangle(middle + half)) / (2 * half)
    dark = 0.5 - 0.5 * wave[..., :1] * wave[..., 1:]
    tiles = TILES[0] + dark * (TILES[1] - TILES[0])
    if line.size:
        tiles += line[:, wanted, None] * (1 / 255.0) * (PATH - tiles)
    ground = 255.0 + np.where(strength > 0, strength * (tiles - 255.0), 0.0)
    ground *= 1.0 - shadow[:, wanted, None] * (SHADOW / 255.0)
    # The layer is on white already: exchange the white for the floor.
    cover = layer[:, wanted, 3:] * (1 / 255.0)
    result[..., :3] = np.clip(layer[:, wanted, :3] + (ground - 255.0) * (1.0 - cover) + 0.5, 0, 255)
    result[..., 3] = 255


def _triangle(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral of a square wave of period one."""
    return np.abs(place - np.floor(place) - 0.5)


def path_mask(path: NDArray[np.float32], floor: float, camera: Camera, size: int) -> NDArray[np.uint8]:
    """How much of each pixel (size, size) a path over the ground (T, 2) covers; (0, 0) where there is none to see."""
    nothing = np.zeros((0, 0), np.uint8)
    points = np.concatenate([path, np.full((len(path), 1), floor)], axis=1)
    local = (points - camera.eye) @ camera.axes.T
    # What has fallen behind the camera cannot be drawn, nor what comes before it.
    behind = np.nonzero(local[:, 2] > -0.1)[0]
    local = local[behind[-1] + 1 :] if len(behind) else local
    if len(local) < 2:
        return nothing
    side = size * _FINE
    screen = (local[:, :2] / -local[:, 2:] / HALF_SIDE * np.array([1, -1]) + 1.0) * (0.5 * side)
    # A recording of hours has more points than a picture has places for.
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(screen, axis=0).T))]) // _APART
    kept = np.append(np.diff(walked) > 0, True)
    mask = Image.new("L", (side, side))
    corners = np.concatenate([screen[:1], screen[kept]])
    ImageDraw.Draw(mask).line(corners.ravel().tolist(), 255, max(side // 130, 2))
    return np.asarray(mask.reduce(_FINE))
