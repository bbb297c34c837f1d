"""One floor and one kind of camera for all frames of a motion, so that who sits down looks lower and who floats is seen
to. The floor's tiles stay where they are; the lamp does not turn with the camera.

    follow     keeps its direction and height, a little to the side, and goes along over the ground
    front      stands still in front of where the motion begins, and has all of it in the picture; of a motion that goes
               far it would show a speck, so it goes along with that
    side       the same from the body's left
    turntable  goes along, and around the body once
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mclip.body.model import Body
from mclip.body.skinning import shape_of, skin
from mclip.errors import UsageError, choices
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.render.camera import HALF_SIDE, Camera, bounds, elevation, fit, fit_bounds, heading, look
from mclip.render.frames import find_backend
from mclip.skeleton.smpl import forward_kinematics
from mclip.view.floor import REACH, SHADOW, find_paint, path_mask

View: TypeAlias = Literal["follow", "front", "side", "turntable"]
VIEWS: tuple[View, ...] = get_args(View)
# Towards the lamp that throws the shadow, in (right of the first camera, behind it, up): nearly overhead.
LAMP = (-0.25, 0.2, 1.0)
# From a little more to the side and higher than CLIP's frames, so that the floor can be read.
SIDE_ANGLE, EXTRA_ELEVATION, MARGIN = np.radians(35.0), 0.08, 1.12
# A lowest point this far from height zero means the file's floor is not at zero: draw it under the feet instead.
OTHER_FLOOR = 0.5
_ANGLES = {"follow": SIDE_ANGLE, "turntable": SIDE_ANGLE, "front": 0.0, "side": np.pi / 2}
# Metres: a body that goes farther than this is less than half as high as a picture of all its way.
FAR = 3.0
# Frames that are skinned at a time, 83 kB each. Of more frames than this, the camera is fitted to every seventh vertex.
_CHUNK, _THIN = 64, 7
# Pictures drawn at the same time, and how many for each of those may be ready before they are wanted.
_THREADS, _AHEAD = 4, 3


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

    def vertices(self, start: int = 0, stop: int | None = None, *, every: int = 1) -> NDArray[np.float32]:
        """Vertices (stop - start, V, 3) of frames to show, metres, Z up; or every so many of them."""
        part = slice(start, stop)
        betas = shape_of(self.body, self.motion)
        return skin(self.body, self.motion.pose[part], self.motion.transl[part], betas, every=every)

    def every(self, step: int) -> Stage:
        """The same stage with every so many of its frames."""
        part = slice(None, None, step)
        motion = replace(self.motion, pose=self.motion.pose[part], transl=self.motion.transl[part])
        return replace(
            self, motion=motion, cameras=self.cameras[part], frames=self.frames[part], centres=self.centres[part]
        )


def check_view(view: str) -> None:
    """Raise UsageError unless `view` is one of VIEWS."""
    if view not in VIEWS:
        raise UsageError(f"there is no camera {view!r}", choices(view, VIEWS))


def set_stage(motion: Motion, body: Body, frames: Sequence[int], view: str = "follow") -> Stage:
    """Place the body, the cameras and the floor for the given frames of a motion. Raises UsageError for other views."""
    check_view(view)
    chosen = np.array(frames)
    part = Motion(
        pose=motion.pose[chosen], transl=motion.transl[chosen], fps=motion.fps, betas=motion.betas, gender=motion.gender
    )
    rest = body.rest_joints(shape_of(body, motion))
    path = (motion.transl + rest[0])[:, :2]
    stage = Stage(body, part, (), path, frames, 0.0, path[chosen], REACH, (0.0, 1.0))
    lowest = min(float(points[..., 2].min()) for _, points in _parts(stage))
    floor = 0.0 if abs(lowest) < OTHER_FLOOR else lowest
    joints = [joint for start in range(0, len(part), _CHUNK) for joint in _joints(part, start, rest)]
    above = float(np.mean([elevation(joint) for joint in joints])) + EXTRA_ELEVATION
    yaw = heading(joints[0])
    axes = look(yaw + _ANGLES[view], above)
    ends = np.stack([path[chosen].min(axis=0), path[chosen].max(axis=0)])
    way = float(np.linalg.norm(ends[1] - ends[0]))
    if view in ("front", "side") and way < FAR:
        shift = np.zeros((len(chosen), 3), np.float32)
        stage = replace(stage, centres=np.tile(ends.mean(axis=0), (len(chosen), 1)), reach=REACH + way / 2)
    else:
        shift = np.concatenate([path[chosen], np.zeros((len(chosen), 1), np.float32)], axis=1)  # (N, 3)

    def near() -> Iterator[NDArray[np.float32]]:
        for frames, points in _parts(stage):
            yield _with_floor((points - shift[frames, None]).reshape(-1, 3), floor)

    around, span = 0.0, (0.0, 1.0)
    if view == "turntable":
        camera = fit(np.concatenate([_drum(points) for points in near()]), axes, MARGIN)
        around = 2 * np.pi
    else:
        camera = fit_bounds(np.max([bounds(points, axes, MARGIN) for points in near()], axis=0), axes, MARGIN)
        left, right = zip(*(_span(points, camera, floor) for points in near()), strict=True)
        span = (min(left), max(right))
    turns = np.arange(len(chosen)) * (around / len(chosen))
    cameras = [
        Camera(_about_z(turn, camera.eye) + place, _about_z(turn, camera.axes))
        for turn, place in zip(turns, shift.astype(np.float64), strict=True)
    ]
    return replace(stage, cameras=cameras, floor=floor, span=span)


def draw_frames(
    stage: Stage, *, size: int, backend: str = "numba", transparent: bool = False, columns: slice | None = None
) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a stage, one after another, (size, W, 4): colours and how opaque they are.

    transparent: no floor, but the shadow it would have; columns: those of the square picture that are wanted.
    """
    cut = columns or slice(0, size)
    draw, paint = find_backend(backend), find_paint()

    def picture(index: int, vertices: NDArray[np.float32]) -> NDArray[np.uint8]:
        camera = stage.cameras[index]
        layer = draw(vertices, stage.body.faces, camera, size)
        shadow = _shadow(stage, index, vertices, size)
        result = np.empty((size, cut.stop - cut.start, 4), np.uint8)
        if not transparent:
            line = path_mask(stage.path[: stage.frames[index] + 1], stage.floor, camera, size)
            eye = camera.eye - np.array([0.0, 0.0, stage.floor])
            centre = stage.centres[index].astype(np.float64)
            paint(layer, shadow, line, camera.axes, eye, centre, stage.reach, cut.start, result)
            return result
        own, dark = layer[:, cut].astype(np.float32), shadow[:, cut, None] * np.float32(SHADOW / 255)
        cover = own[..., 3:] * np.float32(1 / 255)
        opaque = cover + dark * (1 - cover)
        # The layer is on white: take the white off it. What the shadow adds is black.
        own = own[..., :3] - 255 * (1 - cover)
        result[..., :3] = np.clip(own / np.maximum(opaque, np.float32(1e-6)) + 0.5, 0, 255)
        result[..., 3:] = opaque * 255 + 0.5
        return result

    # Nearly all of it runs without Python's lock. Pyrender's window belongs to one thread.
    threads = 1 if backend == "pyrender" else min(os.cpu_count() or 1, _THREADS)
    waiting: deque[Future[NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(stage.cameras), _CHUNK):
            for index, vertices in enumerate(stage.vertices(start, start + _CHUNK), start):
                waiting.append(pool.submit(picture, index, vertices))
                # Whoever takes the pictures has work of their own, which goes on beside this.
                if len(waiting) > threads * _AHEAD:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _parts(stage: Stage) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Which frames, and their vertices (R, P, 3), or enough of them to place a camera by; some frames at a time."""
    count = len(stage.motion)
    for start in range(0, count, _CHUNK):
        yield slice(start, start + _CHUNK), stage.vertices(start, start + _CHUNK, every=_THIN if count > _CHUNK else 1)


def _joints(motion: Motion, start: int, rest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Joints (R, 24, 3) of some frames from `start` on."""
    part = slice(start, start + _CHUNK)
    return forward_kinematics(axis_angle_to_matrix(motion.pose[part]), motion.transl[part], rest)[1]


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


def _span(points: NDArray[np.float32], camera: Camera, floor: float) -> tuple[float, float]:
    both = np.concatenate([points, _flattened(points, camera.axes, floor)])
    right, _, back = camera.axes.astype(np.float32) @ (both - camera.eye.astype(np.float32)).T
    across = right / -back / np.float32(HALF_SIDE)
    return max(0.5 + 0.5 * float(across.min()), 0.0), min(0.5 + 0.5 * float(across.max()), 1.0)


def _flattened(vertices: NDArray[np.float32], axes: NDArray[np.float64], floor: float) -> NDArray[np.float32]:
    """Vertices (V, 3) pressed onto the floor, along the light of a lamp that stands where camera axes (3, 3) say."""
    right, back, up = LAMP
    lamp = right * axes[0] + back * np.array([axes[2, 0], axes[2, 1], 0.0]) / np.hypot(*axes[2, :2])
    slope = np.array([lamp[0] / up, lamp[1] / up, 1.0], np.float32)
    return vertices - (vertices[:, 2:] - np.float32(floor)) * slope


def _shadow(stage: Stage, index: int, vertices: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """Where the shadow falls (size, size): a picture of the body pressed flat onto the floor."""
    flat = _flattened(vertices, stage.cameras[0].axes, stage.floor)
    # It is soft: half the size is enough. No second renderer is wanted for it.
    half = (size + 1) // 2
    hard = find_backend("numba")(flat, stage.body.faces, stage.cameras[index], half)[..., 3]
    soft = Image.fromarray(np.ascontiguousarray(hard)).filter(ImageFilter.GaussianBlur(half / 150))
    return np.asarray(soft.resize((size, size), Image.Resampling.BILINEAR))
