"""An edit as a change of the user's own motion, so that what the auto-encoder loses is kept.

The decoder is asked twice: for the motion's own latents (`own`) and for the edited ones (`edited`). Joint by joint and
frame by frame the result is

    edited x (own^-1 x motion)^keep

the edited rotation with the detail the decoder had missed put back on. With nothing edited, `edited` is `own` and the
result is the motion itself. `keep` falls from one to zero as the latent moves away: the details of a walk have no place
in a jump.

A change of *manner*, as a style is one, takes posture and pace only from the decoder: between the latents of two styles
it averages over the phases of a step: legs hardly swing, the body glides. Posture is what is left of rotations when
everything as quick as a step is smoothed away. The movement about it stays the motion's own and grows or shrinks with
the pace, so that a slower walk takes shorter steps. Feet stand when the motion's do, and slide no more (see feet).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mclip.errors import UsageError, meant
from mclip.geometry import (
    Array,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rot6d_to_matrix,
    rotation_about,
    slerp,
)
from mclip.motion import Motion
from mclip.runtime.feet import LEGS, stand_as
from mclip.runtime.ground import floor_of, lowest
from mclip.skeleton.smpl import JOINT, JOINT_NAMES, forward_kinematics

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
# Seconds of two steps of a walk; a run's are quicker.
_CYCLE = 1.0
# Metres per second below which nobody walks, and how far a style may slow down or hurry.
_STANDS = 0.2
_PACES = (0.3, 1.4)


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
                f"{meant(name, [*PARTS, *JOINT_NAMES])}parts: {', '.join(PARTS)}; joints: {', '.join(JOINT_NAMES)}",
            )
        for joint, weight in PARTS.get(name, {name: 1.0}).items():
            weights[JOINT[joint]] = max(weights[JOINT[joint]], weight)
    if not weights.any():
        raise UsageError("--only names nothing", f"parts: {', '.join(PARTS)}; joints: {', '.join(JOINT_NAMES)}")
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What an edit did to the reconstruction of a motion: own -> edited, and how much detail to keep (T,), 0 to 1.

    manner: whether it changed no more than the way in which the motion is done (module docstring)
    """

    own: Motion
    edited: Motion
    keep: NDArray[np.float64]
    manner: bool = False


def apply(motion: Motion, change: Change, weights: NDArray[np.float64], *, keep_root: bool = False) -> Motion:
    """The motion, changed (module docstring); it keeps its length, frame rate, first place, first heading and floor.

    weights: of the joints (24,), from `joint_weights`; the root's path follows the pelvis
    keep_root: leave path over the ground and heading as they were; lean and height follow the edit
    """
    own, edited = (_sampled_like(motion, each) for each in (change.own, change.edited))
    keep, pelvis = np.ones(len(motion)), weights[JOINT["pelvis"]]
    if not change.manner:
        keep = np.interp(np.arange(len(motion)) / motion.fps, np.arange(len(change.keep)) / change.own.fps, change.keep)
    follow = 0.0 if keep_root else pelvis
    pace = 1.0 + follow * (_pace(own, edited) - 1.0)  # (T,)
    given, mine, target = (
        matrix_to_quaternion(axis_angle_to_matrix(each.pose.astype(np.float64))) for each in (motion, own, edited)
    )
    if change.manner:
        slow, mine, target = (_posture(each, motion.fps) for each in (given, mine, target))
        moved_about = _part(_product(_inverse(slow), given), pace)
        full = _product(_product(target, _product(_inverse(mine), slow)), moved_about)
    else:
        full = _product(target, _part(_product(_inverse(mine), given), keep))
    rotations = _matrix(slerp(given, full, np.broadcast_to(weights, full.shape[:2])))

    where = motion.transl.astype(np.float64)
    turned = _yaw(rotations[:, 0] @ np.swapaxes(_matrix(given[:, 0]), -1, -2))  # (T,) away from the motion's heading
    path = where[:, :2]
    if not keep_root:
        if change.manner:
            steps = np.diff(where[:, :2], axis=0) * pace[1:, None]
            moved = where[0, :2] + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        else:
            moved = (edited.transl + keep[:, None] * (where - own.transl))[:, :2]
        moved = (moved - moved[0]) @ rotation_about(2, -turned[0])[:2, :2].T
        path = path + pelvis * (path[0] + moved - path)
    rotations[:, 0] = rotation_about(2, -turned if keep_root else -turned[:1]) @ rotations[:, 0]
    pose = np.where(weights[:, None] > 0, matrix_to_axis_angle(rotations), motion.pose).astype(np.float32)
    result = replace(motion, pose=pose, transl=np.concatenate([path, where[:, 2:]], axis=1).astype(np.float32))

    # Heights are compared at the soles, not at the pelvis: who stands goes on standing however the knees bend.
    clear = lowest(motion)
    if not change.manner:
        clear = clear + pelvis * (lowest(edited) + keep * (clear - lowest(own)) - clear)
    result.transl[:, 2] += clear - lowest(result)
    floor = floor_of(motion)
    result.transl[:, 2] += floor - floor_of(result)
    if change.manner and weights[LEGS].all():
        _let_stand(result, motion, floor)
    return result


