"""The training loop."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mclip import console
from mclip.data.dataset import Batch, WindowSampler
from mclip.data.pieces import PieceSampler
from mclip.data.store import MotionStore, read_store
from mclip.errors import MclipError, RecipeError, UsageError
from mclip.files import write_text
from mclip.nn.model import MotionClip
from mclip.nn.teachers import PUBLISHED, Weights
from mclip.recipe import OptimConfig, Recipe, recipe_to_dict
from mclip.train.checkpoint import latest_checkpoint, load_model, recorded_recipe, restore, save_checkpoint
from mclip.train.embeddings import caption_embeddings, image_embeddings, text_embeddings
from mclip.train.objective import Objective
from mclip.train.world import World, join_world

_LOG_EVERY = 50
# Larger stores stay in their file, of which the system keeps in memory what there is room for.
_IN_MEMORY = 1 << 30


class DivergedError(MclipError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a finished run says of itself."""

    run: Path
    steps: int
    seconds: float
    metrics: dict[str, float]


def train(
    recipe: Recipe, run: Path, *, stop_at: int | None = None, device: str = "auto", weights: Weights = PUBLISHED
) -> Report:
    """Train a recipe into a run directory, going on from its newest checkpoint if it has one.

    Started by torchrun it trains together with torchrun's other processes (mclip.train.world).
    stop_at: stop (with a checkpoint) at this step rather than at the recipe's last.
    device: auto, cpu or cuda.
    weights: of the teacher, asked for embeddings that the store does not hold yet.
    Raises UsageError when the run directory belongs to another recipe, RecipeError for a batch that cannot be divided
    among the processes, DeviceError for a device that cannot be had or lacks bf16, DivergedError when the loss is lost.
    """
    with join_world(device) as world:
        return _train(recipe, run, stop_at, weights, world)


def _train(recipe: Recipe, run: Path, stop_at: int | None, weights: Weights, world: World) -> Report:
    if recipe.optim.batch % world.size:
        raise RecipeError(
            f"optim.batch is {recipe.optim.batch}, which cannot be divided among {world.size} processes",
            "start another number of them, or change optim.batch",
        )
    with world.leader_first():
        checkpoint = _check_run(run, recipe)
        sampler = _sampler(_store(Path(recipe.data.store)), recipe, run, weights)
        steps = _steps(recipe, sampler)
    torch.manual_seed(recipe.seed)
    model = _initial_model(recipe).train().to(world.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.optim.lr, weight_decay=recipe.optim.weight_decay, fused=True
    )
    first, metrics = restore(checkpoint, model, optimizer) if checkpoint else (0, {})
    last = min(steps, stop_at or steps)
    objective = Objective(recipe.loss, world, recipe.optim.precision)
    losses = world.wrap(_Losses(model, objective))
    curves = None
    if world.leads:
        write_text(run / "recipe.json", json.dumps(recipe_to_dict(recipe), indent=1))
        curves = _Curves(run / "curves.csv", first, objective.terms)
        if recipe.optim.epochs:
            console.err(f"{recipe.optim.epochs} epochs: {steps} steps")
    started = time.monotonic()
    with console.progress(f"train {recipe.name}", last, first) if world.leads else nullcontext() as progress:
        for step, batch in _batches(sampler, recipe.optim, range(first, last), world):
            # Dropout is a function of seed and step too: a resumed run is the run that would have been.
            torch.manual_seed(((recipe.seed << 32) + step + (world.rank << 48)) % 2**64)
            rate = learning_rate(recipe.optim, step, steps)
            means = world.mean(_step(losses, optimizer, batch, rate, recipe.optim.clip))
            terms = dict(zip(("total", *objective.terms), means.tolist(), strict=True))
            if not math.isfinite(terms["total"]):
                raise DivergedError(
                    f"{run}: the loss is not finite at step {step + 1}", "lower optim.lr and train in a new run"
                )
            if curves is None or progress is None:
                continue
            curves.add(terms)
            if (step + 1) % _LOG_EVERY == 0 or step + 1 == last:
                metrics = curves.write(step + 1)
            if (step + 1) % recipe.optim.checkpoint_every == 0 or step + 1 == last:
                save_checkpoint(run, model, optimizer, step + 1, recipe, metrics)
            progress.advance(note=f"loss {metrics.get('total', math.nan):.4f}")
    return Report(run=run, steps=last, seconds=time.monotonic() - started, metrics=metrics)


