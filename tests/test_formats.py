"""Loading and saving by suffix, rig tables, and `mclip convert`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mclip.errors import MotionError, UsageError
from mclip.formats import SUFFIXES, load, load_all, save
from mclip.formats.bvh import read_bvh, write_bvh
from mclip.formats.tables import bind, find_rig_table, load_rig_table
from mclip.motion import Motion, load_npz
from mclip.skeleton.retarget import REQUIRED, RigMotion
from mclip.skeleton.smpl import JOINT, JOINT_NAMES, REST_JOINTS
from mclip.view.convert import convert

GOLDEN = Path(__file__).parent / "golden"
WALK = GOLDEN / "bvh" / "accad_female1_walk.bvh"
TABLES = sorted((Path(sys.modules["mclip.formats"].__file__ or "").parent / "rigs").glob("*.toml"))


def _motion(frames: int = 4) -> Motion:
    rng = np.random.default_rng(5)
    return Motion(
        pose=rng.normal(scale=0.4, size=(frames, 24, 3)).astype(np.float32),
        transl=rng.normal(size=(frames, 3)).astype(np.float32),
        fps=30.0,
        origin={"prompt": "walk"},
    )


def _rig(names: Sequence[str], rest: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None = None) -> RigMotion:
    """A flat skeleton of these joints that stands still."""
    place = np.zeros((len(names), 3)) if rest is None else rest
    eye = np.broadcast_to(np.eye(3), (len(names), 3, 3))
    return RigMotion(
        names=tuple(names),
        parents=(-1,) + (0,) * (len(names) - 1),
        rest_rotation=eye,
        rest_position=place,
        rotation=eye[None],
        position=place[None],
        fps=30.0,
    )


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_table_names_the_joints_a_body_needs_once(path: Path) -> None:
    table = load_rig_table(path)
    assert set(REQUIRED) <= set(table.joints) <= set(JOINT)
    assert len(set(table.joints.values())) == len(table.joints)
    for name in table.joints:
        if name.startswith("left_"):
            assert name.replace("left_", "right_") in table.joints
    for rotation in table.tpose.values():
        assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("bvh/accad_female1_walk.bvh", "ACCAD"),
        ("bvh/accad_male1_walk.bvh", "ACCAD (Male1)"),
        ("bvh/bandai_walk.bvh", "Bandai-Namco"),
    ],
)
def test_real_skeletons_are_recognised(file: str, table: str) -> None:
    assert find_rig_table(read_bvh(GOLDEN / file)).name == table


@pytest.mark.parametrize("stem", ["mixamo", "cmu-bvh", "cmu-asf", "smpl", "smpl-short", "unreal", "kaykit"])
def test_skeletons_are_recognised_by_their_names_alone(stem: str) -> None:
    table = load_rig_table(next(path for path in TABLES if path.stem == stem))
    assert find_rig_table(_rig([*table.joints.values(), "extra"])).name == table.name


@pytest.mark.parametrize(
    "prefix", ["mixamorig:", "mixamorig", "Armature|mixamorig:", "character1:", "Character1_", "Character_"]
)
def test_prefixes_do_not_count(prefix: str) -> None:
    table = load_rig_table(next(path for path in TABLES if path.stem == "mixamo"))
    found = find_rig_table(_rig([prefix + name for name in table.joints.values()]))
    assert found.joints["left_knee"] == f"{prefix}LeftLeg"


def test_a_rest_pose_tells_apart_rigs_that_share_their_names() -> None:
    walk = read_bvh(GOLDEN / "bvh" / "bandai_walk.bvh")
    t_pose = np.stack([REST_JOINTS[0].astype(np.float64)] * len(walk.names))
    with pytest.raises(MotionError, match="names of Bandai-Namco's, but it rests in another pose"):
        find_rig_table(replace(walk, rest_position=t_pose))


def test_a_rest_pose_is_told_by_the_directions_of_some_bones() -> None:
    table = load_rig_table(next(path for path in TABLES if path.stem == "bandai"))
    names = ["root", *table.joints.values()]
    rest = np.zeros((len(names), 3))
    for name, x in (("LowerLeg_L", 0.3), ("LowerLeg_R", -0.3), ("LowerArm_L", 0.2)):
        rest[names.index(name), 0] = x
    rig = _rig(names, rest)
    assert find_rig_table(rig).name == table.name
    parents = [-1 if name == "LowerLeg_R" else parent for name, parent in zip(names, rig.parents, strict=True)]
    turned = rest + 0.1 * (rest != 0)[:, [1, 0, 2]]  # by 18 degrees and more
    for other in (replace(rig, parents=tuple(parents)), _rig(names, turned), _rig(names)):
        with pytest.raises(MotionError, match="rests in another pose"):
            find_rig_table(other)


def test_an_unknown_skeleton_is_told_which_joints_nobody_knows() -> None:
    with pytest.raises(MotionError) as caught:
        find_rig_table(_rig(["Hips", "LeftLeg", "tentacle_1", "tentacle_2"]))
    assert "tentacle_1, tentacle_2" in caught.value.message
    assert "Hips" not in caught.value.message
    assert "--rig" in caught.value.hint


def test_a_table_of_the_users_own_reads_an_unknown_skeleton(tmp_path: Path) -> None:
    text = WALK.read_text()
    for old, new in (("LeftUpLeg", "Oberschenkel_L"), ("RightUpLeg", "Oberschenkel_R"), ("ROOT Hips", "ROOT Huefte")):
        text = text.replace(old, new)
    (tmp_path / "a.bvh").write_text(text)
    with pytest.raises(MotionError, match="Oberschenkel_L"):
        load(tmp_path / "a.bvh")
    table = next(path for path in TABLES if path.stem == "accad").read_text()
    (tmp_path / "own.toml").write_text(
        table.replace("LeftUpLeg", "Oberschenkel_L").replace("RightUpLeg", "Oberschenkel_R")
    )
    assert np.array_equal(load(tmp_path / "a.bvh", rig=tmp_path / "own.toml").pose, load(WALK).pose)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", r"\[joints\]"),
        ("joints = 3", "not a table"),
        ("[joints]\nleft_thumb = 'a'", "left_thumb is no SMPL joint"),
        ("[joints]\npelvis = 3", "not a name"),
        ("[joints]\npelvis = 'a'\n[bones]\n", "unknown key bones"),
        ("[joints]\npelvis = 'a'\n[tpose]\na = ['+x', '+y']", r"tpose\.a is a list"),
        ("[joints]\npelvis = 'a'\n[tpose]\na = ['+x', '+y', '-z']", "no rotation"),
        ("[joints]\npelvis = 'a'\n[tpose]\na = ['+x', '+x', '+z']", "no rotation"),
        ("[joints]\npelvis = 'a'\n[tpose]\na = ['+x', [0, 0, 0], '+z']", r"tpose\.a"),
        ("[joints]\npelvis = 'a'\n[tpose]\na = [1, 0, 0, 0, 1, 0, 0, 0, nan]", "no rotation"),
        ("[joints]\npelvis = 'a'\n[rest]\na = 'up'", r"rest\.a"),
        ("[joints]\npelvis = 'a'\n[rest]\na = 3", r"rest\.a is 3"),
        ("[joints]\npelvis = 'a'\n[rest]\na = [1, 2]", r"rest\.a"),
        ("[joints]\npelvis = 'a'\n[rest]\na = [1, 2, 'x']", r"rest\.a"),
        ("[joints", "not a TOML file"),
        ("[joints]\npelvis = 'a'", "no joint for pelvis, left_hip"),
    ],
)
def test_a_bad_table_is_refused_with_its_key(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "own.toml").write_text(content)
    with pytest.raises(MotionError, match=says):
        load(WALK, rig=tmp_path / "own.toml")
    with pytest.raises(MotionError, match=r"missing\.toml"):
        load(WALK, rig=tmp_path / "missing.toml")


def test_an_error_names_the_file_it_is_about_once(tmp_path: Path) -> None:
    path, rig, other = tmp_path / "a.bvh", tmp_path / "own.toml", tmp_path / "other.toml"
    rig.write_text("[joints]\npelvis = 3")
    other.write_text("[joints]\npelvis = 'a'")
    for text, about, table in (
        (WALK.read_text().replace("Leg", "Bein"), f"{path}: unknown skeleton", None),
        (WALK.read_text().replace("OFFSET", "OFFSETS", 1), f"{path}, line ", None),
        (WALK.read_text(), f"{rig}: joints.pelvis is 3", rig),
        (WALK.read_text(), f"{path}: ", other),
    ):
        path.write_text(text)
        with pytest.raises(MotionError) as caught:
            load(path, rig=table)
        assert caught.value.message.startswith(about)
        assert caught.value.message.count(str(tmp_path)) == 1


def test_some_of_many_animations_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for shown, names in ((2, "Idle, Sit_Chair_Down"), (1, "Idle, ...")):
        monkeypatch.setattr("mclip.formats._SHOWN", shown)
        with pytest.raises(UsageError, match="has 2 animations") as caught:
            load(GOLDEN / "kaykit" / "knight.glb")
        assert caught.value.hint == f"choose one with --take: {names}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are other there")
def test_pipes_and_folders_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.bvh")
    (tmp_path / "folder.bvh").mkdir()
    for name, says in (("pipe", "is not a regular file"), ("folder", "cannot be read")):
        with pytest.raises(MotionError, match=says):
            load(tmp_path / f"{name}.bvh")


def test_tposes_are_written_as_axes_directions_or_matrices(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        "[joints]\npelvis = 'a'\n[tpose]\n"
        "a = ['+y', '-x', '+z']\nb = [[0, 2, 0], [-1, 0, 0], '+z']\nc = [0, -1, 0, 1, 0, 0, 0, 0, 1]\n"
    )
    table = bind(load_rig_table(tmp_path / "own.toml"), _rig(["x:a", "b"]))
    assert set(table.tpose) == {"x:a", "b", "c"}
    for rotation in table.tpose.values():
        assert rotation @ [1, 0, 0] == pytest.approx([0, 1, 0])
        assert rotation @ [0, 1, 0] == pytest.approx([-1, 0, 0])


def test_files_are_read_and_written_by_their_suffix(tmp_path: Path) -> None:
    motion = _motion()
    for name in ("a.npz", "a.BVH", "a.bvh"):
        save(tmp_path / name, motion)
        read = load(tmp_path / name)
        assert read.pose == pytest.approx(motion.pose, abs=1e-4)
        assert read.transl == pytest.approx(motion.transl, abs=1e-4)
        assert [name for name, _ in load_all(tmp_path / name)] == [""]
    with pytest.raises(UsageError, match="needs a body"):
        save(tmp_path / "a.glb", motion)
    with pytest.raises(UsageError, match=r"cannot write \.fbx files"):
        save(tmp_path / "a.fbx", motion)


def test_what_is_no_motion_file_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="no such file or folder"):
        load(tmp_path / "a.txt")
    with pytest.raises(MotionError, match="no such file"):
        load(tmp_path / "a.amc")
    (tmp_path / "a.txt").touch()
    with pytest.raises(MotionError, match="not a motion file") as caught:
        load(tmp_path / "a.txt")
    assert all(suffix in caught.value.hint for suffix in SUFFIXES)
    with pytest.raises(UsageError, match="one motion"):
        load(WALK, take="Walk")


BAD = GOLDEN / "bad"
EXPECTED = tomllib.loads((BAD / "expected.toml").read_text(encoding="utf-8"))["commands"]


@pytest.mark.parametrize(
    ("name", "says"),
    [item for group in EXPECTED if group["run"] == "convert {} out/made.npz" for item in group["files"].items()],
)
def test_a_bad_file_is_refused_for_what_is_wrong_with_it(name: str, says: str) -> None:
    with pytest.raises(MotionError, match=re.escape(says)):
        load(BAD / name)


def test_convert_writes_beside_the_input_and_says_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "walk.bvh").write_text(WALK.read_text())
    done = convert(tmp_path / "walk.bvh")
    path = done.path
    assert path == tmp_path / "walk.npz"
    read = load_npz(path)
    assert np.array_equal(read.pose, done.motion.pose)
    assert read.origin["command"] == "convert"
    assert read.origin["source"] == "walk.bvh"
    assert convert(tmp_path / "walk.bvh").path == path  # its own output may be replaced
    faster = convert(tmp_path / "walk.bvh", fps=30.0).motion
    assert faster.fps == 30.0
    assert len(faster) == 51


def test_convert_keeps_what_is_known_of_the_motion(tmp_path: Path) -> None:
    _motion().save(tmp_path / "a.npz")
    motion = convert(tmp_path / "a.npz", tmp_path / "b.npz").motion
    assert motion.origin["prompt"] == "walk"


def test_convert_does_not_replace_what_is_not_its_own(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", _motion())
    save(tmp_path / "b.npz", _motion(7))
    write_bvh(tmp_path / "b.bvh", _motion(7))
    (tmp_path / "broken.npz").write_bytes(b"precious")
    for name in ("b.npz", "b.bvh", "broken.npz"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UsageError, match="already there"):
            convert(tmp_path / "a.npz", tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
        convert(tmp_path / "a.npz", tmp_path / name, force=True)
        assert len(load(tmp_path / name)) == 4
    with pytest.raises(UsageError, match="replace the input"):
        convert(tmp_path / "a.npz", force=True)


@pytest.mark.parametrize("fps", [0.0, -30.0, float("nan"), float("inf"), 1e6])
def test_convert_refuses_absurd_rates(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="--fps"):
        convert(WALK, tmp_path / "a.npz", fps=fps)


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mclip", "convert", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_the_command_prints_one_json_object(tmp_path: Path) -> None:
    done = _run(str(WALK), "walk.npz", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["path"] == "walk.npz"
    assert result["frames"] == len(load(tmp_path / "walk.npz")) == 6


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.bvh"], 4),
        (["."], 2),
        (["empty.bvh"], 4),
        (["text.npz", "new.npz"], 4),
        (["walk.bvh", "walk.fbx"], 2),
        (["walk.bvh", "--fps", "0"], 2),
        (["walk.bvh", "folder.npz"], 2),
        (["walk.bvh", "x" * 300 + ".npz"], 2),
        (["walk.bvh", "walk.bvh"], 2),
        (["walk.bvh", "--rig", "missing.toml"], 4),
    ],
)
def test_bad_input_ends_in_a_sentence_and_leaves_nothing_behind(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    (tmp_path / "walk.bvh").write_text(WALK.read_text())
    (tmp_path / "empty.bvh").touch()
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "folder.npz").mkdir()
    before = sorted(tmp_path.iterdir())
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("mclip: ")
    assert len(done.stderr.splitlines()) <= 3
    assert sorted(tmp_path.iterdir()) == before


def test_the_names_of_the_smpl_table_are_ours() -> None:
    table = load_rig_table(next(path for path in TABLES if path.stem == "smpl"))
    assert dict(table.joints) == {name: name for name in JOINT_NAMES}
