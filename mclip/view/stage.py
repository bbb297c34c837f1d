"""One camera and one floor for all frames of a motion, so that who sits down looks lower and who floats is seen to.

The camera keeps its direction and height and follows the body over the ground; the floor's tiles stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mclip.body.model import Body
from mclip.body.skinning import skin
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.render.camera import HALF_SIDE, Camera, elevation, fit, heading, look
from mclip.render.frames import render_layers
from mclip.skeleton.smpl import forward_kinematics

# Metres: the side of a tile, and how far from the body the floor has faded to half.
TILE, REACH = 0.5, 1.0
# Towards the lamp that throws the shadow, in (right of the camera, behind it, up): nearly overhead.
LAMP = (-0.25, 0.2, 1.0)
SHADOW = 0.30
# From a little more to the side and higher than CLIP's frames, so that the floor can be read.
SIDE_ANGLE, EXTRA_ELEVATION, MARGIN = np.radians(35.0), 0.08, 1.12
# A lowest point this far from height zero means the file's floor is not at zero: draw it under the feet instead.
OTHER_FLOOR = 0.5
_TILES: NDArray[np.float64] = np.array([[234.0, 237.0, 241.0], [218.0, 223.0, 230.0]])
_PATH_COLOUR = (120, 150, 190)
# The floor is drawn at this many samples per pixel and axis, and averaged.
_FINE = 2


@dataclass(frozen=True, eq=False)
class Stage:
    """What all pictures of a motion share.

    body      whom to draw
    vertices  (N, V, 3) metres, Z up, of the frames to show
    cameras   N of them, equal but for their place over the ground
    path      (T, 2) metres, the root over the ground in all frames
    frames    the N frame numbers
    floor     height of the floor, metres
    """

    body: Body
    vertices: NDArray[np.float32]
    cameras: Sequence[Camera]
    path: NDArray[np.float32]
    frames: Sequence[int]
    floor: float


def set_stage(motion: Motion, body: Body, frames: Sequence[int]) -> Stage:
    """Place the body, the camera and the floor for the given frames of a motion."""
    chosen = np.array(frames)
    betas = np.zeros_like(motion.betas) if body.free else motion.betas
    vertices = skin(body, motion.pose[chosen], motion.transl[chosen], betas)
    root = motion.transl + body.rest_joints(betas)[0]  # (T, 3)
    _, joints = forward_kinematics(
        axis_angle_to_matrix(motion.pose[chosen]), motion.transl[chosen], body.rest_joints(betas)
    )
    lowest = float(vertices[..., 2].min())
    floor = 0.0 if abs(lowest) < OTHER_FLOOR else lowest

    above = float(np.mean([elevation(joint) for joint in joints])) + EXTRA_ELEVATION
    over_ground = np.concatenate([root[chosen, :2], np.zeros((len(chosen), 1), np.float32)], axis=1)  # (N, 3)
    near = (vertices - over_ground[:, None]).reshape(-1, 3)
    # The floor below the body belongs in the picture even when the body is in the air.
    below = near[:: max(len(near) // 5000, 1)] * np.array([1, 1, 0], np.float32) + np.array([0, 0, floor], np.float32)
    camera = fit(np.concatenate([near, below]), look(heading(joints[0]) + SIDE_ANGLE, above), MARGIN)
    cameras = [Camera(camera.eye + shift, camera.axes) for shift in over_ground.astype(np.float64)]
    return Stage(body, vertices, cameras, root[:, :2], frames, floor)


def draw_stage(stage: Stage, *, size: int, backend: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pictures (N, size, size, 3) of a stage, and where (N, size, size) the body or its shadow is."""
    layers = render_layers(stage.vertices, stage.body.faces, stage.cameras, size=size, backend=backend)
    # A shadow is a picture of the body pressed flat onto the floor. It is not what a second renderer is wanted for.
    flat = render_layers(_flattened(stage), stage.body.faces, stage.cameras, size=size)[..., 3]
    pictures = np.empty((len(layers), size, size, 3), np.uint8)
    for index, (layer, camera) in enumerate(zip(layers, stage.cameras, strict=True)):
        ground = _floor(camera, stage, index, size)
        soft = Image.fromarray(flat[index]).filter(ImageFilter.GaussianBlur(size / 150))
        ground *= 1.0 - SHADOW * (np.asarray(soft, np.float64) / 255.0)[..., None]
        # The layer is on white already: exchange the white for the floor.
        bare = 1.0 - layer[..., 3:] / 255.0
        pictures[index] = np.clip(layer[..., :3] + (ground - 255.0) * bare + 0.5, 0, 255).astype(np.uint8)
    return pictures, (layers[..., 3] > 0) | (flat > 0)


def _flattened(stage: Stage) -> NDArray[np.float32]:
    right, back, up = LAMP
    axes = stage.cameras[0].axes
    lamp = right * axes[0] + back * np.array([axes[2, 0], axes[2, 1], 0.0]) / np.hypot(*axes[2, :2])
    slope = (lamp[:2] / up).astype(np.float32)
    height = np.maximum(stage.vertices[..., 2:] - np.float32(stage.floor), 0)
    flat = np.empty_like(stage.vertices)
    flat[..., :2] = stage.vertices[..., :2] - height * slope
    flat[..., 2] = stage.floor
    return flat


def _floor(camera: Camera, stage: Stage, index: int, size: int) -> NDArray[np.float64]:
    """The floor (size, size, 3), tiled, fading to white away from the body, with the path walked so far."""
    fine = size * _FINE
    across = (np.arange(fine) + 0.5) / fine * 2.0 - 1.0
    x, y = np.meshgrid(across * HALF_SIDE, -across * HALF_SIDE)
    ray = x[..., None] * camera.axes[0] + y[..., None] * camera.axes[1] - camera.axes[2]  # (fine, fine, 3)
    with np.errstate(divide="ignore"):
        reach = (stage.floor - camera.eye[2]) / ray[..., 2]
    seen = (ray[..., 2] < 0) & (reach > 0)
    place = camera.eye[:2] + np.where(seen, reach, 0.0)[..., None] * ray[..., :2]
    tiles = _TILES[np.floor(place / TILE).astype(np.int64).sum(axis=-1) % 2]
    picture = Image.fromarray(tiles.astype(np.uint8))
    _draw_path(picture, camera, stage, index)

    centre = stage.path[stage.frames[index]]
    strength = np.where(seen, np.exp2(-np.square(np.linalg.norm(place - centre, axis=-1) / REACH)), 0.0)[..., None]
    ground = 255.0 + (np.asarray(picture, np.float64) - 255.0) * strength
    result: NDArray[np.float64] = ground.reshape(size, _FINE, size, _FINE, 3).mean(axis=(1, 3))
    return result


def _draw_path(picture: Image.Image, camera: Camera, stage: Stage, index: int) -> None:
    walked = stage.path[: stage.frames[index] + 1]
    points = np.concatenate([walked, np.full((len(walked), 1), stage.floor)], axis=1)
    local = (points - camera.eye) @ camera.axes.T
    # What has fallen behind the camera cannot be drawn, nor what comes before it.
    behind = np.nonzero(local[:, 2] > -0.1)[0]
    local = local[behind[-1] + 1 :] if len(behind) else local
    if len(local) < 2:
        return
    side = picture.width
    screen = (local[:, :2] / -local[:, 2:] / HALF_SIDE * np.array([1, -1]) + 1.0) * (0.5 * side)
    line = [(float(x), float(y)) for x, y in screen]
    ImageDraw.Draw(picture).line(line, fill=_PATH_COLOUR, width=max(side // 130, 2), joint="curve")
