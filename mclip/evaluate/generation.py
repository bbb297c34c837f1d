"""How a motion moves, whatever it shows: real and generated motions are measured alike.

A motion is joint positions (T, 24, 3), metres, Z up. Its floor is the height that the skin of the lowest joint is under
in 2 % of the frames, so that a body that hangs in the air and one that sinks in do not differ in the figures below.

    contact   a step (two frames in a row) in which the skin under a foot's ankle and toes is less than 5 cm above the
              floor. The height is that of Guided Motion Diffusion (Karunratanakul et al. 2023), adjacent frames are
              from there and from PhysDiff (Yuan et al. 2023). Toes that pass low in the middle of a stride are none,
              for the ankle is high then. Speed has no say in it: a body that glides would never touch the floor.
    skating   mean speed of the toes over the ground in contact, m/s (PhysDiff gives it in mm a frame); and the share of
              steps in which a foot in contact is faster than 0.5 m/s (the skating ratio of Guided Motion Diffusion)
    jitter    mean length of the third derivative of the joints' positions, 100 m/s^3 (TransPose, Yi et al. 2021)
    speed     mean speed of the joints relative to the pelvis, m/s, of paths averaged over a sixth of a second: how
              much the body moves, without how far it gets, and without tremor
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.geometry import Array
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import CLEARANCE, JOINT

CONTACT_HEIGHT = 0.05
SKATING_SPEED = 0.5
JITTER_UNIT = 100.0
_FLOOR = 0.02
_SMOOTHED = 1 / 6
_ANKLES = [JOINT["left_ankle"], JOINT["right_ankle"]]
_TOES = [JOINT["left_foot"], JOINT["right_foot"]]
# Relative joint speed, m/s, below which a class of motions stands still: ratios to it say nothing.
STILL = 0.05
# Generated motions may move so much less or more than real ones of their label.
ENERGY = (0.75, 1.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """What one motion adds to the figures.

    contacts   steps of a foot in contact; slid: metres a second, summed over them
    steps      steps in all; skating: those with a foot in contact that is too fast
    jitter     mean over the motion, 100 m/s^3, 0 for less than four frames; speed: mean over the motion, m/s
    """

    contacts: int
    slid: float
    steps: int
    skating: int
    jitter: float
    speed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Many motions together; fields as in the module docstring.

    motions        how many
    skating        m/s, over all their contacts; 0 without any
    skating_ratio  share of steps
    contact_ratio  contacts as a share of both feet's steps
    jitter, speed  means over motions
    """

    motions: int
    skating: float
    skating_ratio: float
    contact_ratio: float
    jitter: float
    speed: float


def movement(joints: NDArray[np.float32], fps: float) -> Movement:
    """Measure a motion of at least two frames."""
    contact, speed = foot_contact(joints), foot_speed(joints, fps)
    return Movement(
        contacts=int(contact.sum()),
        slid=float(speed[contact].sum()),
        steps=len(contact),
        skating=int((contact & (speed > SKATING_SPEED)).any(axis=1).sum()),
        jitter=jitter(joints, fps),
        speed=joint_speed(joints, fps),
    )


def quality(movements: Sequence[Movement]) -> Quality:
    """Sum up the movements of motions, one at least."""
    contacts, steps = sum(each.contacts for each in movements), sum(each.steps for each in movements)
    return Quality(
        motions=len(movements),
        skating=sum(each.slid for each in movements) / max(1, contacts),
        skating_ratio=sum(each.skating for each in movements) / max(1, steps),
        contact_ratio=contacts / max(1, 2 * steps),
        jitter=float(np.mean([each.jitter for each in movements])),
        speed=float(np.mean([each.speed for each in movements])),
    )


def foot_contact(joints: Array) -> NDArray[np.bool_]:
    """Whether the left and the right foot are on the floor (T-1, 2) in the steps between frames of joints."""
    height = joints[..., 2] - CLEARANCE - np.quantile(lowest_point(joints), _FLOOR)
    low = np.maximum(height[:, _ANKLES], height[:, _TOES]) < CONTACT_HEIGHT
    contact: NDArray[np.bool_] = low[1:] & low[:-1]
    return contact


def foot_speed(joints: Array, fps: float) -> NDArray[np.float64]:
    """Speed (T-1, 2) of the left and the right toes over the ground, m/s."""
    toes = joints[:, _TOES, :2].astype(np.float64)
    speed: NDArray[np.float64] = np.linalg.norm(np.diff(toes, axis=0), axis=-1) * fps
    return speed


def jitter(joints: Array, fps: float) -> float:
    """Mean length of the third derivative of all joints' positions, 100 m/s^3; 0 for less than four frames."""
    if len(joints) < 4:
        return 0.0
    jerk = np.diff(joints.astype(np.float64), n=3, axis=0) * fps**3
    return float(np.linalg.norm(jerk, axis=-1).mean()) / JITTER_UNIT


def joint_speed(joints: Array, fps: float) -> float:
    """Mean speed of the 23 other joints relative to the pelvis, m/s, tremor averaged out; 0 for a body that glides."""
    relative = joints[:, 1:].astype(np.float64) - joints[:, :1]
    width = min(len(relative), max(1, round(fps * _SMOOTHED)))
    total = np.concatenate([np.zeros_like(relative[:1]), np.cumsum(relative, axis=0)])
    smooth = (total[width:] - total[:-width]) / width
    if len(smooth) < 2:
        return 0.0
    return float(np.linalg.norm(np.diff(smooth, axis=0), axis=-1).mean()) * fps


def energy_ratios(
    real: Sequence[tuple[str, float]], generated: Sequence[tuple[str, float]]
) -> dict[str, tuple[float, float]]:
    """Mean joint speed of real and of generated motions for each label that has both, m/s, from (label, speed)."""
    means: list[Mapping[str, float]] = []
    for pairs in (real, generated):
        speeds: dict[str, list[float]] = defaultdict(list)
        for label, speed in pairs:
            speeds[label].append(speed)
        means.append({label: float(np.mean(values)) for label, values in speeds.items()})
    return {label: (means[0][label], means[1][label]) for label in sorted(means[0].keys() & means[1].keys())}


def energy_summary(ratios: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Median of generated / real speed over the labels that move, and the share within ENERGY; empty if none does."""
    moving = np.array([made / real for real, made in ratios.values() if real >= STILL])
    if not len(moving):
        return {}
    within = (moving >= ENERGY[0]) & (moving <= ENERGY[1])
    return {"median": float(np.median(moving)), "within": float(within.mean())}
