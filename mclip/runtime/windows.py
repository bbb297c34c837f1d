"""Motions longer than a pack's window: cut into overlapping windows, and joined again without jumps.

Windows overlap by half. There, rotations are cross-faded as quaternions and heights as metres. Over the ground the
*velocities* are cross-faded and then summed up: two windows agree on how fast the body moves but, once their latents
were edited, no longer on where it is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.geometry import (
    Array,
    axis_angle_to_matrix,
    matrix_to_quaternion,
    matrix_to_rot6d,
    quaternion_to_axis_angle,
    rot6d_to_matrix,
    rotation_about,
)
from mclip.motion import Motion
from mclip.pack import Lengths
from mclip.runtime.encoded import starts
from mclip.runtime.engine import Engine
from mclip.runtime.representation import SMPL24, heading, to_features


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Where windows of one length lie in a motion.

    frames  T, of the motion
    starts  (K,) the first frame of each window; the first is 0, the last window ends with the motion
    length  W, frames in each
    angle   (K,) the heading at its first frame, radians
    place   (K, 2) where on the ground the body is at its first frame, metres
    """

    frames: int
    starts: NDArray[np.int64]
    length: int
    angle: NDArray[np.float64]
    place: NDArray[np.float64]

    def blend(self, values: Array) -> NDArray[np.float64]:
        """Values (T, ...) of the frames, cross-faded from values (K, W, ...) of the windows' frames."""
        result = np.zeros((self.frames, *values.shape[2:]))
        weights = _weights(self.frames, self.starts, self.length)
        for start, weight, window in zip(self.starts, weights, values, strict=True):
            result[start : start + self.length] += weight.reshape(-1, *[1] * (values.ndim - 2)) * window
        return result


def cut(motion: Motion, lengths: Lengths) -> tuple[Windows, NDArray[np.float32]]:
    """Windows of a motion that has the pack's frame rate, and their features (K, W, 25, 6).

    Raises MotionError when it is shorter than the pack can read.
    """
    frames = len(motion)
    if frames < lengths.min:
        raise MotionError(
            f"the motion lasts {motion.seconds:.2f} s, less than {lengths.min / motion.fps:.2g} s, "
            "the shortest the pack was trained for"
        )
    length = min(frames, lengths.max)
    first = starts(frames, length, max(length // 2, 1), even=True)
    rows = first[:, None] + np.arange(length)  # (K, W)
    matrices = axis_angle_to_matrix(motion.pose)
    features = to_features(matrix_to_rot6d(matrices)[rows], motion.transl[rows])
    angle = heading(matrices[first, 0]).astype(np.float64)
    return Windows(frames, first, length, angle, motion.transl[first, :2].astype(np.float64)), features


def encode(engine: Engine, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Latents (K, D) of windows' smpl24 features (K, W, 25, 6), whatever the pack's own representation."""
    if engine.kind is not SMPL24:
        rotations, transl = SMPL24.decode(features)
        features = engine.kind.encode(matrix_to_rot6d(rotations), transl)
    return engine.encode_motion(features, np.ones(features.shape[:2], np.bool_))


def decode(engine: Engine, latents: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """smpl24 features (K, W, 25, 6) of latents (K, D), W = `frames`."""
    features = np.stack(engine.decode_shown(latents, [frames] * len(latents)))
    if engine.kind is not SMPL24:
        rotations, transl = engine.kind.decode_generated(features)
        features = SMPL24.encode(matrix_to_rot6d(rotations), transl)
    return features


def join(windows: Windows, features: NDArray[np.float32], fps: float) -> Motion:
    """The motion (T frames) of windows' features (K, W, 25, 6), each put where `windows` says."""
    rotations = rot6d_to_matrix(features[:, :, :24].astype(np.float64))  # (K, W, 24, 3, 3)
    turn = rotation_about(2, windows.angle)[:, None]  # (K, 1, 3, 3)
    rotations[:, :, 0] = turn @ rotations[:, :, 0]
    path = (turn @ features[:, :, 24, :3, None].astype(np.float64))[..., 0]  # (K, W, 3)
    path[..., :2] += windows.place[:, None]

    quaternions = _same_half(windows, matrix_to_quaternion(rotations))  # (K, W, 24, 4)
    mixed = windows.blend(quaternions)
    pose = quaternion_to_axis_angle(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))

    transl = windows.blend(path)
    if len(windows.starts) > 1:
        steps = Windows(windows.frames - 1, windows.starts, windows.length - 1, windows.angle, windows.place)
        velocity = steps.blend(np.diff(path[..., :2], axis=1))  # (T-1, 2)
        transl[1:, :2] = transl[0, :2] + np.cumsum(velocity, axis=0)
    return Motion(pose=pose.astype(np.float32), transl=transl.astype(np.float32), fps=fps)


def chain(features: NDArray[np.float32]) -> Windows:
    """Where windows (K, W, 25, 6) of one length lie if each goes on from the one before.

    Each begins about half-way through the one before, at the frame from which on their poses are most alike.
    """
    length = features.shape[1]
    starts, angle, place = [0], [0.0], [np.zeros(2)]
    for before, after in itertools.pairwise(features.astype(np.float64)):
        shifts = range(max(length // 3, 1), max(2 * length // 3, 1) + 1)
        shift = min(shifts, key=lambda s: float(np.square(before[s:, 1:24] - after[: length - s, 1:24]).mean()))
        turn = rotation_about(2, np.array(angle[-1]))[:2, :2]
        place.append(place[-1] + turn @ before[shift, 24, :2])
        angle.append(angle[-1] + float(heading(rot6d_to_matrix(before[shift, 0]))))
        starts.append(starts[-1] + shift)
    return Windows(starts[-1] + length, np.array(starts), length, np.array(angle), np.array(place))


def _same_half(windows: Windows, quaternions: Array) -> Array:
    """Quaternions (K, W, 24, 4), each window's with the sign it has in the window before, where the two overlap.

    q and -q are one rotation, but cannot be added.
    """
    for before in range(len(windows.starts) - 1):
        shift = int(windows.starts[before + 1] - windows.starts[before])
        overlap = windows.length - shift
        dot = np.sum(quaternions[before, shift:] * quaternions[before + 1, :overlap], axis=-1, keepdims=True)
        quaternions[before + 1, :overlap] *= np.where(dot < 0, -1.0, 1.0)
    return quaternions


def _weights(frames: int, starts: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """Weights (K, W) of the windows' frames, which fade in and out and add up to one at every frame."""
    fade = np.square(np.sin(np.pi * (np.arange(length) + 0.5) / length))
    total = np.zeros(frames)
    for start in starts:
        total[start : start + length] += fade
    return np.stack([fade / total[start : start + length] for start in starts])
