"""Ranking the motions of libraries by a text or by another motion.

The score of a motion is the cosine of what is looked for and the motion's best window: exact search, one product of the
windows' latents with the query. A query motion has windows of its own; the score is the mean over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.errors import DataError, UsageError
from mclip.formats import check_readable
from mclip.motion import Motion
from mclip.runtime.babel import BABEL_60
from mclip.runtime.classify import check_length
from mclip.runtime.engine import Engine
from mclip.runtime.index import Entry, Index, index_files, update_index
from mclip.runtime.labels import locate_labels
from mclip.runtime.prior import Bank, unit

# Takes of one action by one actor have mean latents of cosine 0.99; the same take in another format has 0.999.
ALIKE = 0.998
# Windows of a query motion that are looked for; those of longer ones are thinned out.
_MAX_QUERIES = 64
_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Hit:
    """A motion that was found.

    path    its file, "file#animation" where it holds several
    score   1 for the very thing that was looked for
    start, end  seconds, of its best window
    alike   motions that were left out because they are nearly the same
    """

    path: str
    score: float
    start: float
    end: float
    alike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Motions that belong together: what they show, the most typical one, and all of them, most typical first."""

    name: str
    path: str
    motions: tuple[str, ...]


class Library:
    """The motions of several folders and files, M in all, ready to be searched."""

    def __init__(self, shelves: Sequence[tuple[Path, Index]]) -> None:
        """shelves: folders and their indices; an index whose paths are complete has the folder Path()."""
        self._shelves = shelves
        self._files = [(folder, entry) for folder, index in shelves for entry in index.entries]
        # (files + 1,) number of the first motion of each file
        self._firsts: NDArray[np.int64] = np.cumsum([0, *(len(e.motions) for _, e in self._files)], dtype=np.int64)
        counts = [windows for _, entry in self._files for _, windows in entry.motions]
        self._offsets: NDArray[np.int64] = np.cumsum([0, *counts], dtype=np.int64)  # (M+1,) rows of all latents

    def __len__(self) -> int:
        """The number of motions M."""
        return len(self._offsets) - 1

    def _file(self, motion: int) -> tuple[Path, Entry, int]:
        """A motion's folder, its file, and which of the file's motions it is."""
        place = int(np.searchsorted(self._firsts, motion, side="right")) - 1
        return *self._files[place], motion - int(self._firsts[place])

    def path(self, motion: int) -> str:
        """A motion's file and animation."""
        file, animation = self.source(motion)
        return f"{file}#{animation}" if animation else str(file)

    def search(
        self, queries: NDArray[np.float32], top: int, *, dedupe: bool = False, without: Path | None = None
    ) -> list[Hit]:
        """The `top` motions nearest to unit vectors (Q, D), best first.

        dedupe: leave out motions that are nearly the same as a better one; without: a file that is no result.
        """
        windows = np.concatenate([queries @ index.latents.T for _, index in self._shelves], axis=1)  # (Q, W)
        best = np.maximum.reduceat(windows, self._offsets[:-1], axis=1) if len(self) else np.zeros((1, 0), np.float32)
        scores = best.mean(axis=0)  # (M,)
        if not np.isfinite(scores).all():
            raise _not_finite()
        order = np.argsort(-scores, kind="stable")
        vectors = self.vectors() if dedupe else None
        hits: list[Hit] = []
        left_out: set[int] = set()
        for motion in order.tolist():
            if len(hits) == top:
                break
            if motion in left_out or (without is not None and self._is(motion, without)):
                continue
            alike: list[int] = []
            if vectors is not None:
                near = np.flatnonzero(vectors @ vectors[motion] >= ALIKE).tolist()
                alike = [other for other in near if other != motion and other not in left_out]
                left_out.update(alike)
            start, end = self._when(motion, windows)
            names = tuple(self.path(other) for other in alike)
            hits.append(Hit(self.path(motion), min(1.0, float(scores[motion])), start, end, names))
        return hits

    def cluster(self, engine: Engine, count: int, among: Sequence[str] | None = None) -> list[Cluster]:
        """Motions in `count` groups or fewer, the largest first, each named after the action it is nearest to.

        among: paths of the motions that count; None for all.
        """
        wanted = None if among is None else set(among)
        motions = [motion for motion in range(len(self)) if wanted is None or self.path(motion) in wanted]
        vectors = self.vectors()[motions]
        if len(motions) == 0:
            return []
        label, centres = kmeans(vectors, min(count, len(motions)))
        names = _name(engine, centres)
        clusters = []
        for group, name in enumerate(names):
            rows = np.flatnonzero(label == group)
            rows = rows[np.argsort(-(vectors[rows] @ centres[group]), kind="stable")]
            paths = tuple(self.path(motions[row]) for row in rows.tolist())
            clusters.append(Cluster(name, paths[0], paths))
        return sorted(clusters, key=lambda cluster: -len(cluster.motions))

    def vectors(self) -> NDArray[np.float32]:
        """The mean latent of each motion, at unit length (M, D)."""
        latents = [index.latents for _, index in self._shelves]
        rows = latents[0] if len(latents) == 1 else np.concatenate(latents)
        counts = np.diff(self._offsets)
        sums = np.zeros((len(self), rows.shape[1]), np.float32)
        # Motions of one length at a time: numpy's reduceat takes ten times as long.
        for count in set(counts.tolist()):
            motions = np.flatnonzero(counts == count)
            sums[motions] = rows[self._offsets[motions, None] + np.arange(count)].sum(axis=1)
        if not np.isfinite(sums).all():
            raise _not_finite()
        return unit(sums)

    def labels(self, engine: Engine) -> list[str]:
        """The action each motion is nearest to."""
        return _name(engine, self.vectors()) if len(self) else []

    def source(self, motion: int) -> tuple[Path, str]:
        """A motion's file, and its animation, "" in formats that hold one."""
        folder, entry, number = self._file(motion)
        return folder / entry.path, entry.motions[number][0]

    def _when(self, motion: int, windows: NDArray[np.float32]) -> tuple[float, float]:
        """Where a motion's best window begins and ends, seconds."""
        first, stop = self._offsets[motion : motion + 2].tolist()
        row = first + int(windows[:, first:stop].mean(axis=0).argmax())
        for _, index in self._shelves:
            if row < len(index.bounds):
                start, end = (index.bounds[row] / index.fps).tolist()
                return float(start), float(end)
            row -= len(index.bounds)
        raise IndexError(motion)

    def _is(self, motion: int, path: Path) -> bool:
        folder, entry, _ = self._file(motion)
        return (folder / entry.path).resolve() == path.resolve()


