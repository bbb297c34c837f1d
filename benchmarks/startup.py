"""One prompt to one file, whole process, against torch: python -m benchmarks.startup [--run RUN] [--quick]

`mclip` is `mclip generate "couch"` with the mini pack; `torch` a script that does the same through torch: it loads the
sentence transformer and the run's checkpoint into torch, embeds the prompt, asks the pack's bank and decodes (this
file with --once). `help` is `mclip --help`. The sides take turns. `memory` is the most that was resident, MB. On a busy
machine the processor time says more. The last line is one JSON object: medians of [time, processor time] in ms.

With RUN, the run directory the pack was exported from, both have to give the same motion first. Without it torch has
random weights of the same shapes, which take the same time, and no motion can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TEXT = "couch"
# Weights of the pack are rounded to fp16 and int8: radians.
AGREE = 0.02


def by_torch(run: Path, pack: Path, out: Path) -> None:
    """What `mclip generate` does, through torch."""
    import torch

    from mclip.nn.teachers import load_teacher
    from mclip.runtime.prior import load_bank
    from mclip.runtime.representation import SMPL24, steady
    from mclip.train.checkpoint import load_model

    teacher = load_teacher("minilm-l6")
    model, recipe = load_model(run)
    embedding = teacher.embed([TEXT])
    match = load_bank((pack / "bank.npz").read_bytes(), recipe.model.latent).match([TEXT], embedding)[0]
    with torch.inference_mode():
        latent, mask = torch.from_numpy(match.latent)[None], torch.ones(1, match.frames, dtype=torch.bool)
        features = model.eval().decode(latent, mask)[0].numpy()
    from mclip.runtime.tasks import to_motion

    to_motion(steady(features), 30.0, SMPL24).save(out)


def random_run(folder: Path) -> None:
    """Make a run directory of a model like the mini pack's, with random weights."""
    import torch

    from mclip.nn.model import MotionClip
    from mclip.recipe import load_recipe
    from mclip.train.checkpoint import save_checkpoint

    recipe = load_recipe(Path(__file__).parents[1] / "recipes" / "mini" / "recipe.toml")
    model = MotionClip(recipe.model)
    save_checkpoint(folder, model, torch.optim.AdamW(model.parameters()), 0, recipe, {})


def measure(command: list[str], folder: Path | None = None) -> tuple[float, float, float]:
    """Time and processor time, ms, and memory, MB, of a process that has to end well; folder: where it works."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    wall = 1000.0 * (time.perf_counter() - start)
    return wall, 1000.0 * (usage.ru_utime + usage.ru_stime), usage.ru_maxrss / 1024.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "mclip" / "packs" / "mini")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--once", type=Path, help="only do what the torch side does, into this file")
    given = parser.parse_args()
    if given.once:
        by_torch(given.run, given.pack, given.once)
        return
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Path(name) / "ours.npz", Path(name) / "theirs.npz"
        run = given.run or Path(name) / "run"
        if not given.run:  # in a process of its own: the memory of ours is what others' begins with
            make = (
                f"from pathlib import Path; from benchmarks.startup import random_run; random_run(Path({str(run)!r}))"
            )
            subprocess.run([sys.executable, "-c", make], check=True)
        mclip = [sys.executable, "-m", "mclip"]
        sides = {
            "mclip": [*mclip, "generate", TEXT, "-o", str(ours), "--pack", str(given.pack), "--device", "cpu"],
            "help": [*mclip, "--help"],
            "python": [sys.executable, "-c", "import numpy, onnxruntime"],
        }
        script = [sys.executable, "-m", "benchmarks.startup", "--run", str(run), "--pack", str(given.pack)]
        sides["torch"] = [*script, "--once", str(theirs)]
        for command in sides.values():  # warms the disk
            measure(command)
        if given.run:
            one, other = (np.load(path, allow_pickle=False)["poses"] for path in (ours, theirs))
            assert one.shape == other.shape and np.abs(one - other).max() < AGREE, np.abs(one - other).max()
        rounds = 3 if given.quick else 15
        found = {side: np.array([measure(sides[side]) for _ in range(1)]) for side in sides}
        for _ in range(rounds - 1):
            for side, command in sides.items():
                found[side] = np.vstack([found[side], measure(command)])
    medians = {side: np.median(values, axis=0).round(1).tolist() for side, values in found.items()}
    from benchmarks.timing import machine

    for side, (wall, processor, memory) in medians.items():
        print(f"{side:8} {wall:9.1f} ms  {processor:9.1f} ms of processor time  {memory:7.0f} MB")
    result: dict[str, object] = {
        "ms": {side: values[:2] for side, values in medians.items()},
        "memory": {side: values[2] for side, values in medians.items()},
        "ratio": [round(medians["torch"][i] / medians["mclip"][i], 2) for i in range(2)],
        "weights": str(given.run) if given.run else "random",
    }
    print(json.dumps(result | machine()))


if __name__ == "__main__":
    main()
