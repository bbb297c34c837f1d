"""What can happen to a run of training, and that what goes on from it is the run that would have been."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mclip.data.store import read_store, write_embeddings
from mclip.errors import DataError, DeviceError, UsageError
from mclip.files import sha256
from mclip.locks import locked
from mclip.nn.model import MotionClip
from mclip.recipe import Recipe
from mclip.train.checkpoint import latest_checkpoint, load_model, read_state
from mclip.train.loop import DivergedError, train
from mclip.train.objective import Objective
from tests.commands import runner
from tests.test_train import recipe, write_store

resource = pytest.importorskip("resource", reason="limits of file sizes are other elsewhere")
Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("motions"))


@pytest.fixture(scope="module")
def settings(store_path: Path) -> Recipe:
    return recipe(store_path, steps=6, checkpoint_every=2)


@pytest.fixture(scope="module")
def whole(settings: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(settings, run)
    return run


def assert_same(run: Path, whole: Path) -> None:
    """Weights, optimiser and curves byte for byte, and nothing else left."""
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (run / "checkpoint-00000006" / name).read_bytes() == (whole / "checkpoint-00000006" / name).read_bytes()
    assert (run / "curves.csv").read_bytes() == (whole / "curves.csv").read_bytes()
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


def at_step(step: int, happens: Callable[[MotionClip, Loss], Loss], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen in a step of the next training, counted from 1."""
    calls = [0]
    compute = Objective.__call__

    def disturbed(self: Objective, model: MotionClip, batch: object) -> Loss:
        calls[0] += 1
        loss = compute(self, model, batch)  # type: ignore[arg-type]
        return happens(model, loss) if calls[0] == step else loss

    monkeypatch.setattr(Objective, "__call__", disturbed)


class Killed(BaseException):
    """Ends a run as a kill does, as far as files go: nothing catches it."""


