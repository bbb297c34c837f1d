"""Lines of the table that benchmarks/quality.py prints."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.bootstrap import Figure, Rows

HEADER = ["", "mean (95 % interval)", "of", "target", "", "study"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table.

    unit: what the figure is written in; of: what was counted; target, most: the least and the largest that is wanted,
    None for a figure that only explains others; study: what the feasibility study had
    """

    what: str
    figure: Figure
    unit: Literal["%", "mm", ""] = "%"
    of: str = "recordings"
    target: float | None = None
    most: float | None = None
    study: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it is as good as wanted."""
        if self.target is None and self.most is None:
            return None
        value = self.figure.value
        return (self.target is None or value >= self.target) and (self.most is None or value <= self.most)

    def cells(self) -> list[str]:
        """What the table shows under HEADER."""
        figure, wanted = self.figure, ""
        if self.target is not None:
            wanted = self._written(self.target)
        elif self.most is not None:
            wanted = f"at most {self._written(self.most)}"
        return [
            self.what,
            f"{self._written(figure.value)} ({self._written(figure.low)} to {self._written(figure.high)})",
            f"{figure.count} {self.of}",
            wanted,
            {True: "met", False: "missed", None: ""}[self.met],
            self.study,
        ]

    def _written(self, value: float) -> str:
        if self.unit == "%":
            return f"{100 * value:.1f}"
        return f"{value:.0f}" if self.unit == "mm" else f"{value:.2f}"


def shares(right: Iterable[bool]) -> Rows:
    """Rows (right, 1) of verdicts."""
    values = np.array(list(right), np.float64)
    return np.stack([values, np.ones_like(values)], axis=-1)


def grouped(owner: Sequence[int], right: Iterable[float], groups: int) -> Rows:
    """Rows (sum, count) of values, for each group; owner: the group of each value."""
    sums = np.bincount(owner, np.array(list(right), np.float64), groups)
    return np.stack([sums, np.bincount(owner, minlength=groups)], axis=-1)


def markdown(lines: Sequence[Line]) -> str:
    """The table in Markdown."""
    rows = (HEADER, ["---"] * len(HEADER), *(line.cells() for line in lines))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file beside this module."""
    with (Path(__file__).parent / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
