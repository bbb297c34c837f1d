"""One floor and one kind of camera for all frames of a motion, so that who sits down looks lower and who floats is seen
to. The floor's tiles stay where they are; the lamp does not turn with the camera.

    follow     keeps its direction and height, a little to the side, and goes along over the ground
    front      stands still in front of where the motion begins, and has all of it in the picture
    side       the same from the body's left
    turntable  goes along, and around the body once
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mclip.body.model import Body
from mclip.body.skinning import shape_of, skin
from mclip.errors import UsageError
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.render.camera import HALF_SIDE, Camera, elevation, fit, heading, look
from mclip.render.frames import find_backend
from mclip.skeleton.smpl import forward_kinematics

View: TypeAlias = Literal["follow", "front", "side", "turntable"]
VIEWS: tuple[View, ...] = get_args(View)
# Metres: the side of a tile, and how far from the body the floor has faded to half.
TILE, REACH = 0.5, 1.0
# Towards the lamp that throws the shadow, in (right of the first camera, behind it, up): nearly overhead.
LAMP = (-0.25, 0.2, 1.0)
SHADOW = 0.30
# From a little more to the side and higher than CLIP's frames, so that the floor can be read.
SIDE_ANGLE, EXTRA_ELEVATION, MARGIN = np.radians(35.0), 0.08, 1.12
# A lowest point this far from height zero means the file's floor is not at zero: draw it under the feet instead.
OTHER_FLOOR = 0.5
# Frames that are skinned at a time, 83 kB each. Of more frames than this, the camera is fitted to every seventh vertex.
_CHUNK, _THIN = 64, 7
# Pictures drawn at the same time.
_THREADS = 4
_TILES: NDArray[np.float32] = np.array([[234.0, 237.0, 241.0], [218.0, 223.0, 230.0]], np.float32)
_PATH_COLOUR: NDArray[np.float32] = np.array([120.0, 150.0, 190.0], np.float32)
# Lines are drawn at this many samples per pixel and axis, and averaged.
_FINE = 2


@dataclass(frozen=True, eq=False)
class Stage:
    """What all pictures of a motion share.

    body     whom to draw
    motion   the N frames to show
    cameras  N of them
    path     (T, 2) metres, the root over the ground in all frames of the recording
    frames   (N,) their numbers in the recording
    floor    height of the floor, metres
    centres  (N, 2) metres, where the floor is clearest; reach: how far from there it has faded to half
    span     from left to right what the body and its shadow take of a picture, 0 to 1
    """

    body: Body
    motion: Motion
    cameras: Sequence[Camera]
    path: NDArray[np.float32]
    frames: Sequence[int]
    floor: float
    centres: NDArray[np.float32]
    reach: float
    span: tuple[float, float]

    def vertices(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Vertices (stop - start, V, 3) of frames to show, metres, Z up."""
        part = slice(start, stop)
        betas = shape_of(self.body, self.motion)
        return skin(self.body, self.motion.pose[part], self.motion.transl[part], betas)


def check_view(view: str) -> None:
    """Raise UsageError unless `view` is one of VIEWS."""
    if view not in VIEWS:
        raise UsageError(f"there is no camera {view!r}", f"choose one of {', '.join(VIEWS)}")


def set_stage(motion: Motion, body: Body, frames: Sequence[int], view: str = "follow") -> Stage:
    """Place the body, the cameras and the floor for the given frames of a motion. Raises UsageError for other views."""
    check_view(view)
    chosen = np.array(frames)
    part = Motion(
        pose=motion.pose[chosen], transl=motion.transl[chosen], fps=motion.fps, betas=motion.betas, gender=motion.gender
    )
    rest = body.rest_joints(shape_of(body, motion))
    path = (motion.transl + rest[0])[:, :2]
    _, joints = forward_kinematics(axis_angle_to_matrix(part.pose), part.transl, rest)
    stage = Stage(body, part, (), path, frames, 0.0, path[chosen], REACH, (0.0, 1.0))

    thin = _THIN if len(chosen) > _CHUNK else 1
    points = np.concatenate(
        [stage.vertices(start, start + _CHUNK)[:, ::thin] for start in range(0, len(chosen), _CHUNK)]
    )
    lowest = float(points[..., 2].min())
    floor = 0.0 if abs(lowest) < OTHER_FLOOR else lowest
    above = float(np.mean([elevation(joint) for joint in joints])) + EXTRA_ELEVATION
    yaw = heading(joints[0])
    if view in ("front", "side"):
        fixed = _with_floor(points.reshape(-1, 3), floor)
        camera = fit(fixed, look(yaw + (np.pi / 2 if view == "side" else 0.0), above), MARGIN)
        ends = np.stack([path[chosen].min(axis=0), path[chosen].max(axis=0)])
        return Stage(
            body, part, [camera] * len(chosen), path, frames, floor,
            np.tile(ends.mean(axis=0), (len(chosen), 1)), REACH + float(np.linalg.norm(ends[1] - ends[0])) / 2,
            _span(fixed, camera, camera.axes, floor),
        )  # fmt: skip
    shift = np.concatenate([path[chosen], np.zeros((len(chosen), 1), np.float32)], axis=1)  # (N, 3)
    near = _with_floor((points - shift[:, None]).reshape(-1, 3), floor)
    axes = look(yaw + SIDE_ANGLE, above)
    around = 0.0
    if view == "turntable":
        near, around = _drum(near), 2 * np.pi
    turns = np.arange(len(chosen)) * (around / len(chosen))
    camera = fit(near, axes, MARGIN)
    cameras = [
        Camera(_about_z(turn, camera.eye) + place, _about_z(turn, camera.axes))
        for turn, place in zip(turns, shift.astype(np.float64), strict=True)
    ]
    span = (0.0, 1.0) if view == "turntable" else _span(near, camera, axes, floor)
    return Stage(body, part, cameras, path, frames, floor, path[chosen], REACH, span)


