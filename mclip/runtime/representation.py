"""`smpl24`: a motion as the numbers the model sees, and back.

Features are (T, 25, 6). Rows 0 to 23 are the joints' local rotations as 6D; row 24 is the root translation, three
numbers and three zeros. The world is turned about the vertical and moved on the ground so that the first frame
faces -Y (as SMPL's rest pose does once it stands in a Z-up world) at the origin; height stays absolute.
Nothing is lost but where on the ground a motion began and which way it faced.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.geometry import Array, axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_rot6d, rot6d_to_matrix
from mclip.motion import Motion
from mclip.skeleton.smpl import MIRROR

ROWS, COLUMNS = 25, 6


def heading(root: Array) -> Array:
    """The angle (...) about Z by which a root rotation (..., 3, 3) is turned from facing -Y, radians.

    Taken from the body's left axis rather than its front: lying on the back or bending over does not change it.
    """
    result: Array = np.arctan2(root[..., 1, 0], root[..., 0, 0])
    return result


def to_features(rotations: Array, transl: Array) -> NDArray[np.float32]:
    """Local rotations (..., T, 24, 6) as 6D and transl (..., T, 3), metres, to features (..., T, 25, 6)."""
    features = np.zeros((*rotations.shape[:-2], ROWS, COLUMNS), np.float32)
    features[..., :24, :] = rotations
    root = rot6d_to_matrix(rotations[..., 0, :])  # (..., T, 3, 3)
    angle = heading(root[..., 0, :, :])
    cosine, sine = np.cos(angle), np.sin(angle)
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    turn = np.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one], axis=-1)
    turn = turn.reshape(*angle.shape, 1, 3, 3)  # undoes the heading
    features[..., 0, :] = matrix_to_rot6d(turn @ root)
    moved = transl.copy()
    moved[..., :2] -= transl[..., :1, :2]
    features[..., 24, :3] = (turn @ moved[..., None])[..., 0]
    return features


def motion_to_features(motion: Motion) -> NDArray[np.float32]:
    """Features (T, 25, 6) of a motion, at the motion's own frame rate."""
    return to_features(matrix_to_rot6d(axis_angle_to_matrix(motion.pose)), motion.transl)


def features_to_motion(features: Array, fps: float) -> Motion:
    """The motion of features (T, 25, 6)."""
    pose = matrix_to_axis_angle(rot6d_to_matrix(features[:, :24].astype(np.float64)))
    return Motion(pose=pose.astype(np.float32), transl=features[:, 24, :3].astype(np.float32), fps=fps)


# A reflection in the plane x = 0 turns R into M R M with M = diag(-1, 1, 1): these entries of the first two rows flip.
_MIRROR_SIGNS: NDArray[np.float32] = np.array([1, -1, -1, -1, 1, 1], np.float32)
_MIRROR_TRANSL: NDArray[np.float32] = np.array([-1, 1, 1, 1, 1, 1], np.float32)


def mirror_features(features: Array) -> Array:
    """Features (..., 25, 6) of the mirrored motion: left and right exchanged."""
    mirrored = features[..., (*MIRROR, 24), :] * _MIRROR_SIGNS
    mirrored[..., 24, :] = features[..., 24, :] * _MIRROR_TRANSL
    return mirrored
