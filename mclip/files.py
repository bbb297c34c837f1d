"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import stat
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from mclip.errors import UsageError

# The mask of new files' permissions is the process's, and can only be read by setting it.
_ONE_AT_A_TIME = threading.Lock()
# What a file system says when it is full, or when the user's share of it is.
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Our TOML files are a page or two.
MAX_TOML_BYTES = 256_000
# Each dot of a key opens a table, and tomllib takes time with the square of how many: ours have one.
_MAX_DEPTH = 32
_DEEP = re.compile(rf"^(?:[^\n.#]*+\.){{{_MAX_DEPTH}}}", re.MULTILINE)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any failure it is removed.

    Folders above `path` are made, and removed again on failure. Raises UsageError when `path` cannot be written.
    """
    try:
        with new_folder(path.parent):
            # The suffix is kept: some writers choose the format by it. The name need not be, and may be too long.
            handle, name = tempfile.mkstemp(prefix=f".{path.stem[:20]}-", suffix=path.suffix, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            try:
                yield temporary
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
                # mkstemp makes files private; what we hand to the user gets the permissions any new file would.
                with _ONE_AT_A_TIME:
                    umask = os.umask(0)
                    os.umask(umask)
                temporary.chmod(0o666 & ~umask)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise cannot_write(path, error) from None


def sweep(path: Path) -> None:
    """Remove what killed processes left of `atomic_path(path)`; nobody may be writing there now."""
    for left in path.parent.glob(f".{glob.escape(path.stem[:20])}-????????{glob.escape(path.suffix)}"):
        with contextlib.suppress(OSError):
            left.unlink()


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder outlast a loss of power, where the system has means for that."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; on any failure, those that were made are removed again unless used by others.

    Raises OSError when they cannot be made.
    """
    missing = [] if folder.is_dir() else [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for made in missing:
            with contextlib.suppress(OSError):
                made.rmdir()
        raise


def cannot_write(path: Path, error: OSError) -> UsageError:
    """What to say when the system does not let us write `path`."""
    hint = "free some space, or choose another place" if error.errno in _FULL else "choose another place"
    return UsageError(f"{path}: cannot write there ({error.strerror or error})", hint)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically."""
    write_bytes(path, content.encode())


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file. Raises OSError, or ValueError for what is no TOML, too large or nested too deeply."""
    with path.open("rb") as file:
        content = file.read(MAX_TOML_BYTES + 1)
    if len(content) > MAX_TOML_BYTES:
        raise ValueError(f"it has more than {MAX_TOML_BYTES} bytes")
    text = content.decode("utf-8")
    if deep := _DEEP.search(text):
        raise ValueError(f"line {text.count(chr(10), 0, deep.start()) + 1} has {_MAX_DEPTH} dots and more")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read. Raises OSError, also for pipes and devices: they may never begin, or never end."""
    return os.fdopen(_regular(path, os.O_RDONLY), "rb")


def open_own(path: Path) -> FileIO:
    """Open a file of mclip's own to add to it, unbuffered; it is made.

    Raises OSError, also for links, pipes and devices: those mclip did not make, nor what a link leads to.
    """
    if path.is_symlink():  # Windows has no flag for it
        raise OSError(errno.ELOOP, "is a link, which mclip does not follow there", str(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    return FileIO(_regular(path, flags), "ab")


def _regular(path: Path, flags: int) -> int:
    """A descriptor of a regular file; opening it waits for nobody."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits. Raises OSError, also for what is no regular file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
