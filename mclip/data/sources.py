"""The motion files of a folder: finding them, and turning one into the arrays of a store."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.data.images import Drawing, draw
from mclip.data.labels import split_take
from mclip.errors import DataError, MclipError
from mclip.formats import SUFFIXES, load_all
from mclip.geometry import axis_angle_to_matrix, matrix_to_rot6d
from mclip.motion import Motion, is_shape_file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Take:
    """One motion of a file at the store's frame rate.

    name       "" unless the file holds several
    rotations  (T, 24, 6) float32 local rotations, 6D
    transl     (T, 3) float32 metres, Z up; the original MotionCLIP drops it when it reads AMASS
    betas      (10,) float32
    gender     neutral, female or male
    source_fps, source_frames   of the recording in the file
    images     (frame, WebP file) of the frames that were drawn
    """

    name: str
    rotations: NDArray[np.float32]
    transl: NDArray[np.float32]
    betas: NDArray[np.float32]
    gender: str
    source_fps: float
    source_frames: int
    images: Sequence[tuple[int, bytes]] = ()


def find_sources(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """All motion files under `root`, by suffix, and what could not be looked at.

    Hidden names, AMASS's body shape files and everything else without a motion's suffix are passed over; links are
    followed, each folder once. Returns relative paths with "/", sorted, and (path, reason) pairs, sorted.
    Raises DataError when `root` is no folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    found: list[str] = []
    problems: list[tuple[str, str]] = []
    for path in _walk(root, set(), problems):
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() not in SUFFIXES or is_shape_file(path):
            continue
        reason = _unusable(path, name)
        if reason:
            problems.append((name.encode(errors="replace").decode(), reason))
        else:
            found.append(name)
    return sorted(found), sorted(problems)


def _walk(folder: Path, visited: set[tuple[int, int]], problems: list[tuple[str, str]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        # A link to a folder above would never end.
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        problems.append((folder.as_posix(), f"folder cannot be opened ({error.strerror})"))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _walk(Path(entry.path), visited, problems)
        else:
            yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _unusable(path: Path, name: str) -> str:
    """Why a file cannot be opened at all, or ""."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not valid Unicode"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    # Opening a pipe would wait for ever.
    return "" if stat.S_ISREG(mode) else "is not a regular file"


def source_of(path: str) -> str:
    """The first folder of a relative path, "" if it has none."""
    file, _ = split_take(path)
    return file.split("/")[0] if "/" in file else ""


def read_takes(path: Path, *, fps: float, rig: Path | None = None, drawing: Drawing | None = None) -> list[Take]:
    """Read a motion file, resample all its motions, and draw frames of them if a drawing is asked for.

    Raises MotionError for anything that is wrong with the file; UsageError and AssetError when drawing cannot be done.
    """
    return [_take(name, motion, fps, drawing) for name, motion in load_all(path, rig=rig)]


def _take(name: str, source: Motion, fps: float, drawing: Drawing | None) -> Take:
    motion = source.resample(fps)
    matrices = axis_angle_to_matrix(motion.pose.astype(np.float64))  # (T, 24, 3, 3)
    return Take(
        name=name,
        rotations=matrix_to_rot6d(matrices).astype(np.float32),
        transl=motion.transl,
        betas=motion.betas,
        gender=motion.gender,
        source_fps=source.fps,
        source_frames=len(source),
        images=draw(motion, drawing) if drawing else (),
    )


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
