"""Retargeting: made-up rigs of which the answer is known, and real recordings of which the anatomy is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.formats import load
from mclip.geometry import Y_UP_TO_Z_UP, angle_between, axis_angle_to_matrix, rotation_about
from mclip.skeleton.retarget import RigMotion, RigTable, lowest_point, retarget
from mclip.skeleton.smpl import JOINT, JOINT_NAMES, PARENTS, REST_JOINTS, forward_kinematics

GOLDEN = Path(__file__).parent / "golden"
REST = REST_JOINTS.astype(np.float64)
TABLE = RigTable(name="test", joints={name: f"src_{name}" for name in JOINT_NAMES})
FRAMES = 5

Array = NDArray[np.float64]


def _random_rotations(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(axis_angle_to_matrix(rng.normal(size=(*shape, 3))), np.float64)


def _motion(seed: int = 0) -> tuple[Array, Array]:
    """Local rotations (T, 24, 3, 3) and transl (T, 3), Z up."""
    rng = np.random.default_rng(seed)
    rotations = np.asarray(axis_angle_to_matrix(rng.normal(scale=0.6, size=(FRAMES, 24, 3))), np.float64)
    return rotations, rng.normal(size=(FRAMES, 3))


def _world(local: Array, root: Array) -> tuple[Array, Array]:
    """World rotations and positions of SMPL's joints, Y up, with the pelvis at `root` (T, 3)."""
    world, position = np.empty_like(local), np.empty((*local.shape[:2], 3))
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            world[:, joint], position[:, joint] = local[:, joint], root
        else:
            world[:, joint] = world[:, parent] @ local[:, joint]
            position[:, joint] = position[:, parent] + world[:, parent] @ (REST[joint] - REST[parent])
    return world, position


def _rig(rest_local: Array, axes: Array, local: Array, transl: Array, unit: float = 1.0) -> RigMotion:
    """A rig of SMPL's proportions whose joints have `axes` (24, 3, 3) of their own, at rest in `rest_local`."""
    y_up = local.copy()
    y_up[:, 0] = Y_UP_TO_Z_UP.T @ local[:, 0]
    world, position = _world(y_up, (transl + REST[0]) @ Y_UP_TO_Z_UP)
    rest, rest_position = _world(rest_local[None], np.zeros((1, 3)))
    return RigMotion(
        names=tuple(f"src_{name}" for name in JOINT_NAMES),
        parents=PARENTS,
        rest_rotation=rest[0] @ axes,
        rest_position=rest_position[0] / unit,
        rotation=world @ axes,
        position=position / unit,
        fps=30.0,
    )


def _assert_pose(pose: NDArray[np.float32], expected: Array, degrees: float = 0.01) -> None:
    angles = np.rad2deg(angle_between(axis_angle_to_matrix(pose.astype(np.float64)), expected))
    assert angles.max() < degrees, JOINT_NAMES[int(angles.max(axis=0).argmax())]


IDENTITY = np.broadcast_to(np.eye(3), (24, 3, 3)).copy()


def test_smpl_itself_comes_back_whatever_the_axes_and_the_unit_of_its_joints() -> None:
    local, transl = _motion()
    axes = _random_rotations(np.random.default_rng(1), 24)
    pose, moved = retarget(_rig(IDENTITY, axes, local, transl, unit=0.01), TABLE, ground=False)
    _assert_pose(pose, local)
    assert moved == pytest.approx(transl, abs=1e-5)


def test_a_rest_pose_that_faces_elsewhere_does_not_matter() -> None:
    local, transl = _motion()
    rest = IDENTITY.copy()
    rest[0] = rotation_about(1, np.array(2.0))
    pose, moved = retarget(_rig(rest, IDENTITY, local, transl), TABLE, ground=False)
    _assert_pose(pose, local)
    assert moved == pytest.approx(transl, abs=1e-5)


def test_a_rest_pose_that_is_none_is_made_up_for_by_the_table() -> None:
    local, transl = _motion()
    rng = np.random.default_rng(2)
    axes, rest = _random_rotations(rng, 24), _random_rotations(rng, 24)
    table = replace(TABLE, tpose={f"src_{name}": axes[joint] for name, joint in JOINT.items()})
    pose, moved = retarget(_rig(rest, axes, local, transl), table, ground=False)
    _assert_pose(pose, local)
    assert moved == pytest.approx(transl, abs=1e-5)


