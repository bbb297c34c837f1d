"""How the body is lit, shared by the rasterisers. The lights move with the camera: one fixed in the world leaves black
silhouettes of bodies that turn away from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Samples per pixel and axis: 2 x 2.
SAMPLES = 2
# A barycentric coordinate counts as inside down to here, so that rounding opens no cracks between neighbours.
EDGE = -1e-9
# Directions towards the lights in camera axes (right, up, towards the viewer) and their strengths.
_LIGHTS = (((-0.5, 0.7, 0.6), 0.80), ((0.9, 0.1, 0.3), 0.22), ((0.0, -0.6, 0.6), 0.10))
LIGHTS: NDArray[np.float64] = np.array(
    [np.array(direction) / np.linalg.norm(direction) * strength for direction, strength in _LIGHTS]
)
AMBIENT = 0.14
# The picture's grey level runs along this line from no light to full light: a slate blue.
DARK: NDArray[np.float64] = np.array([38.0, 50.0, 72.0])
BRIGHT: NDArray[np.float64] = np.array([200.0, 218.0, 240.0])
