"""What a figure rests on: which windows, which data, how many seeds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from mclip.data.dataset import Span
from mclip.data.pieces import pieces
from mclip.data.store import MotionStore
from mclip.errors import DataError, UsageError
from mclip.runtime.engine import Engine

# Student's t intervals cover this share.
CONFIDENCE = 0.95
# A thousand seeds would take days and tell no more.
MAX_SEEDS = 100
# Figures of a thousand labels are a megabyte.
MAX_RESULT_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure measured once for each seed.

    mean; half_width of its 95 % interval, None for fewer than two values; values: one for each seed
    """

    mean: float
    half_width: float | None
    values: tuple[float, ...]

    def format(self, digits: int = 3) -> str:
        """ "0.123", or "0.123 ±0.010" where there is an interval."""
        spread = "" if self.half_width is None else f" ±{self.half_width:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of values that differ by seed only, by Student's t with n - 1 degrees of freedom.

    Raises ValueError for none.
    """
    count = len(values)
    if not count:
        raise ValueError("no values to sum up")
    mean = math.fsum(values) / count
    if count < 2:
        return Estimate(mean, None, tuple(values))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
    return Estimate(mean, quantile * deviation / math.sqrt(count), tuple(values))


def over_seeds(rows: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """One estimate for each name; rows (one for each seed) have the same names."""
    return {name: estimate([row[name] for row in rows]) for name in rows[0]}


def check(engine: Engine, store: MotionStore) -> None:
    """Raise DataError when a pack cannot be measured on a store, for the frame rates differ."""
    manifest = engine.manifest
    if abs(store.fps - manifest.fps) > 1e-3:
        raise DataError(
            f"{store.file}: has {store.fps:g} frames per second, the pack {manifest.fps:g}",
            f"make the store with: mclip preprocess DIR --fps {manifest.fps:g}",
        )


def seed_range(count: int) -> tuple[int, ...]:
    """The seeds 0 to count - 1. Raises UsageError for none or more than MAX_SEEDS."""
    if not 1 <= count <= MAX_SEEDS:
        raise UsageError(f"--seeds {count} is not between 1 and {MAX_SEEDS}")
    return tuple(range(count))


def check_output(path: Path, *, force: bool) -> None:
    """Raise UsageError for a path that is no .json file, or, without `force`, one mclip evaluate did not make."""
    if path.suffix.lower() != ".json":
        raise UsageError(f"{path}: the result is written as .json", f"-o {path.with_suffix('.json')}")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", "choose another name with -o")
    if not force and path.exists() and not _is_result(path):
        raise UsageError(f"{path}: is already there, and mclip evaluate did not make it", "--force overwrites it")


def _is_result(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_RESULT_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("command") == "evaluate"


def cut(spans: Sequence[Span], length: int, shortest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows of spans, one after another, a rest shorter than `shortest` left out.

    Returns store frames (n, 2), start and stop, and the span (n,) of each window.
    """
    cuts = [pieces(span.start, span.stop, length, shortest) for span in spans]
    bounds = np.array([bound for cut in cuts for bound in cut], np.int64).reshape(-1, 2)
    return bounds, np.repeat(np.arange(len(cuts), dtype=np.int64), [len(cut) for cut in cuts])


def data_sha256(store: MotionStore) -> str:
    """A hash of what is measured on: motions, splits, captions and labels, as 64 hex digits.

    Unlike a hash of the file it does not change when embeddings or images are added.
    """
    digest = hashlib.sha256()
    names = [store.fps, store.path, store.split, store.source, store.texts, store.labels]
    digest.update(json.dumps(names, ensure_ascii=True).encode())
    columns = [getattr(store.captions, name) for name in sorted(store.captions.__dataclass_fields__)]
    for array in (store.offsets, store.rotations, store.transl, *columns):
        digest.update(json.dumps(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