def draw_frames(
    stage: Stage, *, size: int, backend: str = "numba", transparent: bool = False, columns: slice | None = None
) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a stage, one after another, (size, W, 4): colours and how opaque they are.

    transparent: no floor, but the shadow it would have; columns: those of the square picture that are wanted.
    """
    cut = columns or slice(0, size)
    draw = find_backend(backend)

    def picture(index: int, vertices: NDArray[np.float32]) -> NDArray[np.uint8]:
        layer = draw(vertices, stage.body.faces, stage.cameras[index], size)[:, cut].astype(np.float32)
        shadow = _shadow(stage, index, vertices, size)[:, cut, None]
        cover = layer[..., 3:] * np.float32(1 / 255)
        result = np.empty(layer.shape, np.uint8)
        if transparent:
            opaque = cover + shadow * (1 - cover)
            # The layer is on white: take the white off it. What the shadow adds is black.
            own = layer[..., :3] - 255 * (1 - cover)
            result[..., :3] = np.clip(own / np.maximum(opaque, np.float32(1e-6)) + 0.5, 0, 255)
            result[..., 3:] = opaque * 255 + 0.5
        else:
            ground = _ground(stage, index, size, cut)
            ground *= 1 - shadow
            ground -= 255
            # The layer is on white already: exchange the white for the floor.
            ground *= 1 - cover
            ground += layer[..., :3]
            result[..., :3] = np.clip(ground + 0.5, 0, 255)
            result[..., 3] = 255
        return result

    # Nearly all of it runs without Python's lock. Pyrender's window belongs to one thread.
    with ThreadPoolExecutor(1 if backend == "pyrender" else min(os.cpu_count() or 1, _THREADS)) as pool:
        for start in range(0, len(stage.cameras), _CHUNK):
            vertices = stage.vertices(start, start + _CHUNK)
            yield from pool.map(picture, range(start, start + len(vertices)), vertices)


def _with_floor(points: NDArray[np.float32], floor: float) -> NDArray[np.float32]:
    """Points (P, 3) and some on the floor below them, which belongs in the picture even when the body is in the air."""
    below = points[:: max(len(points) // 5000, 1)] * np.array([1, 1, 0], np.float32)
    return np.concatenate([points, below + np.array([0, 0, floor], np.float32)])


def _drum(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points on the upper and lower rim of the upright drum around the z axis that holds points (P, 3)."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.hypot(points[:, 0], points[:, 1]).max()
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius
    heights = (points[:, 2].min(), points[:, 2].max())
    return np.concatenate([np.column_stack([rim, np.full(64, z)]) for z in heights]).astype(np.float32)


def _about_z(angle: float, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (..., 3) turned about the z axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(vectors @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]))


def _span(
    points: NDArray[np.float32], camera: Camera, lamp_axes: NDArray[np.float64], floor: float
) -> tuple[float, float]:
    both = np.concatenate([points, _flattened(points, lamp_axes, floor)])
    local = (both - camera.eye) @ camera.axes.T
    across = local[:, 0] / -local[:, 2] / HALF_SIDE
    return max(0.5 + 0.5 * float(across.min()), 0.0), min(0.5 + 0.5 * float(across.max()), 1.0)


def _flattened(vertices: NDArray[np.float32], axes: NDArray[np.float64], floor: float) -> NDArray[np.float32]:
    right, back, up = LAMP
    lamp = right * axes[0] + back * np.array([axes[2, 0], axes[2, 1], 0.0]) / np.hypot(*axes[2, :2])
    slope = (lamp[:2] / up).astype(np.float32)
    height = np.maximum(vertices[..., 2:] - np.float32(floor), 0)
    flat = np.empty_like(vertices)
    flat[..., :2] = vertices[..., :2] - height * slope
    flat[..., 2] = floor
    return flat


def _shadow(stage: Stage, index: int, vertices: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """How dark the shadow is (size, size): a picture of the body pressed flat onto the floor."""
    flat = _flattened(vertices, stage.cameras[0].axes, stage.floor)
    # It is soft: half the size is enough. No second renderer is wanted for it.
    hard = find_backend("numba")(flat, stage.body.faces, stage.cameras[index], (size + 1) // 2)[..., 3]
    soft = Image.fromarray(np.ascontiguousarray(hard)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(soft.filter(ImageFilter.GaussianBlur(size / 150)), np.float32) * np.float32(SHADOW / 255)


def _ground(stage: Stage, index: int, size: int, columns: slice) -> NDArray[np.float32]:
    """The floor (size, W, 3), tiled, fading to white away from its centre, with the path walked so far."""
    camera = stage.cameras[index]
    # The same for all frames, down to rounding, of a camera that stands still or keeps its distance.
    centre = tuple((stage.centres[index] - camera.eye[:2]).round(4).tolist())
    height = round(float(camera.eye[2]) - stage.floor, 4)
    wanted = (columns.start, columns.stop)
    offset, width, strength = _seen_floor(tuple(camera.axes.ravel()), height, size, wanted, centre, stage.reach)
    # A pixel's share of dark tiles is a product of two integrals of a square wave, exact for a pixel's footprint.
    middle = offset + (camera.eye[:2] / (2 * TILE)).astype(np.float32)
    low, high = middle - width, middle + width
    low -= np.floor(low) + np.float32(0.5)
    high -= np.floor(high) + np.float32(0.5)
    across = (np.abs(low) - np.abs(high)) / (2 * width)
    dark = (0.5 - 0.5 * across[..., 0] * across[..., 1])[..., None]
    tiles: NDArray[np.float32] = _TILES[0] + dark * (_TILES[1] - _TILES[0])
    line = _path_mask(stage, index, size)
    if line is not None:
        tiles += line[:, columns, None] * (_PATH_COLOUR - tiles)
    tiles -= 255
    tiles *= strength
    tiles += 255
    return tiles


@lru_cache(maxsize=8)
def _seen_floor(
    axes: tuple[float, ...],
    height: float,
    size: int,
    columns: tuple[int, int],
    centre: tuple[float, ...],
    reach: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What each pixel of a camera at `height` metres above the floor shows of it.

    Returns the place along x and y (size, W, 2) from the camera's foot and half the width of what is seen (size, W, 2),
    both in pairs of tiles, and how clearly (size, W, 1), from 1 at `centre` to 0 where no floor is.
    """
    right, up, back = np.array(axes).reshape(3, 3)
    across = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    x, y = np.meshgrid(across[slice(*columns)] * HALF_SIDE, -across * HALF_SIDE)
    ray = x[..., None] * right + y[..., None] * up - back
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = -height / ray[..., 2]
    seen = (ray[..., 2] < 0) & (distance > 0)
    offset = np.where(seen, distance, 0.0)[..., None] * ray[..., :2]
    rows, turns = np.gradient(offset, axis=(0, 1))
    width = np.maximum(np.abs(rows) + np.abs(turns), 1e-4) / 2
    away = np.square((offset - centre) / reach).sum(axis=-1)
    strength = np.where(seen, np.exp2(-away), 0.0)[..., None]
    pair = 2 * TILE
    return (offset / pair).astype(np.float32), (width / pair).astype(np.float32), strength.astype(np.float32)


def _path_mask(stage: Stage, index: int, size: int) -> NDArray[np.float32] | None:
    """How much of each pixel (size, size) the path walked so far covers, or None where there is none to see."""
    camera = stage.cameras[index]
    walked = stage.path[: stage.frames[index] + 1]
    points = np.concatenate([walked, np.full((len(walked), 1), stage.floor)], axis=1)
    local = (points - camera.eye) @ camera.axes.T
    # What has fallen behind the camera cannot be drawn, nor what comes before it.
    behind = np.nonzero(local[:, 2] > -0.1)[0]
    local = local[behind[-1] + 1 :] if len(behind) else local
    if len(local) < 2:
        return None
    side = size * _FINE
    screen = (local[:, :2] / -local[:, 2:] / HALF_SIDE * np.array([1, -1]) + 1.0) * (0.5 * side)
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).line([(float(x), float(y)) for x, y in screen], 255, max(side // 130, 2), joint="curve")
    return np.asarray(mask.reduce(_FINE), np.float32) * np.float32(1 / 255.0)