class _Losses(nn.Module):
    """Model and objective as one module: what DistributedDataParallel wraps has to be called as a whole."""

    def __init__(self, model: MotionClip, objective: Objective) -> None:
        super().__init__()
        self.model, self._objective = model, objective

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and that loss followed by its terms."""
        total, terms = self._objective(self.model, batch)
        return total, torch.stack([total, *terms.values()]).detach()


def _batches(
    sampler: WindowSampler | PieceSampler, optim: OptimConfig, steps: range, world: World
) -> Iterator[tuple[int, Batch]]:
    """The steps, each with this process's share of its batch, drawn while the step before is computed."""

    def draw(step: int) -> Batch:
        return sampler.batch(step, optim.batch, optim.text_batch).share(world.rank, world.size)

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(draw, steps.start) if steps else None
        for step in steps:
            assert following is not None
            batch = following.result()
            following = thread.submit(draw, step + 1) if step + 1 in steps else None
            yield step, batch


def _initial_model(recipe: Recipe) -> MotionClip:
    """The model a run starts with: random weights, or those of the run the recipe names."""
    model = MotionClip(recipe.model)
    if recipe.optim.init:
        source, other = load_model(Path(recipe.optim.init))
        if other.model != recipe.model:
            raise RecipeError(f"optim.init: {recipe.optim.init} has another model", "copy its [model] table")
        model.load_state_dict(source.state_dict())
    return model


def _store(path: Path) -> MotionStore:
    return read_store(path, mmap=path.is_file() and path.stat().st_size > _IN_MEMORY)


def _sampler(store: MotionStore, recipe: Recipe, run: Path, weights: Weights) -> WindowSampler | PieceSampler:
    """What draws the batches. A tower of the teacher whose losses have no weight is not asked for anything."""
    images = image_embeddings(store, recipe, weights) if recipe.loss.needs_images else None
    if not recipe.data.piece:
        texts = text_embeddings(store, recipe, weights) if recipe.loss.needs_text else None
        return WindowSampler(store, recipe.data, texts, images, seed=recipe.seed)
    sampler = PieceSampler(store, recipe.data, seed=recipe.seed)
    # Joined captions are not the store's texts, and can be many: once per run.
    captions = (
        caption_embeddings(sampler.texts, recipe, run / ".captions.safetensors", weights)
        if recipe.loss.needs_text
        else None
    )
    sampler.align(captions, images)
    return sampler


def _steps(recipe: Recipe, sampler: WindowSampler | PieceSampler) -> int:
    """How long to train; the store says how many steps an epoch has."""
    optim = recipe.optim
    if not optim.epochs or not isinstance(sampler, PieceSampler):
        return optim.steps
    steps = -(-optim.epochs * len(sampler) // optim.batch)
    if optim.warmup > steps:
        raise RecipeError(f"optim.warmup is {optim.warmup}, optim.epochs make only {steps} steps", "set it shorter")
    return steps


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to the final share at the last of `steps`."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    done = (step - optim.warmup) / max(1, steps - optim.warmup)
    return optim.lr * (optim.final + (1 - optim.final) / 2 * (1 + math.cos(math.pi * done)))


def _step(losses: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, rate: float, clip: float) -> Tensor:
    """Take one step; returns the loss and its terms."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    total, terms = losses(batch)
    total.backward()
    if clip > 0:
        torch.nn.utils.clip_grad_norm_(losses.parameters(), clip)
    optimizer.step()
    return terms  # type: ignore[no-any-return]


def _check_run(run: Path, recipe: Recipe) -> Path | None:
    """The newest checkpoint of a run directory; UsageError if it is, or holds, anything but a run of this recipe."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run}: is a file, not a run directory", "choose another with -o")
    checkpoint = latest_checkpoint(run)
    if checkpoint is not None and recorded_recipe(checkpoint) != recipe:
        raise UsageError(
            f"{run}: holds a run of another recipe",
            "choose another directory with -o, or delete this one to train anew",
        )
    foreign = run.is_dir() and any(not path.name.startswith(".") for path in run.iterdir())
    if checkpoint is None and foreign and not (run / "curves.csv").is_file():
        raise UsageError(f"{run}: is a folder with other things in it", "choose another directory with -o")
    return checkpoint


class _Curves:
    """Means of the unweighted terms of the loss, one CSV line per interval.

    Lines past the checkpoint resumed from are dropped.
    """

    def __init__(self, path: Path, step: int, terms: tuple[str, ...]) -> None:
        self._path, self._sums, self._count = path, dict.fromkeys(("total", *terms), 0.0), 0
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() and step else []
        kept = [line for line in lines[1:] if line.split(",")[0].isdigit() and int(line.split(",")[0]) <= step]
        write_text(path, "\n".join([",".join(("step", *self._sums)), *kept]) + "\n")

    def add(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            self._sums[name] += value
        self._count += 1

    def write(self, step: int) -> dict[str, float]:
        means = {name: value / self._count for name, value in self._sums.items()}
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([step, *(f"{value:.6g}" for value in means.values())])
        self._sums, self._count = dict.fromkeys(self._sums, 0.0), 0
        return means
