"""What a kill costs: python -m benchmarks.kills [--kills 100] [--only train ...] [--interrupt]

Each of `preprocess`, `train`, `generate --file` and `search --index` runs undisturbed once, on the small recordings of
tests/golden, and is then begun anew, killed (SIGKILL) at a moment drawn evenly from as long as it takes, and started
again to the end, as often as --kills says. The result must be the undisturbed one: the store value for value, weights,
optimiser and curves of the last checkpoint byte for byte, motions byte for byte, the index entry for entry. What was
whole when the kill came must be used: entries and motions are counted as reused, checkpoints must be readable. Nothing
half written may be left beside the result. A run that ends before its kill comes is not counted.

With --interrupt it is Ctrl-C (SIGINT) instead, and the run must end with 130 and no traceback.
The last line is one JSON object; the exit code is 1 where anything differed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mclip.data.preprocess import preprocess
from mclip.data.store import read_store, write_embeddings
from mclip.runtime.index import load_index
from mclip.train.checkpoint import latest_checkpoint, read_state

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
_COPIES = 4
# Files are written when 256 prompts are decoded: enough for kills to come between them.
_PROMPTS = 300
_STEPS, _EVERY = 120, 10
_RECIPE = """
name = "killed"
[data]
store = {store}
window = 24
min_window = 12
speed = [0.9, 1.1]
mirror = 0.5
[model]
latent = 24
width = 16
feedforward = 32
encoder_layers = 1
decoder_layers = 1
heads = 2
patch = 2
dropout = 0.1
[loss]
contrast = 0.1
text_decode = 0.5
[optim]
steps = {steps}
batch = 8
text_batch = 4
warmup = 20
lr = 1e-3
checkpoint_every = {every}
"""


def recordings(folder: Path) -> Path:
    """The motion files of tests/golden, several times: copies in other folders are files of their own."""
    for copy in range(_COPIES):
        for path in sorted(GOLDEN.rglob("*")):
            if path.suffix in (".npz", ".bvh", ".amc", ".asf", ".glb") and path.parent.name in ("kaykit", "bvh", "amc"):
                target = folder / f"copy{copy}" / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    return folder


class Case(ABC):
    """A command, what it makes, and how two results differ."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def command(self, out: Path) -> list[str]:
        """The arguments that make the result in the folder `out`."""

    @abstractmethod
    def kept(self, out: Path) -> int:
        """How much is whole after a kill. Raises MclipError if anything there is not."""

    @abstractmethod
    def differs(self, out: Path, wanted: Path) -> str:
        """What two results differ in, or ""."""

    def used(self, said: dict[str, Any]) -> int | None:
        """How much of what was kept the run after the kill says it used; None if it does not say."""
        return said.get("reused")

    def left(self, out: Path, wanted: Path) -> int:
        """Files that the undisturbed run does not have."""
        return len(names(out) - names(wanted))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


class Preprocess(Case):
    name = "preprocess"

    def command(self, out: Path) -> list[str]:
        options = ["--workers", "2", "--renderer", "numpy", "--size", "32"]
        return ["preprocess", str(self.folder / "clips"), "-o", str(out / "store.h5"), *options]

    def kept(self, out: Path) -> int:
        if (out / "store.h5").exists():
            return read_store(out / "store.h5").file.exists()
        journal = out / "store.h5.partial"
        return sum(not path.name.startswith(".") and len(path.name) == 40 for path in journal.glob("*"))

    def differs(self, out: Path, wanted: Path) -> str:
        return differing_values(out / "store.h5", wanted / "store.h5")


def differing_values(one: Path, other: Path) -> str:
    """The first dataset or attribute that two stores differ in, or ""."""
    mine, theirs = values(one), values(other)
    if mine.keys() != theirs.keys():
        return "names"
    return next((name for name, value in mine.items() if not np.array_equal(value, theirs[name])), "")


def values(store: Path) -> dict[str, Any]:
    """Every dataset and attribute of a store."""
    with h5py.File(store) as file:
        names: list[str] = []
        file.visit(names.append)
        found = {f"@{name}": value for name, value in file.attrs.items()}
        return found | {name: file[name][...] for name in names if isinstance(file[name], h5py.Dataset)}


class Train(Case):
    name = "train"

    def command(self, out: Path) -> list[str]:
        return ["train", str(self.folder / "recipe.toml"), "-o", str(out / "run"), "--threads", "1"]

    def kept(self, out: Path) -> int:
        checkpoint = latest_checkpoint(out / "run")
        return int(read_state(checkpoint)["step"]) if checkpoint else 0

    def used(self, said: dict[str, Any]) -> int | None:
        return None

    def differs(self, out: Path, wanted: Path) -> str:
        last = f"checkpoint-{_STEPS:08d}"
        files = ["recipe.json", "curves.csv", f"{last}/model.safetensors", f"{last}/optimizer.safetensors"]
        return differing_files(out / "run", wanted / "run", files)


def differing_files(one: Path, other: Path, files: list[str]) -> str:
    """The first of these files whose bytes differ, or ""."""
    return next((file for file in files if (one / file).read_bytes() != (other / file).read_bytes()), "")


