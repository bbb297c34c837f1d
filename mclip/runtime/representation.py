"""Motions as the numbers a model sees, and back, in one of two ways.

Features are (T, 25, 6). Rows 0 to 23 are the joints' local rotations as 6D, the first two rows of each matrix; row 24
is three numbers that say where the body is, and three zeros.

`smpl24`, ours: the world is turned about the vertical and moved on the ground so that the first frame faces -Y (as
SMPL's rest pose does once it stands in a Z-up world) at the origin; height stays absolute. Row 24 is the root
translation. Nothing is lost but where on the ground a motion began and which way it faced.

`motionclip-legacy`, the original MotionCLIP's: rotations are AMASS's own, the root's in AMASS's right-handed world
with Z up, heading included. Row 24 is what the original has for a root translation, relative to the first frame. That
is not the root's: the original poses its bodies with the pelvis held in one place, and takes the first of a list of
joints meant for another skeleton, which in SMPL is the right ankle. So the trajectory is dropped, and official
checkpoints have learnt from the swing of an ankle; features made in any other way would not give the original's
numbers. (The original's body is SMPL+H's mean, ours the free body: the ankle is the same to a few centimetres.)
Since headings are arbitrary there, generation overwrites the root rotation of every frame with a constant: half a
turn about X, upright in a world whose Y points down, as in the original's pictures. In our world it stands, facing -Y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mclip.geometry import Array, axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_rot6d, rot6d_to_matrix
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT, MIRROR, REST_JOINTS

ROWS, COLUMNS = 25, 6

World = tuple[Array, Array]
"""Local rotations (..., T, 24, 3, 3), the root's in the Z-up world, and transl (..., T, 3), metres."""


class Representation(NamedTuple):
    """One way of writing motions as features.

    encode            local rotations (..., T, 24, 6) as 6D and transl (..., T, 3) to features (..., T, 25, 6)
    decode            features of a recorded motion to the world
    decode_generated  features a decoder made of a latent to the world
    mirror            features to those of the mirrored motion, left and right exchanged; padding stays zero
    steady            decoded features to those that are shown
    path              whether features know where the body goes; without, transl is zero
    """

    name: str
    encode: Callable[[Array, Array], NDArray[np.float32]]
    decode: Callable[[Array], World]
    decode_generated: Callable[[Array], World]
    mirror: Callable[[Array], Array]
    steady: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    path: bool


def heading(root: Array) -> Array:
    """The angle (...) about Z by which a root rotation (..., 3, 3) is turned from facing -Y, radians.

    The first two rows (..., 2, 3) are enough. Taken from the body's left axis rather than its front: lying on the back
    or bending over does not change it.
    """
    result: Array = np.arctan2(root[..., 1, 0], root[..., 0, 0])
    return result


def to_features(rotations: Array, transl: Array) -> NDArray[np.float32]:
    """`encode` of smpl24."""
    # Not zeros: fetching cleared pages takes longer than all else here.
    features = np.empty((*rotations.shape[:-2], ROWS, COLUMNS), np.float32)
    features[..., :24, :] = rotations
    features[..., 24, 3:] = 0.0
    angle = heading(rot6d_to_matrix(rotations[..., 0, 0, :]))[..., None, None]  # of the first frame
    cosine, sine = np.cos(angle), np.sin(angle)
    # To undo the heading is to mix the first two rows of each matrix, which are its 6D.
    first, second = rotations[..., 0, :3], rotations[..., 0, 3:]  # (..., T, 3)
    features[..., 0, :3] = cosine * first + sine * second
    features[..., 0, 3:] = cosine * second - sine * first
    x, y = (transl[..., axis : axis + 1] - transl[..., :1, axis : axis + 1] for axis in (0, 1))  # (..., T, 1)
    features[..., 24, 0:1] = cosine * x + sine * y
    features[..., 24, 1:2] = cosine * y - sine * x
    features[..., 24, 2] = transl[..., 2]
    return features


