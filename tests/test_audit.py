"""Every command, run for real under an audit hook.

Nothing is unpickled, nothing that is read becomes code, no other program is started, nobody is called, and nothing is
written but where it was asked for, or to temporary and cache folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mclip.cli import COMMANDS
from mclip.pack import Pack
from tests.clips import SMALL, save_weights
from tests.fakes import swinging, write_tiny_store
from tests.test_faults import RECIPE

ROOT = Path(__file__).parents[1]
PACKAGE = str(ROOT / "mclip")
GOLDEN = ROOT / "tests" / "golden"
CHANGES = {f"os.{what}" for what in "rename remove mkdir rmdir link symlink truncate chmod utime".split()}
MODES = {"w", "w+", "wb", "w+b", "a", "ab", "a+", "r+", "r+b", "rb+", "x", "xb", "x+b"}
# Stands in prompts, captions, labels, names of files, joints and recipes, and in what a file says of itself.
CANARY = "zxqcanary"

WEIGHTS = ("--clip-weights", "../in/weights.pt", "--unverified")
PREPROCESS = ("--workers", "1", "--size", "32")
COMMAND_LINES = (
    ("generate", f"nods {CANARY}", "-o", f"{CANARY}.npz"),
    ("generate", "--file", "../in/prompts.txt", "-o", "many"),
    ("edit", f"../in/{CANARY}.npz", "--add", f"waves {CANARY}", "-o", "edited.npz", "--save-axis", "axis.json"),
    ("edit", f"../in/{CANARY}.npz", "--axis", "axis.json", "--sweep", "0:1:2", "-o", "sweep"),
    ("interpolate", f"../in/{CANARY}.npz", "waves", "--steps", "3", "-o", "between"),
    ("classify", "../in/data", "--labels", f"nods,{CANARY}", "--timeline", "--workers", "1", "--json"),
    ("search", f"nods {CANARY}", "../in/data", "--index", "index", "--workers", "1"),
    ("search", "--like", f"../in/{CANARY}.npz", "../in/data", "--index", "index", "--cluster", "2", "--workers", "1"),
    *(("view", f"../in/{CANARY}.npz", "-o", f"a.{kind}", "--size", "48") for kind in ("png", "webp")),
    ("view", "many", "-o", "many.html"),
    *(("convert", f"../in/{CANARY}.npz", f"a.{kind}") for kind in ("bvh", "glb", "csv", "npy")),
    ("convert", f"../in/{CANARY}.bvh", "bvh.npz", "--rig", "../in/rig.toml"),
    ("convert", "../in/knight.glb", "glb.npz", "--take", "Idle"),
    ("convert", "../in/02_01.amc", "amc.npz"),
    (
        "preprocess",
        "../in/data",
        "--labels",
        "../in/data/labels.csv",
        "-o",
        "store.h5",
        "--workers",
        "1",
        "--size",
        "32",
    ),
    ("train", "../in/recipe.toml", "-o", "run", "--device", "cpu", *WEIGHTS),
    ("export", "run", "-o", "pack", "--store", "store.h5", "--image-tower", *WEIGHTS),
    ("generate", f"nods {CANARY}", "--pack", "pack", "-o", "clip.npz"),
    ("evaluate", "pack", "--data", "store.h5", "--labels", "../in/classes.txt", "-o", "result.json"),
    ("doctor", "pack"),
)


def write_inputs(folder: Path) -> None:
    """All that the commands read."""
    write_tiny_store(folder / "data")
    (folder / "data" / "store.h5").unlink()
    labels = folder / "data" / "labels.csv"
    labels.write_text(labels.read_text().replace("a person", f"a {CANARY} person"))
    motion = swinging("head", 0, seed=1)
    motion.save(folder / f"{CANARY}.npz")
    hips = GOLDEN / "bvh" / "bandai_walk.bvh"
    (folder / f"{CANARY}.bvh").write_text(hips.read_text().replace("Head", f"Head{CANARY}"))
    (rig,) = (ROOT / "mclip" / "formats" / "rigs").glob("bandai*.toml")
    (folder / "rig.toml").write_text(re.sub(r"\bHead\b", f"Head{CANARY}", rig.read_text()))
    for name in ("kaykit/knight.glb", "amc/02.asf", "amc/02_01.amc"):
        shutil.copy(GOLDEN / name, folder)
    (folder / "recipe.toml").write_text(RECIPE.replace('name = "tiny"', f'name = "{CANARY}"'))
    (folder / "prompts.txt").write_text(f"nods {CANARY}\nwaves\n")
    (folder / "classes.txt").write_text(f"nod\nwave left\n{CANARY}\n")
    save_weights(SMALL, folder / "weights.pt")


def contents(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def audited(folder: Path, commands: tuple[tuple[str, ...], ...], **environment: str) -> list[dict[str, Any]]:
    """What the commands did, run in `folder`/out."""
    places = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache", "PWD": "out"}
    for name in places.values():
        (folder / name).mkdir(exist_ok=True)
    clean = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    clean |= {name: str(folder / place) for name, place in places.items()}
    clean |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "MCLIP_AUDIT": str(folder / "events")}
    driver = [sys.executable, str(ROOT / "tests" / "audited.py"), json.dumps(commands)]
    done = subprocess.run(driver, cwd=folder / "out", env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (folder / "events").read_text().splitlines()]
    ended = [tuple(event["values"]) for event in events if event["event"] == "exit"]
    assert ended == [(command[0], 0) for command in commands], done.stderr
    return events


def violations(events: list[dict[str, Any]], folder: Path) -> list[str]:
    """What of it no command may do; `folder`: where `audited` ran them."""
    return [
        f"{event['event']} {str(event['values'])[:200]} by {event['files'][:6]}"
        for event in events
        if not _is_allowed(event["event"], event["values"], event["files"], folder)
    ]


def _is_allowed(name: str, values: list[Any], files: list[str], folder: Path) -> bool:
    area, caller = name.split(".")[0], Path(files[0]).as_posix() if files else ""
    if area == "pickle":
        # What mclip's own processes tell each other, and numba's cache of its own compilations.
        return "/multiprocessing/" in caller or "/numba/core/" in caller
    if area in ("compile", "exec"):
        # dataclasses, typing, torch and others make code from their own text.
        return not caller.startswith(PACKAGE) and CANARY not in str(values)
    if area in ("open", "shutil", "tempfile") or name in CHANGES:
        paths = [folder / "out" / value for value in values if isinstance(value, str) and value not in MODES]
        return all(_may_change(path, folder, caller) for path in paths)
    if name == "subprocess.Popen":
        # To say on which processor it runs, torch asks the platform module, which asks `uname`.
        return values[0] == "uname" and any(Path(file).name == "platform.py" for file in files)
    return name == "exit"


def _may_change(path: Path, folder: Path, caller: str) -> bool:
    if "__pycache__" in path.parts:
        return "/numba/core/" in caller or caller.endswith(("/tempfile.py", "<frozen os>"))
    allowed = [(folder / place).resolve() for place in ("out", "tmp", "cache")]
    return path == Path(os.devnull) or any(path.resolve().is_relative_to(place) for place in allowed)


def test_no_command_does_what_it_may_not(tiny_pack: Pack, tmp_path: Path) -> None:
    write_inputs(tmp_path / "in")
    untouched = {folder: contents(folder) for folder in (tmp_path / "in", tiny_pack.path)}
    assert {command for command, *_ in COMMAND_LINES} == set(COMMANDS)
    events = audited(tmp_path, COMMAND_LINES, MCLIP_PACK=str(tiny_pack.path))
    assert violations(events, tmp_path) == []
    # The hook saw what there was to see, in the workers too.
    written = {Path(event["values"][1]).name for event in events if event["event"] == "os.rename"}
    assert {
        f"{CANARY}.npz",
        "a.bvh",
        "a.png",
        "many.html",
        "index",
        "store.h5",
        "pack",
        "result.json",
    } <= written
    assert any("/mclip/data/workers.py" in file for event in events for file in event["files"])
    # Libraries that are no Python write unseen by the hook.
    assert {folder: contents(folder) for folder in untouched} == untouched
    assert not [*(tmp_path / "home").iterdir(), *(tmp_path / "cache").iterdir()]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle, collections; pickle.loads(pickle.dumps(collections.OrderedDict()))",
        "eval('1')",
        "exec('x = 1')",
        "__import__('json').__loader__; compile('zxqcanary', 'x', 'eval')",
        "__import__('os').system('true')",
        "__import__('subprocess').run('true', shell=True)",
        "__import__('socket').socket()",
        "open('../in', 'wb')",
        "__import__('os').mkdir('../in')",
        "__import__('os').rename('out', '../in')",
    ],
)
def test_the_audit_sees_each_of_them(tmp_path: Path, code: str) -> None:
    (tmp_path / "out").mkdir()
    # As if it were mclip's.
    program = f"import audited; audited.watch('../events'); exec(compile({code!r}, {PACKAGE + '/x.py'!r}, 'exec'))"
    driver = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); {program}"
    subprocess.run([sys.executable, "-c", driver], cwd=tmp_path / "out", capture_output=True)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    # The frame in which the program itself is made code.
    assert violations([event for event in events if event["files"][0] != "<string>"], tmp_path)
