"""CLIP as a text space: against openai-clip's own code with random weights, and real numbers where real weights are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mclip.errors import AssetError, UsageError
from mclip.files import sha256
from mclip.nn import clip
from mclip.nn.teachers import Teacher, Weights, load_teacher
from tests.clips import FULL, SMALL, SMALL_SHAPES, openai_clip, random_clip, save_weights

pytest.importorskip("ftfy")
# Of the real model, before the fixture below makes it smaller.
SHAPES = clip.SHAPES
TEXTS = ["couch", "A person waves with the left hand.", "don't run &amp; jump", "a " * 200]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Weights of the small model pass for a ViT-B/32's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "SHAPES", SMALL_SHAPES)
        patch.delenv(clip.ENVIRONMENT, raising=False)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(SMALL, tmp_path_factory.mktemp("weights") / "small.pt")


@pytest.fixture(scope="module")
def teacher(weights: Path) -> Teacher:
    return load_teacher("clip-vit-b32", Weights(weights, unverified=True))


def their_texts(model: Any, texts: list[str]) -> NDArray[np.float32]:
    """What openai-clip's tokenizer and text tower make of texts, always 77 tokens long."""
    tokenizer = openai_clip("simple_tokenizer").SimpleTokenizer()
    ids = torch.zeros(len(texts), 77, dtype=torch.int64)
    for row, text in enumerate(texts):
        tokens = [49406, *tokenizer.encode(text)[:75], 49407]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    with torch.inference_mode():
        return np.asarray(model.encode_text(ids).numpy())


