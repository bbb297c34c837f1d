"""Disks that are full, files that change or go while they are read, and two runs at once, met by the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mclip.data import workers
from mclip.data.sources import read_takes
from mclip.data.store import write_store
from mclip.data.workers import Job, work
from mclip.errors import UsageError
from mclip.files import sweep, write_text
from mclip.formats import folder as reading
from mclip.formats import load_all
from mclip.formats.folder import CHANGED, read_file
from mclip.locks import locked
from mclip.pack import Pack
from tests.commands import Run, runner
from tests.fakes import swinging

resource = pytest.importorskip("resource", reason="limits of file sizes are other elsewhere")


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Files may not grow beyond `room` bytes: the system refuses, as it does where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def mclip(tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    for place in range(3):
        swinging("head", 0, place).save(tmp_path / "clips" / f"nod_{place}.npz")
    (tmp_path / "prompts.txt").write_text("nods\nbends\n")
    return runner(monkeypatch, capsys)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "line",
    [
        "generate nods -o new/a.npz",
        "generate nods waves -o new",
        "generate --file prompts.txt -o new",
        "edit clips/nod_0.npz --add waves -o new.npz",
        "interpolate clips/nod_0.npz nods -o new",
        "convert clips/nod_0.npz new.bvh",
        "convert clips/nod_0.npz new.glb",
        "view clips/nod_0.npz -o new.html",
        "view clips/nod_0.npz -o new.png",
        "search nods clips",
    ],
)
def test_a_full_disk_is_told_and_nothing_is_left(mclip: Run, tmp_path: Path, line: str) -> None:
    before = contents(tmp_path)
    with full_disk(100):
        done = mclip(*line.split())
    assert (done.code, done.out) == (2, "")
    assert "cannot write there" in done.err and len(done.err.splitlines()) <= 3
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("room", [10, 4_000, 100_000])
def test_a_store_that_does_not_fit_is_told_as_the_system_tells_it(tmp_path: Path, room: int) -> None:
    with full_disk(room), pytest.raises(UsageError, match=r"store\.h5: cannot write there \(File too large\)$"):
        with write_store(tmp_path / "store.h5", frames=400, fps=30, options={}) as writer:
            writer.add_motion(np.zeros((400, 24, 6), np.float32), np.zeros((400, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_a_second_search_does_not_write_the_index_of_the_first(mclip: Run, tmp_path: Path) -> None:
    with locked(tmp_path / "clips" / ".mclip-index.lock", "", ""):
        done = mclip("search", "nods", "clips")
        assert done.code == 2
        assert f"another mclip search is reading the library's motions (process {os.getpid()})" in done.err
    assert mclip("search", "nods", "clips").code == 0
    assert not (tmp_path / "clips" / ".mclip-index.lock").exists()


def test_an_index_that_is_up_to_date_needs_no_lock(mclip: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "clips").iterdir():
        os.utime(path, (1e9, 1e9))
    assert mclip("search", "nods", "clips").code == 0
    with locked(tmp_path / "clips" / ".mclip-index.lock", "", ""):
        assert mclip("search", "nods", "clips").code == 0


def rewritten(path: Path) -> None:
    swinging("head", 0, 9).save(path)


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    rewritten(path)

    def slow(path: Path) -> object:
        motions = load_all(path)
        rewritten(path)
        return motions

    monkeypatch.setattr(reading, "load_all", slow)
    assert read_file(path, 30.0).reason == CHANGED


def test_preprocess_keeps_nothing_of_a_file_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten(tmp_path / "a.npz")
    job = Job(root=tmp_path, path="a.npz", journal=tmp_path / "journal", fps=30, rig=None, drawing=None, key="")
    for after in (rewritten, Path.unlink):
        with monkeypatch.context() as patch:
            patch.setattr(workers, "read_takes", lambda path, **options: (read_takes(path, **options), after(path))[0])  # noqa: B023
            entry = work(job)
        assert (entry.reason, entry.sha256, entry.takes) == (CHANGED, "", ())
        assert not (tmp_path / "journal").exists()
    assert work(job).reason == "cannot be read (No such file or directory)"


def test_only_what_kills_left_of_a_file_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    write_text(path, "whole")
    left = tmp_path / ".curves-a1b2_3d4.csv"
    others = [
        tmp_path / name for name in (".curves.csv", ".curves-a1b2_3d4.txt", "curves-a1b2_3d4.csv", ".curve-s.csv")
    ]
    for file in (left, *others):
        shutil.copy(path, file)
    sweep(path)
    assert not left.exists()
    assert all(file.exists() for file in (path, *others))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(mclip: Run, tmp_path: Path) -> None:
    (tmp_path / "clips").chmod(0o555)
    done = mclip("search", "nods", "clips")
    assert done.code == 2 and "keep the index elsewhere with --index" in done.err
    assert mclip("search", "nods", "clips", "--index", "elsewhere").code == 0


@pytest.mark.skipif(os.name == "nt", reason="signals are other there")
def test_an_interrupt_while_modules_are_loaded_is_a_line(tmp_path: Path) -> None:
    # The command line's own module waits to be imported until it is interrupted.
    code = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "mclip.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from mclip.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mclip: interrupted\n")
