"""The motion files of a folder: finding them, and reading many of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mclip.errors import DataError, MclipError, MotionError
from mclip.files import sha256
from mclip.formats import SUFFIXES, check_readable, load_all
from mclip.formats.pool import run_all
from mclip.motion import SHAPE_FILES, Motion

# A process takes half a second to start: fewer bytes than this are read sooner without. A processor reads about 5 MB of
# BVH in a second.
_BYTES_PER_WORKER = 8_000_000
_ENDED = "reading it ended the worker process"
CHANGED = "changed while it was read"


def scan(root: Path) -> tuple[dict[str, os.stat_result], list[tuple[str, str]]]:
    """All motion files under `root`, by suffix, with their status, and what could not be looked at.

    Hidden names, AMASS's body shape files and everything else without a motion's suffix are passed over; links are
    followed, each folder once. Returns relative paths with "/", sorted, and (path, reason) pairs, sorted.
    Raises DataError when `root` is no folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    found: dict[str, os.stat_result] = {}
    problems: list[tuple[str, str]] = []
    visited: set[tuple[int, int]] = set()
    waiting = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            status = os.stat(folder)
            # A link to a folder above would never end.
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            problems.append((Path(folder).as_posix(), f"folder cannot be opened ({error.strerror})"))
            continue
        folders = []
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            wanted = name.lower().endswith(SUFFIXES) and not name.endswith(SHAPE_FILES)
            try:
                if entry.is_dir():
                    folders.append((entry.path, f"{prefix}{name}/"))
                    continue
                if not wanted:
                    continue
                # Of ten thousand files this is most of a search; the entry's own stat takes a quarter longer.
                status = os.stat(entry.path)
            except OSError as error:
                if not wanted:
                    continue
                reason = f"cannot be opened ({error.strerror})"
            else:
                # Opening a pipe would wait for ever.
                reason = "" if stat.S_ISREG(status[0]) else "is not a regular file"
            if not _is_unicode(name):
                reason = "its name is not valid Unicode"
            if reason:
                problems.append(((prefix + name).encode(errors="replace").decode(), reason))
            else:
                found[prefix + name] = status
        waiting += sorted(folders, reverse=True)
    return {name: found[name] for name in sorted(found)}, sorted(problems)


def find_sources(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """`scan` without status."""
    found, problems = scan(root)
    return list(found), problems


def gather(paths: Sequence[Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """The motion files that paths name, those of folders included, each once, and what cannot be looked at.

    Raises MotionError for a path that is not there or no motion file, DataError for folders without motion files.
    """
    files: dict[Path, None] = {}
    problems: list[tuple[str, str]] = []
    for path in paths:
        if path.is_dir():
            found, bad = find_sources(path)
            files.update(dict.fromkeys(path / name for name in found))
            problems += [(str(path / name), reason) for name, reason in bad]
            if not found and not bad:
                raise DataError(f"{path}: holds no motion files", f"mclip reads {', '.join(SUFFIXES)}")
        elif not path.exists():
            raise MotionError(f"{path}: no such file or folder")
        else:
            check_readable(path)
            files[path] = None
    return list(files), problems


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def reason_of(error: BaseException, path: Path) -> str:
    """An error as a reason for skipping `path`, on one line and without repeating the path."""
    if isinstance(error, MclipError):
        text = error.message.removeprefix(f"{path}").lstrip(": ")
    elif isinstance(error, OSError):
        text = f"cannot be read ({error.strerror or error})"
    elif isinstance(error, MemoryError):
        text = "does not fit into memory"
    else:
        text = f"cannot be read ({type(error).__name__}: {error})"
    return " ".join(text.split())


def stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does. Raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class File:
    """A motion file that was read, or could not be.

    sha256   of its content, "" if not even that can be had
    motions  (name, motion) of each animation; the name is "" in formats that hold one
    reason   why there are none, else ""
    """

    path: Path
    sha256: str = ""
    motions: Sequence[tuple[str, Motion]] = ()
    reason: str = ""


def read_file(path: Path, fps: float) -> File:
    """Read all motions of a file and resample them. Never raises because of the file."""
    digest = ""
    try:
        before = stamp(path)
        digest = sha256(path)
        motions = [(name, motion.resample(fps)) for name, motion in load_all(path)]
        if stamp(path) != before:
            return File(path=path, reason=CHANGED)
        return File(path=path, sha256=digest, motions=motions, reason="" if motions else "holds no motion")
    except Exception as error:
        return File(path=path, sha256=digest, reason=reason_of(error, path))


def read_files(
    paths: Sequence[Path], fps: float, workers: int | None = None, dask: str | None = None
) -> Iterator[File]:
    """`read_file` of many, in any order, in as many processes as are worth it, or on the Dask cluster at an address.

    A file that ends the process that reads it, for want of memory say, is one that cannot be read.
    """
    read = partial(read_file, fps=fps)
    if dask is not None:
        # The workers' own working directories are other ones.
        absolute = {path.absolute(): path for path in paths}
        for path, file in run_all(read, list(absolute), 0, dask):
            yield replace(file, path=absolute[path]) if file else File(path=absolute[path], reason=_ENDED)
        return
    if workers is None:
        workers = min(os.cpu_count() or 1, sum(map(_size, paths)) // _BYTES_PER_WORKER)
    if workers < 2:
        yield from map(read, paths)
        return
    for path, file in run_all(read, paths, workers):
        yield file or File(path=path, reason=_ENDED)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
