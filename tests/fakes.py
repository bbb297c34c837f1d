"""Small, whole stand-ins: a text tower that reads a few words, and motions that swing one joint."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mclip.data.preprocess import preprocess
from mclip.export.reading import fit_reading
from mclip.motion import Motion
from mclip.nn.teachers import Teacher
from mclip.recipe import Recipe, recipe_from_dict
from mclip.runtime.prior import Bank
from mclip.skeleton.smpl import JOINT

WIDTH = 24
MAX_TOKENS = 12
WORDS = ("[UNK]", "a", "person", "nods", "waves", "with", "the", "left", "right", "hand", "bends", "slowly", "fast")
# Action: captions, the joint that swings, its axis.
ACTIONS: dict[str, tuple[tuple[str, ...], str, int]] = {
    "nod": (("nods", "a person nods"), "head", 0),
    "wave left": (("waves with the left hand", "a person waves with the left hand"), "left_shoulder", 2),
    "bend": (("bends", "a person bends slowly"), "spine1", 0),
}


class BagOfWords(nn.Module):
    """The mean of word vectors, at unit length."""

    def __init__(self) -> None:
        super().__init__()
        # More rows than words: matrices below a few thousand elements are not worth storing small.
        self.words = nn.Embedding(200, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        weight = mask[..., None].to(torch.float32)
        pooled = (self.words(ids) * weight).sum(1) / weight.sum(1)
        return nn.functional.normalize(self.mix(pooled), dim=-1)


def tiny_teacher() -> Teacher:
    """A text space of WIDTH numbers and a dozen words."""
    torch.manual_seed(1)
    return Teacher(
        name="minilm-l6",
        module=BagOfWords().eval().requires_grad_(False),
        tokenizer_json=json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [],
                "normalizer": {"type": "Lowercase"},
                "pre_tokenizer": {"type": "WhitespaceSplit"},
                "post_processor": None,
                "decoder": None,
                "model": {
                    "type": "WordLevel",
                    "vocab": {word: index for index, word in enumerate(WORDS)},
                    "unk_token": "[UNK]",
                },
            }
        ),
        width=WIDTH,
        max_tokens=MAX_TOKENS,
        licence="none",
    )


def tiny_recipe() -> Recipe:
    """A model of one layer each, for windows of 10 to 20 frames."""
    return recipe_from_dict(
        {
            "name": "tiny",
            "data": {"window": 20, "min_window": 10},
            "model": {
                "latent": WIDTH,
                "width": 64,
                "feedforward": 64,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "heads": 2,
                "patch": 2,
            },
        }
    )


def swinging(joint: str, axis: int, seed: int, frames: int = 50) -> Motion:
    """A standing body that swings one joint."""
    random = np.random.default_rng(seed)
    pose = random.normal(0, 0.02, (frames, 24, 3)).astype(np.float32)
    pose[:, 0] += np.array([np.pi / 2, 0, 0], np.float32)
    pose[:, JOINT[joint], axis] += np.sin(np.arange(frames) / 5 + seed).astype(np.float32)
    transl = np.tile(np.array([0, 0, 1.4], np.float32), (frames, 1))
    return Motion(pose=pose, transl=transl, fps=30)


def write_tiny_store(folder: Path) -> Path:
    """A store of nine training and three test motions; the test takes are the last of each action."""
    rows = [["path", "caption", "label", "split"]]
    for action, (captions, joint, axis) in ACTIONS.items():
        for take in range(4):
            path = folder / "made" / f"{action.replace(' ', '_')}_{take}.npz"
            swinging(joint, axis, take).save(path)
            rows += [[f"made/{path.name}", caption, action, "test" if take == 3 else "train"] for caption in captions]
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    out = folder / "store.h5"
    preprocess(folder, out, labels=folder / "labels.csv", workers=1, drawing=None)
    return out


def make_bank(
    latents: NDArray[np.float32],
    frames: NDArray[np.int32],
    names: tuple[str, ...],
    label: NDArray[np.int32],
    labels: tuple[str, ...],
    captions: NDArray[np.float32],
    texts: tuple[str, ...],
    spoken: Sequence[Sequence[int]],
) -> Bank:
    """A bank in which label i has the captions spoken[i], with what an export would learn from them."""
    said = [captions[list(rows)] for rows in spoken]
    return Bank(
        latents=latents,
        frames=frames,
        names=names,
        label=label,
        labels=labels,
        captions=captions,
        texts=texts,
        offsets=np.cumsum([0, *map(len, spoken)]).astype(np.int32),
        ids=np.concatenate(spoken).astype(np.int32),
        centres=np.stack([latents[label == row].mean(axis=0) for row in range(len(labels))]),
        centre_label=np.arange(len(labels), dtype=np.int32),
        centre_source=np.zeros(len(labels), np.int32),
        said=np.stack([rows.mean(axis=0) for rows in said]),
        reading=fit_reading(labels, said),
    )
