"""The teacher's embeddings of what a store holds, computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip import console
from mclip.data.store import MotionStore, write_embeddings
from mclip.errors import RecipeError
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


def _check_width(recipe: Recipe, width: int) -> None:
    if width != recipe.model.latent:
        raise RecipeError(
            f"model.latent is {recipe.model.latent}, the text space {recipe.text_space} is {width} wide",
            f"set model.latent = {width}",
        )
