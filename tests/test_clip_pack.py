"""Packs of the space clip-vit-b32: graphs that say what openai-clip says, prompts too long, pictures, caches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mclip.data.images import Drawing
from mclip.data.preprocess import preprocess
from mclip.data.store import MotionStore, read_store
from mclip.errors import DataError, RecipeError, UsageError
from mclip.export.pack import Texts, export_pack
from mclip.motion import load_npz
from mclip.nn import clip, teachers
from mclip.nn.model import MotionClip
from mclip.nn.teachers import Teacher, Weights, load_teacher
from mclip.pack import Pack
from mclip.recipe import Recipe
from mclip.runtime.engine import Engine
from mclip.train import embeddings
from mclip.train.embeddings import image_embeddings, text_embeddings
from tests.clips import SMALL, SMALL_SHAPES, random_clip, save_weights
from tests.commands import Run, runner
from tests.fakes import swinging, tiny_recipe
from tests.test_clip import TEXTS, random_images, their_images, their_texts

CARD = Texts(card="# clip\n", license="CC0-1.0\n")


def recipe(*, normalize: bool = False) -> Recipe:
    tiny = tiny_recipe()
    return replace(tiny, text_space="clip-vit-b32", model=replace(tiny.model, latent=512, normalize=normalize))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(SMALL, tmp_path_factory.mktemp("weights") / "small.pt")


@pytest.fixture(scope="module")
def teacher(weights: Path) -> Iterator[Teacher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "SHAPES", SMALL_SHAPES)
        yield load_teacher("clip-vit-b32", Weights(weights, unverified=True))


@pytest.fixture(scope="module")
def pack(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Exact, without a prior, with the image tower."""
    return export_pack(
        MotionClip(recipe().model),
        recipe(),
        teacher,
        tmp_path_factory.mktemp("packs") / "clip",
        texts=CARD,
        precision="fp32",
        text_precision="fp32",
        image_tower=True,
    )


@pytest.fixture
def mclip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def test_a_pack_embeds_texts_and_pictures_as_openai_clip_does(pack: Pack) -> None:
    engine, model = Engine(pack, "cpu"), random_clip(SMALL).float()
    texts = TEXTS[:3]  # of different lengths, in one batch
    np.testing.assert_allclose(engine.encode_text(texts), their_texts(model, texts), atol=1e-4)
    images = random_images(engine.image_size, 11)
    np.testing.assert_allclose(engine.encode_images(images), their_images(model, images), atol=1e-4)


def test_a_text_of_77_tokens_is_read_whole_and_one_of_78_only_if_cut(pack: Pack) -> None:
    engine, model = Engine(pack, "cpu"), random_clip(SMALL).float()
    whole, long = "walk " * 75, "walk " * 76
    np.testing.assert_allclose(engine.encode_text([whole]), their_texts(model, [whole]), atol=1e-4)
    with pytest.raises(UsageError, match=r"has 78 tokens.* at most 77") as refused:
        engine.tokenize([long])
    assert "--truncate" in refused.value.hint
    assert engine.tokenize([long], truncate=True) == engine.tokenize([whole])


def test_texts_are_cleaned_as_openai_clip_cleans_them(pack: Pack) -> None:
    engine = Engine(pack, "cpu")
    assert engine.tokenize(["L’ÉTÉ &amp;amp;\u00a0 x"]) == engine.tokenize(["l'été & x"])
    with pytest.raises(UsageError, match="empty"):
        engine.tokenize(["&nbsp;"])


def test_the_manifest_says_which_weights_and_how_exact(pack: Pack, teacher: Teacher) -> None:
    manifest = pack.manifest
    assert (manifest.text_space, manifest.text_cleaning, manifest.max_tokens) == ("clip-vit-b32", "ftfy", 77)
    assert manifest.unverified == teacher.unverified != ""
    for name in ("text_encoder", "image_encoder"):
        graph = manifest.graphs[name]
        assert graph.weights == "fp32"
        assert 0 < graph.parity.exported == graph.parity.stored < 1e-4


