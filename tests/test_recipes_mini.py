"""recipes/mini/convert.py, on the cut of KayKit's knight and on files made up here."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.geometry import angle_between, axis_angle_to_matrix
from mclip.motion import Motion, load_npz
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import JOINT, forward_kinematics

SCRIPT = Path(__file__).parents[1] / "recipes" / "mini" / "convert.py"
KNIGHT = Path(__file__).parent / "golden" / "kaykit" / "knight.glb"


@pytest.fixture(scope="module")
def convert() -> Any:
    spec = importlib.util.spec_from_file_location("convert", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def knight(convert: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Motion]:
    """The knight's two animations and one joined of both."""
    folder = tmp_path_factory.mktemp("kaykit")
    shutil.copy(KNIGHT, folder / convert.KAYKIT_FILE)
    with pytest.MonkeyPatch.context() as patch:
        parts = (("Idle", 1.0), ("Sit_Chair_Down", 0.6), ("Sit_Chair_Down", -0.6))
        patch.setattr(convert, "KAYKIT_JOINED", {"Down_Up": parts})
        return dict(convert.kaykit(folder))


def place(motion: Motion) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """World rotations (T, 24, 3, 3) and positions (T, 24, 3)."""
    return forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)


def test_sitting_down_ends_seated_with_the_feet_on_the_floor(knight: dict[str, Motion]) -> None:
    motion = knight["Sit_Chair_Down"]
    _, position = place(motion)
    pelvis = position[:, JOINT["pelvis"], 2]
    assert motion.seconds >= 2.1
    assert 0.88 < pelvis[0] < 1.0
    assert (pelvis[30:] < 0.75 * pelvis[0]).all()
    assert (pelvis[30:] > 0.4).all()
    assert np.abs(lowest_point(position)).max() < 1e-3
    # The feet stay, the pelvis goes back: +y, since it faces -y.
    feet = position[:, [JOINT["left_ankle"], JOINT["right_ankle"]], :2].mean(axis=1)
    assert np.abs(feet - feet[0]).max() < 1e-3
    assert 0.3 < position[-1, 0, 1] - position[0, 0, 1] < 1.0


def test_cycles_go_on_where_they_end(knight: dict[str, Motion]) -> None:
    motion = knight["Idle"]
    assert motion.seconds >= 4.0
    assert len(motion) == 33 + 32 * 3
    np.testing.assert_allclose(motion.pose[32:65], motion.pose[:33], atol=1e-5)


def test_joined_motions_have_no_jump(knight: dict[str, Motion]) -> None:
    motion = knight["Down_Up"]
    _, position = place(motion)
    speed = np.linalg.norm(np.diff(position, axis=0), axis=-1) * motion.fps
    assert speed.max() < 4.0  # a jump of ten centimetres would be 3 m/s more than the hands reach
    assert np.abs(lowest_point(position)).max() < 0.02
    pelvis = position[:, 0, 2]
    assert pelvis.min() < 0.6
    np.testing.assert_allclose(pelvis[[0, -1]], 0.93, atol=0.03)
    # Backwards at six tenths of the speed: as long as forwards.
    assert len(motion) == 33 + 2 * 40


def test_joining_eases_out_the_difference(convert: Any) -> None:
    still = np.zeros((20, 24, 3), np.float32)
    turned = still.copy()
    turned[:, 1] = (0.5, 0, 0)
    first = Motion(pose=turned, transl=np.full((20, 3), 2, np.float32), fps=30.0)
    second = Motion(pose=still, transl=np.zeros((20, 3), np.float32), fps=30.0)
    joined = convert.joined(first, second)
    assert len(joined) == 39
    angle = joined.pose[:, 1, 0]
    np.testing.assert_allclose(angle[:20], 0.5, atol=1e-6)
    assert (np.diff(angle) <= 1e-6).all()
    assert np.diff(angle).min() > -0.1
    np.testing.assert_allclose(angle[29:], 0.0, atol=1e-6)
    # Along the ground it goes on from where it was; heights are eased to the second's.
    np.testing.assert_allclose(joined.transl[:, :2], 2.0)
    assert joined.transl[-1, 2] == 0.0