def _not_finite() -> DataError:
    return DataError("the index holds NaN or infinite values", "--rebuild makes it anew")


def open_library(
    engine: Engine,
    paths: Sequence[Path],
    index: Path | None = None,
    *,
    rebuild: bool = False,
    workers: int | None = None,
    dask: str | None = None,
) -> tuple[Library, list[tuple[str, str]]]:
    """The motions of folders, whose indices are brought up to date, and of single files; (path, reason) of bad ones.

    index: where the index of the one folder is kept, see `update_index`; workers, dask: as in
    mclip.formats.folder.read_files, for what has to be read
    """
    folders = [path for path in dict.fromkeys(paths) if path.is_dir()]
    files = [path for path in dict.fromkeys(paths) if not path.is_dir()]
    if index is not None and len(folders) != 1:
        raise UsageError("--index belongs to one folder", "give one folder, or leave --index out")
    for path in files:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder", 'mclip search "a person waves" library/')
        check_readable(path)
    shelves, skipped = list[tuple[Path, Index]](), list[tuple[str, str]]()
    for folder in folders:
        update = update_index(engine, folder, index, rebuild=rebuild, workers=workers, dask=dask)
        shelves.append((folder, update.index))
        skipped += update.skipped
    if files:
        update = index_files(engine, files, workers, dask)
        shelves.append((Path(), update.index))
        skipped += update.skipped
    return Library(shelves), skipped


def text_query(engine: Engine, text: str) -> NDArray[np.float32]:
    """What to look for when a motion is to show a text: (1, D). Raises UsageError for one the pack cannot read."""
    return engine.locate([text])


def motion_query(engine: Engine, motion: Motion) -> NDArray[np.float32]:
    """What to look for when a motion is to be like this one: its windows (Q, D). Raises MotionError for a short one."""
    check_length(engine.manifest, motion)
    (encoded,) = engine.encode_motions([motion])
    rows = np.unique(np.linspace(0, len(encoded.latents) - 1, _MAX_QUERIES).round().astype(np.int64))
    return unit(encoded.latents[rows])


def kmeans(vectors: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Spherical k-means (Dhillon and Modha 2001) of unit vectors (n, D), n >= count, begun with k-means++: groups (n,)
    and their unit centres (count, D), none of them empty unless vectors are equal. The same every time."""
    random = np.random.default_rng(0)
    chosen = [int((vectors @ vectors.mean(axis=0)).argmax())]
    while len(chosen) < count:
        distance = np.maximum(1.0 - (vectors @ vectors[chosen].T).max(axis=1), 0.0).astype(np.float64)
        if distance.sum() < 1e-6:
            break
        chosen.append(int(random.choice(len(vectors), p=distance / distance.sum())))
    centres = vectors[chosen]
    label = np.full(len(vectors), -1, np.int64)
    for _ in range(_ROUNDS):
        nearest = (vectors @ centres.T).argmax(axis=1)
        if np.array_equal(nearest, label):
            break
        label = nearest
        sums = (label == np.arange(len(centres))[:, None]).astype(np.float32) @ vectors
        centres = np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 1e-8, unit(sums), centres)
    return label, centres


def _name(engine: Engine, centres: NDArray[np.float32]) -> list[str]:
    """The action each unit vector (n, D) is nearest to: a label of the pack's bank, else one of BABEL's."""
    prior = engine.prior
    if isinstance(prior, Bank):
        return [prior.labels[int(prior.label[row])] for row in (centres @ unit(prior.latents).T).argmax(axis=1)]
    return [BABEL_60[row] for row in (centres @ locate_labels(engine, BABEL_60).T).argmax(axis=1)]
