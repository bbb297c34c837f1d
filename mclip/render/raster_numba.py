"""A z-buffer rasteriser compiled by numba: a thousand pictures a second on one core. Import it late.

Vertices are shaded (Gouraud), faces turned away are skipped, every pixel has 2 x 2 samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.body.jit import compiled
from mclip.render.camera import HALF_SIDE, Camera
from mclip.render.light import AMBIENT, BRIGHT, DARK, EDGE, LIGHTS, SAMPLES


def draw(vertices: NDArray[np.float32], faces: NDArray[np.int32], camera: Camera, size: int) -> NDArray[np.uint8]:
    """One picture (size, size, 4): colour on white, and coverage."""
    picture = np.empty((size, size, 4), np.uint8)
    local = (vertices - camera.eye) @ camera.axes.T
    paint(local, faces, *canvas(len(vertices), size), picture)
    return picture


@compiled
def canvas(
    V: int, size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Memory that pictures of a body with V vertices can share: `paint` takes it."""
    side = size * SAMPLES
    return np.empty((V, 4)), np.empty((V, 3)), np.zeros((side, side), np.float32), np.empty((side, side), np.float32)


@compiled
def paint(
    local: NDArray[np.float64],
    faces: NDArray[np.int32],
    points: NDArray[np.float64],
    normal: NDArray[np.float64],
    depth: NDArray[np.float32],
    value: NDArray[np.float32],
    picture: NDArray[np.uint8],
) -> None:
    """Draw vertices (V, 3) in camera axes, the eye at the origin. `depth` has to be zero, and is again afterwards."""
    side = depth.shape[0]
    for v in range(local.shape[0]):
        inverse = 1.0 / -local[v, 2]
        points[v, 0] = (local[v, 0] * inverse / HALF_SIDE + 1.0) * (0.5 * side)
        points[v, 1] = (1.0 - local[v, 1] * inverse / HALF_SIDE) * (0.5 * side)
        points[v, 2] = inverse
    _shade(local, faces, normal, points[:, 3])
    _fill(points, faces, depth, value)
    _resolve(depth, value, picture)


@compiled
def _shade(
    local: NDArray[np.float64], faces: NDArray[np.int32], normal: NDArray[np.float64], shade: NDArray[np.float64]
) -> None:
    normal[:] = 0.0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        px, py, pz = local[b, 0] - local[a, 0], local[b, 1] - local[a, 1], local[b, 2] - local[a, 2]
        qx, qy, qz = local[c, 0] - local[a, 0], local[c, 1] - local[a, 1], local[c, 2] - local[a, 2]
        nx, ny, nz = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
        for v in (a, b, c):
            normal[v, 0] += nx
            normal[v, 1] += ny
            normal[v, 2] += nz
    for v in range(local.shape[0]):
        nx, ny, nz = normal[v, 0], normal[v, 1], normal[v, 2]
        length = max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-30)
        total = AMBIENT
        for light in range(LIGHTS.shape[0]):
            total += max((nx * LIGHTS[light, 0] + ny * LIGHTS[light, 1] + nz * LIGHTS[light, 2]) / length, 0.0)
        shade[v] = min(total, 1.0)


@compiled
def _fill(
    points: NDArray[np.float64], faces: NDArray[np.int32], depth: NDArray[np.float32], value: NDArray[np.float32]
) -> None:
    """Write the nearest surface at each sample into depth and value (side, side); depth is 1 / distance, 0 is none.

    points (V, 4): column, row, 1 / distance and shade of each vertex, in one cache line
    """
    side = depth.shape[0]
    for f in range(faces.shape[0]):
        # Unsigned, or each index would be tested for being negative.
        a, b, c = np.uint32(faces[f, 0]), np.uint32(faces[f, 1]), np.uint32(faces[f, 2])
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        near_c, light_c = points[c, 2], points[c, 3]
        # Rows run down, so faces turned to the viewer have negative area. Behind the camera nothing is drawn.
        if not area < 0.0 or not min(points[a, 2], points[b, 2], near_c) > 0.0:
            continue
        left = int(max(np.ceil(min(ax, bx, cx) - 0.5), 0.0))
        right = int(min(np.floor(max(ax, bx, cx) - 0.5), side - 1.0))
        top = int(max(np.ceil(min(ay, by, cy) - 0.5), 0.0))
        bottom = int(min(np.floor(max(ay, by, cy) - 0.5), side - 1.0))
        if right < left or bottom < top:
            continue
        # Barycentric coordinates u of a and v of b are planes over the picture.
        scale = 1.0 / area
        ux, uy = (by - cy) * scale, (cx - bx) * scale
        vx, vy = (cy - ay) * scale, (ax - cx) * scale
        near_a, near_b = points[a, 2] - near_c, points[b, 2] - near_c
        light_a, light_b = points[a, 3] - light_c, points[b, 3] - light_c
        for row in range(top, bottom + 1):
            dy = row + 0.5 - cy
            u_row, v_row = dy * uy, dy * vy
            depths, values = depth[row], value[row]
            for column in range(left, right + 1):
                dx = column + 0.5 - cx
                u = u_row + dx * ux
                v = v_row + dx * vx
                near = np.float32(near_c + u * near_a + v * near_b)
                # One branch instead of four, none of which a processor can guess.
                if (min(u, v, 1.0 - u - v) >= EDGE) & (near > depths[column]):
                    depths[column] = near
                    values[column] = light_c + u * light_a + v * light_b


@compiled
def _resolve(depth: NDArray[np.float32], value: NDArray[np.float32], picture: NDArray[np.uint8]) -> None:
    """The mean of the samples of each pixel; depth is zero afterwards."""
    share = 1.0 / (SAMPLES * SAMPLES)
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            covered = 0.0
            light = 0.0
            for i in range(row * SAMPLES, (row + 1) * SAMPLES):
                for j in range(column * SAMPLES, (column + 1) * SAMPLES):
                    if depth[i, j] > 0.0:
                        covered += share
                        light += value[i, j] * share
                        depth[i, j] = 0.0
            if covered == 0.0:
                picture[row, column, :3] = 255
                picture[row, column, 3] = 0
                continue
            for channel in range(3):
                colour = DARK[channel] * covered + (BRIGHT[channel] - DARK[channel]) * light + 255.0 * (1.0 - covered)
                picture[row, column, channel] = np.uint8(colour + 0.5)
            picture[row, column, 3] = np.uint8(255.0 * covered + 0.5)
