"""CLIP's own weights, wherever MCLIP_CLIP_WEIGHTS names them, against features that others computed with them.

NumPyCLIP's of three texts and a picture, and Detic's of LVIS categories (tests/golden/clip/LICENSE).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.nn import clip
from mclip.nn.teachers import Teacher, load_teacher
from mclip.runtime.pictures import read_picture

GOLDEN = Path(__file__).parent / "golden" / "clip"
TEXTS = ["a diagram", "a dog", "a cat"]
# What openai-clip's README and NumPyCLIP's print for CLIP.png.
PROBABILITIES = [0.9927937, 0.00421068, 0.00299572]

real_weights = pytest.mark.skipif(not os.environ.get(clip.ENVIRONMENT), reason=f"{clip.ENVIRONMENT} names no weights")


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float32]]:
    with np.load(GOLDEN / "features.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("clip-vit-b32")


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    first, second = one.astype(np.float64), other.astype(np.float64)
    lengths = np.outer(np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1))
    result: NDArray[np.float64] = first @ second.T / lengths
    return result


def probabilities(image: NDArray[np.float32], texts: NDArray[np.float32]) -> NDArray[np.float64]:
    weight = np.exp(100 * cosine(image, texts)[0])
    result: NDArray[np.float64] = weight / weight.sum()
    return result


def test_the_golden_features_are_those_of_the_published_probabilities(golden: dict[str, NDArray[np.float32]]) -> None:
    np.testing.assert_allclose(probabilities(golden["image"], golden["text"]), PROBABILITIES, atol=1e-5)


@real_weights
def test_texts_and_a_picture_are_embedded_as_others_embed_them(
    teacher: Teacher, golden: dict[str, NDArray[np.float32]]
) -> None:
    assert teacher.unverified == ""
    texts = teacher.embed(TEXTS)
    assert cosine(texts, golden["text"]).diagonal().min() > 0.99999
    image = teacher.embed_images(read_picture(GOLDEN / "CLIP.png", teacher.image_size)[None])
    assert cosine(image, golden["image"])[0, 0] > 0.9999
    np.testing.assert_allclose(probabilities(image, texts), PROBABILITIES, atol=1e-3)


@real_weights
def test_category_names_are_embedded_as_detic_does(teacher: Teacher, golden: dict[str, NDArray[np.float32]]) -> None:
    found = teacher.embed([f"a {name}" for name in golden["lvis_names"].tolist()])
    assert cosine(found, golden["lvis"]).diagonal().min() > 0.9999
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=1), np.linalg.norm(golden["lvis"].astype(np.float32), axis=1), rtol=1e-2
    )