def test_from_an_a_pose_the_limbs_point_where_the_sources_do() -> None:
    local, transl = _motion()
    rest = IDENTITY.copy()
    rest[JOINT["left_shoulder"]] = rotation_about(2, np.array(-0.8))
    rest[JOINT["right_shoulder"]] = rotation_about(2, np.array(0.8))
    rest[JOINT["left_hip"]] = rotation_about(2, np.array(0.2))
    rig = _rig(rest, IDENTITY, local, transl)
    pose, moved = retarget(rig, TABLE, ground=False)
    _, joints = forward_kinematics(axis_angle_to_matrix(pose.astype(np.float64)), moved)
    expected = rig.position @ Y_UP_TO_Z_UP.T
    body = [joint for joint, name in enumerate(JOINT_NAMES) if not name.endswith(("foot", "hand"))]
    assert joints[:, body] == pytest.approx(expected[:, body], abs=1e-4)
    # In its rest pose the rig is in its rest pose: the arms are turned the short way, and the palms with them.
    pose, _ = retarget(_rig(rest, IDENTITY, np.stack([rest]), np.zeros((1, 3))), TABLE, ground=False)
    arms = [joint for joint, name in enumerate(JOINT_NAMES) if name.endswith(("shoulder", "elbow", "wrist", "hand"))]
    _assert_pose(pose[:, arms], np.stack([rest[arms]]), degrees=6.0)


def test_a_rig_with_z_up_gives_the_same_motion() -> None:
    local, transl = _motion()
    rig = _rig(IDENTITY, IDENTITY, local, transl)
    z_up = replace(
        rig,
        rest_rotation=Y_UP_TO_Z_UP @ rig.rest_rotation,
        rest_position=rig.rest_position @ Y_UP_TO_Z_UP.T,
        rotation=Y_UP_TO_Z_UP @ rig.rotation,
        position=rig.position @ Y_UP_TO_Z_UP.T,
    )
    pose, moved = retarget(z_up, TABLE, ground=False)
    _assert_pose(pose, local)
    assert moved == pytest.approx(transl, abs=1e-5)


def test_paths_are_scaled_by_the_legs() -> None:
    local, transl = _motion()
    rig = _rig(IDENTITY, IDENTITY, local, transl)
    small = replace(rig, rest_position=rig.rest_position * 0.4, position=rig.position * 0.4)
    assert retarget(small, TABLE, ground=False)[1] == pytest.approx(transl, abs=1e-5)


def test_joints_left_out_follow_their_parents_and_spines_share_the_bend() -> None:
    local = np.broadcast_to(IDENTITY, (1, 24, 3, 3)).copy()
    local[:, JOINT["spine3"]] = rotation_about(0, np.array(0.9))
    local[:, JOINT["left_hand"]] = rotation_about(2, np.array(0.5))
    skipped = ("spine1", "spine2", "left_hand", "right_hand", "left_collar", "right_collar")
    table = replace(TABLE, joints={name: f"src_{name}" for name in JOINT_NAMES if name not in skipped})
    pose, _ = retarget(_rig(IDENTITY, IDENTITY, local, np.zeros((1, 3))), table)
    for name in ("spine1", "spine2", "spine3"):
        assert pose[0, JOINT[name]] == pytest.approx([0.3, 0, 0], abs=1e-6)
    assert pose[0, JOINT["left_hand"]] == pytest.approx([0, 0, 0], abs=1e-6)


def test_the_body_is_put_on_the_floor_by_its_lowest_part_but_the_hands() -> None:
    local = np.broadcast_to(IDENTITY, (40, 24, 3, 3)).copy()
    local[:, JOINT["left_shoulder"]] = rotation_about(2, np.array(-1.5))
    transl = np.zeros((40, 3))
    transl[:, 2] = 5.0
    transl[20:, 2] = 5.4  # in the air half of the time
    pose, moved = retarget(_rig(IDENTITY, IDENTITY, local, transl), TABLE)
    _, joints = forward_kinematics(axis_angle_to_matrix(pose), moved)
    low = lowest_point(joints)
    assert low[:20] == pytest.approx(0.0, abs=1e-5)
    assert low[20:] == pytest.approx(0.4, abs=1e-5)
    joints[:, JOINT["left_hand"], 2] = -1.0
    assert np.array_equal(lowest_point(joints), low)


