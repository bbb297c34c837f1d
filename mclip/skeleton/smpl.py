"""The SMPL skeleton: 24 joints, their parents, a rest pose, and forward kinematics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mclip.geometry import Array

# Names and order of SMPL (Loper et al., SIGGRAPH Asia 2015), as smplx spells them.
JOINT_NAMES: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
JOINT: dict[str, int] = {name: index for index, name in enumerate(JOINT_NAMES)}
PARENTS: tuple[int, ...] = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

# Rest joints of the free body (mclip/body), metres, Y up, facing +Z, left = +X.
REST_JOINTS: NDArray[np.float32] = np.array(
    [
        [0.0, -0.22, 0.03], [0.1137, -0.2302, 0.0225], [-0.1137, -0.2302, 0.0225], [0.0, -0.1371, -0.0095],
        [0.1291, -0.6688, 0.0137], [-0.1291, -0.6688, 0.0137], [0.0, -0.063, 0.0063], [0.1425, -1.1154, -0.0265],
        [-0.1425, -1.1154, -0.0265], [0.0, 0.0227, 0.0078], [0.156, -1.1854, 0.1086], [-0.156, -1.1854, 0.1086],
        [0.0, 0.3561, 0.025], [0.0243, 0.2792, 0.0432], [-0.0243, 0.2792, 0.0432], [0.0, 0.4634, 0.0625],
        [0.1831, 0.2558, 0.0385], [-0.1831, 0.2558, 0.0385], [0.4648, 0.2361, 0.0216], [-0.4648, 0.2361, 0.0216],
        [0.7181, 0.2361, 0.0216], [-0.7181, 0.2361, 0.0216], [0.8253, 0.2307, 0.028], [-0.8253, 0.2307, 0.028],
    ],
    dtype=np.float32,
)  # fmt: skip

# How far each joint lies inside the body, metres: what touches the floor is skin, not bone.
CLEARANCE: NDArray[np.float32] = np.array(
    [
        0.10, 0.09, 0.09, 0.10, 0.06, 0.06, 0.11, 0.08, 0.08, 0.11, 0.01, 0.01,
        0.05, 0.06, 0.06, 0.09, 0.05, 0.05, 0.04, 0.04, 0.03, 0.03, 0.02, 0.02,
    ],
    dtype=np.float32,
)  # fmt: skip

# AMASS stores SMPL+H: 52 joints, of which the first 22 are SMPL's and 22 and 37 are the first index-finger joints
# that stand for SMPL's two hands.
SMPLH_TO_SMPL: tuple[int, ...] = (*range(22), 22, 37)
# SMPL-X: 55 joints; its jaw and eyes stand between the body and the hands.
SMPLX_TO_SMPL: tuple[int, ...] = (*range(22), 25, 40)

_LEFT_RIGHT = {"left": "right", "right": "left"}
# Joint j of a mirrored body is joint MIRROR[j] of the original.
MIRROR: tuple[int, ...] = tuple(
    JOINT["_".join([_LEFT_RIGHT.get(name.split("_")[0], name.split("_")[0]), *name.split("_")[1:]])]
    for name in JOINT_NAMES
)


def forward_kinematics(
    rotations: Array, transl: Array, rest_joints: Array = REST_JOINTS
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """World rotations and positions of all joints.

    rotations    (..., 24, 3, 3) local rotations; joint 0 is the root in the world
    transl       (..., 3) metres; the pelvis lies at transl + rest_joints[0], as in SMPL
    rest_joints  (24, 3) metres
    Returns world rotations (..., 24, 3, 3) and positions (..., 24, 3), metres.
    """
    world = np.empty(rotations.shape, dtype=np.float32)
    position = np.empty(rotations.shape[:-1], dtype=np.float32)
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            world[..., joint, :, :] = rotations[..., joint, :, :]
            position[..., joint, :] = transl + rest_joints[joint]
            continue
        world[..., joint, :, :] = world[..., parent, :, :] @ rotations[..., joint, :, :]
        offset = (rest_joints[joint] - rest_joints[parent]).astype(np.float32)
        position[..., joint, :] = position[..., parent, :] + world[..., parent, :, :] @ offset
    return world, position
