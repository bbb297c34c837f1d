"""The training loop."""

from __future__ import annotations

import csv
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mclip import console
from mclip.data.dataset import Batch, WindowSampler
from mclip.data.store import read_store
from mclip.errors import MclipError, RecipeError, UsageError
from mclip.files import write_text
from mclip.nn import losses
from mclip.nn.model import MotionClip
from mclip.nn.rotations import joint_positions
from mclip.nn.teachers import PUBLISHED, Weights
from mclip.recipe import Recipe, recipe_to_dict
from mclip.train.checkpoint import latest_checkpoint, load_model, recorded_recipe, restore, save_checkpoint
from mclip.train.embeddings import text_embeddings

_LOG_EVERY = 50
# The curve's loss is a mean over the interval; each of these columns is one unweighted term of it.
_TERMS = ("rotation", "root", "joints", "velocity", "text", "contrast", "text_decode", "edit")


class DivergedError(MclipError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a finished run says of itself."""

    run: Path
    steps: int
    seconds: float
    metrics: dict[str, float]


def train(recipe: Recipe, run: Path, *, stop_at: int | None = None, weights: Weights = PUBLISHED) -> Report:
    """Train a recipe into a run directory, going on from its newest checkpoint if it has one.

    stop_at: stop (with a checkpoint) at this step rather than at the recipe's last.
    weights: of the teacher, asked for embeddings that the store does not hold yet.
    Raises UsageError when the run directory belongs to another recipe, DivergedError when the loss is lost.
    """
    checkpoint = _check_run(run, recipe)
    store = read_store(Path(recipe.data.store))
    sampler = WindowSampler(store, recipe.data, text_embeddings(store, recipe, weights), seed=recipe.seed)
    torch.manual_seed(recipe.seed)
    model = _initial_model(recipe).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.optim.lr, weight_decay=recipe.optim.weight_decay, fused=True
    )
    first, metrics = restore(checkpoint, model, optimizer) if checkpoint else (0, {})
    write_text(run / "recipe.json", json.dumps(recipe_to_dict(recipe), indent=1))
    last = min(recipe.optim.steps, stop_at or recipe.optim.steps)
    curves = _Curves(run / "curves.csv", first)
    started = time.monotonic()
    with console.progress(f"train {recipe.name}", last, first) as progress:
        for step in range(first, last):
            terms = _step(model, optimizer, recipe, sampler, step)
            if not math.isfinite(terms["total"]):
                raise DivergedError(
                    f"{run}: the loss is not finite at step {step + 1}", "lower optim.lr and train in a new run"
                )
            curves.add(terms)
            if (step + 1) % _LOG_EVERY == 0 or step + 1 == last:
                metrics = curves.write(step + 1)
            if (step + 1) % recipe.optim.checkpoint_every == 0 or step + 1 == last:
                save_checkpoint(run, model, optimizer, step + 1, recipe, metrics)
            progress.advance(note=f"loss {metrics.get('total', math.nan):.4f}")
    return Report(run=run, steps=last, seconds=time.monotonic() - started, metrics=metrics)


def _initial_model(recipe: Recipe) -> MotionClip:
    """The model a run starts with: random weights, or those of the run the recipe names."""
    model = MotionClip(recipe.model)
    if recipe.optim.init:
        source, other = load_model(Path(recipe.optim.init))
        if other.model != recipe.model:
            raise RecipeError(f"optim.init: {recipe.optim.init} has another model", "copy its [model] table")
        model.load_state_dict(source.state_dict())
    return model


def objective(model: MotionClip, batch: Batch, recipe: Recipe) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses on a batch, and its unweighted terms."""
    weight = recipe.loss
    features, mask = torch.from_numpy(batch.features), torch.from_numpy(batch.mask)
    text, label = torch.from_numpy(batch.text), torch.from_numpy(batch.label)
    few = len(batch.exemplar)
    latents = model.encode(features, mask)

    # One call decodes all there is to decode: latents, captions, edits.
    sources, targets, masks = [latents], [features], [mask]
    if weight.text_decode > 0 and few:
        sources.append(text[:few])
        targets.append(torch.from_numpy(batch.exemplar))
        masks.append(torch.from_numpy(batch.exemplar_mask))
    if weight.edit > 0 and few:
        rows = torch.from_numpy(np.flatnonzero(batch.has_other))
        other_text = torch.from_numpy(batch.other_text)
        sources.append(losses.edited(latents[:few], text[:few], other_text)[rows])
        targets.append(torch.from_numpy(batch.other)[rows])
        masks.append(torch.from_numpy(batch.other_mask)[rows])
    prediction = model.decode(torch.cat(sources), torch.ones(sum(map(len, sources)), mask.shape[1], dtype=torch.bool))
    joints, wanted = joint_positions(prediction), joint_positions(torch.cat(targets))

    pose, wanted_pose = joints - joints[:, :, :1], wanted - wanted[:, :, :1]

    def reconstruction(start: int, stop: int, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        return (
            losses.rotation_loss(prediction[start:stop], target, valid),
            losses.root_loss(prediction[start:stop], target, valid),
            losses.position_loss(pose[start:stop], wanted_pose[start:stop], valid),
            losses.velocity_loss(joints[start:stop], wanted[start:stop], valid),
        )

    parts, start = [], 0
    for source, target, valid in zip(sources, targets, masks, strict=True):
        parts.append(reconstruction(start, start + len(source), target, valid))
        start += len(source)

    scale = (weight.rotation, weight.root, weight.joints, weight.velocity)

    def weighted(part: tuple[Tensor, ...]) -> Tensor:
        return torch.stack([factor * term for factor, term in zip(scale, part, strict=True)]).sum()

    zero = torch.zeros(())
    decoded = dict(
        zip([name for name in ("text_decode", "edit") if getattr(weight, name) > 0 and few], parts[1:], strict=True)
    )
    terms = {
        **dict(zip(_TERMS, parts[0], strict=False)),
        "text": losses.cosine_loss(latents, text),
        "contrast": losses.contrast_loss(latents, text, label, weight.temperature) if weight.contrast > 0 else zero,
        "text_decode": weighted(decoded["text_decode"]) if "text_decode" in decoded else zero,
        "edit": weighted(decoded["edit"]) if "edit" in decoded else zero,
    }
    total = (
        weighted(parts[0])
        + weight.text * terms["text"]
        + weight.contrast * terms["contrast"]
        + weight.text_decode * terms["text_decode"]
        + weight.edit * terms["edit"]
    )
    return total, terms


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    optim = recipe.optim
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    done = (step - optim.warmup) / max(1, optim.steps - optim.warmup)
    return optim.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def _step(
    model: MotionClip, optimizer: torch.optim.Optimizer, recipe: Recipe, sampler: WindowSampler, step: int
) -> dict[str, float]:
    # Dropout is a function of seed and step too: a resumed run is the run that would have been.
    torch.manual_seed((recipe.seed << 32) + step)
    batch = sampler.batch(step, recipe.optim.batch, recipe.optim.text_batch)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    optimizer.zero_grad(set_to_none=True)
    total, terms = objective(model, batch, recipe)
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip)
    optimizer.step()
    return {"total": total.item(), **{name: value.item() for name, value in terms.items()}}


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
    """Means of the loss terms, one CSV line per interval; lines past the checkpoint resumed from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self._path, self._sums, self._count = path, dict.fromkeys(("total", *_TERMS), 0.0), 0
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() and step else []
        kept = [line for line in lines[1:] if line.split(",")[0].isdigit() and int(line.split(",")[0]) <= step]
        write_text(path, "\n".join([",".join(("step", "total", *_TERMS)), *kept]) + "\n")

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
