"""The same pack, texts and options give the same bytes: over processes, batches, orders and numbers of threads.

All of it in processes of their own, with the mini pack, whose products are large enough for threads to share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "tests" / "golden" / "kaykit" / "Unarmed_Melee_Attack_Kick.npz"
TEXTS = ["couch", "an old person walks", "kick with the left foot", "wave"]
# (threads of all libraries that ask the environment, processors): onnxruntime asks for processors.
MACHINES = ((1, 1), (2, 2))

# Each row alone, by threes in the other order, and all at once; one line of JSON per engine.
BATCHES = """
import hashlib, json, os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
import numpy as np
from mclip.runtime.engine import Engine

def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()

verbs = "walks kicks sits jumps waves runs bows dances".split()
ways = "slowly|twice|angrily|to the left|with the right hand|like an old man|fast|, stops and looks".split("|")
texts = [f"a person {verb} {way}" for verb in verbs for way in ways]
frames = 40
latents = np.random.default_rng(0).normal(size=(8, 384)).astype(np.float32)
latents /= np.linalg.norm(latents, axis=1, keepdims=True)

def rows(run, count, size, order):
    out = {}
    for start in range(0, count, size):
        places = order[start : start + size]
        out |= dict(zip(places, run(places), strict=True))
    return digest([out[place] for place in range(count)])

for quick in (False, True):
    engine = Engine.open("mini", "cpu", quick=quick)
    mask = np.ones((8, frames), np.bool_)
    features = engine.decode(latents, mask)
    runs = {
        "text": (lambda at: engine.encode_text([texts[place] for place in at]), 64),
        "decode": (lambda at: engine.decode(latents[at], mask[: len(at)]), 8),
        "encode": (lambda at: engine.encode_motion(features[at], mask[: len(at)]), 8),
    }
    found = {}
    for name, (run, count) in runs.items():
        order = list(range(count))
        found[name] = sorted({rows(run, count, *each) for each in ((1, order), (3, order[::-1]), (64, order))})
    print(json.dumps(found))
"""

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")


def environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": str(ROOT)}


@needs_affinity
def test_a_row_is_the_same_in_every_batch_order_process_and_number_of_threads() -> None:
    outputs = []
    for threads, processors in MACHINES:
        command = [sys.executable, "-c", BATCHES, str(processors)]
        done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, check=True)
        outputs.append([json.loads(line) for line in done.stdout.splitlines()])
    for engine in outputs[0]:
        assert {name: len(digests) for name, digests in engine.items()} == {"text": 1, "decode": 1, "encode": 1}
    assert outputs[0] == outputs[1]


def run(folder: Path, threads: int, processors: int, *arguments: str) -> str:
    """Run mclip in `folder`, made for it, and give back its stdout."""
    folder.mkdir(exist_ok=True)
    pin = f"import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{processors}]); "
    command = [sys.executable, "-c", pin + "from mclip.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(threads), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.npz")}


@needs_affinity
def test_commands_write_the_same_bytes_with_one_thread_and_with_two(tmp_path: Path) -> None:
    commands = (
        ["generate", TEXTS[0], "--variations", "3", "--seed", "5", "-o", "made", "--json"],
        ["edit", str(CLIP), "--add", "tired", "-o", "edited.npz", "--json"],
        ["interpolate", TEXTS[1], TEXTS[2], "--steps", "3", "-o", "between", "--json"],
        ["classify", str(CLIP), "--json"],
    )
    for command in commands:
        one = run(tmp_path / "one", 1, 1, *command)
        assert run(tmp_path / "two", 2, 2, *command) == one
    made = contents(tmp_path / "one")
    assert len(made) == 3 + 1 + 3
    assert contents(tmp_path / "two") == made


@needs_affinity
def test_a_file_of_prompts_gives_each_the_same_bytes_alone_in_any_order_and_among_others(tmp_path: Path) -> None:
    many = [f"{text}, number {number}" for number in range(16) for text in TEXTS]
    lists = {"all": many, "reversed": many[::-1], "three": many[5:8], "one": many[6:7]}
    for name, lines in lists.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
        threads, processors = MACHINES[name in ("reversed", "one")]
        run(tmp_path / name, threads, processors, "generate", "--file", str(tmp_path / f"{name}.txt"), "-o", "made")
    made = {name: contents(tmp_path / name) for name in lists}
    assert len(made["all"]) == 64
    assert made["reversed"] == made["all"]
    for name in ("three", "one"):
        assert len(made[name]) == len(lists[name])
        assert made[name].items() <= made["all"].items()


def test_a_text_on_the_command_line_differs_from_a_line_of_a_file_by_rounding_alone(tmp_path: Path) -> None:
    # The rule's one exception: the command line's engine starts quickly, and rounds otherwise.
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    for name, arguments in (("text", TEXTS), ("file", ["--file", str(tmp_path / "texts.txt")])):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-m", "mclip", "generate", *arguments, "-o", "made"]
        subprocess.run(command, cwd=tmp_path / name, env=environment(1), check=True, capture_output=True)
    paths = sorted(path.relative_to(tmp_path / "text") for path in (tmp_path / "text").rglob("*.npz"))
    assert len(paths) == len(TEXTS)
    for path in paths:
        with np.load(tmp_path / "text" / path) as text, np.load(tmp_path / "file" / path) as file:
            np.testing.assert_allclose(text["poses"], file["poses"], rtol=0, atol=2e-5)
            np.testing.assert_allclose(text["trans"], file["trans"], rtol=0, atol=2e-5)
            assert str(text["mclip"]) == str(file["mclip"])
