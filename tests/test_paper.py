"""The paper's training, on a small store with captions, categories and pictures, and towers of random weights."""

from __future__ import annotations

import csv
import io
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from mclip.body.model import load_body
from mclip.data.captions import CaptionTable, WindowCaptions
from mclip.data.dataset import Batch, Pictures
from mclip.data.pieces import PieceSampler
from mclip.data.store import MotionStore, read_store, write_store
from mclip.errors import DataError, RecipeError
from mclip.geometry import axis_angle_to_matrix, matrix_to_rot6d
from mclip.nn.model import MotionClip
from mclip.recipe import DataConfig, LossWeights, Recipe, load_recipe, recipe_from_dict
from mclip.render.frames import clip_frames
from mclip.runtime.representation import LEGACY, motion_to_features
from mclip.train.loop import train
from mclip.train.objective import Objective
from tests.fakes import WIDTH, swinging, tiny_teacher

RECIPES = Path(__file__).parents[1] / "recipes"
SIDE = 16
FRAMES = (130, 40, 39, 95)  # pieces of 40: three, one, none, two
PIECES = DataConfig(window=24, min_window=24, piece=40, mirror=0.0, representation="motionclip-legacy")


class TinyClip:
    """Towers of random weights with CLIP's name."""

    name = key = "clip-vit-b32"
    width, unverified = WIDTH, ""

    def __init__(self) -> None:
        torch.manual_seed(2)
        self.image_module = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE * 3, WIDTH))
        self.asked: list[str] = []

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked.append("texts")
        return tiny_teacher().embed(texts)

    def embed_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked.append("images")
        with torch.inference_mode():
            result: NDArray[np.float32] = self.image_module(torch.from_numpy(images) / 255.0).numpy()
        return result


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paper") / "store.h5"
    motions = [swinging(joint, 2, seed, frames) for seed, (joint, frames) in enumerate(
        zip(("head", "left_shoulder", "spine1", "right_shoulder"), FRAMES, strict=True))]  # fmt: skip
    table = CaptionTable()
    layer = table.new_layer()
    table.add(0, 0, 50, "nods", "gesture", categories=["gesture", "head movements"], layer=layer)
    table.add(0, 50, 60, "a person bends", "bend", layer=layer)
    table.add(0, 80, 110, "waves", "wave", categories=["transition"], layer=layer)
    table.add(1, 0, 40, "waves with the left hand", "wave")
    table.add(2, 0, 39, "bends", "bend")
    pictures = []
    for motion, take in enumerate(motions):
        shown = range(5, len(take), 12)
        for frame, picture in zip(
            shown, clip_frames(load_body(), take, shown, size=SIDE, backend="numpy"), strict=True
        ):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "WEBP", lossless=True)
            pictures.append((motion, frame, file.getvalue()))
    with write_store(path, frames=sum(FRAMES), fps=30.0, options={}) as writer:
        for take in motions:
            writer.add_motion(matrix_to_rot6d(axis_angle_to_matrix(take.pose)).astype(np.float32), take.transl)
        writer.array("offsets", np.cumsum([0, *FRAMES], dtype=np.int64))
        for name in ("path", "sha256", "source"):
            writer.strings(name, [f"{name}{number}" for number in range(len(FRAMES))])
        writer.strings("gender", ["neutral"] * len(FRAMES))
        writer.splits(["train"] * len(FRAMES))
        writer.array("betas", np.zeros((len(FRAMES), 10), np.float32))
        table.write(writer)
        for name in ("path", "sha256", "reason"):
            writer.strings(f"skipped/{name}", [])
        sizes = np.array([(motion, frame, len(image)) for motion, frame, image in pictures])
        writer.images(sizes, (np.frombuffer(image, np.uint8) for _, _, image in pictures))
    return path


@pytest.fixture(scope="module")
def store(store_path: Path) -> MotionStore:
    return read_store(store_path)


@pytest.fixture
def fresh(store_path: Path, tmp_path: Path) -> Path:
    """A copy that holds no embeddings yet."""
    return Path(shutil.copyfile(store_path, tmp_path / "store.h5"))


@pytest.fixture
def towers(monkeypatch: pytest.MonkeyPatch) -> TinyClip:
    tiny = TinyClip()
    monkeypatch.setattr("mclip.train.embeddings.load_teacher", lambda *_: tiny)
    return tiny


def windows_of(store: MotionStore, batch: Batch) -> list[tuple[int, int]]:
    """The motion and first frame of each window: the only one with these features."""
    found = []
    every = [motion_to_features(store.motion(index), LEGACY) for index in range(len(store))]
    for window in batch.features:
        places = [
            (motion, start)
            for motion, features in enumerate(every)
            for start in range(len(features) - len(window) + 1)
            if np.abs(features[start : start + len(window), :24] - window[:, :24]).max() < 1e-5
        ]
        assert len(places) == 1
        found += places
    return found


