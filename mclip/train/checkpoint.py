"""Run directories and checkpoints.

    runs/mini/
      recipe.json                  the resolved recipe
      curves.csv                   one line per logging interval
      checkpoint-00002000/
        model.safetensors          weights
        optimizer.safetensors      AdamW's moments and step counts, by parameter name
        state.json                 step, mclip version, recipe, digest of the store, the curves' unfinished interval,
                                   sha256 of both files

A checkpoint folder is written under a temporary name and renamed, so it is whole or absent; it goes the same way.
Batches and dropout are functions of seed and step, so there is no generator state to keep. The last two stay.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mclip import __version__
from mclip.errors import DataError, RecipeError, UsageError, shown
from mclip.files import open_regular, sha256, sync_folder, write_text
from mclip.nn.model import MotionClip
from mclip.recipe import Recipe, recipe_from_dict, recipe_to_dict

WEIGHTS = ("model.safetensors", "optimizer.safetensors")
# A recipe and a few numbers.
MAX_STATE_BYTES = 1_000_000
# Centuries of them.
_MAX_STEP = 10**12
# AdamW counts steps in float32, which goes no further.
_MAX_COUNT = 1 << 24
_KEPT = 2
_PREFIX = "checkpoint-"


def save_checkpoint(
    run: Path,
    model: MotionClip,
    optimizer: torch.optim.Optimizer,
    step: int,
    recipe: Recipe,
    metrics: Mapping[str, float],
    *,
    store: str = "",
    interval: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write the checkpoint of `step` and drop all but the last two; returns its folder.

    store: digest of the store; interval: of the curves, see mclip.train.directory. Raises UsageError when it cannot be
    written: the checkpoints before it are kept.
    """
    folder = run / f"{_PREFIX}{step:08d}"
    temporary = run / f".{folder.name}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(weights, temporary / "model.safetensors")
        save_file(_optimizer_tensors(model, optimizer), temporary / "optimizer.safetensors")
        state = {
            "step": step,
            "mclip": __version__,
            "recipe": recipe_to_dict(recipe),
            "store": store,
            "metrics": dict(metrics),
            "interval": dict(interval),
            "sha256": {name: sha256(temporary / name) for name in WEIGHTS},
        }
        write_text(temporary / "state.json", json.dumps(state, indent=1))
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if folder.exists():
            _remove(folder)
        temporary.rename(folder)
        sync_folder(run)
    except (OSError, SafetensorError, UsageError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(
            f"{folder}: cannot be written ({reason})", "make room and train again: it goes on from the last checkpoint"
        ) from None
    for old in sorted(run.glob(f"{_PREFIX}*"))[:-_KEPT]:
        _remove(old)
    return folder


def _remove(folder: Path) -> None:
    """Remove a checkpoint, all of it at once: a kill in between must not leave half of one."""
    hidden = folder.with_name(f".{folder.name}.old")
    with contextlib.suppress(OSError):
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def sweep_checkpoints(run: Path) -> None:
    """Remove what killed processes left of checkpoints that they wrote or removed; nobody may be training there."""
    for left in run.glob(f".{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def latest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint folder of a run, or None."""
    found = sorted(path for path in run.glob(f"{_PREFIX}*") if (path / "state.json").is_file())
    return found[-1] if found else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """state.json, with the hashes of the weight files checked. Raises DataError when something is damaged."""
    try:
        with open_regular(checkpoint / "state.json") as file:
            content = file.read(MAX_STATE_BYTES + 1)
        if len(content) > MAX_STATE_BYTES:
            raise ValueError(f"state.json has more than {MAX_STATE_BYTES} bytes")
        state: dict[str, Any] = json.loads(content.decode("utf-8"))
        # By our names: those in the file may be of any file.
        damaged = [name for name in WEIGHTS if sha256(checkpoint / name) != state["sha256"][name]]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{checkpoint}: not a readable checkpoint ({error})", _OTHER) from None
    if damaged:
        raise DataError(f"{checkpoint}: {', '.join(damaged)} does not match its sha256", _OTHER)
    return state


_OTHER = "delete that folder to go on from the checkpoint before it"


def recorded(checkpoint: Path) -> tuple[Recipe, str]:
    """The recipe a checkpoint was made with, and the digest of its store, "" if it has none.

    Raises DataError when something is damaged or of another mclip.
    """
    state = read_state(checkpoint)
    return _recipe(checkpoint, state), str(state.get("store", ""))


def _recipe(checkpoint: Path, state: dict[str, Any]) -> Recipe:
    try:
        return recipe_from_dict(state["recipe"])
    except (RecipeError, KeyError, TypeError) as error:
        raise DataError(f"{checkpoint}: {error}", "it was made by another version of mclip") from None


class Resumed(NamedTuple):
    """Where a run is gone on from: `save_checkpoint` says what these are."""

    step: int = 0
    metrics: Mapping[str, float] = MappingProxyType({})
    interval: Mapping[str, Any] = MappingProxyType({})


def restore(checkpoint: Path, model: MotionClip, optimizer: torch.optim.Optimizer) -> Resumed:
    """Load weights and optimiser state into place. Raises DataError."""
    resumed = _resumed(checkpoint, read_state(checkpoint))
    model.load_state_dict(_read_tensors(checkpoint / "model.safetensors", model.state_dict()))
    moments, count = checkpoint / "optimizer.safetensors", torch.tensor(float(min(resumed.step, _MAX_COUNT)))
    wanted = {
        f"{name}:{key}": like
        for name, parameter in model.named_parameters()
        for key, like in (("step", count), ("exp_avg", parameter), ("exp_avg_sq", parameter))
    }
    tensors = _read_tensors(moments, wanted)
    for name, parameter in model.named_parameters():
        state = {key: tensors[f"{name}:{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        if state["step"] != count or (state["exp_avg_sq"] < 0).any():
            raise DataError(f"{moments}: what it holds of {name} is not of step {resumed.step}", _OTHER)
        optimizer.state[parameter] = {key: value.to(parameter) for key, value in state.items()}
    return resumed


def _resumed(checkpoint: Path, state: Mapping[str, Any]) -> Resumed:
    """Where state.json says that the run was. Raises DataError."""
    step, metrics, interval = state.get("step"), state.get("metrics"), state.get("interval", {})
    right = {
        "step": _is_count(step),
        "metrics": _are_numbers(metrics),
        "interval": interval == {}
        or (isinstance(interval, dict) and _is_count(interval.get("count")) and _are_numbers(interval.get("sums"))),
    }
    for name, is_right in right.items():
        if not is_right:
            raise DataError(f"{checkpoint / 'state.json'}: '{name}' is damaged ({shown(state.get(name))})", _OTHER)
    return Resumed(step, metrics, interval)  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_STEP


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(type(each) is float and math.isfinite(each) for each in value.values())


def _read_tensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, which has to hold finite numbers under these names and in these shapes.

    Raises DataError.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error})", _OTHER) from None
    if other := sorted(tensors.keys() ^ wanted.keys()):
        what = "the model has no" if other[0] in tensors else "it lacks"
        raise DataError(f"{path}: does not fit its recipe: {what} {shown(other[0])}", _OTHER)
    for name, like in wanted.items():
        found, shape = tensors[name], tuple(like.shape)
        if tuple(found.shape) != shape or not found.is_floating_point():
            is_now = f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"
            raise DataError(f"{path}: does not fit its recipe: {name} is {is_now}, not float {shape}", _OTHER)
        if not found.float().isfinite().all():
            raise DataError(f"{path}: {name} holds NaN or infinite values", _OTHER)
    return tensors


def load_model(run: Path) -> tuple[MotionClip, Recipe]:
    """The model of a run directory's newest checkpoint (or of a checkpoint folder itself), ready for inference."""
    checkpoint = run if (run / "state.json").is_file() else latest_checkpoint(run)
    if checkpoint is None:
        raise DataError(f"{run}: holds no checkpoint", "give the run directory that mclip train made")
    state = read_state(checkpoint)
    recipe = _recipe(checkpoint, state)
    # Not before the file is known to hold it: a recipe may ask for a model of any size.
    with torch.device("meta"):
        wanted = MotionClip(recipe.model).state_dict()
    weights = _read_tensors(checkpoint / "model.safetensors", wanted)
    model = MotionClip(recipe.model)
    model.load_state_dict(weights)
    return model.eval(), recipe


def _optimizer_tensors(model: MotionClip, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}:{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
