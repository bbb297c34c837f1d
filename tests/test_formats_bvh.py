"""BVH: parsing against a reader written another way, writing against reading, damage against MotionError."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mclip.errors import MotionError
from mclip.formats import bvh, load
from mclip.formats import text as limits
from mclip.formats.bvh import is_own, read_bvh, write_bvh
from mclip.geometry import angle_between, axis_angle_to_matrix
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT_NAMES

GOLDEN = Path(__file__).parent / "golden" / "bvh"
FILES = ("accad_female1_walk.bvh", "accad_male1_walk.bvh", "bandai_walk.bvh")
# Nothing here is fast enough for hypothesis's deadline on a busy machine, and each example writes its own file.
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Matrices = dict[str, NDArray[np.float64]]


def _witness(text: str) -> tuple[list[Matrices], float]:
    """World matrices (4, 4) by joint name for each frame, and the frame time: recursive descent, scipy's rotations."""
    tokens = text.replace("{", " { ").replace("}", " } ").split()
    joints: list[tuple[str, int, list[float], list[str]]] = []
    at = 0

    def block(name: str, parent: int) -> None:
        nonlocal at
        offset: list[float] = []
        own = len(joints)
        joints.append((name, parent, offset, []))
        at += 1  # {
        while tokens[at] != "}":
            word = tokens[at].upper()
            if word == "OFFSET":
                offset.extend(map(float, tokens[at + 1 : at + 4]))
                at += 4
            elif word == "CHANNELS":
                count = int(tokens[at + 1])
                joints[own][3].extend(tokens[at + 2 : at + 2 + count])
                at += 2 + count
            elif word == "JOINT":
                child = tokens[at + 1]
                at += 2
                block(child, own)
            else:  # End Site { OFFSET x y z }
                at += 8
        at += 1

    while tokens[at].upper() != "MOTION":
        if tokens[at].upper() == "ROOT":
            at += 2
            block(tokens[at - 1], -1)
        else:
            at += 1
    frames, time = int(tokens[at + 2]), float(tokens[at + 5])
    values = iter(float(token) for token in tokens[at + 6 :])
    result = []
    for _ in range(frames):
        world: list[NDArray[np.float64]] = []
        for _name, parent, offset, channels in joints:
            local = np.eye(4)
            local[:3, 3] = offset
            rotation = Rotation.identity()
            for channel in channels:
                value = next(values)
                axis = channel[0].upper()
                if channel.lower().endswith("position"):
                    local["XYZ".index(axis), 3] = value
                else:
                    rotation = rotation * Rotation.from_euler(axis, value, degrees=True)
            local[:3, :3] = rotation.as_matrix()
            world.append(local if parent < 0 else world[parent] @ local)
        result.append({joint[0]: matrix for joint, matrix in zip(joints, world, strict=True)})
    return result, time


def _assert_as_witnessed(path: Path) -> None:
    frames, time = _witness(path.read_text())
    motion = read_bvh(path)
    assert 1 / motion.fps == pytest.approx(time, rel=2e-4)
    assert len(motion.position) == len(frames)
    for frame, matrices in enumerate(frames):
        assert set(motion.names) == set(matrices)
        for joint, name in enumerate(motion.names):
            scale = 1 + np.abs(matrices[name][:3, 3]).max()
            assert motion.position[frame, joint] == pytest.approx(matrices[name][:3, 3], abs=1e-9 * scale)
            assert motion.rotation[frame, joint] == pytest.approx(matrices[name][:3, :3], abs=1e-9)


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_read_as_another_reader_reads_them(name: str) -> None:
    _assert_as_witnessed(GOLDEN / name)


def test_a_frame_time_of_few_digits_means_the_whole_rate(tmp_path: Path) -> None:
    text = (GOLDEN / FILES[0]).read_text()
    for written, fps in (("0.0333333", 30.0), ("0.008333", 120.0), ("0.0333667", 29.97)):
        (tmp_path / "a.bvh").write_text(re.sub(r"(Frame Time:).*", rf"\1 {written}", text))
        assert read_bvh(tmp_path / "a.bvh").fps == pytest.approx(fps, abs=1e-3 if fps == 29.97 else 0)


