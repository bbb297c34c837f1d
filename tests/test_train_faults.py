"""What can happen to a run of training, and that what goes on from it is the run that would have been."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mclip.data.store import read_store, write_embeddings
from mclip.errors import DataError, DeviceError, UsageError
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
