"""ASF/AMC: reading against a reader written another way, and damage against MotionError."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mclip.errors import MotionError
from mclip.formats import amc, load
from mclip.formats.amc import find_asf, read_amc

GOLDEN = Path(__file__).parent / "golden" / "amc"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("02.asf", "02_01.amc"):
        shutil.copy(GOLDEN / name, tmp_path / name)
    return tmp_path


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _witness(asf: str, amc: str) -> list[dict[str, NDArray[np.float64]]]:
    """The far ends of all bones (3,) by name, for each frame, straight from the format's description."""
    bones: dict[str, dict[str, list[str]]] = {}
    for block in re.findall(r"begin(.*?)end", asf[asf.index(":bonedata") : asf.index(":hierarchy")], re.S):
        lines = [line.split() for line in block.strip().splitlines()]
        fields = {line[0]: line[1:] for line in lines if not line[0].startswith("(")}
        bones[fields["name"][0]] = fields
    children = {
        words[0]: words[1:]
        for words in (line.split() for line in asf[asf.index(":hierarchy") :].splitlines()[2:])
        if len(words) > 1
    }
    frames = []
    for chunk in re.split(r"^\d+\s*$", amc, flags=re.M)[1:]:
        values = {line.split()[0]: np.array(line.split()[1:], float) for line in chunk.strip().splitlines()}
        ends: dict[str, NDArray[np.float64]] = {}

        def walk(
            name: str,
            start: NDArray[np.float64],
            parent: Rotation,
            values: dict[str, NDArray[np.float64]] = values,
            ends: dict[str, NDArray[np.float64]] = ends,
        ) -> None:
            bone = bones[name]
            axis = Rotation.from_euler("xyz", [float(word) for word in bone["axis"][:3]], degrees=True)
            own = Rotation.identity()
            for channel, value in zip(bone.get("dof", []), values.get(name, ()), strict=True):
                own = Rotation.from_euler(channel[1], value, degrees=True) * own
            world = parent * axis * own * axis.inv()
            direction = np.array(bone["direction"], float)
            ends[name] = start + world.apply(direction * float(bone["length"][0]))
            for child in children.get(name, []):
                walk(child, ends[name], world)

        root = Rotation.from_euler("xyz", values["root"][3:], degrees=True)
        for child in children["root"]:
            walk(child, values["root"][:3], root)
        frames.append(ends)
    return frames


def test_a_real_file_is_read_as_another_reader_reads_it() -> None:
    motion = read_amc(GOLDEN / "02_01.amc")
    frames = _witness((GOLDEN / "02.asf").read_text(), (GOLDEN / "02_01.amc").read_text())
    assert len(motion.position) == len(frames) == 10
    assert motion.fps == 120.0
    for frame, ends in enumerate(frames):
        for joint, parent in enumerate(motion.parents):
            # A joint lies at the far end of its parent bone; directions are of unit length to six digits only.
            if parent > 0:
                assert motion.position[frame, joint] == pytest.approx(ends[motion.names[parent]], abs=1e-5)


def test_the_skeleton_is_found_beside_the_recording(tmp_path: Path) -> None:
    recording = tmp_path / "02_01.amc"
    recording.touch()
    with pytest.raises(MotionError, match=r"no \.asf file") as caught:
        find_asf(recording)
    assert "02_01.asf" in caught.value.hint
    (tmp_path / "other.asf").touch()
    assert find_asf(recording).name == "other.asf"
    (tmp_path / "02.ASF").touch()
    assert find_asf(recording).name == "02.ASF"
    (tmp_path / "02_01.asf").touch()
    assert find_asf(recording).name == "02_01.asf"
    with pytest.raises(MotionError, match="no such file"):
        find_asf(tmp_path / "09_01.amc")
    (tmp_path / "09_01.amc").touch()
    with pytest.raises(MotionError, match=r"3 \.asf files, none of this name"):
        find_asf(tmp_path / "09_01.amc")


def test_radians_are_read_as_radians(folder: Path) -> None:
    expected = read_amc(folder / "02_01.amc")

    def to_radians(match: re.Match[str]) -> str:
        name, values = match[1], [float(word) for word in match[2].split()]
        moved = 3 if name == "root" else 0
        turned = [f"{value:.12g}" for value in [*values[:moved], *np.deg2rad(values[moved:])]]
        return " ".join([name, *turned])

    text = (folder / "02_01.amc").read_text().replace(":DEGREES", ":RADIANS")
    (folder / "02_01.amc").write_text(re.sub(r"^([a-z]+)((?: +\S+)+)$", to_radians, text, flags=re.M))
    assert read_amc(folder / "02_01.amc").position == pytest.approx(expected.position, abs=1e-6)


