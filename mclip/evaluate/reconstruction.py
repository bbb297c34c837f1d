"""How far a decoded motion is from the recorded one. Positions in metres come in, millimetres go out.

Shapes are (..., T, P, 3) for P points (joints or vertices) and (..., T, 24, 6) for rotations; means are over all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.body.model import BETAS, Body
from mclip.body.skinning import skin
from mclip.geometry import Array, angle_between, matrix_to_axis_angle, rot6d_to_matrix
from mclip.runtime.representation import SMPL24, Representation
from mclip.skeleton.smpl import forward_kinematics

MILLIMETRES = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """The errors of a window, or means over windows.

    mpjpe_*    mean distance of the 24 joints (MPJPE, Ionescu et al. 2014), millimetres
    vertex_*   mean distance of the body's vertices, millimetres
    *_root     after moving both pelvises to one place in every frame
    *_absolute with only the first recorded frame's place and heading in common; of a representation that knows no
               path, with both pelvises in one place
    velocity   mean length of the difference of the joints' velocities (MPJVE, Pavllo et al. 2019), millimetres a second
    rot6d      mean squared difference of the 24 x 6 numbers of the joints' rotations, as the paper's loss has it
    rotation   mean angle between the joints' local rotations, degrees
    """

    mpjpe_root: float
    mpjpe_absolute: float
    vertex_root: float
    vertex_absolute: float
    velocity: float
    rot6d: float
    rotation: float


def window_errors(
    made: NDArray[np.float32], real: NDArray[np.float32], fps: float, body: Body, kind: Representation = SMPL24
) -> Errors:
    """The errors of one window: decoded and recorded features (T, 25, 6) of a representation."""
    joints, recorded = positions(made, kind), positions(real, kind)
    skins = [_vertices(body, features, kind) for features in (made, real)]
    pelvises = [points[..., :1, :] for points in (joints, recorded)]
    return Errors(
        mpjpe_root=mean_distance(joints - pelvises[0], recorded - pelvises[1]),
        mpjpe_absolute=mean_distance(joints, recorded),
        vertex_root=mean_distance(skins[0] - pelvises[0], skins[1] - pelvises[1]),
        vertex_absolute=mean_distance(skins[0], skins[1]),
        velocity=velocity_error(joints, recorded, fps),
        rot6d=rot6d_error(made[..., :24, :], real[..., :24, :]),
        rotation=rotation_error(made[..., :24, :], real[..., :24, :]),
    )


def positions(features: NDArray[np.float32], kind: Representation = SMPL24) -> NDArray[np.float32]:
    """Joints (..., T, 24, 3) of the free body for features (..., T, 25, 6) of a recorded motion, or decoded of one."""
    return forward_kinematics(*kind.decode(features))[1]


def mean_distance(made: Array, real: Array) -> float:
    """Mean distance of points that belong together, millimetres."""
    return float(MILLIMETRES * np.linalg.norm(made - real, axis=-1).mean(dtype=np.float64))


def velocity_error(made: Array, real: Array, fps: float) -> float:
    """Mean length of the difference of two motions' velocities, millimetres a second; 0 for a single frame."""
    if made.shape[-3] < 2:
        return 0.0
    return mean_distance(np.diff(made, axis=-3), np.diff(real, axis=-3)) * fps


def rot6d_error(made: Array, real: Array) -> float:
    """Mean squared difference of rotations as 6D (..., 6)."""
    return float(((made - real) ** 2).mean(dtype=np.float64))


def rotation_error(made: Array, real: Array) -> float:
    """Mean angle between rotations as 6D (..., 6), degrees."""
    first, second = (rot6d_to_matrix(rotations.astype(np.float64)) for rotations in (made, real))
    return float(np.degrees(angle_between(first, second)).mean())


def _vertices(body: Body, features: NDArray[np.float32], kind: Representation) -> NDArray[np.float32]:
    rotations, transl = kind.decode(features.astype(np.float64))
    pose = matrix_to_axis_angle(rotations).astype(np.float32)
    return skin(body, pose, transl.astype(np.float32), np.zeros(BETAS, np.float32))
