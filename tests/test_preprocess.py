"""A folder of real motions into a store: whole, the same after any interruption, and not stopped by bad files."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from mclip.cli import app
from mclip.data import images, sources
from mclip.data import preprocess as preprocessing
from mclip.data.images import Drawing, draw
from mclip.data.preprocess import preprocess
from mclip.data.store import read_store
from mclip.data.workers import work
from mclip.errors import AssetError, DataError, UsageError
from mclip.motion import Motion, load_npz

GOLDEN = Path(__file__).parent / "golden" / "kaykit"
NAMES = ("Cheer", "Dodge_Left", "Sit_Chair_Down", "Unarmed_Melee_Attack_Kick")
LENGTHS = (83, 77, 66, 93)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with four real motions of 83, 77, 66 and 93 frames at 30 fps."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in NAMES:
        shutil.copyfile(GOLDEN / f"{name}.npz", folder / f"{name}.npz")
    return folder


def _arrays(path: Path) -> dict[str, Any]:
    """Every dataset and attribute of a store."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        found.update({f"@{name}": value for name, value in file.attrs.items()})
        file.visititems(lambda name, item: found.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None)
    return found


def _assert_same(first: Path, second: Path) -> None:
    one, other = _arrays(first), _arrays(second)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_every_motion_is_in_the_store(clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "motions.h5"
    report = preprocess(clips, output, workers=1)
    store = read_store(output)
    assert store.path == tuple(f"{name}.npz" for name in NAMES)
    assert tuple(np.diff(store.offsets)) == LENGTHS
    assert (report.motions, report.files, report.frames, report.skipped) == (4, 4, sum(LENGTHS), ())
    assert report.seconds == pytest.approx(sum(LENGTHS) / 30)
    assert store.texts[:3] == ("cheer", "dodge left", "dodge right")
    assert store.captions.mirrored.tolist() == [0, 2, 3, 4]
    assert store.captions.stop.tolist() == list(LENGTHS)
    for number, name in enumerate(NAMES):
        motion, stored = load_npz(GOLDEN / f"{name}.npz"), store.motion(number)
        turn = Rotation.from_rotvec(motion.pose.reshape(-1, 3)) * Rotation.from_rotvec(stored.pose.reshape(-1, 3)).inv()
        assert turn.magnitude().max() < 1e-4
        np.testing.assert_array_equal(motion.transl, stored.transl)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "motions.h5"]


def test_files_of_every_kind_are_read(tmp_path: Path) -> None:
    report = preprocess(GOLDEN.parent, tmp_path / "motions.h5", workers=1)
    # What two other folders hold is numbers, not motions, and one holds bad files.
    assert {path.partition("/")[0] for path, _ in report.skipped} == {"bad", "clip", "motionclip"}
    store = read_store(tmp_path / "motions.h5")
    assert {path.partition("#")[0].rpartition(".")[2] for path in store.path} == {"npz", "bvh", "amc", "glb"}
    takes = [path for path in store.path if "#" in path]
    assert takes == ["kaykit/knight.glb#Idle", "kaykit/knight.glb#Sit_Chair_Down"]
    assert {store.split[store.path.index(take)] for take in takes} == {store.split[store.path.index(takes[0])]}
    assert store.source[store.path.index(takes[0])] == "kaykit"
    # The same animation, read from the rig by us and from the .npz that was made of it; there its last pose is held.
    rig, file = (store.motion(store.path.index(path)) for path in (takes[1], "kaykit/Sit_Chair_Down.npz"))
    file = file.slice(0, len(rig))
    turn = Rotation.from_rotvec(rig.pose.reshape(-1, 3)) * Rotation.from_rotvec(file.pose.reshape(-1, 3)).inv()
    assert np.degrees(turn.magnitude()).max() < 1.0


