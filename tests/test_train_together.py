"""Training in several processes that torchrun starts: the same run as in one."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mclip.data.dataset import Batch, WindowSampler
from mclip.data.store import read_store
from mclip.errors import DeviceError, RecipeError, UsageError
from mclip.nn.model import MotionClip
from mclip.nn.teachers import PUBLISHED
from mclip.recipe import load_recipe
from mclip.train.checkpoint import latest_checkpoint
from mclip.train.loop import _train, train
from mclip.train.objective import Objective
from mclip.train.world import World, join_world
from tests.test_train import recipe, write_store

# Padded windows, three exemplars for two processes, and every kind of loss: of frames, of pairs, of the whole batch.
RECIPE = """
name = "test"
[data]
store = "{store}"
window = 60
min_window = 12
speed = [0.9, 1.4]
[model]
latent = 24
width = 16
feedforward = 32
encoder_layers = 1
decoder_layers = 1
heads = 2
dropout = 0.0
patch = 2
[loss]
vertices = 1.0
vertex_form = "gram"
feature_velocity = 0.1
text = 0.1
text_mse = 0.1
text_ce = 0.01
contrast = 0.1
text_decode = 0.5
edit = 0.5
[optim]
steps = {steps}
batch = 8
text_batch = 3
warmup = 2
lr = 1e-3
checkpoint_every = 4
"""


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("motions"))


def torchrun(processes: int, *arguments: str) -> subprocess.Popen[str]:
    """`torchrun -m mclip train` with some processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*launcher, "-m", "mclip", "train", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def curves(run: Path) -> list[dict[str, float]]:
    with (run / "curves.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_two_processes_train_as_one_does_and_one_goes_on_from_two(store_path: Path, tmp_path: Path) -> None:
    settings = tmp_path / "recipe.toml"
    settings.write_text(RECIPE.format(store=store_path, steps=12))
    code, out, err = finish(torchrun(2, str(settings), "-o", str(tmp_path / "two"), "--steps", "5", "--json"))
    assert code == 0, err
    assert json.loads(out)["steps"] == 5  # said once
    loaded = load_recipe(settings)
    for run in ("one", "two"):
        train(loaded, tmp_path / run, stop_at=5)
        train(loaded, tmp_path / run)
    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert [row["step"] for row in two] == [5, 12]
    assert all(row["edit"] > 0 and row["contrast"] > 0 and row["vertices"] > 0 for row in one)
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    weights = [load_file(tmp_path / run / "checkpoint-00000012/model.safetensors") for run in ("one", "two")]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-4, rtol=0)


def test_a_killed_process_ends_the_run_and_the_last_checkpoint_is_gone_on_from(
    store_path: Path, tmp_path: Path
) -> None:
    settings, run = tmp_path / "recipe.toml", tmp_path / "run"
    settings.write_text(RECIPE.format(store=store_path, steps=100_000))
    process = torchrun(2, str(settings), "-o", str(run))
    deadline = time.monotonic() + 120
    while latest_checkpoint(run) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [pid for pid in children(process.pid) if "mclip" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2
    os.kill(workers[-1], signal.SIGKILL)
    code, _, err = finish(process)
    assert code != 0 and "SIGKILL" in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    step = int(checkpoint.name.rpartition("-")[2])
    assert step % 4 == 0
    train(load_recipe(settings), run, stop_at=step + 1)
    assert curves(run)[-1]["step"] == step + 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_batch_that_cannot_be_divided_is_told(store_path: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"optim\.batch is 8, which cannot be divided among 3 processes"):
        _train(recipe(store_path), tmp_path / "run", None, PUBLISHED, World(0, 3, torch.device("cpu")), ExitStack())
    assert not (tmp_path / "run").exists()


def test_a_batch_is_shared_out_whole(store_path: Path) -> None:
    batch = WindowSampler(
        read_store(store_path), recipe(store_path).data, read_store(store_path).embeddings["minilm-l6"], seed=3
    ).batch(0, 8, 3)
    shares = [batch.share(part, 2) for part in range(2)]
    assert [len(share.features) for share in shares] == [4, 4]
    assert [len(share.exemplar) for share in shares] == [2, 1]
    for name in Batch.__slots__:
        assert sorted(map(repr, getattr(batch, name))) == sorted(
            [repr(row) for share in shares for row in getattr(share, name)]
        )
    # The rows that have exemplars are still the first ones.
    assert (shares[1].features[0] == batch.features[1]).all() and (shares[1].exemplar[0] == batch.exemplar[1]).all()


def test_a_share_without_exemplars_is_a_share_like_any_other(store_path: Path) -> None:
    settings = recipe(store_path)
    batch = WindowSampler(
        read_store(store_path), settings.data, read_store(store_path).embeddings["minilm-l6"], seed=3
    ).batch(0, 8, 0)
    total, terms = Objective(settings.loss)(MotionClip(settings.model), batch)
    assert total.isfinite() and terms["edit"] == 0 and terms["text_decode"] == 0


def test_devices_that_are_not_there_are_told() -> None:
    with pytest.raises(UsageError, match="no device 'tpu'"), join_world("tpu"):
        pass
    with join_world("cpu") as world:
        assert (world.rank, world.size, world.device.type, world.leads) == (0, 1, "cpu", True)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="finds no CUDA"), join_world("cuda"):
            pass
