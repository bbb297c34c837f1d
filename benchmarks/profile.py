"""Where the time of each command goes: python -m benchmarks.profile [COMMAND...] [--store STORE]

Each command is run in a process of its own on motions that are made first: once to warm the disk, a few times for `ms`,
[time, processor time], and once under cProfile. `whole` are shares of the main thread's time by what is waited for:
the loading of modules, of which numpy and onnxruntime are said apart, the starting and running of graphs, threads.
`own` are shares by module, each with the built-in functions it calls, and the loading of modules too. Shares below
2 % are left out. `bare` is `python -c "import numpy, onnxruntime"`. What is avoidable is for the reader to say: look
at shares above 5 % that are neither the loading of these two nor the graphs. `evaluate` is run only with a STORE. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import pstats
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.startup import measure
from benchmarks.timing import machine

_LEAST = 0.02
_ROUNDS = 5
# Functions whose time counts with all that they call, by the end of their file's name and their own.
_WHOLE = {
    ("importlib._bootstrap>", "_find_and_load"): "loading modules",
    ("numpy/__init__.py", "<module>"): "of these numpy",
    ("onnxruntime/__init__.py", "<module>"): "of these onnxruntime",
    ("runtime/session.py", "_create"): "starting graphs",
    ("runtime/session.py", "run"): "running graphs",
    ("~", "<method 'acquire' of '_thread.lock' objects>"): "waiting for threads",
}
_CHILD = """
import cProfile, sys
from mclip.cli import main
profile = cProfile.Profile()
try:
    profile.runcall(main)
except SystemExit as stop:
    assert not stop.code, stop.code
finally:
    profile.dump_stats("profile")
"""


def command_lines(store: Path | None) -> dict[str, list[str]]:
    """Commands for a folder that `prepare` has filled."""
    lines = {
        "generate": "generate couch -o made.npz --force --device cpu",
        "generate --file": "generate --file prompts.txt -o many --force --device cpu",
        "edit": "edit walk.npz --add old -o edited.npz --force --device cpu",
        "interpolate": "interpolate walk run -o between --force --device cpu",
        "classify": "classify library --device cpu",
        "search": "search waving library --device cpu",
        "view": "view walk.npz -o walk.html --force",
        "view picture": "view walk.npz -o walk.png --force",
        "convert": "convert walk.npz out.bvh --force",
        "convert back": "convert walk.bvh back.npz --force",
    }
    if store is not None:
        lines["evaluate"] = f"evaluate mini --data {store.absolute()} --device cpu"
    return {name: line.split() for name, line in lines.items()}


def prepare(folder: Path) -> None:
    """What the commands read: a motion, a hundred prompts, and a library of their motions, indexed."""
    texts = [f"{who} {does}" for who in ("a child", "someone") for does in ("walks", "kicks", "waves", "jumps", "sits")]
    (folder / "prompts.txt").write_text("\n".join(f"{text} {number}" for number in range(10) for text in texts))
    for line in (
        "generate walk -o walk.npz",
        "convert walk.npz walk.bvh",
        "generate --file prompts.txt -o library",
        "search waving library",
    ):
        command = [sys.executable, "-m", "mclip", *line.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def shares(file: Path) -> dict[str, dict[str, float]]:
    """What a profile says, see the module docstring."""
    stats: dict[tuple[str, int, str], Any] = vars(pstats.Stats(str(file)))["stats"]
    total = sum(own for _, _, own, _, _ in stats.values())
    whole: Counter[str] = Counter()
    own: Counter[str] = Counter()
    for (path, _, name), (_, _, alone, together, callers) in stats.items():
        for (end, wanted), what in _WHOLE.items():
            if path.endswith(end) and name == wanted:
                whole[what] += together
        if path == "~":
            # A built-in function's time is its callers'.
            for (caller, _, _), (_, _, share, _) in callers.items():
                own[_module(caller)] += share
        else:
            own[_module(path)] += alone
    return {
        title: {name: round(time / total, 3) for name, time in part.most_common() if time / total >= _LEAST}
        for title, part in (("whole", whole), ("own", own))
    }


def _module(file: str) -> str:
    """The name of a module of ours, else the package."""
    parts = Path(file).with_suffix("").parts
    for folder, start in (("site-packages", 1), ("mclip", 0)):
        if folder in parts:
            place = len(parts) - parts[::-1].index(folder) - 1 + start
            return ".".join(parts[place : place + 1 if start else None])
    return "python"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", nargs="*")
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    lines = command_lines(given.store)
    if unknown := set(given.commands) - set(lines):
        raise SystemExit(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(lines)}")
    # This mclip, wherever the command is run.
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    bare = [sys.executable, "-c", "import numpy, onnxruntime"]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        result["bare"] = _median(bare, folder)
        for title in given.commands or lines:
            milliseconds = _median([sys.executable, "-m", "mclip", *lines[title]], folder)
            command = [sys.executable, "-c", _CHILD, *lines[title]]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            result[title] = {"ms": milliseconds, **shares(folder / "profile")}
            print(f"{title}: {milliseconds[0]:.0f} ms, {milliseconds[1]:.0f} of processor time")
            for kind in ("whole", "own"):
                told = ", ".join(f"{what} {100 * share:.0f} %" for what, share in result[title][kind].items())
                print(f"  {kind:5}  {told}")
    print(json.dumps(result | machine()))


def _median(command: list[str], folder: Path) -> list[float]:
    """Time and processor time of a command, ms."""
    rounds = [measure(command, folder)[:2] for _ in range(_ROUNDS + 1)][1:]
    found: list[float] = np.median(rounds, axis=0).round(1).tolist()
    return found


if __name__ == "__main__":
    main()
