"""How motions move, on motions whose movement is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.evaluate.generation import (
    energy_ratios,
    energy_summary,
    foot_contact,
    foot_speed,
    jitter,
    joint_speed,
    movement,
    quality,
)
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT, forward_kinematics
from tests.fakes import swinging
from tests.kinematics import relative_joint_speed

FPS = 30.0


def joints_of(motion: Motion) -> NDArray[np.float32]:
    return forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)[1]


def standing(frames: int = 60) -> NDArray[np.float32]:
    """A body in the rest pose, upright on a floor that is not at zero."""
    pose = np.zeros((frames, 24, 3), np.float32)
    pose[:, 0, 0] = np.pi / 2
    return joints_of(Motion(pose=pose, transl=np.full((frames, 3), 0.7, np.float32), fps=FPS))


def test_a_body_that_stands_does_not_skate(frames: int = 60) -> None:
    found = quality([movement(standing(frames), FPS)])
    assert found.contact_ratio == 1
    assert found.skating == found.skating_ratio == found.jitter == found.speed == 0


@pytest.mark.parametrize(("speed", "share"), [(0.4, 0.0), (1.2, 1.0)])
def test_a_body_that_glides_skates_at_its_speed(speed: float, share: float) -> None:
    joints = standing()
    joints[..., 0] += (np.arange(60) * speed * 0.6 / FPS)[:, None]
    joints[..., 1] -= (np.arange(60) * speed * 0.8 / FPS)[:, None]
    np.testing.assert_allclose(foot_speed(joints, FPS), speed, rtol=1e-3)
    found = quality([movement(joints, FPS)])
    assert found.skating == pytest.approx(speed, rel=1e-3)
    assert found.skating_ratio == share
    assert found.speed == pytest.approx(0, abs=1e-3)  # no joint moves relative to the pelvis
    assert found.jitter == pytest.approx(0, abs=0.5)  # what rounding to float32 leaves


def test_a_foot_in_the_air_may_move() -> None:
    joints = standing()
    left = [JOINT["left_ankle"], JOINT["left_foot"]]
    joints[20:40, left, 2] += 0.3
    joints[20:40, left, 0] += (np.arange(20) * 2.0 / FPS)[:, None]
    contact = foot_contact(joints)
    # Frames 20 to 39 are in the air, so that steps 19 to 39 are no contact.
    np.testing.assert_array_equal(np.flatnonzero(~contact[:, 0]), np.arange(19, 40))
    assert contact[:, 1].all()
    assert quality([movement(joints, FPS)]).skating == 0


def test_a_low_toe_under_a_high_ankle_is_no_contact() -> None:
    joints = standing()
    joints[:, JOINT["right_ankle"], 2] += 0.06
    assert not foot_contact(joints)[:, 1].any()
    joints[:, JOINT["right_ankle"], 2] -= 0.02
    assert foot_contact(joints)[:, 1].all()


def test_a_single_frame_below_the_floor_does_not_lower_it() -> None:
    joints = standing(200)
    joints[100, :, 2] -= 0.5
    assert foot_contact(joints)[:90].all()


def test_the_jitter_of_a_cubic_is_its_third_derivative() -> None:
    time = np.arange(60) / FPS
    joints = np.zeros((60, 24, 3))
    joints[..., 0] = (5.0 * time**3)[:, None]  # third derivative 30 m/s^3
    joints[..., 1] = (time**3 * 40 / 6 + time**2)[:, None]  # 40 m/s^3
    assert jitter(joints, FPS) == pytest.approx(0.5, rel=1e-6)  # 50 m/s^3, in hundreds
    # The same movement, seen twice as often.
    time = np.arange(120) / 60
    finer = np.zeros((120, 24, 3))
    finer[..., 0], finer[..., 1] = (5.0 * time**3)[:, None], (time**3 * 40 / 6 + time**2)[:, None]
    assert jitter(finer, 60.0) == pytest.approx(0.5, rel=1e-6)
    assert jitter(joints[:3], FPS) == 0


def test_the_speed_of_a_joint_relative_to_a_moving_pelvis() -> None:
    joints = standing()
    joints[..., 0] += np.linspace(0, 5, 60)[:, None]
    joints[:, JOINT["left_wrist"], 1] += np.arange(60) * 2.3 / FPS
    assert joint_speed(joints, FPS) == pytest.approx(2.3 / 23, rel=1e-3)


def test_tremor_is_no_movement() -> None:
    joints = standing()
    joints[1::2, 1:, 2] += 0.02  # 0.6 m/s, up and down in every other frame
    assert joint_speed(joints, FPS) < 0.6 / 4
    assert jitter(joints, FPS) > 10


def test_joint_speed_is_what_the_predicates_of_the_mini_pack_measure() -> None:
    motion = swinging("left_shoulder", 2, 1, 60)
    # Theirs repeats the first and last frame, ours averages inside the motion only.
    assert joint_speed(joints_of(motion), FPS) == pytest.approx(relative_joint_speed(motion), rel=0.1)


def test_motions_are_weighted_by_their_contacts() -> None:
    joints = standing(31)
    gliding = joints.copy()
    gliding[..., 0] += (np.arange(31) / FPS)[:, None]
    longer = standing(91)
    found = quality([movement(gliding, FPS), movement(longer, FPS)])
    assert found.motions == 2
    assert found.skating == pytest.approx(30 / 120, rel=1e-3)
    assert found.skating_ratio == pytest.approx(30 / 120)


def test_a_body_that_flies_has_no_skating_to_measure() -> None:
    joints = standing()
    joints[:, [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot")], 2] += 1.0
    found = quality([movement(joints, FPS)])
    assert (found.contact_ratio, found.skating) == (0, 0)


def test_energy_is_compared_label_by_label() -> None:
    real = [("walk", 0.5), ("walk", 0.7), ("run", 1.0), ("stand", 0.01), ("absent", 1.0)]
    made = [("walk", 0.3), ("run", 0.9), ("run", 0.7), ("stand", 0.5)]
    ratios = energy_ratios(real, made)
    assert ratios == {
        "run": (1.0, pytest.approx(0.8)),
        "stand": (0.01, 0.5),
        "walk": (pytest.approx(0.6), 0.3),
    }
    # Nobody asks how much a standing body moves relative to another.
    assert energy_summary(ratios) == {"median": pytest.approx((0.5 + 0.8) / 2), "within": 0.5}
    assert energy_summary({"stand": (0.01, 0.5)}) == {}