@pytest.mark.parametrize(("precision", "size", "cosine"), [("fp16", 0.55, 0.99999), ("int8", 0.32, 0.995)])
def test_towers_with_smaller_weights_say_nearly_the_same(
    pack: Pack, teacher: Teacher, tmp_path: Path, precision: str, size: float, cosine: float
) -> None:
    small = export_pack(
        MotionClip(recipe().model), recipe(), teacher, tmp_path / "small", texts=CARD, text_precision=precision
    )
    exact, found = Engine(pack, "cpu").encode_text(TEXTS[:3]), Engine(small, "cpu").encode_text(TEXTS[:3])
    agreement = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert agreement.min() > cosine
    assert small.manifest.files["text_encoder.onnx"].size < size * pack.manifest.files["text_encoder.onnx"].size


def test_unit_latents_get_unit_embeddings(teacher: Teacher, tmp_path: Path, store: MotionStore) -> None:
    unit = recipe(normalize=True)
    made = export_pack(
        MotionClip(unit.model), unit, teacher, tmp_path / "unit", texts=CARD, text_precision="fp32", store=store
    )
    found, raw = Engine(made, "cpu").encode_text(TEXTS[:2]), teacher.embed(TEXTS[:2])
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


def test_a_motion_from_a_picture(mclip: Run, pack: Pack, tmp_path: Path) -> None:
    Image.effect_mandelbrot((90, 70), (-2, -1.2, 1, 1.2), 60).save("photo.png")
    done = mclip("generate", "couch", "--image", "photo.png", "--pack", str(pack.path), "-o", "made", "--json")
    assert done.code == 0, done.err
    text, picture = json.loads(done.out)["motions"]
    assert (text["text"], picture["image"]) == ("couch", "photo.png")
    assert Path(picture["path"]) == Path("made/photo.npz")
    motions = [load_npz(Path(item["path"])) for item in (text, picture)]
    assert motions[1].origin["prompt"] == "photo.png"
    assert not np.allclose(motions[0].pose, motions[1].pose, atol=1e-3)