def test_motions_are_resampled(clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "motions.h5"
    preprocess(clips, output, fps=10.0, workers=1)
    store = read_store(output)
    # The last frame kept is the last third frame of the recording.
    assert [store.length(number) for number in range(4)] == [(length - 1) // 3 + 1 for length in LENGTHS]
    np.testing.assert_allclose(store.motion(0).transl, load_npz(GOLDEN / "Cheer.npz").transl[::3], atol=1e-6)
    assert store.fps == 10.0


def test_images_show_the_middle_of_each_window(clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "motions.h5"
    report = preprocess(clips, output, workers=1, drawing=Drawing(size=64))
    store = read_store(output)
    assert store.frames is not None
    assert report.images == len(store.frames) == 8
    # 83 frames: windows 0 to 60 and 60 to 83.
    assert store.frames.frame[:2].tolist() == [30, 71]
    assert store.frames.motion.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (store.body, store.renderer) == ("free", "numba")
    assert "64 px" in store.camera
    for content in store.frames.read(range(8)):
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.size) == ("WEBP", (64, 64))
            pixels = np.asarray(image.convert("L"))
        # A body on white: something dark in the middle, nothing in the corners.
        assert pixels[24:40, 24:40].min() < 200
        assert min(pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1]) > 250


def test_pictures_of_a_long_recording_are_drawn_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    short = load_npz(GOLDEN / "Sit_Chair_Down.npz")
    pose, transl = np.tile(short.pose, (120, 1, 1)), np.tile(short.transl, (120, 1))
    motion, drawing = Motion(pose=pose, transl=transl, fps=30), Drawing(size=128)
    at_once = draw(motion, drawing)  # 132 pictures: 8.7 MB before they are encoded, and numba is warm
    monkeypatch.setattr(images, "_AT_ONCE", 1 << 20)
    tracemalloc.start()
    some_at_a_time = draw(motion, drawing)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert some_at_a_time == at_once
    assert most < 5 << 20


def test_memory_does_not_grow_with_the_number_of_pictures(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, size = np.random.default_rng(0), 1 << 19
    monkeypatch.setattr(sources, "draw", lambda motion, drawing: [(f, random.bytes(size)) for f in range(4)])
    monkeypatch.setattr(preprocessing, "run_jobs", lambda jobs, *_: [work(job) for job in jobs])
    most = []
    for copies in (1, 5):
        for name, copy in itertools.product(NAMES, range(copies)):
            shutil.copyfile(GOLDEN / f"{name}.npz", clips / f"{name}{copy}.npz")
        tracemalloc.start()
        report = preprocess(clips, tmp_path / f"{copies}.h5", drawing=Drawing(size=16))
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert report.images == 4 * 6 * len(NAMES)
    assert (tmp_path / "5.h5").stat().st_size > report.images * size > 4 * most[1]
    assert most[1] < 1.2 * most[0]


def test_the_number_of_workers_and_their_order_change_nothing(clips: Path, tmp_path: Path) -> None:
    preprocess(clips, tmp_path / "one.h5", workers=1, drawing=Drawing(size=16))
    preprocess(clips, tmp_path / "three.h5", workers=3, drawing=Drawing(size=16))
    _assert_same(tmp_path / "one.h5", tmp_path / "three.h5")


RUN = """
import sys
from pathlib import Path
from mclip.data.preprocess import preprocess
if __name__ == "__main__":
    preprocess(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
"""


def test_a_run_killed_at_any_moment_and_started_again_gives_the_same_store(clips: Path, tmp_path: Path) -> None:
    for name, length in zip(NAMES, LENGTHS, strict=True):
        motion = load_npz(GOLDEN / f"{name}.npz")
        for start in range(0, length - 40, 6):
            motion.slice(start, start + 40).save(clips / name / f"{name}_{start}.npz")
    shutil.copytree(GOLDEN.parent / "bvh", clips / "bvh")
    (clips / "broken.npz").write_bytes(b"PK")
    files = sum(path.suffix in (".npz", ".bvh") for path in clips.rglob("*"))
    undisturbed, killed = tmp_path / "undisturbed.h5", tmp_path / "killed.h5"
    command = [sys.executable, "-c", RUN, str(clips)]
    subprocess.run([*command, str(undisturbed)], check=True)
    chance = random.Random(time.time_ns())
    # The last kill comes while the store itself is written, if that takes long enough.
    for kept in (chance.randint(1, files // 2), chance.randint(files // 2, files - 1), files):
        process = subprocess.Popen([*command, str(killed)])
        _wait_for(lambda: process.poll() is not None or _entries(killed) >= kept)  # noqa: B023
        time.sleep(chance.uniform(0.0, 0.02))
        process.kill()
        process.wait()
        assert _entries(killed) >= kept or killed.exists()
    subprocess.run([*command, str(killed)], check=True)
    _assert_same(undisturbed, killed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "killed.h5", "undisturbed.h5"]


def _entries(output: Path) -> int:
    journal = output.with_name(output.name + ".partial")
    return len([file for file in journal.glob("[!.]*") if file.name not in ("lock", "store")])


def test_workers_end_with_a_killed_parent(clips: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    # A worker that waits for ever: it reads a pipe that nobody writes.
    wait = "import mclip.data.workers as workers\nworkers.sha256 = lambda path: open(sys.argv[3]).read()\n"
    code = RUN.replace("if __name__", wait + "if __name__")
    script = tmp_path / "run.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script), str(clips), str(tmp_path / "o.h5"), str(tmp_path / "fifo")],
        stderr=subprocess.DEVNULL,
    )
    children = _wait_for(lambda: [pid for pid in _children(process.pid) if "spawn_main" in _command(pid)])
    process.kill()
    process.wait()
    _wait_for(lambda: not any("spawn_main" in _command(pid) for pid in children))


def _wait_for(condition: Any) -> Any:
    for _ in range(6000):
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("waited a minute")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_what_an_interrupted_run_finished_is_not_done_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "motions.h5"
    monkeypatch.setattr("mclip.data.preprocess._assemble", _power_failure)
    with pytest.raises(RuntimeError, match="power"):
        preprocess(clips, output, workers=1)
    monkeypatch.undo()
    assert not output.exists()
    journal = tmp_path / "motions.h5.partial"
    entries = [path for path in journal.iterdir() if path.name != "lock"]
    assert len(entries) == 4
    # One entry was damaged by the disk, one source file changed meanwhile: both are done again.
    entries[0].write_bytes(entries[0].read_bytes()[:-100])
    load_npz(clips / "Cheer.npz").slice(0, 50).save(clips / "Cheer.npz")
    report = preprocess(clips, output, workers=1)
    assert report.reused in (2, 3)
    assert read_store(output).length(0) == 50
    assert not journal.exists()


def _power_failure(*_: object) -> None:
    raise RuntimeError("power failed")


def test_a_complete_output_is_left_alone(clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "motions.h5"
    (clips / "broken.npz").write_bytes(b"")
    first = preprocess(clips, output, workers=1)
    before = (output.read_bytes(), output.stat().st_mtime_ns)
    second = preprocess(clips, output, workers=1)
    assert (output.read_bytes(), output.stat().st_mtime_ns) == before
    assert (first.done, second.done) == (True, False)
    assert second.skipped == first.skipped
    assert (second.motions, second.files) == (4, 5)
    assert not (tmp_path / "motions.h5.partial").exists()


def test_an_output_made_otherwise_is_replaced_only_by_force(clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "motions.h5"
    preprocess(clips, output, workers=1)
    before = output.read_bytes()
    with pytest.raises(UsageError, match=r"other options \(fps, seed\)"):
        preprocess(clips, output, fps=20.0, seed=1, workers=1)
    (clips / "Cheer.npz").unlink()
    with pytest.raises(UsageError, match="1 of the files"):
        preprocess(clips, output, workers=1)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "motions.h5"]
    assert preprocess(clips, output, workers=1, force=True).motions == 3
    output.write_text("my diary")
    with pytest.raises(UsageError, match="not a readable HDF5"):
        preprocess(clips, output, workers=1)
    assert output.read_text() == "my diary"


def _write_npz(path: Path, **changes: Any) -> None:
    arrays: dict[str, Any] = {
        "poses": np.zeros((40, 156)),
        "trans": np.zeros((40, 3)),
        "mocap_framerate": np.array(120.0),
    }
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})


def test_bad_files_are_skipped_and_explained(clips: Path, tmp_path: Path) -> None:
    whole = (clips / "Cheer.npz").read_bytes()
    (clips / "empty.npz").write_bytes(b"")
    (clips / "truncated.npz").write_bytes(whole[:-2000])
    (clips / "image.npz").write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    (clips / "text.bvh").write_text("this is a diary")
    (clips / "truncated.bvh").write_text("HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition")
    nan = np.zeros((40, 156))
    nan[3, 3] = np.nan
    _write_npz(clips / "nan.npz", poses=nan)
    _write_npz(clips / "wide.npz", poses=np.zeros((40, 99)))
    _write_npz(clips / "norate.npz", mocap_framerate=None)
    _write_npz(clips / "zerorate.npz", mocap_framerate=np.array(0.0))
    _write_npz(clips / "absurd.npz", mocap_framerate=np.array(1e9))
    _write_npz(clips / "frameless.npz", poses=np.zeros((0, 156)), trans=np.zeros((0, 3)))
    np.savez(clips / "pickle.npz", poses=np.array([print], dtype=object))
    (clips / "folder.npz").mkdir()
    (clips / "dangling.npz").symlink_to(clips / "nowhere")
    os.mkfifo(clips / "pipe.bvh")
    _write_npz(clips / "shape.npz", poses=None)
    _write_npz(clips / "walk_stagei.npz", poses=None)
    (clips / ".hidden.npz").write_bytes(b"")
    (clips / "notes.txt").write_text("not a motion")
    output = tmp_path / "motions.h5"
    report = preprocess(clips, output, workers=2)
    reasons = dict(report.skipped)
    assert report.motions == 4
    assert set(reasons) == {
        *("empty.npz", "truncated.npz", "image.npz", "text.bvh", "truncated.bvh", "nan.npz", "wide.npz", "norate.npz"),
        *("zerorate.npz", "absurd.npz", "frameless.npz", "pickle.npz", "dangling.npz", "pipe.bvh"),
    }
    assert "NaN" in reasons["nan.npz"]
    assert "(40, 99)" in reasons["wide.npz"]
    assert "frame rate" in reasons["norate.npz"]
    assert "has no frames" in reasons["frameless.npz"]
    assert "regular file" in reasons["pipe.bvh"]
    assert not any(str(clips) in reason or "\n" in reason for reason in reasons.values())
    assert {path for path, _, _ in read_store(output).skipped} == set(reasons)


def test_unusual_names_and_links_are_read(clips: Path, tmp_path: Path) -> None:
    (clips / "räume" / "走る 🪑").mkdir(parents=True)
    shutil.copyfile(GOLDEN / "Cheer.npz", clips / "räume" / "走る 🪑" / "jubeln#1.NPZ")
    (clips / "räume" / "oben").symlink_to(clips, target_is_directory=True)
    (clips / "mit_link.npz").symlink_to(GOLDEN / "Dodge_Left.npz")
    output = tmp_path / "motions.h5"
    report = preprocess(clips, output, workers=1)
    store = read_store(output)
    assert report.skipped == ()
    assert store.path[-2:] == ("mit_link.npz", "räume/走る 🪑/jubeln#1.NPZ")
    assert store.source[-2:] == ("", "räume")
    assert "jubeln" in store.texts
    # Two files are copies of others: kept, told, and in the same split as those.
    assert any("2 of 6 files are copies" in note for note in report.notes)
    assert store.split[store.path.index("mit_link.npz")] == store.split[store.path.index("Dodge_Left.npz")]


def test_a_name_that_is_not_unicode_is_skipped(clips: Path, tmp_path: Path) -> None:
    try:
        shutil.copyfile(GOLDEN / "Cheer.npz", os.fsencode(clips) + b"/caf\xe9.npz")
    except OSError:
        pytest.skip("this file system holds Unicode names only")
    report = preprocess(clips, tmp_path / "motions.h5", workers=1)
    assert report.skipped == (("caf?.npz", "its name is not valid Unicode"),)


def test_nothing_to_read_is_a_data_error_and_leaves_nothing(tmp_path: Path) -> None:
    folder, output = tmp_path / "clips", tmp_path / "motions.h5"
    with pytest.raises(DataError, match="no such folder"):
        preprocess(folder, output)
    folder.mkdir()
    with pytest.raises(DataError, match="no motion files") as caught:
        preprocess(folder, output)
    assert ".bvh" in caught.value.hint
    (folder / "readme.txt").write_text("nothing here")
    with pytest.raises(DataError, match="no motion files"):
        preprocess(folder, output)
    (folder / "a.npz").write_bytes(b"")
    (folder / "b.npz").write_bytes(b"")
    with pytest.raises(DataError, match="none of 2 motion files") as caught:
        preprocess(folder, output, workers=1)
    assert caught.value.hint.startswith("a.npz: ")
    with pytest.raises(DataError, match="is not a folder"):
        preprocess(folder / "a.npz", output)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 0.0}, "--fps"),
        ({"fps": float("nan")}, "--fps"),
        ({"fps": 1e6}, "--fps"),
        ({"val": 0.5, "test": 0.5}, "leave nothing"),
        ({"val": -0.1}, "--val"),
        ({"test": float("nan")}, "--test"),
        ({"workers": 0}, "--workers"),
    ],
)
def test_options_out_of_range_are_usage_errors(
    clips: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        preprocess(clips, tmp_path / "motions.h5", **changes)
    assert list(tmp_path.iterdir()) == [clips]


def test_a_missing_body_or_rig_is_told_before_work_begins(clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "motions.h5"
    with pytest.raises(AssetError, match="no such body"):
        preprocess(clips, output, drawing=Drawing(body=tmp_path / "smpl.pkl"))
    with pytest.raises(DataError, match=r"rig\.toml"):
        preprocess(clips, output, rig=tmp_path / "rig.toml")
    with pytest.raises(UsageError, match="renderer"):
        preprocess(clips, output, drawing=Drawing(renderer="blender"))
    with pytest.raises(UsageError, match="--size"):
        Drawing(size=0)
    assert list(tmp_path.iterdir()) == [clips]


def test_an_output_that_cannot_be_written_is_a_usage_error(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        preprocess(clips, tmp_path / "file" / "motions.h5", workers=1)
    with pytest.raises(UsageError, match="is a folder"):
        preprocess(clips, clips, workers=1)


def test_labels_give_captions_times_classes_and_splits(clips: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "path,start,end,caption,label,split\n"
        "Sit_Chair_Down.npz,,,sits down,sit,val\n"
        "Cheer,0.5,1.5,raises the left arm,cheer,\n"
        "Cheer,,,cheers,cheer,test\n"
        "Cheer,2,99,ends,,\n"
        "Cheer,50,99,too late,,\n"
        "broken.npz,,,broken,,\n"
        "Nowhere.npz,,,nowhere,,\n"
    )
    (clips / "broken.npz").write_bytes(b"")
    output = tmp_path / "motions.h5"
    report = preprocess(clips, output, labels=labels, workers=1)
    store = read_store(output)
    captions = store.captions
    columns = (captions.motion, captions.start, captions.stop, captions.text, captions.mirrored, captions.label)
    rows = [
        (store.path[m], int(a), int(b), store.texts[t], store.texts[r], store.labels[c])
        for m, a, b, t, r, c in zip(*columns, strict=True)
    ]
    assert rows == [
        ("Cheer.npz", 15, 45, "raises the left arm", "raises the right arm", "cheer"),
        ("Cheer.npz", 0, 83, "cheers", "cheers", "cheer"),
        ("Cheer.npz", 60, 83, "ends", "ends", "ends"),
        ("Sit_Chair_Down.npz", 0, 66, "sits down", "sits down", "sit"),
    ]
    assert dict(zip(store.path, store.split, strict=True))["Cheer.npz"] == "test"
    assert dict(zip(store.path, store.split, strict=True))["Sit_Chair_Down.npz"] == "val"
    assert report.notes == (
        "1 of 7 label rows are about skipped files",
        "1 of 7 label rows match no motion (line 8: Nowhere.npz)",
        "1 of 7 label rows cover no frame of their motion",
        "2 of 4 motions have no caption",
    )


def test_labels_of_another_folder_are_refused_before_work_begins(clips: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,caption\nclips/Cheer.npz,cheers\n")
    with pytest.raises(DataError, match="none of its paths") as caught:
        preprocess(clips, tmp_path / "motions.h5", labels=labels)
    assert "Cheer.npz" in caught.value.hint


def test_two_runs_do_not_write_one_output(clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "motions.h5"
    with _locked(output), pytest.raises(UsageError, match="another mclip preprocess"):
        preprocess(clips, output, workers=1)
    assert preprocess(clips, output, workers=1).motions == 4


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Hold the lock in another process."""
    code = """
import sys, time
from pathlib import Path
from mclip.data.journal import open_journal
with open_journal(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(output)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_a_file_that_kills_its_worker_costs_itself_only(clips: Path, tmp_path: Path) -> None:
    # The reader of a spawned worker cannot be replaced from here, so the run's own script does it.
    script = tmp_path / "run.py"
    script.write_text(
        "import os, sys\nimport mclip.data.workers as workers\nread = workers.read_takes\n"
        "def read_takes(path, **options):\n"
        "    if path.name == 'Dodge_Left.npz': os.kill(os.getpid(), 9)\n"
        "    return read(path, **options)\n"
        "workers.read_takes = read_takes\n" + RUN
    )
    output = tmp_path / "motions.h5"
    subprocess.run([sys.executable, str(script), str(clips), str(output)], check=True)
    store = read_store(output)
    assert store.skipped[0][0] == "Dodge_Left.npz"
    assert "ended the worker" in store.skipped[0][2]
    assert len(store) == 3


def test_the_command_reports_in_json_and_in_words(clips: Path, tmp_path: Path) -> None:
    (clips / "empty.npz").write_bytes(b"")
    runner = CliRunner()
    result = runner.invoke(app, ["preprocess", str(clips), "--no-frames", "--workers", "1", "--json"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["output"] == str(clips.with_suffix(".h5"))
    assert (report["motions"], report["captions"], report["images"]) == (4, 4, 0)
    assert report["skipped"][0]["path"] == "empty.npz"
    result = runner.invoke(app, ["preprocess", str(clips), "--no-frames", "--strict"])
    assert result.exit_code == 4
    assert "was complete already" in result.stdout
    assert "empty.npz" in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_motion_of_one_frame_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    Motion(pose=np.zeros((1, 24, 3), np.float32), transl=np.zeros((1, 3), np.float32), fps=120.0).save(
        folder / "pose.npz"
    )
    report = preprocess(folder, tmp_path / "motions.h5", workers=1, drawing=Drawing(size=16))
    assert (report.motions, report.frames, report.images) == (1, 1, 1)
