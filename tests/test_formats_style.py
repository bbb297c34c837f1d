"""Axes, units and layouts of what is written, read back by other programs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mclip.body.model import load_body
from mclip.body.skinning import pose_vertices
from mclip.errors import MotionError, UsageError
from mclip.formats import load, save
from mclip.formats.style import Style
from mclip.motion import Motion, load_npz
from mclip.skeleton.smpl import JOINT, JOINT_NAMES, PARENTS, REST_JOINTS
from tests.commands import runner

# Blender's own axes are asked for, so that it turns nothing.
BLENDER = """
import json, sys, bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.preferences.addon_enable(module="io_anim_bvh")
bpy.ops.import_anim.bvh(filepath=sys.argv[1], axis_forward="Y", axis_up="Z")
(armature,) = [each for each in bpy.data.objects if each.type == "ARMATURE"]
frames = []
for frame in range(1, int(sys.argv[2]) + 1):
    bpy.context.scene.frame_set(frame)
    frames.append({bone.name: list(armature.matrix_world @ bone.head) for bone in armature.pose.bones})
json.dump(frames, open(sys.argv[3], "w"))
"""


def moving(frames: int = 5, fps: float = 30.0) -> Motion:
    rng = np.random.default_rng(8)
    pose = rng.normal(scale=0.6, size=(frames, 24, 3)).astype(np.float32)
    return Motion(pose=pose, transl=rng.normal(size=(frames, 3)).astype(np.float32), fps=fps)


def joints(motion: Motion, up: str = "z") -> NDArray[np.float64]:
    """The joints' positions (T, 24, 3), metres, by scipy's rotations."""
    result = np.empty((len(motion), 24, 3))
    for frame, (pose, transl) in enumerate(zip(motion.pose, motion.transl, strict=True)):
        turns: list[Rotation] = []
        for joint, parent in enumerate(PARENTS):
            own = Rotation.from_rotvec(pose[joint].astype(np.float64))
            turns.append(own if parent < 0 else turns[parent] * own)
            if parent < 0:
                result[frame, joint] = transl + REST_JOINTS[0]
            else:
                bone = turns[parent].apply(REST_JOINTS[joint] - REST_JOINTS[parent])
                result[frame, joint] = result[frame, parent] + bone
    x, y, z = np.moveaxis(result, -1, 0)
    return result if up == "z" else np.stack([x, z, -y], axis=-1)


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("scale", [1.0, 100.0, 39.3700787])
def test_another_library_reads_our_bvh(tmp_path: Path, up: str, scale: float) -> None:
    pymotion = pytest.importorskip("pymotion.io.bvh", reason="upc-pymotion is not installed")
    from pymotion.ops.skeleton import fk

    motion = moving()
    save(tmp_path / "a.bvh", motion, Style(up=up, scale=scale))
    file = pymotion.BVH()
    file.load(str(tmp_path / "a.bvh"))
    rotations, positions, parents, offsets, *_ = file.get_data()
    places, _ = fk(rotations, positions[:, 0], offsets, parents)
    names = list(file.data["names"])
    ordered = places[:, [names.index(name) for name in JOINT_NAMES]] / scale
    # The promise is a tenth of a millimetre.
    np.testing.assert_allclose(ordered, joints(motion, up), atol=1e-4, rtol=0)
    assert 1 / file.data["frame_time"] == pytest.approx(30.0)


@pytest.mark.parametrize(("up", "scale"), [("y", 100.0), ("z", 1.0)])
def test_blender_reads_our_bvh(tmp_path: Path, up: str, scale: float) -> None:
    python = os.environ.get("MCLIP_BLENDER")
    if not python:
        pytest.skip("MCLIP_BLENDER does not name a Python that has bpy")
    motion = moving()
    save(tmp_path / "a.bvh", motion, Style(up=up, scale=scale))
    command = [python, "-c", BLENDER, str(tmp_path / "a.bvh"), str(len(motion)), str(tmp_path / "out.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    frames = json.loads((tmp_path / "out.json").read_text())
    read = np.array([[frame[name] for name in JOINT_NAMES] for frame in frames]) / scale
    np.testing.assert_allclose(read, joints(motion, up), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("a.bvh", Style(up="z")),
        ("a.bvh", Style(scale=1.0)),
        ("a.bvh", Style(up="z", scale=1000.0)),
        ("a.bvh", Style(scale=1e6)),
        ("a.npz", Style(up="y", scale=1.0)),
        ("a.npz", Style(layout="smpl")),
        ("a.npz", Style(layout="smplx", up="y")),
        ("a.glb", Style(up="y", scale=1.0)),
    ],
)
def test_whatever_the_axes_and_units_it_reads_back_the_same(tmp_path: Path, name: str, style: Style) -> None:
    from mclip.view.files import save as save_any

    motion = moving()
    save_any(tmp_path / name, motion, style)
    read = load(tmp_path / name)
    np.testing.assert_allclose(joints(read), joints(motion), atol=1e-4)
    assert "up" not in read.origin


@pytest.mark.parametrize(("layout", "width", "hands"), [("smpl", 24, 22), ("smplh", 52, 22), ("smplx", 55, 25)])
def test_layouts_have_amass_names_and_widths(tmp_path: Path, layout: str, width: int, hands: int) -> None:
    motion = moving()
    save(tmp_path / "a.npz", motion, Style(layout=layout))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        poses = file["poses"].reshape(5, -1, 3)
        assert poses.shape[1] == width
        np.testing.assert_array_equal(poses[:, :22], motion.pose[:, :22])
        np.testing.assert_array_equal(poses[:, hands], motion.pose[:, JOINT["left_hand"]])
        assert float(file["mocap_framerate"]) == 30.0
        if layout == "smplx":
            # The names under which AMASS's SMPL-X files, and what reads them, have the parts.
            parts = ["root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand"]
            np.testing.assert_array_equal(np.concatenate([file[part] for part in parts], axis=1), file["poses"])
            assert [file[part].shape[1] for part in parts] == [3, 63, 3, 6, 90]
            assert int(file["num_betas"]) == len(file["betas"])
            assert str(file["surface_model_type"]) == "smplx"
            assert float(file["mocap_frame_rate"]) == 30.0
            assert float(file["mocap_time_length"]) == pytest.approx(5 / 30)


@pytest.mark.parametrize("up", ["z", "y"])
def test_smplx_makes_our_vertices_of_a_saved_file(tmp_path: Path, up: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("smplx")
    from mclip.nn.smpl import smplx_body

    motion = moving()
    save(tmp_path / "a.npz", motion, Style(layout="smpl", up=up))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file, torch.no_grad():
        made = smplx_body(load_body())(
            betas=torch.from_numpy(file["betas"])[None].expand(5, -1),
            global_orient=torch.from_numpy(file["poses"][:, :3]),
            body_pose=torch.from_numpy(file["poses"][:, 3:]),
            transl=torch.from_numpy(file["trans"]),
        ).vertices.numpy()
    x, y, z = np.moveaxis(pose_vertices(load_body(), motion), -1, 0)
    expected = np.stack([x, y, z] if up == "z" else [x, z, -y], axis=-1)
    np.testing.assert_allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("style", "up", "unit", "scale"),
    [
        (Style(), "z", "m", 1.0),
        (Style(up="y", scale=100.0), "y", "cm", 100.0),
        (Style(scale=1000.0), "z", "mm", 1000.0),
        (Style(scale=39.37), "z", "m/39.37", 39.37),
    ],
)
def test_a_csv_says_joint_axis_and_unit_in_each_column(
    tmp_path: Path, style: Style, up: str, unit: str, scale: float
) -> None:
    motion = moving()
    save(tmp_path / "a.csv", motion, style)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert len(rows[0]) == 1 + 24 * 3
    assert float(rows[3]["time_s"]) == pytest.approx(0.1)
    axes = [f"{axis}_up" if axis == up else axis for axis in "xyz"]
    for frame, row in enumerate(rows):
        place = [float(row[f"left_knee_{axis}_{unit}"]) / scale for axis in axes]
        np.testing.assert_allclose(place, joints(motion, up)[frame, JOINT["left_knee"]], atol=1e-5)


def test_a_npy_is_what_humanml3d_tools_load(tmp_path: Path) -> None:
    from mclip.view.convert import convert

    motion = moving(31)
    motion.save(tmp_path / "a.npz")
    done = convert(tmp_path / "a.npz", tmp_path / "a.npy")
    values = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert (values.dtype, values.shape, done.motion.fps) == (np.float32, (21, 22, 3), 20.0)
    np.testing.assert_allclose(values[::2], joints(motion, "y")[::3, :22], atol=1e-5)
    convert(tmp_path / "a.npz", tmp_path / "b.npy", Style(up="z"))
    np.testing.assert_allclose(np.load(tmp_path / "b.npy")[::2], joints(motion)[::3, :22], atol=1e-5)
    with pytest.raises(UsageError, match=r"a \.npy has 20"):
        convert(tmp_path / "a.npz", tmp_path / "c.npy", fps=30.0)


@pytest.mark.parametrize("name", ["a.csv", "a.npy"])
def test_positions_cannot_be_read_and_the_reason_is_said(tmp_path: Path, name: str) -> None:
    save(tmp_path / name, moving())
    with pytest.raises(MotionError, match="positions") as caught:
        load(tmp_path / name)
    assert ".bvh" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "style", "says"),
    [
        ("a.npz", Style(scale=100.0), "metres"),
        ("a.bvh", Style(layout="smpl"), "--layout"),
        ("a.npz", Style(layout="flame"), "smplh"),
        ("a.bvh", Style(up="x"), "--up x"),
        ("a.bvh", Style(scale=0.0), "--scale 0"),
        ("a.csv", Style(scale=float("nan")), "--scale nan"),
        ("a.csv", Style(scale=0.9e-6), "--scale 9e-07"),
        ("a.csv", Style(scale=1.1e6), "--scale 1.1e+06"),
        ("a.glb", Style(scale=100.0), "metres"),
        ("a.glb", Style(up="z"), "--up z"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, name: str, style: Style, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        save(tmp_path / name, moving(), style)
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = runner(monkeypatch, capsys)
    moving().save(tmp_path / "a.npz")
    done = run("convert", "a.npz", "a.bvh", "--up", "z", "--scale", "1000", "--json")
    assert json.loads(done.out) == {
        "path": "a.bvh", "frames": 5, "fps": 30.0, "seconds": 5 / 30, "up": "z", "units_per_metre": 1000.0,
    }  # fmt: skip
    for more, unit in (([], "centimetres"), (["--scale", "1000"], "millimetres"), (["--scale", "4"], "1/4 m")):
        done = run("convert", "a.npz", "c.bvh", *more, "--force")
        assert done.out == f"c.bvh: 5 frames at 30 fps, 0.2 s, {unit}, Y up\n"
    assert run("convert", "a.npz", "a.glb").out == "a.glb: 5 frames at 30 fps, 0.2 s, metres, Y up\n"
    assert run("convert", "a.npz", "b.npz", "--layout", "smplx", "--up", "y").code == 0
    np.testing.assert_allclose(joints(load_npz(tmp_path / "b.npz")), joints(moving()), atol=1e-4)
    assert run("convert", "a.glb", "a.csv", "--layout", "smpl").code == 2
    assert run("convert", "a.npy", "c.npz").code == 4


def test_a_npy_has_the_rate_of_humanml3d_whatever_the_motion_has(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", moving(31), Style(scale=1000.0))
    values = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert values.shape == (21, 22, 3)
    np.testing.assert_allclose(values[::2] / 1000, joints(moving(31), "y")[::3, :22], atol=1e-5)
