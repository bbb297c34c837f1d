"""One process at a time, and nothing stale: locks are the operating system's."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mclip import locks
from mclip.errors import UsageError
from mclip.locks import acquire, locked

_HOLD = """
import sys, time
from pathlib import Path
from mclip.locks import acquire
lock = acquire(Path(sys.argv[1]), "busy", "wait")
print("locked", flush=True)
time.sleep(60)
"""


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Another process that has the lock, and is killed in the end."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"locked\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def test_who_has_the_lock_is_named_and_a_kill_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path) as number:
        with pytest.raises(UsageError) as caught:
            acquire(path, "out: is being written", "wait for it")
        assert caught.value.message == f"out: is being written (process {number})"
    assert path.exists()  # what a kill leaves is nobody's
    with locked(path, "busy", ""):
        assert path.read_text().split()[0] == str(os.getpid())
    assert not path.exists()


def test_another_machine_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_TRIES", 1)
    path = tmp_path / "lock"
    with held(path) as number:
        path.write_text(f"{number} elsewhere")
        with pytest.raises(UsageError, match=rf"busy \(process {number} on elsewhere\)"):
            acquire(path, "busy", "")
        path.write_text("half of a nam")
        with pytest.raises(UsageError, match=r"busy$"):
            acquire(path, "busy", "")


def test_a_thread_of_the_same_process_is_another_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_TRIES", 1)
    with locked(tmp_path / "lock", "busy", ""), pytest.raises(UsageError):
        acquire(tmp_path / "lock", "busy", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows always has locks")
def test_a_file_system_without_locks_keeps_nobody_from_working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "lock", "busy", ""):
        pass
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        acquire(tmp_path / "missing" / "lock", "busy", "")
