"""The teacher's embeddings of what a store holds, computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mclip import console
from mclip.data.store import MotionStore, write_embeddings
from mclip.errors import RecipeError
from mclip.files import atomic_path
from mclip.nn.teachers import load_teacher
from mclip.recipe import Recipe


def text_embeddings(store: MotionStore, recipe: Recipe) -> NDArray[np.float32]:
    """The teacher's embeddings (K, W) of the store's texts, cached in the store's file."""
    cached = store.embeddings.get(recipe.text_space)
    if cached is not None:
        _check_width(recipe, cached.shape[1])
        return cached
    teacher = load_teacher(recipe.text_space)
    _check_width(recipe, teacher.width)
    console.err(f"embedding {len(store.texts)} captions with {recipe.text_space}")
    embeddings = teacher.embed(store.texts)
    write_embeddings(Path(recipe.data.store), recipe.text_space, embeddings)
    return embeddings


def caption_embeddings(texts: Sequence[str], recipe: Recipe, cache: Path) -> NDArray[np.float32]:
    """The teacher's embeddings (K, W) of captions made of a store's, cached in a file of the run."""
    digest = hashlib.sha256(json.dumps([recipe.text_space, *texts]).encode()).hexdigest()
    if cache.is_file():
        try:
            with safe_open(cache, "numpy") as file:
                if (file.metadata() or {}).get("texts") == digest:
                    return np.asarray(file.get_tensor("embeddings"), np.float32)
        except (OSError, SafetensorError):
            pass  # half a copy; it is made again
    teacher = load_teacher(recipe.text_space)
    _check_width(recipe, teacher.width)
    console.err(f"embedding {len(texts)} captions with {recipe.text_space}")
    embeddings = teacher.embed(texts)
    with atomic_path(cache) as temporary:
        save_file({"embeddings": embeddings}, temporary, {"texts": digest})
    return embeddings


def image_embeddings(store: MotionStore, recipe: Recipe) -> NDArray[np.float32]:
    """The teacher's embeddings (P, W) of the store's pictures."""
    from io import BytesIO

    from PIL import Image

    teacher = load_teacher(recipe.text_space)
    assert store.frames is not None
    pictures = [np.asarray(Image.open(BytesIO(content))) for content in store.frames.read(range(len(store.frames)))]
    return teacher.embed_images(np.stack(pictures))  # type: ignore[attr-defined, no-any-return]


def _check_width(recipe: Recipe, width: int) -> None:
    if width != recipe.model.latent:
        raise RecipeError(
            f"model.latent is {recipe.model.latent}, the text space {recipe.text_space} is {width} wide",
            f"set model.latent = {width}",
        )