def test_the_orders_the_files_state_are_followed(folder: Path) -> None:
    expected = read_amc(folder / "02_01.amc")
    _edit(folder / "02.asf", "order TX TY TZ RX RY RZ", "order RX RY RZ TX TY TZ")
    text = (folder / "02_01.amc").read_text()
    (folder / "02_01.amc").write_text(re.sub(r"^root (\S+ \S+ \S+) (.*)$", r"root \2 \1", text, flags=re.M))
    assert read_amc(folder / "02_01.amc").position == pytest.approx(expected.position)
    _edit(folder / "02.asf", "order RX RY RZ", "order RZ RY RX")
    assert not np.allclose(read_amc(folder / "02_01.amc").position, expected.position, atol=0.1)


def test_the_roots_place_and_orientation_at_rest_move_the_rest_pose_alone(folder: Path) -> None:
    expected = read_amc(folder / "02_01.amc")
    _edit(folder / "02.asf", "position 0 0 0", "position 1 2 3")
    _edit(folder / "02.asf", "orientation 0 0 0", "orientation 10 20 30")
    motion = read_amc(folder / "02_01.amc")
    np.testing.assert_allclose(motion.rest_position[0], [1, 2, 3])
    turn = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    np.testing.assert_allclose(motion.rest_rotation[0], turn, atol=1e-12)
    np.testing.assert_allclose(motion.rotation[:, 0] @ motion.rest_rotation[0].T, expected.rotation[:, 0], atol=1e-12)
    np.testing.assert_allclose(motion.position[:, 0], expected.position[:, 0] + [1, 2, 3])
    for unit in ("degrees", "rad"):
        _edit(folder / "02.asf", "angle deg", f"angle {unit}")
        wider = 1.0 if unit == "degrees" else np.degrees(1.0)
        again = Rotation.from_euler("xyz", wider * np.array([10, 20, 30]), degrees=True).as_matrix()
        np.testing.assert_allclose(read_amc(folder / "02_01.amc").rest_rotation[0], again, atol=1e-12)
        _edit(folder / "02.asf", f"angle {unit}", "angle deg")


def test_what_a_skeleton_does_not_say_of_a_bone_is_nothing(tmp_path: Path) -> None:
    bones = (
        "name a\ndirection 0 2 0\nlength 3\naxis 0 0 0\ndof rz",
        "name b\nlength 4",
        "name c\ndirection 1 0 0",
        "name d\naxis 10 20 30 ZYX\ndof rx",
        "name e",
    )
    text = "".join(f"begin\n{bone}\nend\n" for bone in bones)
    (tmp_path / "x.asf").write_text(f":root\n:bonedata\n{text}:hierarchy\nbegin\nroot a\na b c\nb d\nc e\nend\n")
    (tmp_path / "x.amc").write_text("1\nroot 0 0 0 0 0 0\na 90\nd 90\n")
    motion = read_amc(tmp_path / "x.amc")
    place = dict(zip(motion.names, motion.position[0], strict=True))
    for bone, expected in (("a", 0), ("b", -3), ("c", -3), ("d", -3), ("e", -3)):
        np.testing.assert_allclose(place[bone], [expected, 0, 0], atol=1e-12)
    axes = Rotation.from_euler("zyx", [10, 20, 30], degrees=True)
    turn = Rotation.from_euler("z", 90, degrees=True) * axes * Rotation.from_euler("x", 90, degrees=True) * axes.inv()
    np.testing.assert_allclose(motion.rotation[0, motion.names.index("d")], turn.as_matrix(), atol=1e-12)


def test_a_recording_may_name_bones_that_cannot_turn(folder: Path) -> None:
    expected = read_amc(folder / "02_01.amc")
    text = (folder / "02_01.amc").read_text()
    (folder / "02_01.amc").write_text(re.sub(r"^(root .*)$", r"\1\nlhipjoint", text, flags=re.M))
    np.testing.assert_array_equal(read_amc(folder / "02_01.amc").position, expected.position)


