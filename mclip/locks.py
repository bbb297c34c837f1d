"""One process at a time: locks that end with the process that holds them, however it ends.

The lock is the operating system's (flock, on Windows a locked byte), on a file beside what is protected: one that a
kill left behind is held by nobody, so there is nothing stale to recognise. The file names its holder, for messages;
that means nothing once it is unlocked. On NFS the lock holds between machines (Linux since 2.6.12); where a file system
knows none (some of FUSE and Lustre) nothing is held, and two runs are not kept apart.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from mclip.errors import UsageError
from mclip.files import new_folder, open_own

# The lock in a folder that is one process's alone.
FOLDER_LOCK = "lock"
# Who has just been killed while it started a process holds its lock until that process has begun, and some only look.
_TRIES, _PAUSE_S = 10, 0.1
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
# On Windows locked bytes cannot be read: one beyond all that is written.
_BYTE = 1 << 20
_MAX_HOLDER = 300


class Lock:
    """A file that this process has locked; made by `acquire`."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path, self._file = path, file

    def release(self, *, keep: bool = False) -> None:
        """Let others have it, and take the file away unless it is to be kept."""
        if keep:
            self._file.close()
            return
        # While still locked where the system allows it, so that no other run can lock a file that is going away.
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._file.close()
        if os.name == "nt":
            with contextlib.suppress(OSError):
                self._path.unlink()


def acquire(path: Path, busy: str, hint: str) -> Lock:
    """Lock the file `path`, which is made.

    Raises UsageError, `busy` and who it is, while another process has it; OSError when it cannot be made.
    """
    for turn in range(_TRIES):
        if turn:
            time.sleep(_PAUSE_S)
        lock = _try(path)
        if lock is not None:
            return lock
    raise UsageError(f"{busy}{_holder(path)}", hint)


@contextlib.contextmanager
def locked(path: Path, busy: str, hint: str) -> Iterator[None]:
    """A block that holds the lock; raises as `acquire`."""
    lock = acquire(path, busy, hint)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def own_folder(folder: Path, busy: str, hint: str) -> Iterator[None]:
    """A block in which a folder, which is made, is this process's alone; it goes in the end if it holds nothing more.

    Raises UsageError as `acquire` and for a folder of somebody else's, OSError when it cannot be made.
    """
    with new_folder(folder):
        # What it holds may be taken away, so it has to be ours: we leave the lock in a folder that we leave.
        if folder.is_symlink() or FOLDER_LOCK not in (_names(folder) or {FOLDER_LOCK}):
            raise UsageError(f"{folder}: is in the way, and mclip did not make it", "move it, or choose another -o")
        lock = acquire(folder / FOLDER_LOCK, busy, hint)
        try:
            yield
        finally:
            lock.release(keep=_names(folder) > {FOLDER_LOCK})
            with contextlib.suppress(OSError):
                folder.rmdir()


def empty(folder: Path) -> None:
    """Take away what a folder of one's own holds; what cannot be taken away now is left to the next to own it."""
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            if file.is_dir():
                shutil.rmtree(file)
            elif file.name != FOLDER_LOCK:
                file.unlink()


def _names(folder: Path) -> set[str]:
    """What a folder holds, at one moment; nothing if it cannot be looked into."""
    with contextlib.suppress(OSError):
        return set(os.listdir(folder))
    return set()


def _try(path: Path) -> Lock | None:
    """The lock, or None if another process has it."""
    # Unbuffered: what cannot be written is not tried again when the file is closed.
    file = open_own(path)
    try:
        _lock_file(file)
        # Another run may have removed the file between our opening and our locking it.
        mine, there = os.fstat(file.fileno()), path.stat()
        if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
            # No reason to fail: a full disk does not keep anybody from reading.
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(f"{os.getpid()} {platform.node()}"[:_MAX_HOLDER].encode(errors="replace"))
            return Lock(path, file)
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _lock_file(file: FileIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _holder(path: Path) -> str:
    """Who has the lock, for the end of a message; empty if that cannot be told."""
    try:
        with path.open("rb") as file:
            number, _, machine = file.read(_MAX_HOLDER).decode(errors="replace").partition(" ")
    except OSError:
        return ""
    if not number.isdigit():
        return ""
    return f" (process {number})" if machine == platform.node() else f" (process {number} on {machine})"
