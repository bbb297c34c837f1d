"""mclip train."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mclip.cli.options import ClipWeights, Unverified

MAX_THREADS = 1024
# In the run directory: when training was started and ended, and what was said in between.
LOG = "log.jsonl"


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Such as recipes/mini/recipe.toml.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run directory. [default: runs/NAME, by the recipe's name]")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Store made by mclip preprocess. [default: the recipe's data.store]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Stop at this step; start again to go on. [default: the recipe's]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MAX_THREADS, help="Processor threads. [default: one per core]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    clip_weights: ClipWeights = None,
    unverified: Unverified = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a model from a store and a recipe.

    Can be interrupted and started again: it goes on from the last checkpoint.

    Example: mclip train recipes/mini/recipe.toml

    Example: torchrun --nproc-per-node 4 -m mclip train recipes/paper.toml -o runs/paper
    """
    from dataclasses import replace

    from mclip import console
    from mclip.cli import need
    from mclip.recipe import load_recipe

    settings = load_recipe(recipe)
    if store is not None:
        settings = replace(settings, data=replace(settings.data, store=str(store)))
    with need("train"):
        import torch

        from mclip.nn.teachers import Weights
        from mclip.train.loop import train as run_training
        from mclip.train.world import is_leader
    if threads is not None:
        torch.set_num_threads(threads)
    weights = Weights(clip_weights, unverified)
    run = out or Path("runs") / settings.name
    # Of several processes, one talks.
    log = console.logged(run / LOG, "train", {"recipe": recipe, "store": settings.data.store})
    with log if is_leader() else nullcontext():
        report = run_training(settings, run, stop_at=steps, device=device, weights=weights)
    if not is_leader():
        return
    console.emit(
        {"run": str(report.run), "steps": report.steps, "seconds": report.seconds, "metrics": report.metrics},
        as_json=as_json,
        text=f"{report.run}: {report.steps} steps in {console.duration(report.seconds)}",
    )