def test_absurd_sizes_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, bones = read_amc(folder / "02_01.amc").position.shape[:2]
    for name, limit in (("MAX_FRAMES", frames), ("MAX_JOINT_FRAMES", frames * bones), ("MAX_JOINTS", bones)):
        with monkeypatch.context() as patch:
            patch.setattr(amc, name, limit)
            assert len(read_amc(folder / "02_01.amc").position) == frames
            patch.setattr(amc, name, limit - 1)
            with pytest.raises(MotionError, match="more"):
                read_amc(folder / "02_01.amc")


def test_bones_the_recording_leaves_out_stay_at_rest(folder: Path) -> None:
    text = (folder / "02_01.amc").read_text()
    (folder / "02_01.amc").write_text(re.sub(r"^head .*\n", "", text, flags=re.M))
    motion = read_amc(folder / "02_01.amc")
    head = motion.names.index("head")
    assert motion.rotation[:, head] == pytest.approx(motion.rotation[:, motion.parents[head]])


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("02_01.amc", "\n2\n", "\nlfemur 1 2 3\n2\n", "not in the order"),
        ("02_01.amc", "lowerback", "upperspine", "line 6: unknown bone upperspine"),
        ("02_01.amc", "\n3\n", "\nlfemur 1 2 3\n3\n", "not in the order"),
        ("02_01.amc", "lowerback 7", "lowerback x7", "'x7.86573 1.57272 6.3571' are not numbers"),
        ("02_01.amc", "root 1", "root nan 1", "line 5: root has 7 values"),
        ("02_01.amc", "\n1\n", "\n", "unknown bone root"),
        ("02.asf", "direction", "direction x", "direction needs three numbers"),
        ("02.asf", "length 2.5", "length nan 2.5", "length needs a number"),
        ("02.asf", "angle deg", "angle turns", "angle is neither"),
        ("02.asf", "dof rx ry rz", "dof rx ry rw", "degrees of freedom"),
        ("02.asf", "dof rx ry rz", "dof rx ry tz", "moves along its parent"),
        ("02.asf", "axis XYZ", "axis XXZ", "axis order"),
        ("02.asf", "name rfemur", "name lfemur", "two bones lfemur"),
        ("02.asf", "lhipjoint lfemur", "lhipjoint lfemur nobone", "unknown bone nobone"),
        ("02.asf", "rhipjoint rfemur", "rhipjoint lfemur", "two parents"),
        ("02.asf", "rhipjoint rfemur", "rhipjoint lowerback", "two parents"),
        ("02.asf", "rhipjoint rfemur", "rhipjoint root", "two parents"),
        ("02.asf", ":hierarchy", ":nothing", "hierarchy"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, file: str, old: str, new: str, says: str) -> None:
    _edit(folder / file, old, new)
    with pytest.raises(MotionError) as caught:
        read_amc(folder / "02_01.amc")
    assert file in caught.value.message
    assert says in caught.value.message


def test_a_truncated_recording_is_refused(folder: Path) -> None:
    lines = (folder / "02_01.amc").read_text().splitlines(keepends=True)
    (folder / "02_01.amc").write_text("".join(lines[:-3]))
    with pytest.raises(MotionError, match="ends within a frame"):
        read_amc(folder / "02_01.amc")
    (folder / "02_01.amc").write_text("".join(lines[:3]))
    with pytest.raises(MotionError, match="no frames"):
        read_amc(folder / "02_01.amc")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["02.asf", "02_01.amc"]), st.data())
def test_damage_never_gets_past_as_anything_but_a_motion_error(folder: Path, name: str, data: st.DataObject) -> None:
    for intact in ("02.asf", "02_01.amc"):
        shutil.copy(GOLDEN / intact, folder / intact)
    content = (folder / name).read_bytes()
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.sampled_from([0, 1, 3, 30, 500]))
        inserted = data.draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b":", b"begin\n", b"end\n", b"nan ", b"1e999 ", b"\nroot ", b"\n", b"\n7\n", b"\0"]),
            )
        )
        content = content[:at] + inserted + content[at + cut :]
    (folder / name).write_bytes(content)
    try:
        motion = load(folder / "02_01.amc")
    except MotionError as error:
        assert len(f"{error.message}\n{error.hint}".splitlines()) <= 3
        return
    assert np.isfinite(motion.pose).all()