@st.composite
def hierarchies(draw: st.DrawFn) -> str:
    """A small BVH file of any shape, channel order and layout."""
    number = st.floats(-200, 200).map(lambda value: f"{value:.5g}")
    count = draw(st.integers(1, 6))
    parents = [-1] + [draw(st.integers(0, joint - 1)) for joint in range(1, count)]
    space, newline = draw(st.sampled_from(["  ", "\t", " \t"])), draw(st.sampled_from(["\n", "\r\n", "\r", " \n"]))
    case = draw(st.sampled_from([str.upper, str.lower, str.capitalize]))
    widths = []

    def lines(joint: int, depth: int) -> list[str]:
        rotations = draw(st.permutations("XYZ"))[: draw(st.integers(0, 3))]
        positions = draw(st.permutations("XYZ"))[: draw(st.integers(0, 3) if joint == 0 else st.just(0))]
        channels = draw(
            st.permutations([f"{axis}rotation" for axis in rotations] + [f"{axis}position" for axis in positions])
        )
        widths.append(len(channels))
        own = [
            case("JOINT" if depth else "ROOT") + f" j{joint}",
            "{",
            case("OFFSET") + "".join(space + draw(number) for _ in range(3)),
            " ".join([case("CHANNELS"), str(len(channels)), *channels]),
        ]
        children = [child for child, parent in enumerate(parents) if parent == joint]
        for child in children:
            own += lines(child, depth + 1)
        if not children:
            own += [case("END") + " Site", "{", "OFFSET 0 1 0", "}"]
        return [space * depth + line for line in [*own, "}"]]

    head = [case("HIERARCHY"), *lines(0, 0)]
    if sum(widths) == 0:
        head = [line.replace(f"{case('CHANNELS')} 0", f"{case('CHANNELS')} 1 Yrotation") for line in head]
        widths = [1] * count
    frames = draw(st.integers(1, 3))
    body = [space.join(draw(number) for _ in range(sum(widths))) for _ in range(frames)]
    tail = [case("MOTION"), f"{case('FRAMES')}: {frames}", f"Frame Time:{space}0.04", *body]
    return newline.join(head + tail) + draw(st.sampled_from(["", newline, newline * 3]))


@SLOW
@given(hierarchies())
def test_any_layout_is_read_as_another_reader_reads_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.bvh").write_bytes(text.encode())
    _assert_as_witnessed(tmp_path / "a.bvh")


SIMPLE = """HIERARCHY
ROOT hips
{
 OFFSET 0 9 0
 CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
 JOINT knee
 {
  OFFSET 1 -4 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  End Site
  {
   OFFSET 0 -4 0
  }
 }
}
MOTION
Frames: 2
Frame Time: 0.05
"""


TWO = "1 8 0 0 0 0 1 -4 1.5 0 0 0\n2 8 0 0 0 0 1 -4 2.5 0 0 0\n"


def test_position_channels_of_inner_joints_replace_the_offset_or_are_added_to_it(tmp_path: Path) -> None:
    def knee(values: str) -> NDArray[np.float64]:
        (tmp_path / "a.bvh").write_text(SIMPLE + f"0 8 0 0 0 0 {values} 0 0 0\n" * 2)
        motion = read_bvh(tmp_path / "a.bvh")
        assert motion.position[0, 0] == pytest.approx([0, 8, 0])  # a root's always replace
        assert motion.rest_position[1] == pytest.approx([1, 5, 0])
        place: NDArray[np.float64] = motion.position[0, 1]
        return place

    assert knee("1.1 -4.2 0") == pytest.approx([1.1, 3.8, 0])
    assert knee("0.1 -0.2 0") == pytest.approx([1.1, 3.8, 0])
    assert knee("0 0 0") == pytest.approx([1, 4, 0])
    assert knee("1 -1.5 0") == pytest.approx([2, 2.5, 0])


