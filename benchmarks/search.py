"""How long mclip search takes once a library is indexed: python -m benchmarks.search [MOTIONS] [--quick]

A folder of MOTIONS files (10,000 if left out) with an index of one to six windows each, whose latents are those of the
mini pack's bank, turned a little at random. The files themselves are empty: an indexed library is not read again, only
looked through for what has changed, which is part of what is measured. `query` is one search within a process that has
the pack open, `cli` the whole command, Python's and onnxruntime's start included. On a busy
machine the processor time says more. The last line is one JSON object: [time, processor time] of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mclip.runtime.engine import Engine
from mclip.runtime.index import NAME, Entry, Index, load_index, update_index
from mclip.runtime.prior import Bank
from mclip.runtime.search import Library, open_library, text_query

TEXT = "someone waves"
_TURN = 0.3


def make(engine: Engine, folder: Path, motions: int) -> Index:
    """Empty files and an index that fits them."""
    bank = engine.prior
    assert isinstance(bank, Bank)
    random = np.random.default_rng(0)
    counts = random.integers(1, 7, motions)
    rows = np.repeat(random.integers(len(bank), size=motions), counts)
    noise = random.normal(size=(len(rows), bank.latents.shape[1])) / np.sqrt(bank.latents.shape[1])
    latents = bank.latents[rows] + _TURN * noise.astype(np.float32)
    latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    entries = []
    for motion, count in enumerate(counts.tolist()):
        path = folder / f"{motion // 100:03}" / f"take_{motion:06}.npz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        name, digest = path.relative_to(folder).as_posix(), f"{motion:064x}"
        entries.append(Entry(name, 0, path.stat().st_mtime_ns, digest, (("", count),), ""))
    bounds = np.zeros((len(rows), 2), np.int32)
    manifest = engine.manifest
    return Index(manifest.name, engine.pack.digest, manifest.fps, tuple(entries), latents, bounds)


def milliseconds(action: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The medians of several runs' time and processor time, after one that is not counted."""
    action()
    times = []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        action()
        times.append((1000.0 * (time.perf_counter() - start[0]), 1000.0 * (time.process_time() - start[1])))
    wall, processor = np.median(times, axis=0).round(1).tolist()
    return wall, processor


def main(motions: int, rounds: int) -> None:
    engine = Engine.open("mini", "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(engine, folder, motions).save(folder / NAME)
        assert update_index(engine, folder).encoded == 0
        index = load_index(folder / NAME)
        library, query = Library([(folder, index)]), text_query(engine, TEXT)
        figures = {
            "text": milliseconds(lambda: text_query(engine, TEXT), rounds),
            "open": milliseconds(lambda: load_index(folder / NAME), rounds),
            "update": milliseconds(lambda: update_index(engine, folder), rounds),
            "product": milliseconds(lambda: library.search(query, 10), rounds),
            "query": milliseconds(
                lambda: open_library(engine, [folder])[0].search(text_query(engine, TEXT), 10), rounds
            ),
            "dedupe": milliseconds(lambda: library.search(query, 10, dedupe=True), rounds),
            "cluster": milliseconds(lambda: library.cluster(engine, 8), max(1, rounds // 4)),
            "cli": milliseconds(
                lambda: subprocess.run(
                    [sys.executable, "-m", "mclip", "search", TEXT, name], check=True, capture_output=True
                ),
                max(1, rounds // 4),
            ),
        }
        size = (folder / NAME).stat().st_size
    for key, (wall, processor) in figures.items():
        print(f"{key:8} {wall:9.1f} ms  {processor:9.1f} ms of this process's processor time")
    print(json.dumps({"motions": motions, "windows": len(index.latents), "bytes": size, "ms": figures}))


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(numbers[0] if numbers else 10_000, 3 if "--quick" in sys.argv else 15)
