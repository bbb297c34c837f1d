"""Training on motions made here: a few sine-driven joints, enough to learn from in seconds."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from mclip.data import dataset
from mclip.data.dataset import WindowSampler, spans_of
from mclip.data.gathering import gather
from mclip.data.preprocess import preprocess
from mclip.data.store import MotionStore, read_store, write_embeddings
from mclip.errors import DataError, RecipeError, UsageError
from mclip.motion import Motion
from mclip.nn.model import MotionClip
from mclip.recipe import Recipe, recipe_from_dict
from mclip.runtime.representation import LEGACY, SMPL24, mirror_features, motion_to_features
from mclip.train.checkpoint import latest_checkpoint, load_model
from mclip.train.loop import learning_rate, train
from mclip.train.objective import Objective

ACTIONS = {"wave left/calm": (16, 1.0), "wave left/fast": (16, 3.0), "wave right/calm": (17, 1.0), "nod": (15, 2.0)}


def swinging(joint: int, speed: float, seed: int, frames: int = 70) -> Motion:
    random = np.random.default_rng(seed)
    pose = random.normal(0, 0.02, (frames, 24, 3)).astype(np.float32)
    pose[:, 0] += np.array([np.pi / 2, 0, 0], np.float32)
    pose[:, joint, 2] += np.sin(np.arange(frames) / 30 * speed * 6 + seed).astype(np.float32)
    transl = np.tile(np.array([0, 0, 1.19], np.float32), (frames, 1))
    return Motion(pose=pose, transl=transl, fps=30)


def write_store(folder: Path) -> Path:
    """A store of sixteen swinging motions with random embeddings."""
    rows = [["path", "caption", "label"]]
    for label, (joint, speed) in ACTIONS.items():
        for take in range(4):
            name = f"{label.replace('/', '_').replace(' ', '_')}_{take}.npz"
            swinging(joint, speed, take).save(folder / "made" / name)
            rows += [[f"made/{name}", f"{label.replace('/', ' ')} {word}", label] for word in ("please", "now")]
    labels = folder / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    out = folder / "store.h5"
    preprocess(folder, out, labels=labels, val=0.0, test=0.0, workers=1, drawing=None)
    store = read_store(out)
    random = np.random.default_rng(0).normal(size=(len(store.texts), 24)).astype(np.float32)
    write_embeddings(out, "minilm-l6", random / np.linalg.norm(random, axis=-1, keepdims=True))
    return out


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("motions"))


@pytest.fixture(scope="module")
def store(store_path: Path) -> MotionStore:
    return read_store(store_path)


def recipe(store_path: Path, **optim: object) -> Recipe:
    return recipe_from_dict(
        {
            "name": "test",
            "data": {"store": str(store_path), "window": 24, "min_window": 12, "speed": [0.9, 1.1]},
            "model": {
                "latent": 24,
                "width": 16,
                "feedforward": 32,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "heads": 2,
                "patch": 2,
            },
            "loss": {"contrast": 0.1, "text_decode": 0.5, "edit": 0.5},
            "optim": {
                "steps": 12,
                "batch": 8,
                "text_batch": 4,
                "warmup": 2,
                "lr": 1e-3,
                "checkpoint_every": 4,
                **optim,
            },
        }
    )


def sampler(store: MotionStore, store_path: Path) -> WindowSampler:
    return WindowSampler(store, recipe(store_path).data, store.embeddings["minilm-l6"], seed=3)


def test_windows_are_those_of_the_motion(store: MotionStore) -> None:
    start, length = int(store.offsets[2]), 20
    features, mask = gather(store, np.array([start + 5]), np.array([store.offsets[3]]), length, np.ones(1), SMPL24)
    expected = motion_to_features(store.motion(2).slice(5, 5 + length))
    np.testing.assert_allclose(features[0], expected, atol=1e-5)
    assert mask.all()


def test_windows_that_reach_past_the_end_are_masked_and_zero(store: MotionStore) -> None:
    stop = int(store.offsets[1])
    features, mask = gather(store, np.array([stop - 8]), np.array([stop]), 20, np.ones(1), SMPL24)
    assert mask[0].tolist() == [True] * 8 + [False] * 12
    assert not features[0, 8:].any()


def test_half_speed_is_the_motion_at_twice_the_rate(store: MotionStore) -> None:
    start = int(store.offsets[0])
    features, _ = gather(store, np.array([start]), np.array([store.offsets[1]]), 30, np.array([0.5]), SMPL24)
    expected = motion_to_features(store.motion(0).resample(60))[:30]
    # The joint swings by up to 35 degrees a frame here; see the comment in gather.
    np.testing.assert_allclose(features[0], expected, atol=6e-3)


def test_windows_are_written_as_the_recipe_says(store: MotionStore, store_path: Path) -> None:
    start, stop = int(store.offsets[1]), int(store.offsets[2])
    features, _ = gather(store, np.array([start + 5]), np.array([stop]), 20, np.ones(1), LEGACY)
    expected = motion_to_features(store.motion(1).slice(5, 25), LEGACY)
    np.testing.assert_allclose(features[0], expected, atol=1e-5)
    assert not np.allclose(expected, motion_to_features(store.motion(1).slice(5, 25)), atol=0.1)
    config = replace(recipe(store_path).data, representation="motionclip-legacy", speed=(1.0, 1.0), mirror=1.0)
    one = WindowSampler(store, config, store.embeddings["minilm-l6"], seed=3)
    plain = WindowSampler(store, replace(config, mirror=0.0), store.embeddings["minilm-l6"], seed=3)
    mirrored, batch = one.batch(0, 8, 4), plain.batch(0, 8, 4)
    np.testing.assert_allclose(mirrored.features, LEGACY.mirror(batch.features), atol=1e-5)
    assert (batch.features[:, 0, 24] == 0).all() and batch.features[:, 1:, 24].any()
    assert (batch.exemplar[:, 0, 24] == 0).all()


def test_a_store_that_stays_in_its_file_trains_the_same(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(store_path, steps=2)
    train(settings, tmp_path / "memory")
    monkeypatch.setattr("mclip.train.loop._IN_MEMORY", 0)
    mapped = read_store(store_path, mmap=True).embeddings["minilm-l6"]
    assert isinstance(mapped, np.memmap) and not mapped.flags.owndata
    train(settings, tmp_path / "file")
    one, other = (latest_checkpoint(tmp_path / name) for name in ("memory", "file"))
    assert one is not None and other is not None
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_windows_of_exemplars_are_read_when_they_are_asked_for_and_not_kept(
    store: MotionStore, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[int]()

    def counted(store: MotionStore, start: NDArray[np.int64], *rest: Any) -> Any:
        read.append(len(start))
        return gather(store, start, *rest)

    monkeypatch.setattr(dataset, "gather", counted)
    one = sampler(store, store_path)
    first = one.batch(0, 8, 0)
    assert read == [8, 0, 0] and first.exemplar.shape == (0, *first.features.shape[1:])
    batches = [one.batch(3, 8, 4) for _ in range(2)]
    # Once an exemplar has been chosen among its label's windows it is one window of a batch.
    assert read[-3:] == [8, 4, 4]
    np.testing.assert_array_equal(batches[0].exemplar, batches[1].exemplar)


def test_a_legacy_recipe_trains(store_path: Path, tmp_path: Path) -> None:
    settings = recipe(store_path, steps=10)
    settings = replace(settings, data=replace(settings.data, representation="motionclip-legacy"))
    first = train(settings, tmp_path / "run", stop_at=1).metrics["total"]
    assert train(settings, tmp_path / "run").metrics["total"] < first


def test_batches_are_functions_of_seed_and_step(store: MotionStore, store_path: Path) -> None:
    one, other = sampler(store, store_path).batch(7, 8, 4), sampler(store, store_path).batch(7, 8, 4)
    for name in one.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert not np.array_equal(one.features, sampler(store, store_path).batch(8, 8, 4).features)


def test_a_mirrored_window_gets_the_mirrored_label_and_caption(store: MotionStore, store_path: Path) -> None:
    config = replace(recipe(store_path).data, mirror=1.0, speed=(1.0, 1.0))
    mirrored = WindowSampler(store, config, store.embeddings["minilm-l6"], seed=3).batch(0, 16, 0)
    plain_sampler = WindowSampler(store, replace(config, mirror=0.0), store.embeddings["minilm-l6"], seed=3)
    plain = plain_sampler.batch(0, 16, 0)
    np.testing.assert_allclose(mirrored.features, mirror_features(plain.features), atol=1e-6)
    names = [
        (plain_sampler.labels[a], plain_sampler.labels[b]) for a, b in zip(plain.label, mirrored.label, strict=True)
    ]
    swap = {
        "wave left/calm": "wave right/calm",
        "wave right/calm": "wave left/calm",
        "nod": "nod",
        "wave left/fast": "wave right/fast",
    }
    assert all(swap[a] == b for a, b in names)
    assert any(a != b for a, b in names)


def test_anchored_windows_begin_where_their_spans_do(store: MotionStore, store_path: Path) -> None:
    config = replace(recipe(store_path).data, anchored=1.0)
    batch = WindowSampler(store, config, store.embeddings["minilm-l6"], seed=3).batch(0, 16, 0)
    firsts = [motion_to_features(store.motion(index).slice(0, 24)) for index in range(len(store))]
    for window in batch.features:
        assert min(np.abs(window - first).max() for first in firsts) < 1e-5


def test_edits_go_to_another_style_of_the_same_action(store: MotionStore, store_path: Path) -> None:
    drawn = sampler(store, store_path)
    batch = drawn.batch(1, 32, 32)
    has_style = np.array([drawn.labels[label] not in ("nod",) for label in batch.label])
    assert (batch.has_other == has_style)[[("right" not in drawn.labels[label]) for label in batch.label]].all()
    assert batch.has_other.any() and not batch.has_other.all()


def test_unknown_sources_and_empty_splits_are_explained(store: MotionStore) -> None:
    with pytest.raises(DataError, match="which the store does not have") as caught:
        spans_of(store, "train", ("cmu",))
    assert "made" in caught.value.hint
    with pytest.raises(DataError, match="split 'test'"):
        spans_of(store, "test")
    with pytest.raises(DataError, match="500 frames"):
        spans_of(store, "train", (), 500)


def test_training_lowers_the_loss_and_resumes_bit_for_bit(store_path: Path, tmp_path: Path) -> None:
    settings = recipe(store_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(settings, whole)
    train(settings, parts, stop_at=5)
    assert latest_checkpoint(parts) == parts / "checkpoint-00000005"
    train(settings, parts)
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = (load_file(run / "checkpoint-00000012" / name) for run in (whole, parts))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert len(list(whole.glob("checkpoint-*"))) == 2
    model, saved = load_model(whole)
    assert saved == settings and isinstance(model, MotionClip)
    rows = list(csv.DictReader((parts / "curves.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["5", "12"]
    assert float(rows[-1]["total"]) < float(rows[0]["total"])


def test_dropout_resumes_bit_for_bit_too(store_path: Path, tmp_path: Path) -> None:
    settings = recipe(store_path, steps=4)
    settings = replace(settings, model=replace(settings.model, dropout=0.2))
    train(settings, tmp_path / "whole")
    train(settings, tmp_path / "parts", stop_at=1)
    train(settings, tmp_path / "parts")
    one, other = (load_file(tmp_path / run / "checkpoint-00000004/model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_half_written_or_damaged_checkpoint_is_noticed(store_path: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = recipe(store_path, steps=2)
    train(settings, run)
    # A kill while writing leaves a hidden folder, which nobody takes for a checkpoint.
    shutil.copytree(run / "checkpoint-00000002", run / ".checkpoint-00000009.1")
    assert latest_checkpoint(run) == run / "checkpoint-00000002"
    weights = run / "checkpoint-00000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"model\.safetensors does not match"):
        load_model(run)


def test_another_recipe_may_not_go_on_with_a_run(store_path: Path, tmp_path: Path) -> None:
    train(recipe(store_path, steps=1, warmup=1), tmp_path / "run")
    with pytest.raises(UsageError, match="another recipe"):
        train(recipe(store_path, steps=2, warmup=1), tmp_path / "run")
    assert json.loads((tmp_path / "run/recipe.json").read_text())["optim"]["steps"] == 1


def test_a_second_stage_starts_with_the_firsts_weights(store_path: Path, tmp_path: Path) -> None:
    train(recipe(store_path, steps=1, warmup=1), tmp_path / "first")
    second = recipe(store_path, steps=1, warmup=1, lr=1e-12, init=str(tmp_path / "first"))
    train(second, tmp_path / "second")
    one, other = (load_file(tmp_path / run / "checkpoint-00000001/model.safetensors") for run in ("first", "second"))
    for key in one:
        torch.testing.assert_close(one[key], other[key], atol=1e-6, rtol=0)
    wider = replace(second, model=replace(second.model, feedforward=64))
    with pytest.raises(RecipeError, match="has another model"):
        train(wider, tmp_path / "third")


def test_latents_must_be_as_wide_as_the_text_space(store_path: Path, tmp_path: Path) -> None:
    settings = recipe(store_path)
    with pytest.raises(RecipeError, match=r"model\.latent is 32"):
        train(replace(settings, model=replace(settings.model, latent=32)), tmp_path / "run")


def test_every_loss_reaches_the_weights_it_should(store: MotionStore, store_path: Path) -> None:
    settings = recipe(store_path)
    torch.manual_seed(0)
    model = MotionClip(settings.model)
    batch = sampler(store, store_path).batch(0, 8, 8)
    objective = Objective(settings.loss)
    total, terms = objective(model, batch)
    total.backward()  # type: ignore[no-untyped-call]
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.encoder.layers.parameters()
    )
    assert terms["text_decode"] > 0 and terms["edit"] > 0 and terms["contrast"] > 0
    # Decoding from text trains the decoder alone.
    model.zero_grad()
    terms = objective(model, batch)[1]
    terms["text_decode"].backward()  # type: ignore[no-untyped-call]
    assert not any(parameter.grad.any() for parameter in model.encoder.parameters() if parameter.grad is not None)


def test_the_learning_rate_warms_up_and_decays_to_a_tenth(store_path: Path) -> None:
    settings = recipe(store_path, warmup=10, lr=1.0).optim
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) == max(rates)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_bf16_is_of_the_models_products_alone(store: MotionStore, store_path: Path, tmp_path: Path) -> None:
    settings = recipe(store_path, precision="bf16", steps=2, checkpoint_every=2, warmup=1)
    batch = sampler(store, store_path).batch(0, 8, 4)
    torch.manual_seed(0)
    model = MotionClip(settings.model).eval()  # without dropout
    exact, near = (Objective(settings.loss, precision=name)(model, batch)[0] for name in ("fp32", "bf16"))
    assert near.dtype == torch.float32
    assert 0 < abs(near.item() / exact.item() - 1) < 0.005
    train(settings, tmp_path / "run", device="cpu")
    weights = load_model(tmp_path / "run")[0].state_dict()
    assert {value.dtype for value in weights.values()} == {torch.float32}
    plain = replace(settings, optim=replace(settings.optim, precision="fp32"))
    train(plain, tmp_path / "plain", device="cpu")
    others = load_model(tmp_path / "plain")[0].state_dict()
    assert any(not torch.equal(weights[name], others[name]) for name in weights)
    with pytest.raises(RecipeError, match=r"optim\.precision"):
        recipe(store_path, precision="fp8")


def test_progress_tells_a_loss_once_there_is_one(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mclip.console.PLAIN_INTERVAL_S", 0.0)
    train(recipe(store_path, steps=3), tmp_path / "run")
    first, _, last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train ")]
    assert "loss" not in first and float(last.partition("loss ")[2]) > 0