def test_a_joint_without_an_offset_lies_where_its_parent_does(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(SIMPLE.replace("  OFFSET 1 -4 0\n", "") + "0 9 0 0 0 0 0 0 0 0 0 0\n" * 2)
    assert read_bvh(tmp_path / "a.bvh").rest_position.tolist() == [[0, 9, 0], [0, 9, 0]]


@pytest.mark.parametrize("seconds", [0.001, 1.0])
def test_rates_from_one_to_a_thousand_frames_per_second_are_read(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "a.bvh").write_text(SIMPLE.replace("0.05", f"{seconds}") + "0 9 0 0 0 0 0 0 0 0 0 0\n" * 2)
    assert read_bvh(tmp_path / "a.bvh").fps == pytest.approx(1 / seconds)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("HIERARCHY", "HIERACHY", "line 1"),
        ("OFFSET 1 -4 0", "OFFSET 1 -4", "line 8: OFFSET needs three numbers"),
        ("OFFSET 1 -4 0", "OFFSET 1 -4 nan", "line 8: OFFSET needs three numbers"),
        ("OFFSET 1 -4 0", "OFFSET 1 -4 1e300", "line 8: OFFSET needs three numbers"),
        ("CHANNELS 6 X", "CHANNELS 7 X", "line 5: CHANNELS"),
        ("CHANNELS 6 Xposition", "CHANNELS 6 Yposition", "line 5: CHANNELS"),
        ("CHANNELS 6 Xposition", "CHANNELS 6 Wposition", "line 5: unknown channel 'Wposition'"),
        ("Zrotation", "Wrotation", "line 5: unknown channel 'Wrotation'"),
        (" JOINT knee\n {", " JOINT knee\n", "line 8: expected '{'"),
        (" }\n}\nMOTION", " }\nMOTION", "braces"),
        ("OFFSET 1 -4 0", "{ OFFSET 1 -4 0", "line 8: unexpected '{'"),
        ("   OFFSET 0 -4 0", "   JOINT toe", "line 12: JOINT is out of place"),
        ("   OFFSET 0 -4 0", "   CHANNELS 0", "line 12: unexpected 'CHANNELS 0'"),
        ("ROOT hips", "JOINT hips", "line 2: JOINT is out of place"),
        ("JOINT knee", "ROOT knee", "line 6: ROOT is out of place"),
        ("MOTION", "MOTON", "MOTION"),
        ("Frames: 2", "Frames: 3", "says 3 frames of 12 values, but holds 2 frames"),
        ("Frames: 2", "Frames: 1", "says 1 frames of 12 values, but holds 2 frames"),
        ("Frames: 2", "Frames: 0", "line 17: the number of frames is '0'"),
        ("Frames: 2", "Frames: -1", "line 17"),
        ("Frames: 2", "Frames: 1e9", "line 17"),
        ("Frames: 2", "Frames: 1.5", "line 17"),
        ("Frames: 2", "Frames:", "line 17"),
        ("Frames: 2\n", "", "line 17: expected 'Frames:'"),
        ("Time: 0.05", "Time: 0", "line 18: the frame time is '0'"),
        ("Time: 0.05", "Time: -1", "line 18"),
        ("Time: 0.05", "Time: nan", "line 18"),
        ("Time: 0.05", "Time: 1e-9", "line 18"),
        ("Time: 0.05", "Time: 0.0009", "line 18"),
        ("Time: 0.05", "Time: 1.1", "line 18"),
        ("1.5 0 0 0\n2", "1.5 0 x 0\n2", "line 19: 'x' is not a number"),
        ("2.5 0 0 0\n", "2.5 0 nan 0\n", "line 20: 'nan' is not a number"),
        ("2.5 0 0 0\n", "2.5 0 -\n", "line 20: '-' is not a number"),
        ("2.5 0 0 0\n", "2.5 0 0\n", "holds 1.916666667 frames"),
        (TWO, "", "says 2 frames of 12 values, but holds 0 frames"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = SIMPLE + TWO
    (tmp_path / "a.bvh").write_text(text)
    assert len(read_bvh(tmp_path / "a.bvh").position) == 2
    assert old in text
    (tmp_path / "a.bvh").write_text(text.replace(old, new, 1))
    with pytest.raises(MotionError) as caught:
        read_bvh(tmp_path / "a.bvh")
    assert "a.bvh" in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize("content", [b"", b"\n", b"MOTION\n", b"\x00\xff\xfe" * 100, b"HIERARCHY\nMOTION\nFrames: 1\n"])
def test_what_is_no_bvh_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bvh").write_bytes(content)
    with pytest.raises(MotionError, match=r"a\.bvh"):
        read_bvh(tmp_path / "a.bvh")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.bvh").mkdir()
    for name in ("folder.bvh", "missing.bvh"):
        with pytest.raises(MotionError, match="cannot be read"):
            read_bvh(tmp_path / name)


def test_absurd_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bvh"
    for more in (limits.MAX_JOINTS - 1, limits.MAX_JOINTS):
        many = "".join(f"JOINT j{joint}\n{{\nOFFSET 0 1 0\nCHANNELS 0\n}}\n" for joint in range(more))
        head = "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n"
        path.write_text(f"{head}{many}}}\nMOTION\nFrames: 1\nFrame Time: 0.1\n5\n")
        if more < limits.MAX_JOINTS:
            assert len(read_bvh(path).names) == limits.MAX_JOINTS
    with pytest.raises(MotionError, match=f"more than {limits.MAX_JOINTS} joints"):
        read_bvh(path)
    path.write_text(SIMPLE + "0 9 0 0 0 0 0 0 0 0 0 0\n" * 2)
    monkeypatch.setattr(bvh, "MAX_FRAMES", 2)
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", path.stat().st_size)
    assert len(read_bvh(path).position) == 2
    monkeypatch.setattr(bvh, "MAX_FRAMES", 1)
    with pytest.raises(MotionError, match="the number of frames is '2', not 1 to 1"):
        read_bvh(path)
    monkeypatch.undo()
    monkeypatch.setattr(limits, "MAX_JOINT_FRAMES", 4)
    assert len(read_bvh(path).position) == 2
    monkeypatch.setattr(limits, "MAX_JOINT_FRAMES", 3)
    with pytest.raises(MotionError, match="2 frames of 2 joints are too many"):
        read_bvh(path)
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(MotionError, match="larger"):
        read_bvh(path)


@SLOW
@given(st.sampled_from(FILES), st.data())
def test_damage_never_gets_past_as_anything_but_a_motion_error(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = (GOLDEN / name).read_bytes()
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.sampled_from([0, 1, 3, 30, 500]))
        inserted = data.draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b"{", b"}", b"nan ", b"1e999 ", b"JOINT x {", b"-", b"\n", b"MOTION\n", b"\0"]),
            )
        )
        content = content[:at] + inserted + content[at + cut :]
    (tmp_path / "a.bvh").write_bytes(content)
    try:
        motion = load(tmp_path / "a.bvh")
    except MotionError as error:
        assert "a.bvh" in error.message
        assert len(f"{error.message}\n{error.hint}".splitlines()) <= 3
        return
    assert np.isfinite(motion.pose).all()


