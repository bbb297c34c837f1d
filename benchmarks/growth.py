"""How time and memory grow: python -m benchmarks.growth [clips|prompts|library|width ...] [--quick]

clips     mclip preprocess of 1 to 10,000 files of four seconds, without and with pictures, then ten training steps on
          the store
prompts   mclip generate --file with 1 to 10,000 prompts
library   mclip search in an indexed folder of 1 to 100,000 motions
width     training steps with models 64 to 1,024 wide

Each measurement is a process of its own: seconds, seconds of processor time (its workers' too), and the most memory
that was resident, MB, its workers' not counted. What one more costs is the slope between the two largest sizes. One
JSON line for each measurement, then the tables of benchmarks/README.md, then all measurements as one JSON object.
--quick leaves out the sizes above 100 (256 for width): five minutes.
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
from benchmarks.swings import FPS, FRAMES, write_motions
from benchmarks.timing import machine
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
steps = {steps}
batch = 32
warmup = 1
"""
_ALL_FOR_TRAINING = ("--val", "0", "--test", "0")
_STEPS = (5, 25)
_TIMES = ("seconds", "processor_s")
# AMASS has 40 hours.
_AMASS = 40 * 3600 * FPS / FRAMES
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
        for what, option in (("preprocess", "--no-frames"), ("with pictures", "--frames")):
            store.unlink(missing_ok=True)
            taken = measured("preprocess", str(folder / "clips"), "-o", str(store), option, *_ALL_FOR_TRAINING)
            yield {"clips": size, "command": what} | taken | {"store_mb": round(store.stat().st_size / 1e6, 1)}
        yield {"clips": size, "command": "train"} | _train(folder, store, 256, 10)


def _train(folder: Path, store: Path, width: int, steps: int) -> dict[str, float]:
    recipe = folder / f"{store.stem}-{width}-{steps}.toml"
    recipe.write_text(_RECIPE.format(store=store, width=width, feedforward=3 * width, steps=steps))
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
    measured("preprocess", str(folder / "few"), "-o", str(store), "--no-frames", *_ALL_FOR_TRAINING)
    for size in sizes:
        few, many = (_train(folder, store, size, steps) for steps in _STEPS)
        step = {f"{name}_a_step": round((many[name] - few[name]) / (_STEPS[1] - _STEPS[0]), 4) for name in _TIMES}
        yield {"width": size} | many | step


COMMANDS = {"clips": "", "prompts": "generate", "library": "search", "width": f"train, {_STEPS[1]} steps"}
KINDS: dict[str, Callable[[Path, tuple[int, ...]], Iterator[dict[str, Any]]]] = {
    "clips": clips,
    "prompts": many_prompts,
    "library": library,
    "width": width,
}


def tables(results: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Lines of markdown: what was measured, what one more costs, and what that makes of AMASS."""
    for kind, lines in results.items():
        yield f"| {kind} | command | seconds | processor s | MB |"
        yield "|---|---|---|---|---|"
        for line in lines:
            store = f", store {line['store_mb']:g} MB" if "store_mb" in line else ""
            yield (
                f"| {line[kind]:,} | {line.get('command', COMMANDS[kind])}{store} | {line['seconds']:.2f} "
                f"| {line['processor_s']:.2f} | {line['peak_mb']:.0f} |"
            )
        yield ""
    if "clips" in results:
        yield "| AMASS, 40 hours | processor hours, one core | store | MB, most |"
        yield "|---|---|---|---|"
        for command in ("preprocess", "with pictures"):
            lines = [line for line in results["clips"] if line["command"] == command]
            hours, peak = (slope(lines, "clips", name) * _AMASS for name in ("processor_s", "peak_mb"))
            size = slope(lines, "clips", "store_mb") * _AMASS / 1000
            yield f"| {command} | {hours / 3600:.2f} | {size:.2f} GB | {lines[-1]['peak_mb'] + max(0, peak):.0f} |"
    for line in results.get("width", []):
        windows = 32 / line["processor_s_a_step"]
        epoch = 2 * _AMASS / windows / 3600
        yield f"| an epoch, width {line['width']} | {epoch:.2f} ({windows:.0f} windows/s) | | {line['peak_mb']:.0f} |"


def slope(lines: list[dict[str, Any]], size: str, name: str) -> float:
    """What one more costs, by the two largest sizes."""
    before, last = lines[-2:]
    return float((last[name] - before[name]) / (last[size] - before[size]))


def main(kinds: list[str], quick: bool) -> None:
    results: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds:
        sizes = tuple(size for size in SIZES[kind] if not quick or size <= QUICK[kind])
        with tempfile.TemporaryDirectory() as name:
            for line in KINDS[kind](Path(name), sizes):
                results.setdefault(kind, []).append(line)
                print(json.dumps(line), flush=True)
    print("\n".join(["", *tables(results), ""]))
    print(json.dumps({"processors": os.cpu_count()} | results | machine()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="|".join(KINDS))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.kinds) - set(KINDS):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}")
    main(given.kinds or list(KINDS), given.quick)
