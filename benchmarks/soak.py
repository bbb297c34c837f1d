"""Whether anything grows: python -m benchmarks.soak [--api 10000] [--cli 1000]

Mixed commands, mistakes among them, first through the Python API, then through the command line, drawn by chance (the
same every time). The command line runs within this process, by `mclip.cli.main`: what a process of its own leaves in
memory goes with it, and could not be seen. Memory resident, open files, threads and files in the working folder are
counted after each hundredth part, memory without what the C library keeps for later: where threads come and go, that
differs by tens of MB from one moment to the next. The first fifth warms up; from it to the end the middle of the last
tenth's memory may exceed that of the tenth after warming up by --slack MB, and the number of open files, threads and
files in the folder must not have grown. The last line is one JSON object; the exit code is 1 if anything grew. Linux
only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import mclip
from mclip.cli import main as run_cli
from mclip.errors import MclipError

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
_TEXTS = (
    "a person walks",
    "couch",
    "someone waves with the left hand",
    "kick",
    "an old man sits down",
    "dance happily",
)
_WARM, _LAST = 0.2, 0.9
_SAMPLES = 100


def resident() -> float:
    """MB of memory resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Watch:
    """Counts what may grow; the columns of `rows` are MB, open files, threads, files in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rows: list[tuple[float, int, int, int]] = []

    def look(self) -> None:
        gc.collect()
        with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        files = sum(len(names) for _, _, names in os.walk(self._folder))
        self.rows.append((resident(), len(os.listdir("/proc/self/fd")), threading.active_count(), files))

    def report(self, slack: float) -> dict[str, Any]:
        warm, last = (round(len(self.rows) * part) for part in (_WARM, _LAST))
        tenth = max(1, round(len(self.rows) * 0.1))
        begin, end = self.rows[warm : warm + tenth], self.rows[last:]
        medians = [[median(row[column] for row in rows) for rows in (begin, end)] for column in range(4)]
        flat = medians[0][1] - medians[0][0] <= slack and all(after <= before for before, after in medians[1:])
        names = ("mb", "open_files", "threads", "files")
        return {**{name: [round(v, 1) for v in pair] for name, pair in zip(names, medians, strict=True)}, "flat": flat}


def soak(commands: dict[str, Callable[[], object]], count: int, folder: Path, chance: random.Random) -> dict[str, Any]:
    """Run `count` of the commands; how many of each, and what grew."""
    watch, done = Watch(folder), Counter[str]()
    began = time.monotonic()
    for number in range(count):
        name = chance.choice(list(commands))
        commands[name]()
        done[name] += 1
        if (number + 1) % max(1, count // _SAMPLES) == 0:
            watch.look()
    return {"commands": dict(done), "seconds": round(time.monotonic() - began, 1), "watch": watch}


def refused(call: Callable[[], object]) -> None:
    """A mistake, which must be told as one."""
    try:
        call()
    except MclipError:
        return
    raise SystemExit("a mistake was not noticed")


def api(folder: Path, library: Path, chance: random.Random) -> dict[str, Callable[[], object]]:
    """What the API does, by name."""
    engine = mclip.open_pack(device="cpu")
    walk, cheer = mclip.load(GOLDEN / "bvh" / "bandai_walk.bvh"), mclip.load(GOLDEN / "kaykit" / "Cheer.npz")
    shelf = engine.library(library)
    latents = engine.encode(cheer)

    def text() -> str:
        return f"{chance.choice(_TEXTS)} {chance.randrange(50)}"

    def search_anew() -> None:
        # A file that is new each time: the index is brought up to date.
        mclip.save(library / "new.npz", engine.generate(text()))
        engine.search(text(), engine.library(library))

    def save() -> None:
        for suffix in (".npz", ".bvh", ".glb", ".csv", ".npy"):
            mclip.save(folder / f"saved{suffix}", cheer)

    return {
        "generate": lambda: engine.generate(text(), seconds=chance.choice((None, 1.0, 2.0))),
        "variations": lambda: engine.variations(text(), 3, seed=chance.randrange(9)),
        "edit": lambda: engine.edit(chance.choice((walk, cheer)), add=chance.choice(("angry", "old", "happy"))),
        "interpolate": lambda: engine.interpolate(walk, text(), steps=3),
        "classify": lambda: engine.classify(chance.choice((walk, cheer))),
        "classify among": lambda: engine.classify(cheer, ["walk", "cheer", text()]),
        "search": lambda: engine.search(text(), shelf, top=5, dedupe=True),
        "search like": lambda: engine.search(cheer, shelf),
        "search anew": search_anew,
        "encode": lambda: (engine.encode(text()), engine.encode(walk)),
        "decode": lambda: engine.decode(latents[:2]),
        "load": lambda: [mclip.load(path) for path in sorted(library.glob("*.npz"))[:2]],
        "save": save,
        "show": lambda: mclip.show(cheer),
        "bad text": lambda: refused(lambda: engine.generate("")),
        "bad length": lambda: refused(lambda: engine.generate("walk", seconds=1e5)),
        "no file": lambda: refused(lambda: mclip.load(folder / "none.npz")),
        "bad file": lambda: refused(lambda: mclip.load(folder / "bad.bvh")),
        "bad latents": lambda: refused(lambda: engine.decode(np.zeros((2, 3), np.float32))),
    }


def invoke(code: int, *arguments: str) -> None:
    """A command line, and the exit code it must have."""
    sys.argv = ["mclip", *arguments]
    err = io.StringIO()
    # A real file: the command line writes to what a shell would give it.
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        with contextlib.redirect_stderr(err):
            try:
                run_cli()
            except SystemExit as stop:
                found = int(stop.code or 0)
    if found != code:
        raise SystemExit(f"mclip {' '.join(arguments)}: ended with {found}, not {code}: {err.getvalue()}")


def cli(folder: Path, library: Path, chance: random.Random) -> dict[str, Callable[[], object]]:
    """What the command line does, by name."""
    clip, walk = str(GOLDEN / "kaykit" / "Cheer.npz"), str(GOLDEN / "bvh" / "bandai_walk.bvh")
    lines = folder / "prompts.txt"
    lines.write_text("\n".join(_TEXTS), encoding="utf-8")

    def text() -> str:
        return f"{chance.choice(_TEXTS)} {chance.randrange(50)}"

    def out(name: str) -> str:
        return str(folder / name)

    def search_anew() -> None:
        shutil.copy(GOLDEN / "kaykit" / chance.choice(("Cheer.npz", "Dodge_Left.npz")), library / "new.npz")
        invoke(0, "search", text(), str(library), "--device", "cpu")

    return {
        "generate": lambda: invoke(0, "generate", text(), "-o", out("made.npz"), "--device", "cpu", "--json"),
        "generate file": lambda: invoke(
            0, "generate", "--file", str(lines), "-o", out("made"), "--device", "cpu", "--force"
        ),
        "edit": lambda: invoke(
            0, "edit", clip, "--add", "angry", "-o", out("edited.npz"), "--device", "cpu", "--force"
        ),
        "interpolate": lambda: invoke(
            0, "interpolate", clip, "kick", "--steps", "3", "-o", out("between"), "--device", "cpu", "--force"
        ),
        "classify": lambda: invoke(0, "classify", str(library), "--json", "--device", "cpu"),
        "search": lambda: invoke(0, "search", text(), str(library), "--device", "cpu"),
        "search anew": search_anew,
        "convert": lambda: invoke(
            0, "convert", walk, out(f"walk.{chance.choice(('npz', 'bvh', 'glb', 'csv'))}"), "--force"
        ),
        "view page": lambda: invoke(0, "view", clip, "-o", out("page.html"), "--force"),
        "view picture": lambda: invoke(0, "view", clip, "-o", out("sheet.png"), "--force"),
        "help": lambda: invoke(0, chance.choice(("generate", "search", "view")), "--help"),
        "bad option": lambda: invoke(2, "generate", "walk", "--secnds", "3"),
        "no file": lambda: invoke(4, "classify", out("none.npz")),
        "bad file": lambda: invoke(4, "convert", out("bad.bvh"), out("bad.npz")),
        "no pack": lambda: invoke(6, "generate", "walk", "--pack", out("none")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--api", type=int, default=10_000)
    parser.add_argument("--cli", type=int, default=1_000)
    parser.add_argument("--slack", type=float, default=20.0, help="MB")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = folder / "library"
        library.mkdir()
        for path in (*sorted((GOLDEN / "kaykit").glob("*.npz")), GOLDEN / "bvh" / "bandai_walk.bvh"):
            shutil.copy(path, library)
        shutil.copy(GOLDEN / "kaykit" / "Cheer.npz", library / "new.npz")
        (folder / "bad.bvh").write_text("HIERARCHY\nROOT Hips\n{", encoding="utf-8")
        for side, make, count in (("api", api, given.api), ("cli", cli, given.cli)):
            if not count:
                continue
            commands = make(folder, library, random.Random(given.seed))
            for command in commands.values():  # files and caches are there before anything is counted
                command()
            found = soak(commands, count, folder, random.Random(given.seed + 1))
            results[side] = found | {"watch": found["watch"].report(given.slack)}
            print(f"{side}: {results[side]}", flush=True)
    print(json.dumps(results))
    sys.exit(0 if all(result["watch"]["flat"] for result in results.values()) else 1)


if __name__ == "__main__":
    main()
