"""A z-buffer rasteriser in numpy, the fallback without numba; it draws what mclip.render.raster_numba draws.

Both compute in float64 and in the same order of operations, so that they agree but for the last bit of a shade.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.render.camera import HALF_SIDE, Camera
from mclip.render.light import AMBIENT, BRIGHT, DARK, EDGE, LIGHTS, SAMPLES

# Candidate samples tested at a time; 24 MB of temporaries.
_CHUNK = 400_000


def draw(vertices: NDArray[np.float32], faces: NDArray[np.int32], camera: Camera, size: int) -> NDArray[np.uint8]:
    """One picture (size, size, 4): colour on white, and coverage."""
    side = size * SAMPLES
    local = (vertices - camera.eye) @ camera.axes.T  # (V, 3)
    shade = _shade(local, faces)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / -local[:, 2]  # positive in front of the camera
        x = (local[:, 0] * inverse / HALF_SIDE + 1.0) * (0.5 * side)
        y = (1.0 - local[:, 1] * inverse / HALF_SIDE) * (0.5 * side)
    depth = np.zeros(side * side, np.float32)
    value = np.zeros(side * side, np.float32)
    _fill(x, y, inverse, shade, faces, side, depth, value)
    return _resolve(depth.reshape(side, side), value.reshape(side, side), size)


def _shade(local: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Light (V,) on each vertex, 0 to 1, from its area-weighted normal in camera axes."""
    a, b, c = (local[faces[:, corner]] for corner in range(3))
    face_normal = np.cross(b - a, c - a)
    normal = np.zeros_like(local)
    for corner in range(3):
        for axis in range(3):
            normal[:, axis] += np.bincount(faces[:, corner], face_normal[:, axis], len(local))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    shade: NDArray[np.float64] = np.minimum(AMBIENT + np.maximum(normal @ LIGHTS.T, 0.0).sum(axis=1), 1.0)
    return shade


def _fill(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    inverse: NDArray[np.float64],
    shade: NDArray[np.float64],
    faces: NDArray[np.int32],
    side: int,
    depth: NDArray[np.float32],
    value: NDArray[np.float32],
) -> None:
    """Write the nearest surface at each sample into depth, 1 / distance or 0 for none, and value (side * side,)."""
    fx, fy = x[faces], y[faces]  # (F, 3)
    area = (fx[:, 1] - fx[:, 0]) * (fy[:, 2] - fy[:, 0]) - (fx[:, 2] - fx[:, 0]) * (fy[:, 1] - fy[:, 0])
    # Rows run down, so faces turned to the viewer have negative area. Behind the camera nothing is drawn.
    front = (area < 0) & (inverse[faces] > 0).all(axis=1)
    faces, fx, fy, area = faces[front], fx[front], fy[front], area[front]
    a, b, c = faces[:, 0], faces[:, 1], faces[:, 2]
    (ax, bx, cx), (ay, by, cy) = fx.T, fy.T
    # Barycentric coordinates u of a and v of b are planes over the picture.
    scale = 1.0 / area
    ux, uy = (by - cy) * scale, (cx - bx) * scale
    vx, vy = (cy - ay) * scale, (ax - cx) * scale
    near_a, near_b = inverse[a] - inverse[c], inverse[b] - inverse[c]
    light_a, light_b = shade[a] - shade[c], shade[b] - shade[c]
    # The samples at whole coordinates + 0.5 within the bounding box of each face.
    left = np.maximum(np.ceil(fx.min(axis=1) - 0.5), 0).astype(np.int64)
    right = np.minimum(np.floor(fx.max(axis=1) - 0.5), side - 1).astype(np.int64)
    top = np.maximum(np.ceil(fy.min(axis=1) - 0.5), 0).astype(np.int64)
    bottom = np.minimum(np.floor(fy.max(axis=1) - 0.5), side - 1).astype(np.int64)
    width = np.maximum(right - left + 1, 0)
    count = width * np.maximum(bottom - top + 1, 0)
    ends = np.cumsum(count)
    start = 0
    while start < len(faces):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _CHUNK, side="right")), start + 1)
        face = np.repeat(np.arange(start, stop), count[start:stop])
        offset = np.arange(len(face)) - np.repeat(ends[start:stop] - count[start:stop] - done, count[start:stop])
        column, row = left[face] + offset % width[face], top[face] + offset // width[face]
        dx, dy = column + 0.5 - cx[face], row + 0.5 - cy[face]
        u = dy * uy[face] + dx * ux[face]
        v = dy * vy[face] + dx * vx[face]
        inside = (u >= EDGE) & (v >= EDGE) & (1.0 - u - v >= EDGE)
        face, u, v, place = face[inside], u[inside], v[inside], (row * side + column)[inside]
        near = (inverse[c[face]] + u * near_a[face] + v * near_b[face]).astype(np.float32)
        light = shade[c[face]] + u * light_a[face] + v * light_b[face]
        # Of several assignments to one place the last one stays: nearest last, then the first face.
        order = np.lexsort((-face, near))
        order = order[near[order] > depth[place[order]]]
        depth[place[order]] = near[order]
        value[place[order]] = light[order]
        start = stop


def _resolve(depth: NDArray[np.float32], value: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    hit = (depth > 0).reshape(size, SAMPLES, size, SAMPLES)
    covered = hit.sum(axis=(1, 3)) / SAMPLES**2  # (H, W)
    light = value.reshape(size, SAMPLES, size, SAMPLES).sum(axis=(1, 3), dtype=np.float64) / SAMPLES**2
    picture = np.empty((size, size, 4), np.uint8)
    colour = DARK * covered[..., None] + (BRIGHT - DARK) * light[..., None] + 255.0 * (1.0 - covered[..., None])
    picture[..., :3] = (colour + 0.5).astype(np.uint8)
    picture[..., 3] = (255.0 * covered + 0.5).astype(np.uint8)
    return picture
