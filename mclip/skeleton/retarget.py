"""From the animation of any skeleton to SMPL's 24 joints.

For every SMPL joint j that a source joint s stands for:

    world rotation of j = world rotation of s  x  inverse of the world rotation s has in a T-pose

so that a source in its T-pose gives SMPL's rest pose. The T-pose is the source's rest pose, or, where that is none,
what a RigTable says; either way its limb bones are turned onto SMPL's, so that limbs point where the source's do.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.geometry import (
    Y_UP_TO_Z_UP,
    Array,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rotation_between,
    slerp,
)
from mclip.skeleton.smpl import CLEARANCE, JOINT, JOINT_NAMES, PARENTS, REST_JOINTS, forward_kinematics

# Only limbs are turned onto SMPL's bones: spines, collars and feet differ in where the joints sit, not in pose.
_LIMBS: dict[str, str] = {
    f"{side}_{joint}": f"{side}_{child}"
    for side in ("left", "right")
    for joint, child in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
}
_HANDS = JOINT["left_wrist"]  # the first of the last four joints: wrists and hands
_SPINE: tuple[str, ...] = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
# Without these there is no body to speak of.
REQUIRED: tuple[str, ...] = ("pelvis", *_LIMBS, "left_ankle", "right_ankle", "left_wrist", "right_wrist")
# The lowest joint is on the floor in this share of the frames at least; lower are feet that dip as they push off.
_FLOOR_PERCENTILE = 10.0
# Bones shorter than this have no direction, in any unit of length.
_NO_LENGTH = 1e-6
# Cosine: a rest pose may lean, as sculpted characters do, but not lie.
_UPRIGHT = 0.8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RigMotion:
    """An animation of any skeleton, in world space, right-handed, in the source's own unit of length.

    Y is up, or Z, where the rest pose stands along it.

    names          J joint names, parents before children
    parents        (J,) index of each joint's parent, -1 for roots
    rest_rotation  (J, 3, 3) world rotations in the rest pose
    rest_position  (J, 3) world positions in the rest pose
    rotation       (T, J, 3, 3) world rotations
    position       (T, J, 3) world positions
    fps            frames per second
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    rest_rotation: NDArray[np.float64]
    rest_position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    position: NDArray[np.float64]
    fps: float

    @staticmethod
    def from_local(
        names: tuple[str, ...],
        parents: tuple[int, ...],
        rest_rotation: Array,
        rest_offset: Array,
        rotation: Array,
        offset: Array,
        fps: float,
    ) -> RigMotion:
        """Build from parent-relative transforms.

        rest_rotation (J, 3, 3), rest_offset (J, 3): the rest pose; rotation (T, J, 3, 3), offset (T, J, 3): the frames.
        """
        rest = _to_world(parents, rest_rotation[None], rest_offset[None])
        frames = _to_world(parents, rotation, offset)
        return RigMotion(
            names=names,
            parents=parents,
            rest_rotation=rest[0][0],
            rest_position=rest[1][0],
            rotation=frames[0],
            position=frames[1],
            fps=fps,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RigTable:
    """Which source joint stands for which SMPL joint, and what the source's T-pose is.

    name    shown in messages
    joints  SMPL joint name -> source joint name; SMPL joints left out follow their parent, or, between two joints of
            the spine that are given, take their share of the bend
    tpose   source joint name -> (3, 3) its world rotation in a T-pose that faces +Z with Y up; for joints left out
            the rest pose is taken
    """

    name: str
    joints: Mapping[str, str]
    tpose: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def retarget(
    rig: RigMotion, table: RigTable, *, ground: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """SMPL pose (T, 24, 3), axis-angle, and transl (T, 3), metres, Z up, on the free body's proportions.

    The root path is scaled by the ratio of leg lengths. With `ground` the body is moved up or down, once for the whole
    recording, so that its lowest parts touch the floor at height zero.
    Raises MotionError when a joint the table names is not in the rig.
    """
    source = _indices(rig, table)
    missing = [name for name in REQUIRED if name not in source]
    if missing:
        raise MotionError(
            f"no joint for {_some(tuple(missing))} (table {table.name}; the file has {_some(rig.names)})",
            "write a rig table with the file's joint names and pass it with --rig",
        )
    rig, upright = _standing(rig, table, source)
    world = _world_rotations(rig, table, source, upright)  # (T, 24, 3, 3), Y up

    local = world.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            local[:, joint] = np.swapaxes(world[:, parent], -1, -2) @ world[:, joint]
    local[:, 0] = Y_UP_TO_Z_UP @ world[:, 0]

    # The middle of the hips is the same place in every rig; "hips" or "pelvis" joints are not.
    hips = 0.5 * (rig.position[:, source["left_hip"]] + rig.position[:, source["right_hip"]])  # (T, 3)
    rest = REST_JOINTS.astype(np.float64)
    pelvis_from_hips = rest[0] - 0.5 * (rest[JOINT["left_hip"]] + rest[JOINT["right_hip"]])
    pelvis = hips * _scale(rig, source) @ Y_UP_TO_Z_UP.T + local[:, 0] @ pelvis_from_hips
    transl = pelvis - rest[0]
    if ground:
        _, joints = forward_kinematics(local, transl)
        transl[:, 2] -= np.percentile(lowest_point(joints), _FLOOR_PERCENTILE)
    return matrix_to_axis_angle(local).astype(np.float32), transl.astype(np.float32)


def lowest_point(joints: Array) -> Array:
    """Height (T,) of the lowest skin of each frame, metres, from joints (T, 24, 3) and the body's thickness.

    Wrists and hands do not count: they reach into the floor wherever the source's arms are shorter.
    """
    result: Array = np.min((joints[..., 2] - CLEARANCE)[..., :_HANDS], axis=-1)
    return result


def _to_world(
    parents: tuple[int, ...], rotation: Array, offset: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    world, position = np.empty_like(rotation, dtype=np.float64), np.empty_like(offset, dtype=np.float64)
    for joint, parent in enumerate(parents):
        if parent < 0:
            world[:, joint], position[:, joint] = rotation[:, joint], offset[:, joint]
        else:
            world[:, joint] = world[:, parent] @ rotation[:, joint]
            position[:, joint] = position[:, parent] + (world[:, parent] @ offset[:, joint, :, None])[..., 0]
    return world, position


def _indices(rig: RigMotion, table: RigTable) -> dict[str, int]:
    where = {name: index for index, name in reversed(list(enumerate(rig.names)))}  # the first of a name
    return {joint: where[name] for joint, name in table.joints.items() if name in where}


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 8 else shown


def _world_rotations(rig: RigMotion, table: RigTable, source: dict[str, int], upright: Array) -> NDArray[np.float64]:
    world = np.empty((len(rig.rotation), len(JOINT_NAMES), 3, 3))
    turned: dict[str, NDArray[np.float64]] = {}  # how each limb's T-pose was turned onto SMPL's
    for joint, name in enumerate(JOINT_NAMES):
        if name not in source:
            world[:, joint] = world[:, PARENTS[joint]]
            continue
        index = source[name]
        tpose = table.tpose.get(rig.names[index], upright @ rig.rest_rotation[index])
        turned[name] = _limb_turn(rig, source, name, tpose, turned)
        world[:, joint] = rig.rotation[:, index] @ (turned[name] @ tpose).T
    _share_bends(world, source)
    return world


def _limb_turn(
    rig: RigMotion, source: dict[str, int], name: str, tpose: Array, turned: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The rotation that brings the T-pose's bone at SMPL joint `name` onto SMPL's."""
    if name in _LIMBS:
        child, index = _LIMBS[name], source[name]
        bone = rig.rest_rotation[index].T @ (rig.rest_position[source[child]] - rig.rest_position[index])
        if np.linalg.norm(bone) > _NO_LENGTH:
            wanted = REST_JOINTS[JOINT[child]] - REST_JOINTS[JOINT[name]]
            return np.asarray(rotation_between(tpose @ bone, wanted.astype(np.float64)))
    # Hands go where the arm goes; feet stand flat in any rest pose.
    if name.endswith(("_wrist", "_hand")):
        return turned.get(JOINT_NAMES[PARENTS[JOINT[name]]], np.eye(3))
    return np.eye(3)


def _share_bends(world: NDArray[np.float64], source: dict[str, int]) -> None:
    """Let the spine joints the source lacks bend evenly between those it has; `world` (T, 24, 3, 3) is changed."""
    given = [place for place, name in enumerate(_SPINE) if name in source]
    for low, high in itertools.pairwise(given):
        start, end = (matrix_to_quaternion(world[:, JOINT[_SPINE[place]]]) for place in (low, high))
        for place in range(low + 1, high):
            fraction = np.full(len(world), (place - low) / (high - low))
            world[:, JOINT[_SPINE[place]]] = quaternion_to_matrix(slerp(start, end, fraction))


def _standing(rig: RigMotion, table: RigTable, source: dict[str, int]) -> tuple[RigMotion, NDArray[np.float64]]:
    """The rig with Y up, and the rotation about Y that makes its rest pose face +Z.

    Only asked of rest poses that are used: not where the table has the T-pose of all joints.
    """
    if all(rig.names[index] in table.tpose for index in source.values()):
        return rig, np.eye(3)
    up = _up(rig, source)
    if up[2] > np.linalg.norm(up[:2]):
        turn = Y_UP_TO_Z_UP.T
        rig = replace(
            rig,
            rest_rotation=turn @ rig.rest_rotation,
            rest_position=rig.rest_position @ turn.T,
            rotation=turn @ rig.rotation,
            position=rig.position @ turn.T,
        )
        up = turn @ up
    if up[1] < _UPRIGHT * np.linalg.norm(up):
        raise MotionError(
            "the skeleton does not stand upright in its rest pose",
            "write a rig table with a [tpose] for its joints and pass it with --rig",
        )
    left = rig.rest_position[source["left_hip"]] - rig.rest_position[source["right_hip"]]
    yaw = np.arctan2(left[2], left[0])
    return rig, np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])


def _up(rig: RigMotion, source: dict[str, int]) -> NDArray[np.float64]:
    """From the ankles to the shoulders in the rest pose."""
    left, right = (
        rig.rest_position[source[f"{side}_shoulder"]] - rig.rest_position[source[f"{side}_ankle"]]
        for side in ("left", "right")
    )
    result: NDArray[np.float64] = 0.5 * (left + right)
    return result


def _scale(rig: RigMotion, source: dict[str, int]) -> float:
    """SMPL's leg length over the rig's."""

    def leg(position: Array, joints: Mapping[str, int]) -> float:
        chains = [[f"{side}_{joint}" for joint in ("hip", "knee", "ankle")] for side in ("left", "right")]
        return float(
            sum(
                np.linalg.norm(position[joints[a]] - position[joints[b]])
                for chain in chains
                for a, b in itertools.pairwise(chain)
            )
        )

    length = leg(rig.rest_position, source)
    if not length > _NO_LENGTH:
        raise MotionError("the legs of the rest pose have no length", "check the file's joint offsets")
    return leg(REST_JOINTS, JOINT) / length
