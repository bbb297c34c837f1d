"""How time and memory grow: python -m benchmarks.growth [clips|prompts|library|width ...] [--quick]

clips     mclip preprocess of 1 to 10,000 files of four seconds, without pictures, then ten training steps on the store
prompts   mclip generate --file with 1 to 10,000 prompts
library   mclip search in an indexed folder of 1 to 100,000 motions
width     ten training steps with models 64 to 1,024 wide

Each measurement is a process of its own: seconds, seconds of processor time (its workers' too), and the most memory
that was resident, MB, its workers' not counted. One JSON line for each, and one with all of them at the end. --quick
leaves out the sizes above 100 (256 for width).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.bulk import prompts
from benchmarks.search import make
from benchmarks.swings import write_motions
from mclip.runtime.engine import Engine
from mclip.runtime.index import NAME

SIZES = {
    "clips": (1, 10, 100, 1_000, 10_000),
    "prompts": (1, 10, 100, 1_000, 10_000),
    "library": (1, 10, 100, 1_000, 10_000, 100_000),
    "width": (64, 128, 256, 512, 1024),
}
QUICK = {"clips": 100, "prompts": 100, "library": 100, "width": 256}
_RECIPE = """
name = "growth"
[data]
store = "{store}"
[model]
architecture = "dct"
latent = 384
width = {width}
feedforward = {feedforward}
patch = 4
[loss]
text = 0.0
[optim]
steps = 10
batch = 32
warmup = 1
"""
# Linux's own count of the peak: getrusage's begins with what the parent had.
_CODE = """
import json, os, sys
sys.argv = ["mclip", *sys.argv[1:]]
from mclip.cli import main
try:
    main()
finally:
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    times = os.times()
    peak = int(lines["VmHWM"].split()[0]) / 1024
    print(json.dumps([peak, sum(times[:4])]), file=sys.stderr)
"""


def measured(*arguments: str) -> dict[str, float]:
    """What a command of mclip takes."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _CODE, *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    peak, processor = json.loads(done.stderr.splitlines()[-1])
    return {"seconds": round(seconds, 3), "processor_s": round(processor, 3), "peak_mb": round(peak, 1)}


def clips(folder: Path, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    written = 0
    for size in sizes:
        write_motions(folder / "clips", size - written, written)
        written = size
        store = folder / f"{size}.h5"
        yield (
            {"clips": size, "command": "preprocess"}
            | measured(
                "preprocess", str(folder / "clips"), "-o", str(store), "--no-frames", "--val", "0", "--test", "0"
            )
            | {"store_mb": round(store.stat().st_size / 1e6, 1)}
        )
        yield {"clips": size, "command": "train"} | _train(folder, store, 256)


def _train(folder: Path, store: Path, width: int) -> dict[str, float]:
    recipe = folder / f"{store.stem}-{width}.toml"
    recipe.write_text(_RECIPE.format(store=store, width=width, feedforward=3 * width))
    return measured("train", str(recipe), "-o", str(recipe.with_suffix("")))


def many_prompts(folder: Path, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for size in sizes:
        file = folder / f"{size}.txt"
        file.write_text("\n".join(prompts(size)))
        yield {"prompts": size} | measured("generate", "--file", str(file), "-o", str(folder / f"made{size}"))


def library(folder: Path, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    engine = Engine.open("mini", "cpu")
    for size in sizes:
        place = folder / f"library{size}"
        place.mkdir()
        make(engine, place, size).save(place / NAME)
        yield {"library": size} | measured("search", "someone waves", str(place))


def width(folder: Path, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    write_motions(folder / "few", 20)
    store = folder / "few.h5"
    measured("preprocess", str(folder / "few"), "-o", str(store), "--no-frames", "--val", "0", "--test", "0")
    for size in sizes:
        yield {"width": size} | _train(folder, store, size)


KINDS: dict[str, Callable[[Path, tuple[int, ...]], Iterator[dict[str, Any]]]] = {
    "clips": clips,
    "prompts": many_prompts,
    "library": library,
    "width": width,
}


def main(kinds: list[str], quick: bool) -> None:
    results: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds:
        sizes = tuple(size for size in SIZES[kind] if not quick or size <= QUICK[kind])
        with tempfile.TemporaryDirectory() as name:
            for line in KINDS[kind](Path(name), sizes):
                results.setdefault(kind, []).append(line)
                print(json.dumps(line), flush=True)
    print(json.dumps({"processors": os.cpu_count(), **results}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS])
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    main(given.kinds or list(KINDS), given.quick)
