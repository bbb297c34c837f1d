"""The training loop."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mclip import console
from mclip.data.dataset import Batch, WindowSampler
from mclip.data.pieces import PieceSampler
from mclip.data.store import MotionStore, read_store
from mclip.errors import DataError, DeviceError, MclipError, RecipeError
from mclip.files import write_text
from mclip.nn.model import MotionClip
from mclip.nn.teachers import PUBLISHED, Weights
from mclip.recipe import OptimConfig, Recipe, recipe_to_dict
from mclip.train.checkpoint import Resumed, latest_checkpoint, load_model, restore, save_checkpoint
from mclip.train.directory import CAPTIONS, CURVES, RECIPE, Curves, check_run, check_store, owned
from mclip.train.embeddings import caption_embeddings, image_embeddings, text_embeddings
from mclip.train.objective import Objective
from mclip.train.world import World, join_world

_LOG_EVERY = 50
# Larger stores stay in their file, of which the system keeps in memory what there is room for.
_IN_MEMORY = 1 << 30
# What torch says on a processor; on a GPU it has a class of its own.
_NO_MEMORY = "DefaultCPUAllocator"


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

    Started by torchrun it trains together with torchrun's other processes (mclip.train.world). Ctrl-C, where this is
    the main thread of the only process, lets the step under way end and keeps a checkpoint of it.
    stop_at: stop (with a checkpoint) at this step rather than at the recipe's last.
    device: auto, cpu or cuda.
    weights: of the teacher, asked for embeddings that the store does not hold yet.
    Raises UsageError when the run directory belongs to another recipe, store or process, or cannot be written,
    RecipeError for a batch that cannot be divided among the processes, DeviceError for a device that cannot be had,
    lacks bf16 or has too little memory, DivergedError when the loss is lost.
    """
    try:
        with join_world(device) as world, ExitStack() as stack:
            return _train(recipe, run, stop_at, weights, world, stack)
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _NO_MEMORY not in str(error):
            raise
        raise DeviceError(
            f"there is not enough memory for batches of {recipe.optim.batch}",
            "lower optim.batch, or train on several devices with torchrun",
        ) from None


def _train(recipe: Recipe, run: Path, stop_at: int | None, weights: Weights, world: World, stack: ExitStack) -> Report:
    """stack: what the run directory is held with until training ends."""
    if recipe.optim.batch % world.size:
        raise RecipeError(
            f"optim.batch is {recipe.optim.batch}, which cannot be divided among {world.size} processes",
            "start another number of them, or change optim.batch",
        )
    with world.leader_first():
        checkpoint = check_run(run, recipe)
        if world.leads:
            stack.enter_context(owned(run))
            # The last moment at which another process may have trained here.
            checkpoint = check_run(run, recipe)
        store = _store(Path(recipe.data.store))
        digest = store.digest()
        if checkpoint is not None:
            check_store(checkpoint, store.file, digest)
        sampler = _sampler(store, recipe, run, weights)
        steps = _steps(recipe, sampler)
    torch.manual_seed(recipe.seed)
    model = _initial_model(recipe).train().to(world.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.optim.lr, weight_decay=recipe.optim.weight_decay, fused=True
    )
    first, metrics, interval = restore(checkpoint, model, optimizer) if checkpoint else Resumed()
    last = min(steps, stop_at or steps)
    objective = Objective(recipe.loss, world, recipe.optim.precision)
    losses = world.wrap(_Losses(model, objective))
    curves = None
    if world.leads:
        # This one says whose the folder is: it comes first.
        curves = Curves(run / CURVES, first, objective.terms, interval)
        console.begin_log()
        write_text(run / RECIPE, json.dumps(recipe_to_dict(recipe), indent=1))
        if recipe.optim.epochs:
            console.err(f"{recipe.optim.epochs} epochs: {steps} steps")
    started = time.monotonic()
    talk = console.progress(f"train {recipe.name}", last, first) if world.leads else nullcontext()
    with talk as progress, interrupts(world.size == 1) as interrupted:
        for step, batch in _batches(sampler, recipe.optim, range(first, last), world):
            # Dropout is a function of seed and step too: a resumed run is the run that would have been.
            torch.manual_seed(((recipe.seed << 32) + step + (world.rank << 48)) % 2**64)
            rate = learning_rate(recipe.optim, step, steps)
            *values, norm = world.mean(_step(losses, optimizer, batch, rate, recipe.optim.clip)).tolist()
            terms = dict(zip(("total", *objective.terms), values, strict=True))
            # Before a checkpoint is made of what that gradient did.
            if not (math.isfinite(terms["total"]) and math.isfinite(norm)):
                raise _diverged(run, store, step, terms)
            if curves is None or progress is None:
                continue
            curves.add(terms)
            if (step + 1) % _LOG_EVERY == 0 or step + 1 == last:
                metrics = curves.write(step + 1)
            stopped = interrupted()
            if (step + 1) % recipe.optim.checkpoint_every == 0 or step + 1 == last or stopped:
                save_checkpoint(
                    run, model, optimizer, step + 1, recipe, metrics, store=digest, interval=curves.interval
                )
            if stopped:
                console.err(f"{run}: stopped at step {step + 1} of {last}; start it again to go on from there")
                break
            progress.advance(note=f"loss {metrics['total']:.4f}" if "total" in metrics else "")
    return Report(run=run, steps=last, seconds=time.monotonic() - started, metrics=dict(metrics))


@contextmanager
def interrupts(wanted: bool) -> Iterator[Callable[[], bool]]:
    """A block that the first Ctrl-C does not end: what is yielded tells whether there was one.

    Once the block has ended, or with the second one, it does what it would have done.
    wanted: False, or a thread other than the main one, changes nothing.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def remember(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        signal.raise_signal(signal.SIGINT)


def _diverged(run: Path, store: MotionStore, step: int, terms: Mapping[str, float]) -> MclipError:
    """What to say when the loss of a step, or its gradient, is not finite."""
    try:
        store.check_values()
    except DataError as error:
        return DataError(f"{error.message}, met at step {step + 1}", error.hint)
    lost = [name for name, value in terms.items() if name != "total" and not math.isfinite(value)]
    what = f"the loss ({', '.join(lost) or 'their sum'})" if not math.isfinite(terms["total"]) else "the gradient"
    good = latest_checkpoint(run)
    kept = f"{good.name} is kept: " if good else ""
    return DivergedError(
        f"{run}: {what} is not finite at step {step + 1}",
        f"{kept}lower optim.lr, or set optim.clip, and train in a new run",
    )


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
    captions = caption_embeddings(sampler.texts, recipe, run / CAPTIONS, weights) if recipe.loss.needs_text else None
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
    """Take one step; returns the loss, its terms, and the length of the gradient."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    total, terms = losses(batch)
    total.backward()
    if clip > 0:
        norm = torch.nn.utils.clip_grad_norm_(losses.parameters(), clip)
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in losses.parameters() if p.grad is not None])
    optimizer.step()
    return torch.cat([terms, norm.to(terms)[None]])