def test_a_gait_is_repeated_onwards(convert: Any) -> None:
    transl = np.linspace([0, 0, 0.9], [1.2, 0, 0.9], 31).astype(np.float32)
    gait = convert.repeated(Motion(pose=np.zeros((31, 24, 3), np.float32), transl=transl, fps=30.0))
    assert gait.seconds >= 4.0
    np.testing.assert_allclose(np.diff(gait.transl[:, 0]), 0.04, atol=1e-5)


def test_a_seat_on_the_floor_is_low_and_keeps_legs_and_ankles(convert: Any, knight: dict[str, Motion]) -> None:
    """The floor animations are not in the cut: sitting on a chair, lowered, is as good."""
    chair = knight["Sit_Chair_Down"]
    low = chair.slice(0, 60)
    low.transl[:, 2] -= 0.2
    before, after = place(low)[1], place(convert.seated(low))[1]
    for ankle in ("left_ankle", "right_ankle"):
        np.testing.assert_allclose(after[:, JOINT[ankle]], before[:, JOINT[ankle]], atol=2e-3)
    height = before[:, 0, 2]
    seated = height < convert.KAYKIT_SEAT + 0.01
    np.testing.assert_allclose(after[seated, 0, 2], convert.SEAT, atol=0.02)
    # Knees bend on, they do not flip.
    knees = after[:, [JOINT["left_knee"], JOINT["right_knee"]]]
    assert np.linalg.norm(np.diff(knees, axis=0), axis=-1).max() < 0.15


SKELETON = {
    "root": ("", (0, 0, 0)), "chest": ("root", (0, 0.24, 0)), "neck": ("chest", (0, 0.22, 0)),
    "right_hip": ("root", (0, 0, 0.08)), "right_knee": ("right_hip", (0, -0.42, 0)),
    "right_ankle": ("right_knee", (0, -0.41, 0)), "right_shoulder": ("chest", (-0.02, 0.24, 0.18)),
    "right_elbow": ("right_shoulder", (0, -0.27, 0)), "right_wrist": ("right_elbow", (0, -0.26, 0)),
    "left_hip": ("root", (0, 0, -0.08)), "left_knee": ("left_hip", (0, -0.42, 0)),
    "left_ankle": ("left_knee", (0, -0.41, 0)), "left_shoulder": ("chest", (-0.02, 0.24, -0.18)),
    "left_elbow": ("left_shoulder", (0, -0.27, 0)), "left_wrist": ("left_elbow", (0, -0.26, 0)),
}  # fmt: skip


def deepmimic_folder(folder: Path, clips: dict[str, NDArray[np.float64]]) -> Path:
    names = list(SKELETON)
    joints = [
        {
            "Name": name,
            "Parent": names.index(parent) if parent else -1,
            **{f"Attach{axis}": value for axis, value in zip("XYZ", offset, strict=True)},
        }
        for name, (parent, offset) in SKELETON.items()
    ]
    (folder / "characters").mkdir(parents=True)
    (folder / "characters" / "humanoid3d.txt").write_text(json.dumps({"Skeleton": {"Joints": joints}}))
    (folder / "motions").mkdir()
    for name, frames in clips.items():
        (folder / "motions" / f"{name}.txt").write_text(json.dumps({"Loop": "none", "Frames": frames.tolist()}))
    return folder


def deepmimic_frames(count: int) -> NDArray[np.float64]:
    """Standing still at 15 frames per second."""
    frames = np.zeros((count, 44))
    frames[:, 0] = 1 / 15
    frames[:, 2] = 0.85
    frames[:, 4] = 1.0
    for column in (8, 12, 16, 21, 25, 30, 35, 39):
        frames[:, column] = 1.0
    return frames