def _random_motion(rng: np.random.Generator, frames: int, fps: float) -> Motion:
    axis = rng.normal(size=(frames, 24, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = rng.choice([0.0, 1e-5, 0.3, 1.0, np.pi / 2, 3.0, np.pi], size=(frames, 24, 1))
    # Turns about one coordinate axis by 90 degrees hit the pole of the Euler angles.
    straight = rng.random((frames, 24, 1)) < 0.3
    axis = np.where(straight, np.eye(3)[rng.integers(0, 3, (frames, 24))] * rng.choice([-1, 1], (frames, 24, 1)), axis)
    return Motion(
        pose=(axis * angle).astype(np.float32), transl=rng.normal(scale=5, size=(frames, 3)).astype(np.float32), fps=fps
    )


@SLOW
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 2), st.sampled_from([1.0, 12.5, 24.0, 29.97, 30.0, 59.94, 120.0, 999.0])
)
def test_what_we_write_reads_back_within_a_tenth_of_a_degree_and_millimetre(
    tmp_path: Path, seed: int, frames: int, fps: float
) -> None:
    motion = _random_motion(np.random.default_rng(seed), frames, fps)
    write_bvh(tmp_path / "a.bvh", motion)
    read = load(tmp_path / "a.bvh")
    angles = angle_between(
        axis_angle_to_matrix(motion.pose.astype(np.float64)), axis_angle_to_matrix(read.pose.astype(np.float64))
    )
    # The promise is 0.1 degree and 0.1 mm; six digits are far better than that.
    assert np.rad2deg(angles).max() < 1e-3
    assert np.abs(motion.transl - read.transl).max() < 1e-5
    assert read.fps == pytest.approx(fps, rel=1e-4)
    _assert_as_witnessed(tmp_path / "a.bvh")