def _let_stand(result: Motion, motion: Motion, floor: float) -> None:
    """Change the legs of the result so that its feet stand when the motion's do."""
    own, given = (each.transl - np.array([0, 0, floor], np.float32) for each in (result, motion))
    rotations = axis_angle_to_matrix(result.pose.astype(np.float64))
    _, joints = forward_kinematics(axis_angle_to_matrix(motion.pose), given)
    standing = stand_as(joints, rotations, *forward_kinematics(rotations, own), motion.fps)
    if standing is not rotations:
        result.pose[:, LEGS] = matrix_to_axis_angle(standing[:, LEGS])


def _sampled_like(motion: Motion, other: Motion) -> Motion:
    """`other` at the frame rate and with the frame count of `motion`; what it lacks at the end stands still."""
    sampled = other.resample(motion.fps)
    rows = np.minimum(np.arange(len(motion)), len(sampled) - 1)
    return replace(sampled, pose=sampled.pose[rows], transl=sampled.transl[rows])


def _posture(rotation: Array, fps: float) -> Array:
    """Quaternions (T, J, 4) without what is as quick as a step."""
    first_rows = _slow(_matrix(rotation)[..., :2, :].reshape(len(rotation), -1), fps)
    return matrix_to_quaternion(rot6d_to_matrix(first_rows.reshape(*rotation.shape[:2], 6)))


def _pace(own: Motion, edited: Motion) -> NDArray[np.float64]:
    """How many times as fast as `own` the other one goes (T,); 1 where it stands."""
    mine, other = (_speed(_slow(each.transl[:, :2].astype(np.float64), each.fps), each.fps) for each in (own, edited))
    ratio = np.clip(other / np.maximum(mine, _STANDS), *_PACES)
    result: NDArray[np.float64] = 1.0 + np.clip(mine / _STANDS - 1.0, 0.0, 1.0) * (ratio - 1.0)
    return result


def _speed(place: Array, fps: float) -> Array:
    """Metres per second at places (T, 2)."""
    if len(place) < 2:
        return np.zeros(len(place))
    speed: Array = np.linalg.norm(np.gradient(place, 1 / fps, axis=0), axis=1)
    return speed


def _slow(values: Array, fps: float) -> Array:
    """Means of values (T, F) over two steps, by a window that is zero at its ends and at the walking frequency."""
    reach = max(1, round(_CYCLE * fps))
    frames, weights = len(values), np.hanning(2 * reach + 1)
    # Beyond its ends the motion has no frames; the last column counts those there are.
    padded = np.pad(np.concatenate([values, np.ones((frames, 1))], axis=1), ((reach, reach), (0, 0)))
    total = np.zeros((frames, padded.shape[1]))
    for start, weight in enumerate(weights):
        total += weight * padded[start : start + frames]
    result: Array = total[:, :-1] / total[:, -1:]
    return result


def _part(rotation: Array, exponent: Array) -> Array:
    """Quaternions (T, J, 4) to the power of (T,)."""
    none = np.broadcast_to([1.0, 0.0, 0.0, 0.0], rotation.shape)
    return slerp(none, rotation, exponent[:, None])


def _product(first: Array, second: Array) -> Array:
    return matrix_to_quaternion(_matrix(first) @ _matrix(second))


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
