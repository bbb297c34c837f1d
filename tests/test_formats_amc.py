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
from mclip.formats import load
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
        ("02_01.amc", "root 1", "root x1", "not numbers"),
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
