"""Linear blend skinning: poses to vertices, in numba where it is installed, else in numpy. Agrees with smplx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mclip.body.model import Body
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.skeleton.smpl import forward_kinematics

# (R, 3, 3) and (R, 3) transforms per joint and frame, rest vertices, influences -> vertices.
_Skin: TypeAlias = Callable[
    [
        NDArray[np.float32],
        NDArray[np.float32],
        NDArray[np.float32],
        NDArray[np.int32],
        NDArray[np.float32],
        NDArray[np.float32],
    ],
    None,
]
# Frames of pose correction held at a time: 83 kB each.
_CHUNK = 64


def pose_vertices(body: Body, motion: Motion) -> NDArray[np.float32]:
    """The vertices (T, V, 3) of `body` through `motion`, metres, in the world of the motion (Z up).

    The betas of a motion are SMPL's. They mean something else on the free body, which keeps its own mean shape.
    """
    return skin(body, motion.pose, motion.transl, shape_of(body, motion))


def shape_of(body: Body, motion: Motion) -> NDArray[np.float32]:
    """The betas (10,) of a motion as they are meant on this body: see `pose_vertices`."""
    return np.zeros_like(motion.betas) if body.free else motion.betas


def skin(
    body: Body,
    pose: NDArray[np.float32],
    transl: NDArray[np.float32],
    betas: NDArray[np.float32],
    *,
    every: int = 1,
) -> NDArray[np.float32]:
    """The vertices (T, V, 3) of `body` with shape `betas` in each pose, metres; or every so many of them.

    pose    (T, 24, 3) axis-angle, radians; joint 0 turns the Y-up rest pose into the world
    transl  (T, 3) metres
    betas   (10,) shape
    """
    joints, weights = body.influences
    joints, weights = np.ascontiguousarray(joints[::every]), np.ascontiguousarray(weights[::every])
    kernel = _kernel()
    vertices = np.empty((len(pose), len(joints), 3), np.float32)
    for part, turn, shift, shapes in transforms(body, pose, transl, betas):
        kernel(turn, shift, np.ascontiguousarray(shapes[:, ::every]), joints, weights, vertices[part])
    return vertices


def transforms(
    body: Body, pose: NDArray[np.float32], transl: NDArray[np.float32], betas: NDArray[np.float32]
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """What is done to vertices in the poses of `skin`, some frames R at a time.

    Yields which frames; turn (R, 24, 3, 3) and shift (R, 24, 3) of each joint, v -> turn v + shift; and the vertices
    moved, (1, V, 3) or (R, V, 3).
    """
    rotations = axis_angle_to_matrix(pose.astype(np.float64))  # (T, 24, 3, 3)
    rest_joints = body.rest_joints(betas)
    turn, position = forward_kinematics(rotations, transl.astype(np.float64), rest_joints)
    shift = position - np.einsum("tjab,jb->tja", turn, rest_joints)  # (T, 24, 3): v -> turn v + shift
    rest = body.rest_vertices(betas)
    for start in range(0, len(pose), _CHUNK):
        part = slice(start, start + _CHUNK)
        shapes = rest[None]  # (1 or R, V, 3): one for all frames unless the pose corrects it
        if body.posedirs is not None:
            feature = (rotations[part, 1:] - np.eye(3)).reshape(len(rotations[part]), -1).astype(np.float32)  # (R, 207)
            correction = feature @ body.posedirs.reshape(-1, feature.shape[1]).T
            shapes = rest + correction.reshape(len(feature), *rest.shape)
        yield part, turn[part], shift[part].astype(np.float32), shapes


@cache
def _kernel() -> _Skin:
    # numba takes half a second to import and is optional where no wheel exists.
    try:
        from mclip.body.skinning_numba import skin_frames
    except ImportError:
        return skin_frames_numpy
    return skin_frames


def skin_frames_numpy(
    turn: NDArray[np.float32],
    shift: NDArray[np.float32],
    rest: NDArray[np.float32],
    joints: NDArray[np.int32],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write the skinned vertices into out (R, V, 3).

    turn (R, 24, 3, 3), shift (R, 24, 3): what each joint does to a point of the rest pose
    rest (R or 1, V, 3); joints and weights (V, K): the influences of each vertex
    """
    for frame in range(len(out)):
        shape = rest[min(frame, len(rest) - 1)]
        blended_turn = np.einsum("vk,vkab->vab", weights, turn[frame, joints])
        blended_shift = np.einsum("vk,vka->va", weights, shift[frame, joints])
        out[frame] = np.einsum("vab,vb->va", blended_turn, shape) + blended_shift
