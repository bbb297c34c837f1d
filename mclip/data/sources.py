"""A motion file as the arrays of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.data.images import Drawing, draw
from mclip.data.labels import split_take
from mclip.formats import load_all
from mclip.geometry import axis_angle_to_matrix, matrix_to_rot6d
from mclip.motion import Motion


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