def test_what_we_write_is_smpl_in_centimetres_with_y_up(tmp_path: Path) -> None:
    motion = Motion(pose=np.zeros((1, 24, 3), np.float32), transl=np.array([[1.0, -2.0, 1.5]], np.float32), fps=30.0)
    # Standing upright in a world with Z up, facing -Y.
    motion.pose[0, 0] = [np.pi / 2, 0, 0]
    write_bvh(tmp_path / "a.bvh", motion)
    rig = read_bvh(tmp_path / "a.bvh")
    where = {name: index for index, name in enumerate(rig.names)}
    assert set(where) == set(JOINT_NAMES)
    assert is_own(rig)
    head, pelvis, left = (rig.position[0, where[name]] for name in ("head", "pelvis", "left_wrist"))
    # transl + rest pelvis (0, -0.22, 0.03) = (1, -2.22, 1.53), which with Y up is (1, 1.53, 2.22).
    assert pelvis == pytest.approx([100, 153, 222], abs=1e-3)
    assert head[1] - pelvis[1] == pytest.approx(68.34, abs=0.01)
    assert left[0] - pelvis[0] == pytest.approx(71.81, abs=0.01)


@pytest.mark.parametrize("up", ["y", "z"])
def test_limbs_end_a_little_farther_along_their_last_bones(tmp_path: Path, up: str) -> None:
    write_bvh(tmp_path / "a.bvh", _random_motion(np.random.default_rng(0), 1, 30.0), up=up)
    text = (tmp_path / "a.bvh").read_text()
    ends = re.findall(r"JOINT (\w+)\s+{\s+OFFSET (.*)\s+CHANNELS.*\s+End Site\s+{\s+OFFSET (.*)\s+}", text)
    assert {name for name, _, _ in ends} == {"left_foot", "right_foot", "left_hand", "right_hand", "head"}
    assert text.count("End Site") == 5
    for _, bone, end in ends:
        along = np.array(end.split(), float) / np.linalg.norm(np.array(bone.split(), float))
        assert 0.5 < np.linalg.norm(along) < 1
        assert np.cross(along, np.array(bone.split(), float)) == pytest.approx(0, abs=1e-5)
    assert "-0.000000" not in text.partition("MOTION")[0]


@pytest.mark.parametrize(("factor", "own"), [(1e-4, True), (1e200, True), (0.0, False)])
def test_our_skeleton_is_known_in_any_unit_that_has_a_length(tmp_path: Path, factor: float, own: bool) -> None:
    write_bvh(tmp_path / "a.bvh", _random_motion(np.random.default_rng(0), 1, 30.0))
    rig = read_bvh(tmp_path / "a.bvh")
    assert is_own(replace(rig, rest_position=rig.rest_position * factor)) is own
    assert not is_own(read_bvh(GOLDEN / FILES[0]))


def test_other_skeletons_with_our_names_are_not_ours(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", _random_motion(np.random.default_rng(0), 2, 30.0))
    text = (tmp_path / "a.bvh").read_text()
    (tmp_path / "a.bvh").write_text(text.replace("OFFSET 11.3700", "OFFSET 12.0000"))
    assert not is_own(read_bvh(tmp_path / "a.bvh"))