def test_a_pack_without_an_image_tower_says_so(mclip: Run, tiny_pack: Pack, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save("photo.png")
    done = mclip("generate", "--image", "photo.png", "--pack", str(tiny_pack.path))
    assert done.code == 6
    assert "no image tower" in done.err
    assert "--image-tower" in done.err


def test_no_picture_and_no_long_text_pass_unsaid(mclip: Run, pack: Pack, tmp_path: Path) -> None:
    Path("note.png").write_text("a poem", encoding="utf-8")
    done = mclip("generate", "--image", "note.png", "--pack", str(pack.path))
    assert (done.code, "is no picture" in done.err) == (4, True)
    done = mclip("generate", "walk " * 90, "--pack", str(pack.path), "-o", "walk.npz")
    assert (done.code, "has 92 tokens" in done.err) == (2, True)
    assert mclip("generate", "walk " * 90, "--truncate", "--pack", str(pack.path), "-o", "walk.npz").code == 0


def test_an_image_tower_needs_a_space_with_images(tiny_model: MotionClip, tmp_path: Path) -> None:
    from tests.fakes import tiny_teacher

    with pytest.raises(UsageError, match="--image-tower"):
        export_pack(tiny_model, tiny_recipe(), tiny_teacher(), tmp_path / "x", texts=CARD, image_tower=True)


@pytest.fixture
def store(tmp_path: Path) -> MotionStore:
    """Two motions, three pictures of them, in a store."""
    rows = ["path,caption,label"]
    for seed, frames in ((0, 50), (1, 70)):
        swinging("head", 0, seed, frames).save(tmp_path / "in" / "made" / f"{seed}.npz")
        rows += [f"made/{seed}.npz,nods,nod", f"made/{seed}.npz,says yes {seed},nod"]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    preprocess(
        tmp_path / "in",
        tmp_path / "store.h5",
        labels=tmp_path / "labels.csv",
        val=0.0,
        test=0.0,
        workers=1,
        drawing=Drawing(renderer="numpy", size=48),
    )
    return read_store(tmp_path / "store.h5")


def no_teacher(*_: object) -> Teacher:
    raise AssertionError("the teacher was asked again")


def test_embeddings_of_texts_and_images_are_made_once(
    store: MotionStore, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = replace(teacher, unverified="")
    monkeypatch.setattr(embeddings, "load_teacher", lambda *_: published)
    texts, images = text_embeddings(store, recipe()), image_embeddings(store, recipe())
    assert store.frames is not None
    assert images.shape == (len(store.frames), 512) == (3, 512)
    np.testing.assert_array_equal(texts, teacher.embed(store.texts))
    again = read_store(store.file)
    assert again.frames is not None
    pixels = [np.asarray(embeddings._decode(content, again.frames, 0)) for content in again.frames.read([0, 1, 2])]
    np.testing.assert_allclose(images, teacher.embed_images(np.stack(pixels)), atol=1e-5)
    monkeypatch.setattr(embeddings, "load_teacher", no_teacher)
    np.testing.assert_array_equal(text_embeddings(again, recipe()), texts)
    np.testing.assert_array_equal(image_embeddings(again, recipe()), images)
    unit = image_embeddings(again, recipe(normalize=True))
    np.testing.assert_allclose(unit, images / np.linalg.norm(images, axis=1, keepdims=True), atol=1e-6)
    assert [path.name for path in store.file.parent.glob("*.part")] == []


def test_embeddings_of_other_weights_are_kept_apart(
    store: MotionStore, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "load_teacher", lambda *_: teacher)
    text_embeddings(store, recipe(), Weights(unverified=True))
    assert set(read_store(store.file).embeddings) == {teacher.key} != {"clip-vit-b32"}


def test_images_go_on_where_they_were_interrupted(
    store: MotionStore, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "load_teacher", lambda *_: teacher)
    monkeypatch.setattr(embeddings, "_BATCH", 1)
    seen: list[int] = []
    embed = Teacher.embed_images

    def interrupted(self: Teacher, images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return embed(self, images)

    monkeypatch.setattr(Teacher, "embed_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        image_embeddings(store, recipe(), Weights(unverified=True))
    assert len(list(store.file.parent.glob(".*.part"))) == 1
    found = image_embeddings(store, recipe(), Weights(unverified=True))
    assert len(seen) == 4
    monkeypatch.setattr(Teacher, "embed_images", embed)
    np.testing.assert_array_equal(image_embeddings(read_store(store.file), recipe(), Weights(unverified=True)), found)


def test_images_that_are_not_there_or_mean_nothing_are_explained(
    store: MotionStore, tiny_store: MotionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fakes import tiny_teacher

    with pytest.raises(DataError, match="holds no images"):
        image_embeddings(tiny_store, recipe())
    monkeypatch.setattr(embeddings, "load_teacher", lambda *_: tiny_teacher())
    with pytest.raises(RecipeError, match="no image tower"):
        image_embeddings(store, tiny_recipe())
    with pytest.raises(RecipeError, match=r"set model\.latent|latent is"):
        text_embeddings(store, recipe())


def test_train_and_export_by_command_with_random_weights(
    mclip: Run, store: MotionStore, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "SHAPES", SMALL_SHAPES)
    Path("recipe.toml").write_text(
        f'name = "c"\ntext_space = "clip-vit-b32"\n[data]\nstore = "{store.file.as_posix()}"\nwindow = 20\n'
        "min_window = 10\n[model]\nlatent = 512\nwidth = 16\nfeedforward = 16\nencoder_layers = 1\ndecoder_layers = 1\n"
        "heads = 2\npatch = 2\nnormalize = false\n[optim]\nsteps = 2\nbatch = 4\nwarmup = 1\n",
        encoding="utf-8",
    )
    refused = mclip("train", "recipe.toml", "--clip-weights", str(weights))
    assert (refused.code, "--unverified" in refused.err) == (5, True)
    options = ("--clip-weights", str(weights), "--unverified")
    assert mclip("train", "recipe.toml", *options).code == 0
    done = mclip("export", "runs/c", "-o", "pack", "--image-tower", "--store", str(store.file), *options)
    assert done.code == 0, done.err
    assert "\nfp16: joints " in done.out and "mm from torch's in the mean" in done.out
    assert mclip("generate", "nods", "--pack", "pack").code == 0
    assert teachers.load_teacher is load_teacher
