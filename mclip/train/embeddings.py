"""The teacher's embeddings of a store's texts and images: made once, and kept in the store or with the run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mclip import console
from mclip.data.hdf5 import blocks
from mclip.data.store import Frames, MotionStore, read_store, write_embeddings
from mclip.errors import DataError, RecipeError
from mclip.files import atomic_path, cannot_write
from mclip.nn.teachers import PUBLISHED, Teacher, Weights, load_teacher
from mclip.recipe import Recipe
from mclip.render.frames import MAX_SIZE

# Images decoded at once; after as many, an interrupted run goes on.
_BATCH = 256


def text_embeddings(store: MotionStore, recipe: Recipe, weights: Weights = PUBLISHED) -> NDArray[np.float32]:
    """The teacher's embeddings (K, W) of the store's texts, cached in the store's file.

    They have unit length if the recipe's latents do, and are as the text space makes them if not.
    Raises AssetError without the teacher's weights, RecipeError when the model is not as wide.
    """

    def embed(teacher: Teacher) -> NDArray[np.float32]:
        console.err(f"embedding {len(store.texts)} captions with {recipe.text_space}")
        embeddings = teacher.embed(store.texts)
        write_embeddings(store.file, teacher.key, embeddings)
        return embeddings

    return _kept_or(embed, store.embeddings, recipe, weights)


def caption_embeddings(
    texts: Sequence[str], recipe: Recipe, cache: Path, weights: Weights = PUBLISHED
) -> NDArray[np.float32]:
    """The teacher's embeddings (K, W) of captions that were made of a store's, cached in a file of the run.

    As long as those of texts. Raises as `text_embeddings`.
    """
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()

    def embed(teacher: Teacher) -> NDArray[np.float32]:
        console.err(f"embedding {len(texts)} captions with {recipe.text_space}")
        embeddings = teacher.embed(texts)
        with atomic_path(cache) as temporary:
            save_file({teacher.key: embeddings}, temporary, {"texts": digest})
        return embeddings

    return _kept_or(embed, _read_cache(cache, digest), recipe, weights)


def _read_cache(cache: Path, digest: str) -> dict[str, NDArray[np.float32]]:
    """The embeddings of the texts with this digest by text space; none if the file is damaged or of other texts."""
    if cache.is_file():
        with contextlib.suppress(OSError, SafetensorError), safe_open(cache, "numpy") as file:
            if (file.metadata() or {}).get("texts") == digest:
                return {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}
    return {}


def image_embeddings(store: MotionStore, recipe: Recipe, weights: Weights = PUBLISHED) -> NDArray[np.float32]:
    """The teacher's embeddings (P, W) of the store's images, cached in the store's file.

    Row p is of frame `store.frames.frame[p]` of motion `store.frames.motion[p]`. As long as those of texts. What an
    interrupted run has made is gone on from.
    Raises as `text_embeddings`, RecipeError for a text space without images, DataError for a store without.
    """
    frames = store.frames
    if frames is None or not len(frames):
        raise DataError(f"{store.file}: holds no images", "make it again with: mclip preprocess DIR --frames")

    def embed(teacher: Teacher) -> NDArray[np.float32]:
        if teacher.image_module is None:
            raise RecipeError(f"text_space: {recipe.text_space} has no image tower", "clip-vit-b32 has one")
        console.err(f"embedding {len(frames)} images with {recipe.text_space}")
        return _embed_images(frames, teacher)

    return _kept_or(embed, store.image_embeddings, recipe, weights)


def _kept_or(
    embed: Callable[[Teacher], NDArray[np.float32]],
    kept: Mapping[str, NDArray[np.float32]],
    recipe: Recipe,
    weights: Weights,
) -> NDArray[np.float32]:
    """What is kept, else what `embed` makes, as long as the recipe's latents."""
    # Which weights of the user's own these are is known once they are read.
    embeddings = None if weights.unverified else kept.get(recipe.text_space)
    if embeddings is None:
        teacher = load_teacher(recipe.text_space, weights)
        _check_width(recipe, teacher.width)
        embeddings = kept.get(teacher.key)
        if embeddings is None:
            embeddings = embed(teacher)
    _check_width(recipe, embeddings.shape[1])
    length = np.concatenate([np.linalg.norm(block, axis=1, keepdims=True) for block in blocks(embeddings)])
    # Those of unit length stay bit for bit what they are.
    if not recipe.model.normalize or np.allclose(length, 1, atol=1e-5):
        return embeddings
    result: NDArray[np.float32] = embeddings / length
    return result


def _check_width(recipe: Recipe, width: int) -> None:
    if width != recipe.model.latent:
        raise RecipeError(
            f"model.latent is {recipe.model.latent}, the text space {recipe.text_space} is {width} wide",
            f"set model.latent = {width}",
        )


def _embed_images(frames: Frames, teacher: Teacher) -> NDArray[np.float32]:
    """All images' embeddings (P, W), put into the store; on the way they wait in a file beside it."""
    part = frames.store.with_name(f".{frames.store.name}-{teacher.key}-{_identity(frames)}.part")
    row = 4 * teacher.width
    try:
        done = part.stat().st_size // row if part.exists() else 0
        with part.open("r+b" if done else "wb") as file:
            file.truncate(done * row)
            file.seek(0, io.SEEK_END)
            with console.progress("images", len(frames), done) as bar:
                for start in range(done, len(frames), _BATCH):
                    indices = range(start, min(start + _BATCH, len(frames)))
                    contents = zip(indices, frames.read(indices), strict=True)
                    images = [_decode(content, frames, index) for index, content in contents]
                    if len({image.shape for image in images}) > 1:
                        raise DataError(f"{frames.store}: its images are of several sizes", "make it again")
                    file.write(teacher.embed_images(np.stack(images)).tobytes())
                    file.flush()
                    bar.advance(len(indices))
        embeddings = np.memmap(part, np.float32, "r", shape=(len(frames), teacher.width))
        write_embeddings(frames.store, teacher.key, embeddings, images=True)
        del embeddings
        part.unlink()
    except OSError as error:
        raise cannot_write(part, error) from None
    return read_store(frames.store, mmap=True).image_embeddings[teacher.key]


def _identity(frames: Frames) -> str:
    """Which images these are; a store made anew may have others."""
    digest = hashlib.sha256()
    for array in (frames.offsets, frames.motion, frames.frame):
        digest.update(array.tobytes())
    for start in range(0, len(frames), _BATCH):
        digest.update(b"".join(frames.read(range(start, min(start + _BATCH, len(frames))))))
    return digest.hexdigest()[:12]


def _decode(content: bytes, frames: Frames, index: int) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=("WEBP",)) as image:
            if max(image.size) > MAX_SIZE:
                raise ValueError(f"it has {image.width} by {image.height} pixels")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{frames.store}: image {index} is damaged ({error})") from None
