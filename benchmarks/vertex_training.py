"""What the forms of the vertex loss do to held-out error: python -m benchmarks.vertex_training [STORE] [--steps 300]

One small model for each form, trained from the same start on the same batches for the same steps, with the paper's
reconstruction losses (features, their velocity, vertices). Then the exact vertex error, millimetres, of windows of the
store's validation split, and the processor time of training. Without STORE one is made, of bodies that swing their
joints. --quick is a few steps of each. Lines of benchmarks/README.md, then one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.swings import make_store
from benchmarks.timing import machine
from mclip.body.model import load_body
from mclip.data.dataset import WindowSampler
from mclip.data.store import read_store
from mclip.nn.vertices import VertexLoss
from mclip.recipe import VERTEX_FORMS, Recipe, recipe_from_dict
from mclip.train.checkpoint import load_model
from mclip.train.loop import train


def recipe(store: Path, form: str, steps: int) -> Recipe:
    """The paper's losses for a model that a processor can train; form "none" is without vertices."""
    vertices = {"vertices": 100.0, "vertex_form": form} if form != "none" else {}
    nothing = dict.fromkeys(("rotation", "root", "joints", "velocity", "text"), 0.0)
    return recipe_from_dict(
        {
            "name": f"vertices-{form}",
            "data": {"store": str(store), "window": 60, "min_window": 60, "mirror": 0.0},
            "model": {"architecture": "dct", "width": 192, "feedforward": 384, "patch": 4, "dropout": 0.0},
            "loss": {**nothing, "features": 100.0, "feature_velocity": 100.0, **vertices},
            "optim": {"steps": steps, "batch": 16, "warmup": 20, "lr": 5e-4, "checkpoint_every": steps},
        }
    )


def held_out(run: Path, store: Path, batches: int) -> float:
    """The root of the mean squared vertex error, millimetres."""
    model, settings = load_model(run)
    sampler = WindowSampler(read_store(store), settings.data, None, seed=1, split="val")
    exact, errors = VertexLoss(load_body()), []
    for step in range(batches):
        batch = sampler.batch(step, 16, 0)
        features, mask = torch.from_numpy(batch.features), torch.from_numpy(batch.mask)
        with torch.no_grad():
            errors.append(exact(model.decode(model.encode(features, mask), mask), features, mask).item())
    return 1000 * float(np.sqrt(3 * np.mean(errors)))


def main(store: Path, steps: int, batches: int) -> None:
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for form in ("none", *VERTEX_FORMS):
            started = time.process_time()
            train(recipe(store, form, steps), Path(name) / form, device="cpu")
            seconds = time.process_time() - started
            results[form] = {
                "held_out_mm": round(held_out(Path(name) / form, store, batches), 2),
                "seconds": round(seconds, 1),
            }
            print(f"{form:8} {results[form]['held_out_mm']:8.2f} mm  {seconds:8.1f} s", flush=True)
    names = " / ".join(results)
    errors, times = (" / ".join(f"{row[name]:g}" for row in results.values()) for name in ("held_out_mm", "seconds"))
    print(f"| | `vertex_training.py`, {steps} steps, held-out vertex error, mm: {names} | {errors} | |")
    print(f"| | the same, processor seconds | {times} | |")
    print(json.dumps({"steps": steps} | results | machine()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen = given.store or make_store(Path(folder), 200).file
        main(chosen, 20 if given.quick else given.steps, 1 if given.quick else 8)
