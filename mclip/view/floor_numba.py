"""The floor compiled by numba; the same contract as mclip.view.floor.paint_numpy. Import it late."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.body.jit import compiled
from mclip.render.camera import HALF_SIDE
from mclip.view.floor import FADED, FINEST, PATH, SHADOW, TILE, TILES


@compiled
def paint(
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
    """Put a layer onto the floor, into columns of a picture; see paint_numpy."""
    size, width = result.shape[0], result.shape[1]
    step, pair = 2.0 * HALF_SIDE / size, 1.0 / (2.0 * TILE)
    for row in range(size):
        y = HALF_SIDE - (row + 0.5) * step
        down = axes[2, 2] - y * axes[1, 2]
        below = down > 0.0 and eye[2] > 0.0
        distance = eye[2] / down if below else 0.0
        # Along a row what is seen, and how wide it is, change by the same from pixel to pixel.
        ahead_x, ahead_y = y * axes[1, 0] - axes[2, 0], y * axes[1, 1] - axes[2, 1]
        across_x, across_y = abs(distance * step * axes[0, 0]), abs(distance * step * axes[0, 1])
        tilt = axes[1, 2] / down if below else 0.0
        layers, shadows, pixels = layer[row, first : first + width], shadow[row, first : first + width], result[row]
        for column in range(width):
            pixel, drawn = pixels[column], layers[column]
            pixel[3] = 255
            if drawn[3] == 255:
                pixel[0], pixel[1], pixel[2] = drawn[0], drawn[1], drawn[2]
                continue
            x = (first + column + 0.5) * step - HALF_SIDE
            ray_x, ray_y = x * axes[0, 0] + ahead_x, x * axes[0, 1] + ahead_y
            seen_x, seen_y = distance * ray_x + eye[0], distance * ray_y + eye[1]
            away_x, away_y = seen_x - centre[0], seen_y - centre[1]
            away = (away_x * away_x + away_y * away_y) * (1.0 / (reach * reach))
            strength, dark, share = 0.0, 0.0, 0.0
            if below and away < FADED:
                strength = np.exp2(np.float32(-away))
                wide_x = across_x + abs(distance * step * (axes[1, 0] + ray_x * tilt))
                wide_y = across_y + abs(distance * step * (axes[1, 1] + ray_y * tilt))
                half_x, half_y = max(wide_x, FINEST) * (0.5 * pair), max(wide_y, FINEST) * (0.5 * pair)
                waves = _wave(seen_x * pair, half_x) * _wave(seen_y * pair, half_y)
                dark = 0.5 - 0.125 * waves / (half_x * half_y)
                if line.size:
                    share = line[row, first + column] * (1 / 255.0)
            light = 1.0 - shadows[column] * (SHADOW / 255.0)
            bare = 1.0 - drawn[3] * (1 / 255.0)
            for channel in range(3):
                tile = TILES[0, channel] + dark * (TILES[1, channel] - TILES[0, channel])
                tile += share * (PATH[channel] - tile)
                ground = (255.0 + strength * (tile - 255.0)) * light
                value = drawn[channel] + (ground - 255.0) * bare + 0.5
                pixel[channel] = np.uint8(min(max(value, 0.0), 255.0))


@compiled
def _wave(middle: float, half: float) -> float:
    """The integral of a square wave of period one from `middle` - `half` to `middle` + `half`."""
    low, high = middle - half, middle + half
    integral: float = abs(low - np.floor(low) - 0.5) - abs(high - np.floor(high) - 0.5)
    return integral