class Generate(Case):
    name = "generate"

    def command(self, out: Path) -> list[str]:
        return ["generate", "--file", str(self.folder / "prompts.txt"), "-o", str(out / "made"), "--device", "cpu"]

    def kept(self, out: Path) -> int:
        return len(
            [
                path
                for path in (out / "made").glob("*.npz")
                if path.name[0] != "." and np.load(path, allow_pickle=False).files
            ]
        )

    def differs(self, out: Path, wanted: Path) -> str:
        files = sorted(path.name for path in (wanted / "made").iterdir())
        return differing_files(out / "made", wanted / "made", files)


class Search(Case):
    name = "search"

    def command(self, out: Path) -> list[str]:
        library = str(self.folder / "clips")
        return ["search", "a person walks", library, "--index", str(out / "index"), "--device", "cpu"]

    def kept(self, out: Path) -> int:
        return len(load_index(out / "index").entries) if (out / "index").exists() else 0

    def differs(self, out: Path, wanted: Path) -> str:
        one, other = load_index(out / "index"), load_index(wanted / "index")
        # Times of the last change are those of the files, or 0 for one that had just been made.
        if [entry._replace(mtime=0) for entry in one.entries] != [entry._replace(mtime=0) for entry in other.entries]:
            return "entries"
        same = np.array_equal(one.latents, other.latents) and np.array_equal(one.bounds, other.bounds)
        return "" if same else "latents"


CASES: dict[str, type[Case]] = {case.name: case for case in (Preprocess, Train, Generate, Search)}


def prepare(folder: Path) -> None:
    """What the commands read."""
    recordings(folder / "clips")
    verbs = ("walks", "jumps", "waves", "sits down", "kicks", "dances")
    lines = [f"a person {verbs[number % len(verbs)]} number {number}" for number in range(_PROMPTS)]
    (folder / "prompts.txt").write_text("\n".join(lines), encoding="utf-8")
    store = folder / "train.h5"
    preprocess(folder / "clips", store, workers=1, val=0.0, test=0.0, drawing=None)
    table = np.random.default_rng(0).normal(size=(len(read_store(store).texts), 24)).astype(np.float32)
    write_embeddings(store, "minilm-l6", table / np.linalg.norm(table, axis=1, keepdims=True))
    recipe = _RECIPE.format(store=json.dumps(str(store)), steps=_STEPS, every=_EVERY)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")


def start(case: Case, out: Path) -> subprocess.Popen[str]:
    out.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "mclip", *case.command(out), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(case: Case, out: Path) -> dict[str, Any]:
    """Run the command to its end; what it said."""
    said, err = (process := start(case, out)).communicate()
    if process.returncode:
        raise SystemExit(f"{case.name}: ended with {process.returncode}: {err[-2000:]}")
    result: dict[str, Any] = json.loads(said)
    return result


def trial(case: Case, folder: Path, wanted: Path, seconds: float, number: int) -> dict[str, Any] | None:
    """Begin, kill after `seconds`, start again: what went wrong. None if the run ended first."""
    out = folder / f"{case.name}-{number}"
    process = start(case, out)
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        _, err = process.communicate()
    # What a run says of itself when a signal came too late.
    if process.returncode == 0:
        shutil.rmtree(out)
        return None
    clean = number == signal.SIGKILL or (process.returncode == 130 and "Traceback" not in err)
    kept = case.kept(out)
    said = finish(case, out)
    used = case.used(said)
    found = {
        "differs": case.differs(out, wanted),
        "lost": used is not None and said.get("done") is not False and used < kept,
        "left": case.left(out, wanted),
        "kept": kept,
        "unclean": "" if clean else f"{process.returncode}: {err[-500:]}",
    }
    shutil.rmtree(out)
    return found


def examine(case: Case, folder: Path, kills: int, number: int, chance: random.Random) -> dict[str, Any]:
    """The counts of one command."""
    wanted = folder / f"{case.name}-wanted"
    finish(case, folder / "warm")  # compiles, and warms the disk
    began = time.monotonic()
    finish(case, wanted)
    lasted = time.monotonic() - began
    print(f"{case.name}: {lasted:.1f} s undisturbed", flush=True)
    found: list[dict[str, Any]] = []
    early = 0
    while len(found) < kills:
        began = time.monotonic()
        each = trial(case, folder, wanted, chance.uniform(0, lasted), number)
        if each is None:
            early += 1
            lasted = time.monotonic() - began  # the machine has become quicker
            continue
        found.append(each)
        for name in ("differs", "lost", "unclean"):
            if each[name]:
                print(f"{case.name}: {name}: {each[name]}", flush=True)
    return {
        "kills": len(found),
        "ended_before": early,
        "different": sum(bool(each["differs"]) for each in found),
        "lost": sum(bool(each["lost"]) for each in found),
        "unclean": sum(bool(each["unclean"]) for each in found),
        "with_something_kept": sum(each["kept"] > 0 for each in found),
        "files_left": sum(each["left"] for each in found),
        "seconds_undisturbed": round(lasted, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--interrupt", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    number = signal.SIGINT if given.interrupt else signal.SIGKILL
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for each in given.only:
            chance = random.Random(given.seed)
            results[each] = examine(CASES[each](folder), folder, given.kills, number, chance)
            print(f"{each}: {results[each]}", flush=True)
    print(json.dumps({"signal": number.name, **results}))
    bad = sum(result[what] for result in results.values() for what in ("different", "lost", "unclean", "files_left"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
