"""What a motion does, in numbers: measures, and for each action the mini pack is tested on a yes or no.

Everything follows from the positions of the joints and the heading of the root; no learnt judge is involved. Motions
stand on the floor z = 0. Metres, metres per second, degrees. The thresholds were set on real recordings: windows of two
seconds that are labelled with the action, against those labelled with the others (counts in `tests/test_mini_pack.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mclip.geometry import Array, axis_angle_to_matrix
from mclip.motion import Motion
from mclip.runtime.representation import heading
from mclip.skeleton.smpl import CLEARANCE, JOINT, REST_JOINTS, forward_kinematics

SIDES = ("left", "right")
# The pelvis of the rest pose above the skin of its soles.
STANDING = float(REST_JOINTS[0, 1] - (REST_JOINTS[:, 1] - CLEARANCE).min())
LEG = float(np.linalg.norm(REST_JOINTS[JOINT["left_ankle"]] - REST_JOINTS[JOINT["left_hip"]]))


def _of_both(part: str) -> list[int]:
    return [JOINT[f"{side}_{part}"] for side in SIDES]


ANKLES, FEET, HIPS = _of_both("ankle"), _of_both("foot"), _of_both("hip")
WRISTS, SHOULDERS = _of_both("wrist"), _of_both("shoulder")


def joints(motion: Motion) -> Array:
    """Positions of all joints (T, 24, 3), each the mean over a sixth of a second.

    People hardly change by that (a walk's mean joint speed by a tenth), but a frozen body that shakes stops moving:
    without it, what a decoder has not learnt looks like life.
    """
    position = _positions(motion)
    width = max(1, round(motion.fps / 6))
    padded = np.pad(position, ((width // 2, (width - 1) // 2), (0, 0), (0, 0)), mode="edge")
    return np.stack([padded[frame : frame + width].mean(axis=0) for frame in range(len(motion))])


def smoothness(motion: Motion) -> float:
    """The length of the joints' averaged paths as a share of their paths: near 1 for people, 0.2 for white noise."""
    averaged, plain = (np.linalg.norm(np.diff(p, axis=0), axis=-1).sum() for p in (joints(motion), _positions(motion)))
    return float(averaged / plain)


def ground_speed(motion: Motion) -> float:
    """Mean speed of the pelvis over the floor, along its path smoothed over a third of a second: sway is no travel."""
    width = min(len(motion), max(1, round(motion.fps / 3)))
    kernel = np.ones(width) / width
    path = np.stack([np.convolve(axis, kernel, mode="valid") for axis in joints(motion)[:, 0, :2].T], axis=-1)
    return float(np.linalg.norm(np.diff(path, axis=0), axis=-1).sum() * motion.fps / max(1, len(path) - 1))


def relative_joint_speed(motion: Motion) -> float:
    """Mean over 23 joints and all frames of a joint's speed relative to the pelvis: 0 for a body that glides."""
    return float(_relative_speed(motion).mean())


def pelvis_ratio(motion: Motion) -> Array:
    """Height (T,) of the pelvis, as a share of its height in standing."""
    return joints(motion)[:, 0, 2] / STANDING


def foot_height(motion: Motion) -> Array:
    """Height (T, 2 sides, ankle and toes) of the skin of the feet."""
    feet = np.stack([ANKLES, FEET], axis=-1)
    height: Array = joints(motion)[:, feet, 2] - CLEARANCE[feet]
    return height


def trunk_tilt(motion: Motion) -> Array:
    """Angle (T,) between the line from pelvis to neck and up: 0 upright, 90 level, 180 upside down."""
    trunk = joints(motion)[:, JOINT["neck"]] - joints(motion)[:, 0]
    return _from_up(trunk)


def forward_lean(motion: Motion) -> Array:
    """Angle (T,) by which the line from pelvis to neck leans to the front; negative to the back."""
    trunk = joints(motion)[:, JOINT["neck"]] - joints(motion)[:, 0]
    lean: Array = np.degrees(np.arctan2((trunk[:, :2] * _front(motion)).sum(axis=-1), trunk[:, 2]))
    return lean


def heading_change(motion: Motion) -> float:
    """How far the pelvis turns from the first frame to the last; to the left is positive."""
    angle = np.unwrap(heading(axis_angle_to_matrix(motion.pose[:, 0])))
    return float(np.degrees(angle[-1] - angle[0]))


def wrists_raised(motion: Motion) -> NDArray[np.bool_]:
    """Whether the left and the right wrist are above the shoulder of their side (T, 2)."""
    position = joints(motion)
    raised: NDArray[np.bool_] = position[:, WRISTS, 2] > position[:, SHOULDERS, 2]
    return raised


def _positions(motion: Motion) -> NDArray[np.float32]:
    return forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)[1]


def _front(motion: Motion) -> Array:
    """Unit vectors (T, 2) on the floor to where the pelvis faces; heading 0 is -Y."""
    angle = heading(axis_angle_to_matrix(motion.pose[:, 0]))
    return np.stack([np.sin(angle), -np.cos(angle)], axis=-1)