def test_every_piece_gives_one_window_in_an_epoch(store: MotionStore) -> None:
    sampler = PieceSampler(store, PIECES, seed=4)
    # Motion 2 is too short; of motion 3 and of the end of motion 0 nothing is said.
    assert len(sampler) == 4
    orders = []
    for epoch in range(2):
        windows = windows_of(store, sampler.batch(epoch, 4))
        orders.append([(motion, start // 40) for motion, start in windows])
        assert sorted(orders[-1]) == [(0, 0), (0, 1), (0, 2), (1, 0)]
        assert all(start % 40 < 16 for _, start in windows)
    assert orders[0] != orders[1]
    # Batches go on over the end of an epoch.
    threes = [window for step in range(4) for window in windows_of(store, sampler.batch(step, 3))]
    for epoch in range(3):
        assert len({(motion, start // 40) for motion, start in threes[4 * epoch : 4 * epoch + 4]}) == 4


def test_windows_say_what_is_said_of_their_frames(store: MotionStore) -> None:
    captions = WindowCaptions(store)
    sampler = PieceSampler(store, PIECES, seed=4)
    assert sampler.texts == sorted(sampler.texts) and "a person bends and nods" in sampler.texts
    sampler.align(np.eye(len(sampler.texts), dtype=np.float32), None)
    starts = set()
    for step in range(20):
        batch = sampler.batch(step, 4)
        for (motion, start), text in zip(windows_of(store, batch), batch.text.argmax(1), strict=True):
            assert sampler.texts[text] == captions.text(motion, start, start + 24) != ""
            starts.add((motion, start))
    assert len({start for motion, start in starts if motion == 1}) > 5


def test_categories_are_drawn_among_those_of_the_window(store: MotionStore) -> None:
    sampler = PieceSampler(store, replace(PIECES, captions="category"), seed=4)
    assert set(sampler.texts) == {"gesture", "head movements", "bend", "transition", "wave"}
    # A transition is none of BABEL's numbered classes: its piece goes.
    known = PieceSampler(store, replace(PIECES, captions="category", classes=60), seed=4)
    assert len(known) == 3 and "transition" not in known.texts
    known.align(np.eye(len(known.texts), dtype=np.float32), None)
    said = {known.texts[row] for step in range(30) for row in known.batch(step, 3).text.argmax(1)}
    assert said == {"gesture", "head movements", "bend", "wave"}


def test_mirrored_windows_are_told_so_and_have_no_picture(store: MotionStore) -> None:
    sampler = PieceSampler(store, replace(PIECES, mirror=1.0), seed=4)
    assert store.frames is not None
    sampler.align(np.eye(len(sampler.texts), dtype=np.float32), np.ones((len(store.frames), 2), np.float32))
    batch = sampler.batch(0, 4)
    said = {sampler.texts[row] for row in batch.text.argmax(1)}
    assert "waves with the right hand" in said and "waves with the left hand" not in said
    assert not batch.has_image.any()


def test_a_window_has_the_picture_nearest_to_its_middle(store: MotionStore) -> None:
    frames = store.frames
    assert frames is not None
    pictures = Pictures(store, np.stack([frames.motion, frames.frame], axis=1).astype(np.float32))
    first = np.array([store.offsets[0] + 20, store.offsets[3] + 62, store.offsets[1] + 30, store.offsets[1]])
    image, has = pictures.nearest(first, first + np.array([23, 23, 9, 3]))
    assert image[:2].tolist() == [[0, 29], [3, 77]]
    # 30 to 39 of motion 1 has none but that of frame 29, just outside; 0 to 3 neither.
    assert has.tolist() == [True, True, False, False]


def test_a_store_without_pieces_is_explained(store: MotionStore) -> None:
    with pytest.raises(DataError, match="no captioned piece of 500 frames"):
        PieceSampler(store, replace(PIECES, piece=500), seed=0)
    with pytest.raises(DataError, match="which the store does not have"):
        PieceSampler(store, replace(PIECES, exclude=("cmu",)), seed=0)


def recipe(store_path: Path, loss: dict[str, Any] | None = None, **optim: Any) -> Recipe:
    """The paper's recipe, small."""
    paper = load_recipe(RECIPES / "paper.toml")
    sizes: dict[str, Any] = {
        "latent": WIDTH,
        "width": WIDTH,
        "feedforward": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "heads": 2,
    }
    every: dict[str, Any] = {
        "text_mse": 0.1,
        "text_ce": 0.1,
        "image_mse": 0.1,
        "image_ce": 0.1,
        "vertex_form": "sample",
    }
    return replace(
        paper,
        data=replace(PIECES, store=str(store_path)),
        model=replace(paper.model, **sizes),
        loss=replace(paper.loss, **(every if loss is None else loss)),
        optim=replace(paper.optim, **{"epochs": 70, "batch": 4, "lr": 3e-3, **optim}),
    )


def test_training_lowers_text_and_image_losses(fresh: Path, towers: TinyClip, tmp_path: Path) -> None:
    settings = recipe(fresh)
    train(settings, tmp_path / "run", stop_at=4)
    assert train(settings, tmp_path / "run").steps == 70  # of four windows each, from four pieces
    rows = list(csv.DictReader((tmp_path / "run" / "curves.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["4", "50", "70"]
    assert tuple(rows[0]) == ("step", "total", *Objective(settings.loss).terms)
    for name in ("total", "features", "vertices", "text", "text_ce", "image", "image_ce"):
        assert float(rows[-1][name]) < 0.95 * float(rows[0][name]), name


def test_it_resumes_bit_for_bit(fresh: Path, towers: TinyClip, tmp_path: Path) -> None:
    settings = recipe(fresh, epochs=5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(settings, whole)
    train(settings, parts, stop_at=3)
    train(settings, parts)
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = (load_file(run / "checkpoint-00000005" / name) for run in (whole, parts))
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("loss", "asked"),
    [
        ({"image": 0.0}, {"texts"}),
        ({"text": 0.0}, {"images"}),
        ({"text": 0.0, "image": 0.0}, set()),
        ({}, {"texts", "images"}),
    ],
)
def test_without_weight_a_tower_is_not_asked(
    fresh: Path, towers: TinyClip, tmp_path: Path, loss: dict[str, Any], asked: set[str]
) -> None:
    train(recipe(fresh, loss, epochs=1), tmp_path / "run")
    assert set(towers.asked) == asked
    header = (tmp_path / "run" / "curves.csv").read_text().splitlines()[0].split(",")
    assert {"text", "image"} & set(header) == {name.rstrip("s") for name in asked}


def test_joined_captions_are_embedded_once_in_a_run(fresh: Path, towers: TinyClip, tmp_path: Path) -> None:
    settings = recipe(fresh, {"image": 0.0}, epochs=2)
    train(settings, tmp_path / "run", stop_at=1)
    train(settings, tmp_path / "run")
    assert towers.asked == ["texts"]


def test_a_batch_without_pictures_trains_all_the_same(store: MotionStore) -> None:
    sampler = PieceSampler(store, PIECES, seed=0)
    assert store.frames is not None
    sampler.align(np.ones((len(sampler.texts), 24), np.float32), np.ones((len(store.frames), 24), np.float32))
    batch = replace(sampler.batch(0, 4), has_image=np.zeros(4, bool))
    settings = recipe(store.file)
    total, terms = Objective(settings.loss)(MotionClip(settings.model), batch)
    assert math.isfinite(total.item()) and terms["image"].item() == terms["image_ce"].item() == 0.0


@pytest.mark.parametrize(
    ("name", "weight", "epochs", "captions"), [("paper", 100, 100, "joined"), ("classes", 95, 200, "category")]
)
def test_the_recipes_say_what_the_original_command_lines_said(
    name: str, weight: float, epochs: int, captions: str
) -> None:
    settings = load_recipe(RECIPES / f"{name}.toml")
    loss, model, optim, data = settings.loss, settings.model, settings.optim, settings.data
    assert (loss.features, loss.feature_velocity, loss.vertices, loss.text, loss.image) == (
        weight,
        weight,
        weight,
        1,
        1,
    )
    assert Objective(loss).terms == ("features", "feature_velocity", "vertices", "text", "image")
    assert (optim.epochs, optim.batch, optim.lr, optim.weight_decay, optim.clip) == (epochs, 20, 1e-4, 0.01, 0)
    assert (optim.final, optim.warmup) == (1, 0)
    assert (model.architecture, model.encoder_layers, model.decoder_layers, model.heads) == ("paper", 8, 8, 4)
    assert (model.latent, model.width, model.feedforward, model.dropout, model.normalize) == (
        512,
        512,
        1024,
        0.1,
        False,
    )
    assert (data.representation, data.window, data.piece, data.mirror) == ("motionclip-legacy", 60, 100, 0)
    assert data.captions == captions and settings.text_space == "clip-vit-b32"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"data": {"piece": 30}}, "data.piece must lie between data.window"),
        ({"data": {"piece": 100, "speed": [0.9, 1.1]}}, "data.piece allows no data.speed"),
        ({"data": {"piece": 100, "captions": "all"}}, "data.captions must be one of"),
        ({"data": {"piece": 100}, "optim": {"text_batch": 1}}, "optim.text_batch must be 0"),
        ({"optim": {"epochs": 3}}, "optim.epochs needs data.piece"),
        ({"loss": {"vertex_form": "some"}}, "loss.vertex_form must be one of"),
        ({"loss": {"rotation": 0, "root": 0, "joints": 0, "velocity": 0}}, "loss must give weight to one of rotation"),
        ({"optim": {"final": 2.0}}, "optim.final must lie"),
    ],
)
def test_what_cannot_go_together_is_said(table: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from_dict({"name": "x", **table})


def test_epochs_shorter_than_the_warmup_are_explained(fresh: Path, towers: TinyClip, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="make only 1 steps"):
        train(recipe(fresh, epochs=1, warmup=2), tmp_path / "run")


def test_weights_say_which_towers_they_need() -> None:
    assert LossWeights().needs_text and not LossWeights().needs_images
    assert not LossWeights(text=0).needs_text and LossWeights(text=0, contrast=0.1).needs_text
    assert LossWeights(image_ce=0.1).needs_images
