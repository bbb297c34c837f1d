"""Means with intervals, by bootstrap over seeds and over what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
_DRAWS = 2000
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its 95 % interval, and how many recordings, prompts or classes it is of."""

    value: float
    low: float
    high: float
    count: int


def bootstrap(seeds: Sequence[Rows], statistic: Callable[[Rows], float]) -> Figure:
    """The statistic of all rows, and its percentile interval (Efron 1979).

    seeds: for each seed the rows (n, k) of what was measured, at least one; what does not depend on seeds has one.
    A draw takes seeds with replacement, and of each of them rows with replacement: the same ones where seeds have as
    many, for these are the same recordings. Draws are the same each time.
    """
    random = np.random.default_rng(0)
    longest = max(map(len, seeds))
    drawn = []
    for _ in range(_DRAWS):
        place = random.random(longest)
        chosen = [seeds[row] for row in random.integers(len(seeds), size=len(seeds))]
        drawn.append(statistic(np.concatenate([rows[(place[: len(rows)] * len(rows)).astype(int)] for rows in chosen])))
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Figure(statistic(np.concatenate(list(seeds))), float(low), float(high), len(seeds[0]))


def ratio(rows: Rows) -> float:
    """The sum of the first column by that of the second: shares right, means of what is counted unequally often."""
    return float(rows[:, 0].sum() / rows[:, 1].sum())
