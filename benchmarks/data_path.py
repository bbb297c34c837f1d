"""How fast training's windows are drawn: python -m benchmarks.data_path [--store STORE] [--batch 512] [--rounds 21]

Windows of 60 frames per second of processor time: from a memory-mapped store (made here, 500 motions, unless STORE is
given), as features with their mask, by the compiled pass and by its definition in numpy, whose bits have to be the
same, and as batches of `WindowSampler`. `plain` are windows as recorded; `varied` at speeds 0.85 to 1.2, half of them
mirrored. `copy` is what memory allows: numpy's own copy of the same frames of the store. Sides take turns. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.swings import make_store
from benchmarks.timing import machine, milliseconds
from mclip.data.dataset import WindowSampler
from mclip.data.gathering import gather, gather_numpy
from mclip.data.store import MotionStore, read_store
from mclip.recipe import DataConfig
from mclip.runtime.representation import SMPL24

WINDOW = 60


def main(store: MotionStore, size: int, rounds: int) -> None:
    random = np.random.default_rng(0)
    rows = random.choice(np.flatnonzero(np.diff(store.offsets) >= 2 * WINDOW), size)
    start, stop = store.offsets[rows], store.offsets[rows + 1]
    none, half = np.zeros(size, bool), random.random(size) < 0.5
    ways = {"plain": (np.ones(size), none), "varied": (random.uniform(0.85, 1.2, size), half)}
    plain = DataConfig(store=str(store.file), window=WINDOW, min_window=WINDOW, mirror=0.0)
    configs = {"plain": plain, "varied": replace(plain, mirror=0.5, speed=(0.85, 1.2))}
    sides: dict[str, Callable[[], object]] = {"copy": lambda: store.rotations[start[:, None] + np.arange(WINDOW)]}
    for way, (speed, mirror) in ways.items():
        arguments = (store, start, stop, WINDOW, speed, SMPL24, mirror)
        expected, found = gather_numpy(*arguments), gather(*arguments)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(expected, found, strict=True))
        sampler = WindowSampler(store, configs[way], None, seed=0)
        sides[f"{way}, numpy"] = lambda arguments=arguments: gather_numpy(*arguments)  # type: ignore[misc]
        sides[f"{way}, compiled"] = lambda arguments=arguments: gather(*arguments)  # type: ignore[misc]
        sides[f"{way}, batch"] = lambda sampler=sampler: sampler.batch(0, size, 0)  # type: ignore[misc]
    times = milliseconds(sides, rounds)
    rates = {name: round(1000 * size / processor) for name, (_, processor) in times.items()}
    for name, rate in rates.items():
        beside = f"{rate / rates['copy']:6.2f} of a copy"
        faster = f"{rate / rates[name.split(',')[0] + ', numpy']:6.1f} times numpy" if "," in name else ""
        print(f"{name:18} {rate:9,} windows/s  {beside}  {faster}")
    p, v = ([rates[f"{way}, {side}"] for side in ("batch", "numpy")] for way in ways)
    print(
        f"| | `data_path.py`, plain / varied batches, processor time | {p[0]:,} / {v[0]:,} windows/s "
        f"({p[0] / p[1]:.1f} / {v[0] / v[1]:.1f} times numpy); a bare copy {rates['copy']:,} | 200,000 |"
    )
    print(json.dumps({"batch": size, "windows_per_s": rates} | machine()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        chosen = read_store(given.store, mmap=True) if given.store else make_store(Path(name), 500)
        main(chosen, given.batch, given.rounds)