def kill_at(step: int, settings: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a step of it, counted from 1, is under way."""

    def killed(_: MotionClip, loss: Loss) -> Loss:
        raise Killed

    with monkeypatch.context() as patch:
        at_step(step, killed, patch)
        with pytest.raises(Killed):
            train(settings, run)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _signals_as_python_starts() -> Iterator[None]:
    """Other tests call the command line in this process, which has an answer of its own to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_lets_the_step_end_and_the_run_goes_on_as_if_there_had_been_none(
    settings: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: MotionClip, loss: Loss) -> Loss:
        signal.raise_signal(signal.SIGINT)
        return loss

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(3, interrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            train(settings, run)
    assert "stopped at step 3 of 6" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert latest_checkpoint(run) == run / "checkpoint-00000003"
    train(settings, run)
    assert_same(run, whole)


def test_a_second_interrupt_ends_at_once(settings: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt_twice(_: MotionClip, loss: Loss) -> Loss:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return loss

    at_step(3, interrupt_twice, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-00000002"


def lost(_: MotionClip, loss: Loss) -> Loss:
    total, terms = loss
    return total * torch.nan, terms | {"joints": terms["joints"] * torch.nan}


def lost_gradient(model: MotionClip, loss: Loss) -> Loss:
    # The root of nothing: nothing, and infinitely steep.
    total, terms = loss
    return total + (next(model.parameters()).sum() * 0).sqrt(), terms


@pytest.mark.parametrize(
    ("happens", "clip", "said"),
    [
        (lost, 1.0, r"the loss \(joints\) is not finite at step 4"),
        (lost_gradient, 1.0, "the gradient is not finite at step 4"),
        (lost_gradient, 0.0, "the gradient is not finite at step 4"),
    ],
)
def test_a_lost_loss_keeps_the_last_good_checkpoint(
    settings: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[MotionClip, Loss], Loss],
    clip: float,
    said: str,
) -> None:
    # A checkpoint of the lost step would be made, too.
    run = tmp_path / "run"
    settings = replace(settings, optim=replace(settings.optim, clip=clip, checkpoint_every=1))
    at_step(4, happens, monkeypatch)
    with pytest.raises(DivergedError, match=said) as caught:
        train(settings, run)
    assert caught.value.hint.startswith("checkpoint-00000003 is kept: lower optim.lr")
    assert latest_checkpoint(run) == run / "checkpoint-00000003"
    assert all(torch.isfinite(value).all() for value in load_model(run)[0].parameters())


@pytest.mark.parametrize(("in_memory", "when"), [(1 << 30, ""), (0, ", met at step 1")])
def test_a_motion_that_is_not_finite_is_named(
    settings: Recipe, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int, when: str
) -> None:
    monkeypatch.setattr("mclip.train.loop._IN_MEMORY", in_memory)
    copy = Path(shutil.copy(store_path, tmp_path / "store.h5"))
    with h5py.File(copy, "r+") as file:
        # All motions of one label: one of them is drawn soon.
        for number in range(4):
            first, stop = file["offsets"][number : number + 2]
            file["transl"][first:stop] = np.nan
    said = r"store\.h5: motion made/nod_0\.npz has values that are not finite or not of a motion"
    with pytest.raises(DataError, match=f"{said}{when}$"):
        train(replace(settings, data=replace(settings.data, store=str(copy))), tmp_path / "run")


def test_a_store_that_changed_is_noticed_and_one_with_more_embeddings_has_not(
    settings: Recipe, store_path: Path, tmp_path: Path
) -> None:
    copy, run = Path(shutil.copy(store_path, tmp_path / "store.h5")), tmp_path / "run"
    settings = replace(settings, data=replace(settings.data, store=str(copy)))
    train(settings, run, stop_at=1)
    store = read_store(copy)
    write_embeddings(copy, "clip-vit-b32", np.ones((len(store.texts), 512), np.float32))
    assert read_store(copy).digest() == store.digest() == read_state(run / "checkpoint-00000001")["store"]
    train(settings, run, stop_at=2)
    with h5py.File(copy, "r+") as file:
        file["transl"][0, 2] += np.float32(1e-4)
    before = contents(run)
    with pytest.raises(UsageError, match=r"was trained on .*store\.h5 before that changed"):
        train(settings, run)
    assert contents(run) == before


def test_one_process_at_a_time_trains_in_a_directory(settings: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with locked(run / ".lock", "", ""):
        before = contents(run)
        with pytest.raises(UsageError, match=r"run: another mclip train is writing it \(process \d+\)"):
            train(settings, run)
        assert contents(run) == before


def test_a_refused_run_is_left_as_it_is(
    settings: Recipe,
    store_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    mclip = runner(monkeypatch, capsys)
    text = """name = "a"
[data]
store = "store.h5"
window = 24
min_window = 12
[model]
latent = 24
width = 16
heads = 2
[optim]
steps = 1
warmup = 0
"""
    shutil.copy(store_path, "store.h5")
    Path("a.toml").write_text(text)
    Path("b.toml").write_text(text.replace("steps = 1", "steps = 2"))
    assert mclip("train", "a.toml", "-o", "run").code == 0
    before = contents(tmp_path)
    assert b"start" in before[tmp_path / "run" / "log.jsonl"]
    done = mclip("train", "b.toml", "-o", "run")
    assert done.code == 2 and "another recipe" in done.err
    assert contents(tmp_path) == before


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Files may not grow beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_does_not_fit_costs_none_before_it(
    settings: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    kill_at(3, settings, run, monkeypatch)
    with full_disk(10_000), pytest.raises(UsageError, match="checkpoint-00000004: cannot be written") as caught:
        train(settings, run)
    assert "goes on from the last checkpoint" in caught.value.hint
    assert [path.name for path in run.glob(".*")] == []
    assert latest_checkpoint(run) == run / "checkpoint-00000002"
    train(settings, run)
    assert_same(run, whole)


def test_what_a_kill_left_is_swept_away(
    settings: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    kill_at(5, settings, run, monkeypatch)
    # Half a checkpoint, one half removed, half a table, and a line that a full disk cut.
    shutil.copytree(run / "checkpoint-00000004", run / ".checkpoint-00000006.1")
    shutil.copytree(run / "checkpoint-00000004", run / ".checkpoint-00000002.old")
    (run / ".curves-abcd_fgh.csv").write_text("step")
    (run / ".lock").write_text("1 elsewhere")
    with (run / "curves.csv").open("a") as file:
        file.write("3,0.1")
    train(settings, run)
    assert_same(run, whole)


def test_a_batch_too_large_for_the_memory_is_explained(
    settings: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(_: MotionClip, loss: Loss) -> Loss:
        torch.empty(1 << 55)
        return loss

    at_step(1, exhaust, monkeypatch)
    with pytest.raises(DeviceError, match="not enough memory for batches of 8"):
        train(settings, tmp_path / "run")


Tensors = dict[str, torch.Tensor]
STATE, WEIGHTS, MOMENTS = "state.json", "model.safetensors", "optimizer.safetensors"
BIAS = "encoder.embed.bias"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A run whose checkpoint is a test's to damage."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def damage(run: Path, name: str, change: Callable[[Any], object]) -> None:
    """Change a file of the newest checkpoint in place, whose hashes stay right."""
    folder = latest_checkpoint(run)
    assert folder is not None
    state = json.loads((folder / STATE).read_text())
    if name == STATE:
        change(state)
    else:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name)
        state["sha256"][name] = sha256(folder / name)
    (folder / STATE).write_text(json.dumps(state))


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (MOMENTS, lambda tensors: tensors.pop(f"{BIAS}:exp_avg"), f"it lacks '{BIAS}:exp_avg'"),
        (MOMENTS, lambda tensors: tensors.update(more=torch.zeros(1)), "the model has no 'more'"),
        (MOMENTS, tensor(f"{BIAS}:exp_avg", torch.Tensor.long), f"{BIAS}:exp_avg is int64"),
        (MOMENTS, tensor(f"{BIAS}:exp_avg", lambda value: value[:7]), f"{BIAS}:exp_avg is float32 (7,)"),
        (MOMENTS, tensor(f"{BIAS}:exp_avg", lambda value: value * torch.nan), f"{BIAS}:exp_avg holds NaN"),
        (MOMENTS, tensor(f"{BIAS}:exp_avg_sq", lambda value: -1 - value), f"{BIAS} is not of step 6"),
        (MOMENTS, tensor(f"{BIAS}:step", lambda value: value - 11), f"{BIAS} is not of step 6"),
        (WEIGHTS, tensor(BIAS, torch.Tensor.long), f"{BIAS} is int64"),
        (WEIGHTS, tensor(BIAS, lambda value: value * torch.nan), f"{BIAS} holds NaN"),
    ],
)
def test_tensors_that_training_does_not_write_are_not_gone_on_from(
    settings: Recipe, run: Path, name: str, change: Callable[[Tensors], object], said: str
) -> None:
    damage(run, name, change)
    with pytest.raises(DataError) as caught:
        train(settings, run)
    assert f"checkpoint-00000006/{name}: " in caught.value.message and said in caught.value.message
    assert "delete that folder" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("step", value) for value in ("x", None, -7, True, 6.0, 10**30)),
        *(("metrics", value) for value in (None, [1], {"total": "x"}, {"total": float("nan")})),
        ("interval", {"a": 1}),
        ("interval", [1]),
        ("interval", {"count": 0, "sums": []}),
        ("interval", {"count": 1, "sums": {"total": "x"}}),
        ("interval", {"count": -1, "sums": {"total": 1.0}}),
    ],
)
def test_a_state_that_training_does_not_write_is_not_gone_on_from(
    settings: Recipe, run: Path, key: str, value: object
) -> None:
    damage(run, STATE, lambda state: state.update({key: value}))
    with pytest.raises(DataError, match=rf"checkpoint-00000006.state\.json: '{key}' is damaged") as caught:
        train(settings, run)
    assert "delete that folder" in caught.value.hint
    if key != "interval":  # which older checkpoints lack
        damage(run, STATE, lambda state: state.pop(key))
        with pytest.raises(DataError, match=rf"'{key}' is damaged"):
            train(settings, run)


def test_the_step_of_a_state_is_that_of_the_moments(settings: Recipe, run: Path) -> None:
    damage(run, STATE, lambda state: state.update(step=5))
    with pytest.raises(DataError, match="is not of step 5"):
        train(settings, run)


def test_weights_of_any_floats_are_read_and_others_are_not(run: Path) -> None:
    model, _ = load_model(run)
    damage(run, WEIGHTS, lambda tensors: tensors.update({name: each.bfloat16() for name, each in tensors.items()}))
    half, _ = load_model(run)
    for name, value in model.state_dict().items():
        assert torch.equal(half.state_dict()[name], value.bfloat16().float())
    damage(run, WEIGHTS, lambda tensors: tensors.update({name: each.long() for name, each in tensors.items()}))
    with pytest.raises(DataError, match=r"model\.safetensors: does not fit its recipe: .* is int64"):
        load_model(run)


@pytest.mark.parametrize("name", [WEIGHTS, MOMENTS, "curves.csv"])
def test_pipes_and_devices_in_a_run_are_not_read(settings: Recipe, run: Path, name: str) -> None:
    path = run / name if name == "curves.csv" else run / "checkpoint-00000006" / name
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        path.unlink()
        make(path)
        with pytest.raises(DataError, match="is not a regular file"):
            train(settings, run)
        if name != "curves.csv":
            with pytest.raises(DataError, match="is not a regular file"):
                load_model(run)


def test_curves_of_any_size_or_content_are_not_read(
    settings: Recipe, run: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = run / "curves.csv"
    kept = curves.read_text()
    curves.write_text(kept + kept.splitlines()[-1].replace("6", "9" * 5000, 1) + "\n")
    train(settings, run)
    assert curves.read_text() == kept
    monkeypatch.setattr("mclip.train.directory.MAX_CURVES_BYTES", 10)
    with pytest.raises(DataError, match=r"curves\.csv: larger than"):
        train(settings, run)
