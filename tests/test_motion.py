"""The motion type, and every variant of AMASS's .npz."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

import mclip.motion
from mclip.errors import MotionError, UsageError
from mclip.geometry import angle_between, axis_angle_to_matrix
from mclip.motion import (
    MAX_BETA,
    MAX_FPS,
    MAX_FRAMES,
    MAX_METRES,
    MAX_RADIANS,
    MIN_FPS,
    SHAPE_FILES,
    Motion,
    load_npz,
    summarize,
)

FRAMES = 7


def _random(frames: int = FRAMES, fps: float = 30.0, **fields: Any) -> Motion:
    rng = np.random.default_rng(3)
    return Motion(
        pose=rng.normal(scale=0.7, size=(frames, 24, 3)).astype(np.float32),
        transl=rng.normal(size=(frames, 3)).astype(np.float32),
        fps=fps,
        **fields,
    )


def _amass(path: Path, width: int = 156, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(width)
    arrays: dict[str, Any] = {
        "poses": rng.normal(size=(FRAMES, width)),
        "trans": rng.normal(size=(FRAMES, 3)),
        "betas": rng.normal(size=16),
        "gender": np.array("female"),
        "mocap_framerate": np.array(120.0),
    }
    arrays |= changes
    arrays = {name: value for name, value in arrays.items() if value is not None}
    np.savez(path, **arrays)
    return arrays


def test_a_saved_motion_reads_back_the_same(tmp_path: Path) -> None:
    motion = _random(fps=29.97, betas=np.linspace(-1, 1, 10, dtype=np.float32), gender="male", origin={"prompt": "föö"})
    motion.save(tmp_path / "m.npz")
    read = load_npz(tmp_path / "m.npz")
    for name in ("pose", "transl", "betas"):
        assert np.array_equal(getattr(read, name), getattr(motion, name))
    assert (read.fps, read.gender) == (motion.fps, motion.gender)
    assert read.origin["prompt"] == "föö"
    assert "version" in read.origin


def test_what_is_saved_is_amass_readable_with_numpy_alone(tmp_path: Path) -> None:
    motion = _random(origin={"prompt": "föö", "command": "generate"})
    motion.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert file["poses"].shape == (FRAMES, 156)
        assert file["poses"].dtype == np.float32
        assert file["trans"].shape == (FRAMES, 3)
        assert file["betas"].shape == (10,)
        assert str(file["gender"]) == "neutral"
        assert float(file["mocap_framerate"]) == 30.0
        assert json.loads(str(file["mclip"]))["command"] == "generate"
        assert '"prompt": "föö"' in str(file["mclip"])  # for people too
        joints = file["poses"].reshape(FRAMES, 52, 3)
    assert np.array_equal(joints[:, :22], motion.pose[:, :22])
    assert np.array_equal(joints[:, 22], motion.pose[:, 22])  # left_index1
    assert np.array_equal(joints[:, 37], motion.pose[:, 23])  # right_index1
    fingers = [joint for joint in range(22, 52) if joint not in (22, 37)]
    assert not joints[:, fingers].any()


def test_where_a_motion_comes_from_is_written_in_one_order(tmp_path: Path) -> None:
    for name, origin in (("a", {"prompt": "kick", "seed": 1}), ("b", {"seed": 1, "prompt": "kick"})):
        _random(origin=origin).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("width", "hands"), [(72, (22, 23)), (156, (22, 37)), (165, (25, 40))])
def test_every_width_is_read_with_its_own_hands(tmp_path: Path, width: int, hands: tuple[int, int]) -> None:
    arrays = _amass(tmp_path / "a.npz", width)
    motion = load_npz(tmp_path / "a.npz")
    _amass(tmp_path / "b.npz", width, poses=arrays["poses"].reshape(FRAMES, -1, 3))
    assert np.array_equal(load_npz(tmp_path / "b.npz").pose, motion.pose)
    joints = arrays["poses"].reshape(FRAMES, -1, 3)
    assert motion.pose[:, :22] == pytest.approx(joints[:, :22])
    assert motion.pose[:, 22] == pytest.approx(joints[:, hands[0]])
    assert motion.pose[:, 23] == pytest.approx(joints[:, hands[1]])
    assert motion.pose.dtype == np.float32
    assert motion.transl == pytest.approx(arrays["trans"])
    assert motion.betas == pytest.approx(arrays["betas"][:10])
    assert (motion.fps, motion.gender) == (120.0, "female")


def test_a_body_without_hands_has_straight_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root, body = rng.normal(size=(FRAMES, 3)), rng.normal(size=(FRAMES, 63))
    _amass(tmp_path / "a.npz", poses=None, root_orient=root, pose_body=body)
    motion = load_npz(tmp_path / "a.npz")
    assert motion.pose[:, 0] == pytest.approx(root)
    assert motion.pose[:, 1:22].reshape(FRAMES, 63) == pytest.approx(body)
    assert not motion.pose[:, 22:].any()


@pytest.mark.parametrize("name", ["mocap_framerate", "mocap_frame_rate", "fps"])
def test_the_frame_rate_has_several_names(tmp_path: Path, name: str) -> None:
    changes: dict[str, Any] = {"mocap_framerate": None} | {name: np.array(59.94)}
    _amass(tmp_path / "a.npz", **changes)
    assert load_npz(tmp_path / "a.npz").fps == pytest.approx(59.94)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(np.array("female"), "female"), (np.array(b"male"), "male"), (np.array("FEMALE"), "female"),
     (np.array(["male"]), "male"), (np.array("unknown"), "neutral"),
     (np.array("\U0010ffff"), "neutral"), (np.array(3), "neutral"), (None, "neutral")],
)  # fmt: skip
def test_gender_is_read_however_it_is_spelled(tmp_path: Path, stored: Any, expected: str) -> None:
    _amass(tmp_path / "a.npz", gender=stored)
    assert load_npz(tmp_path / "a.npz").gender == expected


@pytest.mark.parametrize("betas", [None, np.zeros(0), np.ones(3), np.ones(16), np.ones((1, 10))])
def test_betas_of_any_number_become_ten(tmp_path: Path, betas: Any) -> None:
    _amass(tmp_path / "a.npz", betas=betas)
    read = load_npz(tmp_path / "a.npz").betas
    assert read.shape == (10,)
    assert read.sum() == pytest.approx(0 if betas is None else min(betas.size, 10))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"poses": None}, "has no 'poses'"),
        ({"poses": np.zeros((FRAMES, 157))}, "shape"),
        ({"poses": np.zeros((FRAMES, 0))}, "shape"),
        ({"poses": np.zeros(156)}, "shape"),
        ({"poses": np.zeros((FRAMES, 78, 2))}, "shape"),
        ({"poses": np.zeros((FRAMES, 4, 13, 3))}, "shape"),
        ({"poses": np.full((FRAMES, 156), np.nan)}, "NaN"),
        ({"poses": np.full((FRAMES, 156), "x")}, "not numbers"),
        ({"poses": np.zeros((FRAMES, 156), complex)}, "not numbers"),
        ({"poses": np.zeros((0, 156)), "trans": np.zeros((0, 3))}, "no frames"),
        ({"poses": np.zeros((0, 52, 3)), "trans": np.zeros((0, 3))}, "no frames"),
        ({"trans": None}, "'trans'"),
        ({"trans": np.zeros((FRAMES + 1, 3))}, "trans"),
        ({"trans": np.full((FRAMES, 3), np.inf)}, "NaN or infinite"),
        ({"trans": np.full((FRAMES, 3), "x")}, "not numbers"),
        ({"trans": np.full((FRAMES, 3), 1e300)}, "infinite"),
        ({"betas": np.array(["x"])}, "not numbers"),
        ({"betas": np.full(10, np.nan)}, "betas"),
        ({"mocap_framerate": None}, "frame rate"),
        ({"mocap_framerate": np.array(0.0)}, "frame rate"),
        ({"mocap_framerate": np.array(-30.0)}, "frame rate"),
        ({"mocap_framerate": np.array(np.nan)}, "frame rate"),
        ({"mocap_framerate": np.array(1e9)}, "frame rate"),
        ({"mocap_framerate": np.array("fast")}, "not a number"),
        ({"mocap_framerate": np.zeros(0)}, "not a number"),
        ({"mocap_framerate": np.array("2020-01-01", "datetime64[D]")}, "not a number"),
        ({"poses": None, "root_orient": np.zeros((FRAMES, 3)), "pose_body": np.zeros((FRAMES + 1, 63))}, "fit"),
        ({"poses": None, "pose_body": np.zeros((FRAMES, 63))}, "has no 'poses'"),
        ({"gender": np.frombuffer(b"\xff" * 4, "U1")}, "no character"),
    ],
)
def test_a_bad_array_is_refused_with_the_file_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    _amass(tmp_path / "a.npz", **changes)
    with pytest.raises(MotionError) as caught:
        load_npz(tmp_path / "a.npz")
    assert "a.npz" in caught.value.message
    assert says in caught.value.message


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    poses = np.empty((FRAMES, 156), object)
    poses[...] = Trap()
    _amass(tmp_path / "a.npz", poses=poses)
    with pytest.raises(MotionError):
        load_npz(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


def test_arrays_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    _amass(tmp_path / "a.npz", marker_labels=np.array([{"a": 1}], object))
    assert len(load_npz(tmp_path / "a.npz")) == FRAMES


def test_a_zip_that_claims_to_unpack_to_terabytes_is_refused_unread(tmp_path: Path) -> None:
    _amass(tmp_path / "a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    # The uncompressed size, 24 bytes into the central directory's entry for poses.npy.
    entry = content.index(b"PK\x01\x02")
    while content[entry + 46 : entry + 55] != b"poses.npy":
        entry = content.index(b"PK\x01\x02", entry + 4)
    content[entry + 24 : entry + 28] = b"\xf0\xff\xff\xff"
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(MotionError, match=r"unpacks to 4\.3 GB, more than 1\.7 GB"):
        load_npz(tmp_path / "a.npz")


def test_an_array_header_that_lies_about_its_shape_is_refused(tmp_path: Path) -> None:
    _amass(tmp_path / "a.npz")
    lie = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        lie, {"descr": "<f8", "fortran_order": False, "shape": (MAX_FRAMES * 1000, 156)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("poses.npy", lie.getvalue() + b"\0" * 64)
    with pytest.raises(MotionError):
        load_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(MotionError, match=r"a\.npz"):
        load_npz(tmp_path / "a.npz")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="no such file"):
        load_npz(tmp_path / "a.npz")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damage_never_gets_past_as_anything_but_a_motion_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npz"
    _random().save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.integers(0, 255))
        else:
            del content[at : at + data.draw(st.integers(1, 2000))]
            content = content or bytearray(b"x")
    path.write_bytes(content)
    try:
        motion = load_npz(path)
    except MotionError:
        return
    assert np.isfinite(motion.pose).all()


@pytest.mark.parametrize(
    ("width", "moved", "says"),
    [
        (66, (1, 21), None),
        (72, (), None),
        (156, (), None),
        (156, (22, 37), None),  # SMPL's hands
        (156, (23,), "fingers"),
        (156, (51,), "fingers"),
        (165, (25, 40), None),
        (165, (22,), "face"),
        (165, (24, 26), "fingers, face"),
    ],
)
def test_what_no_motion_holds_of_a_file_is_told(
    tmp_path: Path, width: int, moved: tuple[int, ...], says: str | None
) -> None:
    poses = np.zeros((FRAMES, width // 3, 3))
    poses[FRAMES // 2, list(moved), 1] = 0.1
    _amass(tmp_path / "a.npz", poses=poses.reshape(FRAMES, width), betas=np.ones(10))
    motion = load_npz(tmp_path / "a.npz")
    assert motion.origin.get("left_out") == says
    # It is of this file: the one that is written from it lacks nothing.
    motion.save(tmp_path / "b.npz")
    assert "left_out" not in load_npz(tmp_path / "b.npz").origin
    _amass(tmp_path / "c.npz", poses=poses.reshape(FRAMES, width), betas=np.ones(11))
    assert load_npz(tmp_path / "c.npz").origin["left_out"].endswith("betas beyond 10")


def test_a_strange_mclip_entry_is_no_reason_to_refuse_a_file(tmp_path: Path) -> None:
    for entry in ("", "[1, 2]", "{", "[" * 100_000):
        _amass(tmp_path / "a.npz", mclip=np.array(entry))
        assert load_npz(tmp_path / "a.npz").origin.keys() == {"left_out"}


def test_motions_of_the_wrong_shape_or_rate_are_refused() -> None:
    good = _random()
    with pytest.raises(MotionError, match="shape"):
        Motion(pose=good.pose[:, :23], transl=good.transl, fps=30)
    with pytest.raises(MotionError, match="shape"):
        Motion(pose=good.pose, transl=good.transl[1:], fps=30)
    with pytest.raises(MotionError, match="no frames"):
        good.slice(2, 2)
    for fps in (0, 0.99 * MIN_FPS, 1.001 * MAX_FPS):
        with pytest.raises(MotionError, match="frame rate"):
            Motion(pose=good.pose, transl=good.transl, fps=fps)
    with pytest.raises(MotionError, match="NaN"):
        Motion(pose=good.pose * np.float32(np.nan), transl=good.transl, fps=30)


def test_a_motion_may_be_at_the_limits_and_not_beyond_them() -> None:
    for fps in (MIN_FPS, MAX_FPS):
        assert _random(frames=1, fps=fps).seconds == pytest.approx(1 / fps)
    one = _random(frames=1)
    for name, limit in (("pose", MAX_RADIANS), ("transl", MAX_METRES), ("betas", MAX_BETA)):
        values = getattr(one, name)
        replace(one, **{name: np.full_like(values, -limit)})
        with pytest.raises(MotionError, match=f"{name} holds .* more than") as caught:
            replace(one, **{name: np.full_like(values, -1.001 * limit)})
        assert "unit" in caught.value.hint


def test_recordings_longer_than_any_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _amass(tmp_path / "a.npz")
    monkeypatch.setattr(mclip.motion, "MAX_FRAMES", FRAMES)
    motion = load_npz(tmp_path / "a.npz")
    assert len(motion.resample(motion.fps / 2).resample(motion.fps)) == FRAMES
    with pytest.raises(MotionError, match="more than 7"):
        motion.resample(motion.fps * 7 / 6)
    monkeypatch.setattr(mclip.motion, "MAX_FRAMES", FRAMES - 1)
    with pytest.raises(MotionError, match="has 7 frames, more than 6"):
        load_npz(tmp_path / "a.npz")


def test_saving_into_a_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        _random().save(tmp_path / "file" / "m.npz")


@pytest.mark.parametrize(("fps", "frames"), [(12.0, 16), (30.0, 40), (50.0, 66), (120.0, 157), (29.97, 39)])
@pytest.mark.parametrize("block", [7, 1000])
def test_resampling_agrees_with_scipys_slerp(
    fps: float, frames: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mclip.motion, "_BLOCK", block)  # frames that are worked on at a time
    motion = _random(frames=40, fps=30.0)
    again = motion.resample(fps)
    assert len(again) == frames
    times = np.arange(len(again)) / fps
    for joint in (0, 5, 20):
        keys = Rotation.from_rotvec(motion.pose[:, joint])
        expected = Slerp(np.arange(len(motion)) / 30.0, keys)(np.minimum(times, (len(motion) - 1) / 30.0)).as_matrix()
        angles = angle_between(axis_angle_to_matrix(again.pose[:, joint].astype(np.float64)), expected)
        assert np.rad2deg(angles).max() < 0.01
    expected = np.stack(
        [np.interp(times, np.arange(len(motion)) / 30.0, motion.transl[:, axis]) for axis in range(3)], 1
    )
    assert again.transl == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fps", [30.0, 30.00001, 29.99999])
def test_resampling_to_the_same_rate_changes_nothing_else(fps: float) -> None:
    motion = _random()
    wound = replace(motion, pose=motion.pose * 5)
    again = wound.resample(fps)
    assert np.array_equal(again.pose, wound.pose)
    assert again.fps == fps


def test_a_slice_has_the_frames_asked_for() -> None:
    motion = _random()
    part = motion.slice(2, 5)
    assert np.array_equal(part.pose, motion.pose[2:5])
    assert len(part) == 3
    assert part.seconds == pytest.approx(0.1)


def test_shape_files_of_an_amass_tree_are_told_apart() -> None:
    assert "a/shape.npz".endswith(SHAPE_FILES)
    assert "a/female_stagei.npz".endswith(SHAPE_FILES)
    assert not "a/walk_stageii.npz".endswith(SHAPE_FILES)


@pytest.mark.parametrize("origin", ['{"x": NaN}', '{"x": -Infinity}', '{"x": 1e999}'])
def test_an_origin_with_what_is_no_number_is_none(tmp_path: Path, origin: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, poses=np.zeros((3, 156)), trans=np.zeros((3, 3)), mocap_framerate=30.0, mclip=np.array(origin))
    assert load_npz(path).origin == {}


def test_a_file_says_what_it_is_without_its_poses_being_read(tmp_path: Path) -> None:
    _random(origin={"prompt": "kick"}).save(tmp_path / "a.npz")
    summary = summarize(tmp_path / "a.npz")
    assert summary is not None
    assert (summary.frames, summary.fps, summary.origin["prompt"]) == (FRAMES, 30.0, "kick")
    _amass(tmp_path / "b.npz", poses=None)
    assert summarize(tmp_path / "b.npz") == (FRAMES, 120.0, {})
    assert summarize(tmp_path / "nowhere.npz") is None