def test_a_missing_joint_is_named() -> None:
    rig = _rig(IDENTITY, IDENTITY, *_motion())
    table = replace(TABLE, joints={**TABLE.joints, "left_knee": "knee.L"})
    with pytest.raises(MotionError, match="left_knee"):
        retarget(rig, table)


def test_a_rest_pose_that_lies_down_needs_a_table() -> None:
    rest = IDENTITY.copy()
    rest[0] = rotation_about(2, np.array(np.pi / 2))
    with pytest.raises(MotionError, match="upright"):
        retarget(_rig(rest, IDENTITY, *_motion()), TABLE)


def test_legs_without_length_are_refused() -> None:
    rig = _rig(IDENTITY, IDENTITY, *_motion())
    position = rig.rest_position.copy()
    for side in ("left", "right"):
        for name in ("knee", "ankle"):
            position[JOINT[f"{side}_{name}"]] = position[JOINT[f"{side}_hip"]]
    with pytest.raises(MotionError, match="no length"):
        retarget(replace(rig, rest_position=position), TABLE)


# The AMC has every sixth frame, and no place to say so.
WALKS = (
    ("bvh/accad_female1_walk.bvh", 1),
    ("bvh/accad_male1_walk.bvh", 1),
    ("bvh/bandai_walk.bvh", 1),
    ("amc/02_01.amc", 6),
)


@pytest.mark.parametrize(("name", "left_out"), WALKS)
def test_people_who_walk_are_upright_with_left_on_the_left_and_bend_as_people_do(name: str, left_out: int) -> None:
    motion = load(GOLDEN / name)
    motion = replace(motion, fps=motion.fps / left_out)
    world, joints = forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)

    def at(joint: str) -> NDArray[np.float32]:
        return joints[:, JOINT[joint]]

    # The pelvis's own axes: x to the left, y up, z to the front.
    left, front = world[:, 0, :, 0], world[:, 0, :, 2]
    assert (world[:, 0, 2, 1] > 0.95).all()
    assert (at("head")[:, 2] > 1.3).all()
    assert (at("head")[:, 2] < 1.9).all()
    for part in ("hip", "shoulder"):
        across = at(f"left_{part}") - at(f"right_{part}")
        assert (np.einsum("ti,ti->t", across, left) > 0.1).all()
    for side in ("left", "right"):
        assert (at(f"{side}_wrist")[:, 2] < at(f"{side}_shoulder")[:, 2]).all()
        assert (at(f"{side}_ankle")[:, 2] < at(f"{side}_knee")[:, 2] + 0.05).all()
        # On average toes point forward; knees bend about SMPL's x axis, elbows about y, the left one downwards.
        assert np.einsum("ti,ti->t", at(f"{side}_foot") - at(f"{side}_ankle"), front).mean() > 0.05
        for bent, upper, lower, hinge in (
            ("hip", "knee", "ankle", [1.0, 0.0, 0.0]),
            ("shoulder", "elbow", "wrist", [0.0, -1.0 if side == "left" else 1.0, 0.0]),
        ):
            first = at(f"{side}_{upper}") - at(f"{side}_{bent}")
            second = at(f"{side}_{lower}") - at(f"{side}_{upper}")
            axis = np.cross(first, second)
            sine = np.linalg.norm(axis, axis=-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)
            own = np.einsum(
                "tji,tj->ti", world[:, JOINT[f"{side}_{bent}"]], axis / np.linalg.norm(axis, axis=-1)[:, None]
            )
            assert (own[sine > 0.35] @ hinge > 0.9).all(), (side, upper)
    # The path goes where the body faces, at a walking speed, on the floor.
    step = at("pelvis")[-1] - at("pelvis")[0]
    assert step @ front.mean(axis=0) > 0.97 * np.linalg.norm(step)
    speed = np.linalg.norm(step) / (motion.seconds - 1 / motion.fps)
    assert 0.8 < speed < 2.0
    assert lowest_point(joints).min() > -0.03
    assert lowest_point(joints).max() < 0.1
