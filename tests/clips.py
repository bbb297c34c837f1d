"""CLIP models with random weights, made of openai-clip's own classes, and what else of it tests compare with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mclip.nn import clip

# A ViT-B/32 with fewer and narrower layers: the tokenizer's words, CLIP's width out, one patch in 32 x 32 pixels.
SMALL = {
    "embed_dim": 512,
    "image_resolution": 64,
    "vision_layers": 2,
    "vision_width": 128,
    "vision_patch_size": 32,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 64,
    "transformer_heads": 1,
    "transformer_layers": 2,
}
FULL = SMALL | {
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}
SMALL_SHAPES = {
    "visual.conv1.weight": (128, 3, 32, 32),
    "visual.positional_embedding": (5, 128),
    "token_embedding.weight": (49408, 64),
    "positional_embedding": (77, 64),
    "text_projection": (64, 512),
}


def openai_clip(name: str) -> ModuleType:
    """A module of openai-clip, without its package."""
    spec = importlib.util.spec_from_file_location(f"their_{name}", clip._package_folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_clip(sizes: dict[str, int], seed: int = 0) -> Any:
    """openai-clip's model with random weights of fp16, as the published ones."""
    torch.manual_seed(seed)
    code = openai_clip("model")
    model = code.CLIP(**sizes).requires_grad_(False)
    code.convert_weights(model)
    return model.eval()


def save_weights(sizes: dict[str, int], path: Path) -> Path:
    """Random weights as a plain state dict."""
    torch.save(random_clip(sizes).state_dict(), path)
    return path
