"""Frames of a body: one interface over three backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mclip.body.model import Body
from mclip.body.skinning import pose_vertices, shape_of, transforms
from mclip.errors import AssetError, UsageError, choices
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.render.camera import Camera, portrait, portrait_axes
from mclip.skeleton.smpl import forward_kinematics

Backend: TypeAlias = Literal["numba", "numpy", "pyrender"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
# The vision tower of CLIP ViT-B/32 sees 224 x 224.
CLIP_SIZE = 224
# One picture and its depth buffer at 4 samples per pixel: 200 MB.
MAX_SIZE = 2048

# (vertices (V, 3), faces (F, 3), camera, size) -> (H, W, 4)
Draw: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.int32], Camera, int], NDArray[np.uint8]]


def render_frames(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    cameras: Sequence[Camera],
    *,
    size: int = CLIP_SIZE,
    backend: str = "numba",
) -> NDArray[np.uint8]:
    """Pictures (T, H, W, 3) of the body on white, H = W = size, row 0 on top.

    vertices  (T, V, 3) metres, Z up
    faces     (F, 3) triangles, counter-clockwise from outside
    cameras   T of them
    Raises UsageError for an unknown backend or size, AssetError when pyrender or its GL library is missing.
    """
    return render_layers(vertices, faces, cameras, size=size, backend=backend)[..., :3]


def render_layers(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    cameras: Sequence[Camera],
    *,
    size: int = CLIP_SIZE,
    backend: str = "numba",
) -> NDArray[np.uint8]:
    """As `render_frames`, with the coverage of each pixel by the body, 0 to 255, as fourth channel (T, H, W, 4)."""
    _check_size(size)
    draw = find_backend(backend)
    pictures = np.empty((len(vertices), size, size, 4), np.uint8)
    for frame, camera in enumerate(cameras):
        pictures[frame] = draw(vertices[frame], faces, camera, size)
    return pictures


def _check_size(size: int) -> None:
    if not 1 <= size <= MAX_SIZE:
        raise UsageError(f"the picture size is {size}, not between 1 and {MAX_SIZE} pixels")


def clip_frames(
    body: Body, motion: Motion, frames: Sequence[int], *, size: int = CLIP_SIZE, backend: str = "numba"
) -> NDArray[np.uint8]:
    """Pictures (N, size, size, 3) of the chosen frames for CLIP: each with a camera of its own, on white, no floor."""
    chosen = list(frames)
    part = Motion(
        pose=motion.pose[chosen], transl=motion.transl[chosen], fps=motion.fps, betas=motion.betas, gender=motion.gender
    )
    _, joints = forward_kinematics(axis_angle_to_matrix(part.pose), part.transl)
    if find_backend(backend).__module__ == "mclip.render.raster_numba":
        return _posed_frames(body, part, joints, size)
    vertices = pose_vertices(body, part)
    cameras = [portrait(*pair) for pair in zip(vertices, joints, strict=True)]
    return render_frames(vertices, body.faces, cameras, size=size, backend=backend)


def _posed_frames(body: Body, motion: Motion, joints: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """`clip_frames` in one pass for each frame."""
    from mclip.render.posed_numba import draw_posed

    _check_size(size)
    axes = np.stack([portrait_axes(frame) for frame in joints])
    pictures = np.empty((len(motion), size, size, 4), np.uint8)
    influences = body.influences
    for part, turn, shift, shapes in transforms(body, motion.pose, motion.transl, shape_of(body, motion)):
        draw_posed(turn, shift, shapes, *influences, body.faces, axes[part], pictures[part])
    return pictures[..., :3]


@cache
def find_backend(name: str) -> Draw:
    """The drawing function of a backend. numba falls back to numpy, which draws the same, where it is not installed."""
    if name not in BACKENDS:
        raise UsageError(f"there is no renderer {name!r}", choices(name, BACKENDS))
    if name == "pyrender":
        try:
            from mclip.render.pyrender_backend import draw as pyrender_draw
        except ImportError as error:
            # Without a GL library, PyOpenGL fails inside its own import.
            raise AssetError(
                f"pyrender cannot be used here ({error})",
                "pip install pyrender, and libegl1 or libosmesa6 from the system; or leave --renderer out",
            ) from None
        return pyrender_draw
    if name == "numba":
        try:
            from mclip.render.raster_numba import draw as numba_draw
        except ImportError:
            pass
        else:
            return numba_draw
    from mclip.render.raster_numpy import draw as numpy_draw

    return cast(Draw, numpy_draw)