def steady(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """`steady` of smpl24: decoded features (..., T, 25, 6) without tremor, by a binomial mean over three frames.

    People's own movement stays: at 30 frames per second it halves what swings 7.5 times a second.
    """
    before = np.concatenate([features[..., :1, :, :], features[..., :-1, :, :]], axis=-3)
    after = np.concatenate([features[..., 1:, :, :], features[..., -1:, :, :]], axis=-3)
    result: NDArray[np.float32] = (before + 2 * features + after) / 4
    return result


def _decode(features: Array) -> World:
    return rot6d_to_matrix(features[..., :24, :]), features[..., 24, :3]


# A reflection in the plane x = 0 turns R into M R M with M = diag(-1, 1, 1): these entries of the first two rows flip.
MIRROR_SIGNS: NDArray[np.float32] = np.array([1, -1, -1, -1, 1, 1], np.float32)
_MIRROR_TRANSL: NDArray[np.float32] = np.array([-1, 1, 1, 1, 1, 1], np.float32)


def mirror_features(features: Array) -> Array:
    """`mirror` of smpl24."""
    mirrored = features[..., (*MIRROR, 24), :] * MIRROR_SIGNS
    mirrored[..., 24, :] = features[..., 24, :] * _MIRROR_TRANSL
    return mirrored


# What generation writes over the root rotation, 6D, and the turn from its world (Y down) to ours.
_CONSTANT_ROOT: NDArray[np.float32] = np.array([1, 0, 0, 0, -1, 0], np.float32)
_Y_DOWN_TO_Z_UP: NDArray[np.float32] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
# Bones from the foot up, parent and child.
_RIGHT_LEG = tuple(
    (JOINT[parent], JOINT[child])
    for parent, child in (("right_knee", "right_ankle"), ("right_hip", "right_knee"), ("pelvis", "right_hip"))
)


def _legacy_to_features(rotations: Array, transl: Array) -> NDArray[np.float32]:
    """The trajectory is not part of it: module docstring."""
    features = np.zeros((*rotations.shape[:-2], ROWS, COLUMNS), np.float32)
    features[..., :24, :] = rotations
    ankle = np.zeros(transl.shape)  # relative to the last parent; to the pelvis in the end
    for parent, child in _RIGHT_LEG:
        bone = REST_JOINTS[child] - REST_JOINTS[parent]
        ankle = (rot6d_to_matrix(rotations[..., parent, :]) @ (bone + ankle)[..., None])[..., 0]
    features[..., 24, :3] = ankle - ankle[..., :1, :]
    return features


def _legacy_decode(features: Array) -> World:
    return rot6d_to_matrix(features[..., :24, :]), np.zeros((*features.shape[:-2], 3), np.float32)


def overwrite_root(features: Array) -> Array:
    """A copy of legacy features (..., 25, 6) with the constant the original generates with as root rotation."""
    result = features.copy()
    result[..., 0, :] = _CONSTANT_ROOT
    return result


def _legacy_decode_generated(features: Array) -> World:
    rotations, transl = _legacy_decode(overwrite_root(features))
    rotations[..., 0, :, :] = _Y_DOWN_TO_Z_UP @ rotations[..., 0, :, :]
    return rotations, transl


def _legacy_mirror(features: Array) -> Array:
    # The mirrored right ankle is the left one: row 24 has to be made anew.
    rotations = features[..., MIRROR, :] * MIRROR_SIGNS
    mirrored = _legacy_to_features(rotations, features[..., 24, :3])
    mirrored[~features.any(axis=(-1, -2))] = 0.0
    return mirrored


SMPL24 = Representation("smpl24", to_features, _decode, _decode, mirror_features, steady, path=True)
LEGACY = Representation(
    "motionclip-legacy",
    _legacy_to_features,
    _legacy_decode,
    _legacy_decode_generated,
    _legacy_mirror,
    lambda features: features,  # the original's numbers, tremor and all
    path=False,
)
_BY_NAME = {item.name: item for item in (SMPL24, LEGACY)}


def representation(name: str) -> Representation:
    """The representation of a name in mclip.names.REPRESENTATIONS."""
    return _BY_NAME[name]


def motion_to_features(motion: Motion, kind: Representation = SMPL24) -> NDArray[np.float32]:
    """Features (T, 25, 6) of a motion, at the motion's own frame rate."""
    return kind.encode(matrix_to_rot6d(axis_angle_to_matrix(motion.pose)), motion.transl)


def features_to_motion(features: Array, fps: float, kind: Representation = SMPL24) -> Motion:
    """The motion of features (T, 25, 6)."""
    return world_to_motion(kind.decode(features.astype(np.float64)), fps)


def world_to_motion(world: World, fps: float) -> Motion:
    """The motion of rotations (T, 24, 3, 3) and transl (T, 3)."""
    rotations, transl = world
    return world_to_motions((rotations[None], transl[None]), fps)[0]


def world_to_motions(world: World, fps: float) -> list[Motion]:
    """The motions of rotations (B, T, 24, 3, 3) and transl (B, T, 3)."""
    poses, places = matrix_to_axis_angle(world[0]).astype(np.float32), world[1].astype(np.float32)
    return [Motion(pose=pose, transl=transl, fps=fps) for pose, transl in zip(poses, places, strict=True)]
