"""A training run as a page: its curves, and what its last checkpoint makes of recordings."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import DataError
from mclip.motion import Motion
from mclip.view.embed import embed_body, embed_motion
from mclip.view.page import PLAYER, compose

CURVES = "curves.csv"
# A line a second of a fortnight's run would be more; as numbers it takes ten times as much memory.
MAX_BYTES = 64 * 2**20
# Points that a curve is drawn from; the mean of neighbours stands for longer ones.
POINTS = 600
SAMPLES = 8


def is_run(folder: Path) -> bool:
    """Whether mclip train made this folder."""
    return (folder / CURVES).is_file()


def run_page(folder: Path, samples: Sequence[tuple[str, Motion, Motion]], why: str = "") -> str:
    """The HTML of a run's page.

    samples: (caption, recorded motion, decoded motion) each; may be empty; why: there are none
    Raises DataError when the curves cannot be read.
    """
    names, values = read_curves(folder / CURVES)
    steps = values[:, 0]
    facts = f"{int(steps[-1])} steps" if len(steps) else "no step is logged yet"
    data = {
        "body": embed_body(),
        "facts": facts,
        "curves": [
            {"name": name, "points": _thinned(steps, values[:, column])} for column, name in enumerate(names) if column
        ],
        "why": why,
        "samples": [
            {"name": caption, "recorded": _record("recorded", real), "decoded": _record("decoded", made)}
            for caption, real, made in samples
        ],
    }
    return compose("run", folder.resolve().name, data, scripts=(*PLAYER, "preview.js", "run.js"))


def read_curves(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """The columns of a run's curves.csv, the step first, and their values (N, columns). Raises DataError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        # Before the first step is logged there is a header alone.
        table = np.array([[float(cell) for cell in row] for row in rows], np.float64)
        values = table.reshape(len(rows), -1 if rows else len(header))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: not the curves of a run ({error})") from None
    if header[:1] != ["step"]:
        raise DataError(f"{path}: not the curves of a run (its first column is no step)")
    if rows and values.shape[1] != len(header):
        raise DataError(f"{path}: has {len(header)} names for {values.shape[1]} columns")
    if not np.isfinite(values[:, 0]).all():
        raise DataError(f"{path}: not the curves of a run (a step is no number)")
    return header, values.reshape(len(rows), len(header))


def _thinned(steps: NDArray[np.float64], values: NDArray[np.float64]) -> list[list[float]]:
    """At most POINTS of (step, value), without those that are no numbers."""
    known = np.isfinite(values)
    parts = np.array_split(np.stack([steps[known], values[known]], axis=1), min(POINTS, max(int(known.sum()), 1)))
    means = [part.mean(axis=0).tolist() for part in parts if len(part)]
    return [[step, float(f"{value:.5g}")] for step, value in means if math.isfinite(value)]


def _record(name: str, motion: Motion) -> dict[str, Any]:
    return {"name": name, "caption": name, "about": [], **embed_motion(motion)}
