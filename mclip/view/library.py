"""A library of motions as a page: a map of their latents in two dimensions, coloured by label, that plays them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import DataError
from mclip.formats.folder import read_files
from mclip.motion import Motion
from mclip.runtime.engine import Engine
from mclip.runtime.search import Library
from mclip.view.embed import embed_body, embed_motion
from mclip.view.page import PLAYER, compose

# What the page keeps of a motion: its middle, at a rate that is enough for a look. Some 4 kB each.
SECONDS, FPS = 3.0, 15.0
# Dots that can be told apart, and a page of some 4 MB.
MAX_DOTS = 1000
# As many as the page has colours.
GROUPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Dot:
    """A motion on the map: place (2,) between 0 and 1, the action it is nearest to, and that of its neighbourhood."""

    name: str
    label: str
    group: str
    place: NDArray[np.float64]
    motion: Motion


def library_page(engine: Engine, folder: Path, library: Library) -> str:
    """The HTML of the map of a folder's motions, at most MAX_DOTS, evenly chosen. Raises DataError without any."""
    if not len(library):
        raise DataError(f"{folder}: holds no motions that the pack can read", "mclip search tells why of each file")
    kept = np.unique(np.linspace(0, len(library) - 1, MAX_DOTS).round().astype(int)).tolist()
    places, labels = spread(library.vectors()), library.labels(engine)
    groups = {path: group.name for group in library.cluster(engine, GROUPS) for path in group.motions}
    sources = {library.source(row): row for row in kept}
    files = dict.fromkeys(path for path, _ in sources)
    dots = []
    for file in read_files(list(files), FPS):
        for animation, motion in file.motions:
            row = sources.get((file.path, animation))
            if row is not None:
                name = str(file.path.relative_to(folder)) + (f"#{animation}" if animation else "")
                dots.append(Dot(name, labels[row], groups[library.path(row)], places[row], motion))
    if not dots:
        raise DataError(f"{folder}: its motions changed while they were read", "start it again")
    dots.sort(key=lambda dot: dot.name)
    shown = f"{len(dots)} of {len(library)}" if len(dots) < len(library) else str(len(dots))
    facts = f"{shown} motions · pack {engine.manifest.name} · the nearer, the more alike"
    return compose("library", folder.resolve().name, _data(dots, facts), scripts=(*PLAYER, "preview.js", "library.js"))


def spread(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Places (M, 2) between 0 and 1 of vectors (M, D): their first two principal components."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    if len(centred) < 2:
        return np.full((len(centred), 2), 0.5)
    # The covariance is as small as the latents are wide, however many motions there are.
    _, axes = np.linalg.eigh(centred.T @ centred)
    plane = centred @ axes[:, [-1, -2]]
    # A sign of its own for each axis would change with the library: the largest entry is positive.
    plane *= np.sign(axes[np.abs(axes[:, [-1, -2]]).argmax(axis=0), [-1, -2]])
    low, high = plane.min(axis=0), plane.max(axis=0)
    places: NDArray[np.float64] = np.where(high > low, (plane - low) / np.where(high > low, high - low, 1.0), 0.5)
    return places


def _data(dots: Sequence[Dot], facts: str) -> dict[str, Any]:
    groups = [group for group, _ in Counter(dot.group for dot in dots).most_common()]
    return {
        "body": embed_body(),
        "facts": facts,
        "groups": groups,
        "motions": [
            {
                "name": dot.name,
                "group": groups.index(dot.group),
                "x": round(float(dot.place[0]), 4),
                "y": round(float(dot.place[1]), 4),
                "detail": f"{dot.label} · {dot.motion.seconds:.1f} s",
                **embed_motion(_middle(dot.motion)),
            }
            for dot in dots
        ],
    }


def _middle(motion: Motion) -> Motion:
    keep = round(SECONDS * motion.fps)
    start = max((len(motion) - keep) // 2, 0)
    return replace(motion.slice(start, start + keep), origin={})
