"""Windows of a motion: cut, joined, and without seams."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.geometry import Array, angle_between, axis_angle_to_matrix, matrix_to_axis_angle, rotation_about
from mclip.motion import Motion
from mclip.pack import Lengths
from mclip.runtime.windows import Windows, chain, cut, join
from mclip.skeleton.smpl import forward_kinematics

LENGTHS = Lengths(min=10, max=20, default=20)


def wandering(frames: int, seed: int = 0) -> Motion:
    """A body that walks a curve, turning more than once around, and moves all joints smoothly."""
    random = np.random.default_rng(seed)
    t = np.arange(frames) / 30
    pose = np.zeros((frames, 24, 3))
    for joint in range(1, 24):
        pose[:, joint] = 0.6 * np.sin(t[:, None] * random.uniform(1, 4, 3) + random.uniform(0, 6, 3))
    yaw = 3.0 * t
    half = axis_angle_to_matrix(np.array([np.pi / 2, 0, 0]))
    pose[:, 0] = matrix_to_axis_angle(rotation_about(2, yaw) @ half)
    transl = np.stack([5 + np.cos(t), -3 + 2 * t, 1.4 + 0.05 * np.sin(6 * t)], axis=1)
    return Motion(pose=pose.astype(np.float32), transl=transl.astype(np.float32), fps=30)


def joints(motion: Motion) -> Array:
    return forward_kinematics(axis_angle_to_matrix(motion.pose.astype(np.float64)), motion.transl)[1]


@pytest.mark.parametrize("frames", [10, 11, 20, 21, 29, 30, 31, 73, 200])
def test_windows_cover_every_frame_and_overlap_by_half(frames: int) -> None:
    windows, features = cut(wandering(frames), LENGTHS)
    starts, length = windows.starts, windows.length
    assert features.shape == (len(starts), length, 25, 6) and length == min(frames, 20)
    assert starts[0] == 0 and starts[-1] + length == frames
    assert (np.diff(starts) >= 1).all() and (np.diff(starts) <= length // 2).all()


@pytest.mark.parametrize("frames", [10, 20, 33, 90])
def test_what_was_cut_is_joined_to_the_same_motion(frames: int) -> None:
    motion = wandering(frames)
    windows, features = cut(motion, LENGTHS)
    joined = join(windows, features, 30)
    assert joined.fps == 30 and len(joined) == frames
    assert np.abs(joints(joined) - joints(motion)).max() < 1e-4
    difference = angle_between(
        axis_angle_to_matrix(joined.pose.astype(np.float64)), axis_angle_to_matrix(motion.pose.astype(np.float64))
    )
    assert difference.max() < 1e-4


def test_windows_that_disagree_are_joined_without_jumps() -> None:
    """Speeds and accelerations of the joints where a window begins or ends are those of all other frames."""
    windows, features = cut(wandering(200), LENGTHS)
    random = np.random.default_rng(1)
    # Each window has its own pose and its own speed, as edited windows do.
    features[:, :, 1:24] += random.normal(0, 0.15, (len(features), 1, 23, 6)).astype(np.float32)
    features[:, :, 24, :2] *= random.uniform(0.5, 1.5, (len(features), 1, 1)).astype(np.float32)

    def at_seams(position: Array, order: int, edges: NDArray[np.int64]) -> float:
        """The largest change near an edge, of all changes elsewhere."""
        changes = np.linalg.norm(np.diff(position, order, axis=0), axis=-1).max(axis=1)
        near = np.isin(np.arange(len(changes)), edges[:, None] - np.arange(order + 1))
        return float(changes[near].max() / changes[~near].max())

    edges = np.concatenate([windows.starts[1:], windows.starts[:-1] + windows.length])
    joined = joints(join(windows, features, 30))
    assert at_seams(joined, 1, edges) < 1.2 and at_seams(joined, 2, edges) < 1.2
    # What the same measure says of windows put one after the other.
    hard = np.concatenate([joints(join(_alone(windows, k), features[k : k + 1], 30)) for k in range(0, 19, 2)])
    edges = np.arange(20, len(hard), 20)
    assert at_seams(hard, 1, edges) > 2 and at_seams(hard, 2, edges) > 2


def _alone(windows: Windows, index: int) -> Windows:
    """One of the windows, by itself."""
    one = slice(index, index + 1)
    return Windows(windows.length, np.zeros(1, np.int64), windows.length, windows.angle[one], windows.place[one])


def test_a_chain_goes_on_where_the_window_before_is() -> None:
    motion = wandering(40)
    _, features = cut(motion, Lengths(min=10, max=40, default=40))
    # Three windows out of one motion: the chain should find its way back to it.
    pieces = np.stack([cut(motion.slice(start, start + 20), LENGTHS)[1][0] for start in (0, 10, 20)])
    windows = chain(pieces)
    assert windows.starts.tolist() == [0, 10, 20]
    whole = join(Windows(40, np.zeros(1, np.int64), 40, np.zeros(1), np.zeros((1, 2))), features, 30)
    assert np.abs(joints(join(windows, pieces, 30)) - joints(whole)).max() < 1e-4


def test_too_short_a_motion_is_told() -> None:
    with pytest.raises(MotionError, match="less than"):
        cut(wandering(9), LENGTHS)
