"""Work on a Dask cluster of two worker processes of this machine, one of which is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from mclip.data.preprocess import preprocess
from mclip.data.store import read_store
from mclip.errors import UsageError
from mclip.formats import save
from mclip.motion import load_npz
from mclip.pack import Pack
from mclip.runtime.index import load_index
from tests.fakes import swinging
from tests.test_preprocess import GOLDEN, NAMES, _assert_same

distributed = pytest.importorskip("distributed", reason="comes with the extra dask")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited two minutes"
        time.sleep(0.02)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of Dask's, until the block ends."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler and the processes of its two workers, which have one thread each."""
    with ExitStack() as stack:
        file = tmp_path / "scheduler.json"
        scheduler = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        stack.enter_context(started(*scheduler, "--scheduler-file", str(file)))
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        worker = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        workers = [
            stack.enter_context(started(*worker, "--local-directory", str(tmp_path / f"worker{number}")))
            for number in range(2)
        ]
        yield address, workers


def mclip(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mclip", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_worker_costs_nothing_but_time(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, workers = cluster
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in NAMES:
        motion = load_npz(GOLDEN / f"{name}.npz")
        for start in range(0, len(motion) - 40, 4):
            motion.slice(start, start + 40).save(clips / name / f"{name}_{start}.npz")
    (clips / "broken.npz").write_bytes(b"PK")
    here, there = tmp_path / "here.h5", tmp_path / "there.h5"
    preprocess(clips, here, workers=1, drawing=None)
    process = mclip("preprocess", str(clips), "-o", str(there), "--dask", address, "--no-frames", "--json")
    journal = there.with_name(there.name + ".partial")
    wait_for(lambda: len(list(journal.glob("[!.]*"))) > 3 or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    os.kill(workers[0].pid, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["motions"] == len(read_store(here)) and [item["path"] for item in report["skipped"]] == ["broken.npz"]
    _assert_same(here, there)
    assert workers[1].poll() is None


def test_files_are_classified_on_a_cluster_as_they_are_here(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, _ = cluster
    for name in NAMES[:2]:
        shutil.copyfile(GOLDEN / f"{name}.npz", tmp_path / f"{name}.npz")
    runs = [mclip("classify", str(tmp_path), "--json", *more) for more in ([], ["--dask", address])]
    here, there = (run.communicate(timeout=200) for run in runs)
    assert json.loads(here[0]) == json.loads(there[0]), (here, there)


def busy(address: str) -> bool:
    """Whether every worker of the cluster has something to do."""
    with distributed.Client(address, set_as_default=False) as client:
        return all(client.processing().values())


def test_an_index_is_made_on_a_cluster_one_of_whose_workers_is_killed(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tiny_pack: Pack, tmp_path: Path
) -> None:
    address, workers = cluster
    library = tmp_path / "library"
    for take in range(60):
        # A tenth of a second to read.
        save(library / f"{take}.bvh", swinging("head", 0, take, frames=200))
    (library / "torn.bvh").write_text("HIERARCHY")
    for path in library.iterdir():
        os.utime(path, (1e9, 1e9))
    words = ("search", "nods", str(library), "--pack", str(tiny_pack.path), "--json")
    here = mclip(*words, "--index", str(tmp_path / "here")).communicate(timeout=200)
    process = mclip(*words, "--index", str(tmp_path / "there"), "--dask", address)
    wait_for(lambda: busy(address) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    os.kill(workers[0].pid, signal.SIGKILL)
    there = process.communicate(timeout=200)
    assert process.returncode == 0, there
    assert json.loads(there[0]) == json.loads(here[0])
    one, other = load_index(tmp_path / "there"), load_index(tmp_path / "here")
    assert one.entries == other.entries and len(one.entries) == 61
    np.testing.assert_array_equal(one.latents, other.latents)
    assert workers[1].poll() is None


def test_motions_are_made_on_a_cluster_one_of_whose_workers_is_killed(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tiny_pack: Pack, tmp_path: Path
) -> None:
    address, workers = cluster
    prompts = tmp_path / "prompts.txt"
    # Four blocks.
    prompts.write_text("\n".join(f"a person nods {number}" for number in range(900)))
    here, there = tmp_path / "here", tmp_path / "there"
    words = ("generate", "--file", str(prompts), "--pack", str(tiny_pack.path), "--device", "cpu", "--json")
    alone = mclip(*words, "-o", str(here)).communicate(timeout=200)
    process = mclip(*words, "-o", str(there), "--dask", address)
    wait_for(lambda: len(list(there.glob("*.npz"))) > 9 or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    os.kill(workers[0].pid, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert workers[1].poll() is None
    listed = [[Path(item["path"]).name for item in json.loads(each)["motions"]] for each in (out, alone[0])]
    assert listed[0] == listed[1] and len(listed[0]) == 900
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        path.name: path.read_bytes() for path in here.iterdir()
    }


def test_mistakes_with_a_cluster_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(GOLDEN / f"{NAMES[0]}.npz", tmp_path / "clip.npz")
    output = tmp_path / "new" / "store.h5"
    with pytest.raises(UsageError, match="--workers"):
        preprocess(tmp_path, output, workers=2, dask="tcp://127.0.0.1:1", drawing=None)
    monkeypatch.setattr("mclip.formats.cluster._TIMEOUT_S", 1)
    with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:1: no Dask scheduler answers"):
        preprocess(tmp_path, output, dask="tcp://127.0.0.1:1", drawing=None)
    assert not output.parent.exists()