def test_deepmimic_stands_faces_forward_and_bends_the_right_way(convert: Any, tmp_path: Path) -> None:
    frames = deepmimic_frames(61)
    frames[:, 1] = np.linspace(0, 4, 61)  # forward, +x
    frames[:, 29] = np.linspace(0, 1.5, 61)  # the right elbow
    frames[:, 20] = np.linspace(0, -1.2, 61)  # the right knee
    motion = dict(convert.deepmimic(deepmimic_folder(tmp_path / "deepmimic", {"step": frames})))["step"]
    assert motion.fps == 30.0
    assert len(motion) == 121
    rotation, position = place(motion)
    facing = rotation[0, 0] @ np.array([0, 0, 1])
    travel = (motion.transl[-1] - motion.transl[0]) / np.linalg.norm(motion.transl[-1] - motion.transl[0])
    np.testing.assert_allclose(facing, travel, atol=1e-3)
    left = position[0, JOINT["left_hip"]] - position[0, JOINT["right_hip"]]
    np.testing.assert_allclose(np.cross(facing, left)[2], np.linalg.norm(left), rtol=1e-3)
    assert position[0, JOINT["right_wrist"], 2] < position[0, JOINT["right_elbow"], 2] - 0.2
    at_hip = position[-1] - position[-1, 0]
    # A bent elbow brings the hand forward, a bent knee the foot backward; the other side hangs.
    assert (at_hip[JOINT["right_wrist"]] - at_hip[JOINT["right_elbow"]]) @ facing > 0.2
    assert (at_hip[JOINT["right_ankle"]] - at_hip[JOINT["right_knee"]]) @ facing < -0.3
    assert abs((at_hip[JOINT["left_ankle"]] - at_hip[JOINT["left_knee"]]) @ facing) < 0.08


def test_deepmimic_clips_that_are_copies_are_left_out(convert: Any, tmp_path: Path) -> None:
    names = [
        "humanoid3d_walk",
        "humanoid3d_long_walk1_mirror",
        "sie_humanoid3d_run_left04",
        "sie_humanoid3d_run_left03",
    ]
    folder = deepmimic_folder(tmp_path / "deepmimic", {name: deepmimic_frames(4) for name in names})
    motions = dict(convert.deepmimic(folder))
    assert sorted(motions) == ["humanoid3d_walk", "sie_humanoid3d_run_left03"]
    assert motions["humanoid3d_walk"].seconds >= 4.0


BONES = {
    "root": ("", (0, 0, 0)), "pelvis": ("root", (0, 0, 0.92)), "spine_01": ("pelvis", (0, 0, 1.02)),
    "spine_02": ("spine_01", (0, 0, 1.14)), "spine_03": ("spine_02", (0, 0, 1.28)),
    "neck_01": ("spine_03", (0, 0, 1.45)), "head": ("neck_01", (0, 0, 1.57)),
    "upperarm_l": ("spine_03", (0.17, 0, 1.45)),
    "lowerarm_l": ("upperarm_l", (0.47, 0, 1.44)), "hand_l": ("lowerarm_l", (0.75, 0, 1.44)),
    "upperarm_r": ("spine_03", (-0.17, 0, 1.45)), "lowerarm_r": ("upperarm_r", (-0.47, 0, 1.44)),
    "hand_r": ("lowerarm_r", (-0.75, 0, 1.44)), "thigh_l": ("pelvis", (0.09, 0, 0.93)),
    "calf_l": ("thigh_l", (0.09, -0.02, 0.53)), "foot_l": ("calf_l", (0.09, 0.05, 0.1)),
    "thigh_r": ("pelvis", (-0.09, 0, 0.93)), "calf_r": ("thigh_r", (-0.09, -0.02, 0.53)),
    "foot_r": ("calf_r", (-0.09, 0.05, 0.1)),
}  # fmt: skip