def _from_up(vectors: Array) -> Array:
    angle: Array = np.degrees(np.arccos(vectors[..., 2] / np.linalg.norm(vectors, axis=-1)))
    return angle


def _relative_speed(motion: Motion) -> Array:
    """Speeds (T-1, 23) relative to the pelvis of all other joints."""
    relative = joints(motion)[:, 1:] - joints(motion)[:, :1]
    speed: Array = np.linalg.norm(np.diff(relative, axis=0), axis=-1) * motion.fps
    return speed


def _end(motion: Motion) -> Motion:
    """The last quarter."""
    return motion.slice(len(motion) - max(2, len(motion) // 4), len(motion))


# Mean relative joint speed of real recordings: medians of the two-second windows the thresholds were set on.
REAL_SPEED = {"walk": 0.55, "run": 0.96, "kick": 1.15, "punch": 0.41}
RUN_TO_WALK = 1.5
# Seated recordings hold no ankle or toe higher; a chair is no bar stool.
NEAR_FLOOR = 0.15


def walks(motion: Motion) -> bool:
    """Ahead and upright at 0.5 to 2 m/s, a foot near the floor and none faster than 4 m/s, with legs and arms moving.
    Turning on the way is walking too."""
    return (
        0.5 < ground_speed(motion) < 2.0
        and _goes_ahead(motion)
        and _on_the_feet(motion)
        and _highest_both_feet(motion) < 0.15
        and _fastest(motion, ANKLES) < 4.0
        and relative_joint_speed(motion) >= REAL_SPEED["walk"] / 2
    )


def runs(motion: Motion) -> bool:
    """Ahead and upright, faster than 1.9 m/s, where people change from walk to run, with legs and arms moving."""
    return (
        ground_speed(motion) > 1.9
        and _goes_ahead(motion)
        and _on_the_feet(motion)
        and relative_joint_speed(motion) >= REAL_SPEED["run"] / 2
    )


def jumps(motion: Motion) -> bool:
    """Both feet are 15 cm above the floor at once, under a body that is higher than it can stand and never falls."""
    clear = foot_height(motion).min(axis=(1, 2)) > 0.15
    return bool((clear & (pelvis_ratio(motion) > 1.1)).any() and trunk_tilt(motion).max() < 75.0)


def sits(motion: Motion) -> bool:
    """In the last quarter the pelvis stays at the height of a chair, 0.35 to 0.75 of standing, the trunk is upright,
    and both feet are near the floor."""
    end = _end(motion)
    low = (pelvis_ratio(end) > 0.35) & (pelvis_ratio(end) < 0.75)
    return bool(low.all() and (trunk_tilt(end) < 45.0).all() and foot_height(end).max() < NEAR_FLOOR)


def lies(motion: Motion) -> bool:
    """In the last quarter pelvis and head are low, the trunk is nearly level, and the body goes nowhere."""
    end = _end(motion)
    low = pelvis_ratio(end).max() < 0.35 and joints(end)[:, JOINT["head"], 2].max() < 0.6
    return bool(low and np.median(trunk_tilt(end)) > 60.0 and ground_speed(end) < 0.4 and not crawls(motion))


def crawls(motion: Motion) -> bool:
    """Pelvis low, trunk bent over, a hand on the floor most of the time, limbs moving, and the body gets ahead."""
    low = np.median(pelvis_ratio(motion)) < 0.65 and pelvis_ratio(motion).max() < 0.75
    hands = np.median(joints(motion)[:, WRISTS, 2].min(axis=1)) < 0.2
    moving = ground_speed(motion) > 0.15 and relative_joint_speed(motion) > 0.15
    return bool(low and hands and moving and np.median(trunk_tilt(motion)) > 50.0)


def waves_right(motion: Motion) -> bool:
    """The right wrist is above the right shoulder for a third of the time, the left one is not, and the raised hand
    turns back twice or more on its way from side to side."""
    left, right = wrists_raised(motion).T
    if right.mean() < 1 / 3 or left.mean() > 0.1 or not _on_the_feet(motion):
        return False
    position = joints(motion)[right]
    hand = (position[:, JOINT["right_hand"]] - position[:, JOINT["right_shoulder"]])[:, :2]
    front = _front(motion)[right]
    return _turning_points(front[:, 0] * hand[:, 1] - front[:, 1] * hand[:, 0], 0.03) >= 2


def raises_both(motion: Motion) -> bool:
    """Both wrists are above their shoulders at once for a third of the time, in standing."""
    together = wrists_raised(motion).all(axis=1).mean()
    return bool(together >= 1 / 3 and _on_the_feet(motion) and ground_speed(motion) < 0.4)


def bows(motion: Motion) -> bool:
    """The trunk leans forward by 30 degrees and 20 more than at its most upright, over legs that stand still and
    with arms at rest."""
    lean = forward_lean(motion)
    legs = pelvis_ratio(motion).min() > 0.8 and _highest_both_feet(motion) < 0.05
    still = (
        ground_speed(motion) < 0.4
        and _fastest(motion, WRISTS) < 2.5
        and np.ptp(joints(motion)[:, FEET, :2], axis=0).max() < 0.3
    )
    return bool((lean > 30.0).mean() > 0.15 and 20.0 < np.ptp(lean) < 100.0 and lean.max() < 80.0 and legs and still)


def kicks(motion: Motion) -> bool:
    """A foot flies up, faster than 4 m/s, on a leg that is nearly straight and 60 degrees from hanging, while the other
    leg carries the body, which is not running."""
    position = joints(motion)
    leg = position[:, ANKLES] - position[:, HIPS]  # (T, 2, 3)
    straight = np.linalg.norm(leg, axis=-1) > 0.78 * LEG
    raised = straight & (180.0 - _from_up(leg) > 60.0)
    stands = trunk_tilt(motion).max() < 75.0 and _highest_both_feet(motion) < 0.2 and ground_speed(motion) < 1.3
    return bool(raised.any() and stands and _fastest(motion, ANKLES) > 4.0)


def punches(motion: Motion) -> bool:
    """A wrist shoots out by 12 cm or more within 0.3 s to the front of the body, level with the shoulder, at 1.5 m/s;
    the body stays on its feet and about where it is, and neither kicks nor raises both arms."""
    position = joints(motion)
    front, frames = _front(motion), max(1, round(0.3 * motion.fps))
    hit = False
    for wrist, shoulder in zip(WRISTS, SHOULDERS, strict=True):
        arm = position[:, wrist] - position[:, shoulder]
        reach = np.linalg.norm(arm[:, :2], axis=-1)
        ahead = (arm[:, :2] * front).sum(axis=-1) > np.cos(np.radians(60.0)) * reach
        for now in np.flatnonzero(ahead & (reach > 0.35) & (np.abs(arm[:, 2]) < 0.25)).tolist():
            before = max(0, now - frames) + int(reach[max(0, now - frames) : now + 1].argmin())
            gain = reach[now] - reach[before]
            # An arm that is lifted or lowered gains reach as well, but rises more than that.
            hit = hit or (gain > 0.12 and abs(arm[now, 2] - arm[before, 2]) < gain)
    stands = _on_the_feet(motion) and ground_speed(motion) < 1.1
    return bool(hit and stands and _fastest(motion, WRISTS) > 1.5 and not (kicks(motion) or raises_both(motion)))


def cartwheels(motion: Motion) -> bool:
    """Upside down, both feet above the head, over a hand that reaches for the floor, and the body travels."""
    position = joints(motion)
    head_down = (position[:, ANKLES, 2] > position[:, [JOINT["head"]], 2]).all(axis=1) & (trunk_tilt(motion) > 120.0)
    hand_down = position[:, WRISTS, 2].min(axis=1) < 0.35
    return bool((head_down & hand_down).any() and ground_speed(motion) > 0.5)


def turns_left(motion: Motion) -> bool:
    """The pelvis ends more than 45 degrees further to the left, by less than a whole turn, of a body on its feet."""
    return 45.0 < heading_change(motion) < 270.0 and _on_the_feet(motion) and ground_speed(motion) > 0.2


def _on_the_feet(motion: Motion) -> bool:
    return bool(pelvis_ratio(motion).min() > 0.7 and trunk_tilt(motion).max() < 60.0)


def _goes_ahead(motion: Motion) -> bool:
    """Whether more than half of the way is to where the pelvis faces: not backwards or sideways."""
    steps = np.diff(joints(motion)[:, 0, :2], axis=0)
    return bool((steps * _front(motion)[1:]).sum() > 0.5 * np.linalg.norm(steps, axis=-1).sum())


def _fastest(motion: Motion, which: list[int]) -> float:
    """The highest speed of any of these joints relative to the pelvis."""
    return float(_relative_speed(motion)[:, [joint - 1 for joint in which]].max())


def _turning_points(values: Array, swing: float) -> int:
    """How often values (T,) turn from rising to falling or back, counting swings of more than `swing` only."""
    turns, direction, extreme = 0, 0, values[0]
    for value in values:
        if direction != 0 and (value - extreme) * direction > 0:
            extreme = value
        elif abs(value - extreme) > swing:
            turns += direction != 0
            direction, extreme = (1 if value > extreme else -1), value
    return turns


def _highest_both_feet(motion: Motion) -> float:
    """How high both feet get at once: the lower foot's lowest point, at its highest."""
    return float(foot_height(motion).min(axis=(1, 2)).max())


DOES: dict[str, Callable[[Motion], bool]] = {
    "walk": walks,
    "run": runs,
    "jump": jumps,
    "sit down on a chair": sits,
    "lie down": lies,
    "crawl": crawls,
    "wave with the right hand": waves_right,
    "raise both hands": raises_both,
    "bow": bows,
    "kick": kicks,
    "punch": punches,
    "cartwheel": cartwheels,
    "turn left": turns_left,
}