def their_images(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """openai-clip's image tower on images (N, S, S, 3), with the mean and deviation of its transform."""
    mean, deviation = (
        np.array(values, np.float32)
        for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    pixels = ((images / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        return np.asarray(model.encode_image(torch.from_numpy(pixels)).numpy())


def random_images(size: int, count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_embeddings_are_those_of_openai_clip(teacher: Teacher) -> None:
    model = random_clip(SMALL).float()
    assert (teacher.width, teacher.max_tokens, teacher.image_size) == (512, 77, 64)
    np.testing.assert_allclose(teacher.embed(TEXTS), their_texts(model, TEXTS), atol=1e-5)
    images = random_images(64)
    np.testing.assert_allclose(teacher.embed_images(images), their_images(model, images), atol=1e-5)


def test_a_text_ends_at_its_first_end_token(teacher: Teacher) -> None:
    text = "wave <|endoftext|> and jump"
    np.testing.assert_allclose(teacher.embed([text]), their_texts(random_clip(SMALL).float(), [text]), atol=1e-5)


def test_other_texts_in_a_batch_change_nothing(teacher: Teacher) -> None:
    alone = np.concatenate([teacher.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(teacher.embed(TEXTS), alone, atol=1e-5)


def test_a_torchscript_archive_loads_like_a_state_dict_if_it_is_the_published_one(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tensors(torch.nn.Module):
        """A module with the model's tensors, and the three numbers the published archive has beside them."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    holder = Tensors()
    numbers = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}
    for name, value in (random_clip(SMALL).state_dict() | {k: torch.tensor(v) for k, v in numbers.items()}).items():
        at: torch.nn.Module = holder
        *folders, last = name.split(".")
        for folder in folders:
            if not hasattr(at, folder):
                at.add_module(folder, Tensors())
            at = getattr(at, folder)
        at.register_buffer(last, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(holder).save(str(tmp_path / "jit.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(Exception, match=r"weights_only|TorchScript"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(tmp_path / "jit.pt", weights_only=True)
    # Any other could run what it likes.
    with pytest.raises(AssetError, match="no weights that can be read"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_teacher("clip-vit-b32", Weights(tmp_path / "jit.pt", unverified=True))
    monkeypatch.setattr(clip, "SHA256", sha256(tmp_path / "jit.pt"))
    loaded = load_teacher("clip-vit-b32", Weights(tmp_path / "jit.pt"))
    np.testing.assert_array_equal(loaded.embed(TEXTS), teacher.embed(TEXTS))


def test_the_environment_names_the_weights(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(clip.ENVIRONMENT, str(weights))
    assert load_teacher("clip-vit-b32", Weights(unverified=True)).unverified == sha256(weights)
    monkeypatch.setenv(clip.ENVIRONMENT, str(weights.with_name("absent.pt")))
    with pytest.raises(AssetError, match=r"absent\.pt \(MCLIP_CLIP_WEIGHTS\): no such file"):
        load_teacher("clip-vit-b32")


def test_weights_of_another_hash_are_refused_unless_asked_for(
    weights: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssetError, match=sha256(weights)) as refused:
        load_teacher("clip-vit-b32", Weights(weights))
    assert "--unverified" in refused.value.hint
    assert teacher.unverified == sha256(weights)
    assert teacher.key == f"clip-vit-b32-{sha256(weights)[:12]}"
    monkeypatch.setattr(clip, "SHA256", sha256(weights))
    verified = load_teacher("clip-vit-b32", Weights(weights))
    assert (verified.unverified, verified.key) == ("", "clip-vit-b32")


def test_the_hash_of_the_published_weights_is_in_their_url() -> None:
    assert len(bytes.fromhex(clip.SHA256)) == 32
    source = (clip._package_folder() / "clip.py").read_text(encoding="utf-8")
    assert f'"ViT-B/32": "{clip.URL}"' in source


def a_list(path: Path) -> None:
    torch.save([torch.zeros(3)], path)


def other_shapes(path: Path) -> None:
    save_weights(SMALL | {"transformer_width": 128}, path)


def a_tensor_less(path: Path) -> None:
    state = random_clip(SMALL).state_dict()
    del state["ln_final.bias"]
    torch.save(state, path)


def text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_list, "no plain state dict"),
        (other_shapes, "is no CLIP"),
        (a_tensor_less, "ln_final.bias"),
        (text, "weights"),
    ],
)
def test_what_are_no_weights_is_said_even_if_unverified(make: Any, said: str, tmp_path: Path) -> None:
    make(tmp_path / "w.pt")
    with pytest.raises(AssetError, match=said):
        load_teacher("clip-vit-b32", Weights(tmp_path / "w.pt", unverified=True))


def test_weights_cut_short_are_explained(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(weights.read_bytes()[:-100_000])
    for unverified in (False, True):
        with pytest.raises(AssetError, match="cut short"):
            load_teacher("clip-vit-b32", Weights(tmp_path / "cut.pt", unverified))


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(AssetError, match="weights"):
        load_teacher("clip-vit-b32", Weights(tmp_path / "evil.pt", unverified=True))
    assert not (tmp_path / "ran").exists()


def test_a_file_too_large_for_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.pt").open("wb") as file:
        file.truncate(clip.MAX_BYTES + 1)
    with pytest.raises(AssetError, match="larger"):
        load_teacher("clip-vit-b32", Weights(tmp_path / "large.pt", unverified=True))


def test_without_openai_clip_the_extra_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "_PACKAGE", "no-such-package-of-ours")
    with pytest.raises(AssetError, match="needs the package") as missing:
        load_teacher("clip-vit-b32", Weights(weights))
    assert "mclip[train]" in missing.value.hint


def test_minilm_takes_no_weights_and_no_images(weights: Path) -> None:
    with pytest.raises(UsageError, match="takes no --clip-weights"):
        load_teacher("minilm-l6", Weights(weights))
    from tests.fakes import tiny_teacher

    with pytest.raises(UsageError, match="no image tower"):
        tiny_teacher().embed_images(random_images(8))


def test_a_full_size_vit_b32_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "SHAPES", SHAPES)
    theirs = random_clip(FULL)
    model = clip._build(clip._model_code(clip._package_folder()), theirs.state_dict(), Path("full.pt"))
    images = random_images(224, 1)
    tokens = torch.tensor([[49406, 320, 1929, 49407]])
    padded = torch.nn.functional.pad(tokens, (0, 73))
    theirs = theirs.float()
    with torch.inference_mode():
        text = clip.TextTower(model)(tokens, torch.ones_like(tokens)).numpy()
        image = clip.ImageTower(model)(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(text, theirs.encode_text(padded).numpy(), atol=1e-4)
    np.testing.assert_allclose(image, their_images(theirs, images), atol=1e-4)