def mesh2motion_file(path: Path, shift: NDArray[np.float64]) -> None:
    """A clip that only moves by shift (T, 3); bones that drive the others stand before them, as in the archive."""
    names = ["CTRL_Hips", *BONES]
    rest = np.tile(np.eye(4), (len(names), 1, 1))
    rest[1:, :3, 3] = [position for _, position in BONES.values()]
    rest[:, :3, :3] *= 1.5  # bones may be scaled
    world = np.tile(rest, (len(shift), 1, 1, 1))
    world[..., :3, 3] += shift[:, None]
    path.parent.mkdir(parents=True)
    parents = ["", *(parent for parent, _ in BONES.values())]
    np.savez(path, names=np.array(names), parents=np.array(parents), rest=rest, world=world, fps=np.float64(24))


def test_mesh2motion_is_turned_upright_and_repeated(convert: Any, tmp_path: Path) -> None:
    shift = np.zeros((25, 3))
    shift[:, 1] = -np.linspace(0, 1, 25)  # forward, -y
    mesh2motion_file(tmp_path / "mesh2motion" / "animation-human-crawl-RM.npz", shift)
    motion = dict(convert.mesh2motion(tmp_path / "mesh2motion"))["crawl-RM"]
    assert motion.seconds >= 4.0
    rotation, position = place(motion)
    np.testing.assert_allclose(rotation[0, 0] @ [0, 0, 1], [0, -1, 0], atol=1e-5)
    assert position[0, JOINT["left_wrist"], 0] > 0.6
    np.testing.assert_allclose(position[0, JOINT["left_wrist"], 2], position[0, JOINT["left_shoulder"], 2], atol=0.05)
    assert np.abs(lowest_point(position)).max() < 0.01
    assert (np.diff(position[:, 0, 1]) < 0).all()


def test_mesh2motion_clips_in_the_air_stay_there(convert: Any, tmp_path: Path) -> None:
    shift = np.zeros((49, 3))
    shift[:, 2] = 0.4
    mesh2motion_file(tmp_path / "mesh2motion" / "animation-human-levitate-idle.npz", shift)
    motion = dict(convert.mesh2motion(tmp_path / "mesh2motion"))["levitate-idle"]
    assert 0.35 < lowest_point(place(motion)[1]).min() < 0.5


def test_the_script_writes_what_the_sources_hold(
    convert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deepmimic_folder(tmp_path / "raw" / "deepmimic", {"one": deepmimic_frames(9)})
    mesh2motion_file(tmp_path / "raw" / "mesh2motion" / "animation-human-angry.npz", np.zeros((5, 3)))
    monkeypatch.setattr(sys, "argv", ["convert.py", str(tmp_path / "raw"), str(tmp_path / "out")])
    assert convert.main() == 0
    assert capsys.readouterr().out == "deepmimic: 1 motions\nmesh2motion: 1 motions\n"
    motion = load_npz(tmp_path / "out" / "mesh2motion" / "angry.npz")
    assert motion.fps == 30.0
    assert motion.origin["source"] == "animation-human-angry.npz"
    assert len(load_npz(tmp_path / "out" / "deepmimic" / "one.npz")) == 66  # held for 2.2 s


@pytest.mark.parametrize("broken", ["none", "kaykit", "deepmimic"])
def test_missing_and_broken_archives_end_with_a_message(
    convert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    if broken != "none":
        (tmp_path / "raw" / broken).mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["convert.py", str(tmp_path / "raw"), str(tmp_path / "out")])
    assert convert.main() == 4
    printed = capsys.readouterr()
    assert not printed.out
    assert str(tmp_path / "raw") in printed.err and printed.err.count("\n") == 1


def test_speeds_keep_the_poses(convert: Any, knight: dict[str, Motion]) -> None:
    motion = knight["Sit_Chair_Down"].slice(0, 25)
    slow, back = convert.paced(motion, 0.5), convert.paced(motion, -1.0)
    assert len(slow) == 49
    pose = axis_angle_to_matrix(motion.pose.astype(np.float64))
    assert angle_between(axis_angle_to_matrix(slow.pose[::2].astype(np.float64)), pose).max() < 1e-3
    np.testing.assert_array_equal(back.pose, motion.pose[::-1])
