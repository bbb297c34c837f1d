"""An edit as a change of the user's own motion, so that what the auto-encoder loses is kept.

The decoder is asked twice: for the motion's own latents (`own`) and for the edited ones (`edited`). Joint by joint and
frame by frame the result is

    edited x (own^-1 x motion)^keep

the edited rotation with the detail the decoder had missed put back on. With nothing edited, `edited` is `own` and the
result is the motion itself. `keep` falls from one to zero as the latent moves away: the details of a walk have no place
in a jump.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mclip.errors import UsageError
from mclip.geometry import (
    Array,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rotation_about,
    slerp,
)
from mclip.motion import Motion
from mclip.runtime.ground import floor_of, lowest
from mclip.skeleton.smpl import JOINT, JOINT_NAMES

_LEGS = {name: 1.0 for name in JOINT_NAMES if name.endswith(("_hip", "_knee", "_ankle", "_foot"))}
_ARMS = {name: 1.0 for name in JOINT_NAMES if name.endswith(("_shoulder", "_elbow", "_wrist", "_hand"))}
# How much of an edit each joint takes. Where a part begins on the trunk, it fades in over the joints there.
PARTS: dict[str, dict[str, float]] = {
    "upper": {"spine1": 1 / 3, "spine2": 2 / 3}
    | dict.fromkeys(("spine3", "neck", "head", "left_collar", "right_collar"), 1.0)
    | _ARMS,
    "lower": {"pelvis": 1.0} | _LEGS,
    "arms": {"left_collar": 0.5, "right_collar": 0.5} | _ARMS,
    "legs": _LEGS,
}


def joint_weights(only: str | None) -> NDArray[np.float64]:
    """How much each joint (24,) takes of an edit: all of it (None), or as `only` says, "arms,head" for instance.

    Raises UsageError for names that are neither in PARTS nor joints.
    """
    if only is None:
        return np.ones(len(JOINT_NAMES))
    weights = np.zeros(len(JOINT_NAMES))
    for name in filter(None, (item.strip().lower() for item in only.split(","))):
        if name not in PARTS and name not in JOINT:
            raise UsageError(
                f"--only {only}: there is no body part or joint {name!r}",
                f"parts: {', '.join(PARTS)}; joints: {', '.join(JOINT_NAMES)}",
            )
        for joint, weight in PARTS.get(name, {name: 1.0}).items():
            weights[JOINT[joint]] = max(weights[JOINT[joint]], weight)
    if not weights.any():
        raise UsageError("--only names nothing", f"parts: {', '.join(PARTS)}; joints: {', '.join(JOINT_NAMES)}")
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What an edit did to the reconstruction of a motion: own -> edited, and how much detail to keep (T,), 0 to 1."""

    own: Motion
    edited: Motion
    keep: NDArray[np.float64]


def apply(motion: Motion, change: Change, weights: NDArray[np.float64], *, keep_root: bool = False) -> Motion:
    """The motion, changed (module docstring); it keeps its length, frame rate, first place, first heading and floor.

    weights: of the joints (24,), from `joint_weights`; the root's path follows the pelvis
    keep_root: leave path over the ground and heading as they were; lean and height follow the edit
    """
    own, edited = (_sampled_like(motion, each) for each in (change.own, change.edited))
    keep = np.interp(np.arange(len(motion)) / motion.fps, np.arange(len(change.keep)) / change.own.fps, change.keep)
    given, mine, target = (
        matrix_to_quaternion(axis_angle_to_matrix(each.pose.astype(np.float64))) for each in (motion, own, edited)
    )
    detail = matrix_to_quaternion(_matrix(_inverse(mine)) @ _matrix(given))
    none = np.broadcast_to([1.0, 0.0, 0.0, 0.0], detail.shape)
    full = matrix_to_quaternion(_matrix(target) @ _matrix(slerp(none, detail, keep[:, None])))
    rotations = _matrix(slerp(given, full, np.broadcast_to(weights, full.shape[:2])))

    where, pelvis = motion.transl.astype(np.float64), weights[JOINT["pelvis"]]
    turned = _yaw(rotations[:, 0] @ np.swapaxes(_matrix(given[:, 0]), -1, -2))  # (T,) away from the motion's heading
    path = where[:, :2]
    if not keep_root:
        moved = (edited.transl + keep[:, None] * (where - own.transl))[:, :2]
        moved = (moved - moved[0]) @ rotation_about(2, -turned[0])[:2, :2].T
        path = path + pelvis * (path[0] + moved - path)
    rotations[:, 0] = rotation_about(2, -turned if keep_root else -turned[:1]) @ rotations[:, 0]
    pose = np.where(weights[:, None] > 0, matrix_to_axis_angle(rotations), motion.pose).astype(np.float32)
    result = replace(motion, pose=pose, transl=np.concatenate([path, where[:, 2:]], axis=1).astype(np.float32))

    # Heights are compared at the soles, not at the pelvis: who stands goes on standing however the knees bend.
    clear = lowest(motion)
    clear = clear + pelvis * (lowest(edited) + keep * (clear - lowest(own)) - clear)
    result.transl[:, 2] += clear - lowest(result)
    result.transl[:, 2] += floor_of(motion) - floor_of(result)
    return result


def _sampled_like(motion: Motion, other: Motion) -> Motion:
    """`other` at the frame rate and with the frame count of `motion`; what it lacks at the end stands still."""
    sampled = other.resample(motion.fps)
    rows = np.minimum(np.arange(len(motion)), len(sampled) - 1)
    return replace(sampled, pose=sampled.pose[rows], transl=sampled.transl[rows])


def _matrix(quaternion: Array) -> Array:
    return quaternion_to_matrix(quaternion)


def _inverse(quaternion: Array) -> Array:
    result: Array = quaternion * np.array([1.0, -1.0, -1.0, -1.0])
    return result


def _yaw(rotation: Array) -> NDArray[np.float64]:
    """The angle (...) of rotations (..., 3, 3) about Z: the twist of their swing and twist."""
    result: NDArray[np.float64] = np.arctan2(
        rotation[..., 1, 0] - rotation[..., 0, 1], rotation[..., 0, 0] + rotation[..., 1, 1]
    )
    return result
