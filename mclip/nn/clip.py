"""The text space `clip-vit-b32`: OpenAI's CLIP ViT-B/32 (Radford et al. 2021), the paper's teacher.

The model is openai-clip's own code with its published weights. Embeddings are as `encode_text` and `encode_image` give
them, about ten long: MotionCLIP aligns by cosine, and decodes them as they are.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import warnings
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclip.errors import AssetError
from mclip.files import sha256
from mclip.nn import published
from mclip.nn.download import cache_folder, fetch
from mclip.nn.teachers import Teacher, Weights
from mclip.runtime.tokenizer_file import CLIP_WORDS, SPACES

NAME = "clip-vit-b32"
ENVIRONMENT, URL, SHA256 = published.ENVIRONMENT, published.URL, published.SHA256
# Four times ViT-B/32 in fp32.
MAX_BYTES = 2_500_000_000
# What makes a CLIP model a ViT-B/32; all other shapes follow.
SHAPES: dict[str, tuple[int, ...]] = {
    "visual.conv1.weight": (768, 3, 32, 32),
    "visual.positional_embedding": (50, 768),
    "visual.transformer.resblocks.11.ln_1.weight": (768,),
    "visual.proj": (768, 512),
    "token_embedding.weight": (49408, 512),
    "positional_embedding": (77, 512),
    "transformer.resblocks.11.ln_1.weight": (512,),
    "text_projection": (512, 512),
}

_PACKAGE = "openai-clip"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_MERGES = 49152 - 256 - 2
_ELSEWHERE = f"download {URL} elsewhere and name the file with --clip-weights or {ENVIRONMENT}"


class TextTower(nn.Module):
    """CLIP's text tower for as many tokens as there are: it is causal, so what follows the end token does not count."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.words, self.norm = model.token_embedding, model.ln_final
        self.positions, self.projection = model.positional_embedding, model.text_projection
        self.layers = model.transformer.resblocks

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (B, W) of token ids (B, L), int64, where mask (B, L) is 1."""
        ids = ids * mask
        at = torch.arange(ids.shape[1], device=ids.device)
        x = self.words(ids) + F.embedding(at, self.positions)  # (B, L, W)
        future = at[None] > at[:, None]  # (L, L)
        causal = torch.zeros(future.shape, device=ids.device).masked_fill(future, float("-inf"))
        for layer in self.layers:
            x = _block(layer, x, causal)
        # The end token has the highest id; of several the first counts, as in the original.
        end = ids.argmax(-1)[:, None, None].expand(-1, 1, x.shape[-1])
        return self.norm(x.gather(1, end)[:, 0]) @ self.projection  # type: ignore[no-any-return]


class ImageTower(nn.Module):
    """CLIP's image tower, from pixels of 0 to 255."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual = model.visual
        self.register_buffer("mean", 255 * torch.tensor(_MEAN))
        self.register_buffer("deviation", 255 * torch.tensor(_DEVIATION))

    def forward(self, pixels: Tensor) -> Tensor:
        """Embeddings (B, W) of pixels (B, S, S, 3), uint8."""
        visual = self.visual
        x = ((pixels.to(torch.float32) - self.mean) / self.deviation).permute(0, 3, 1, 2)  # (B, 3, S, S)
        x = visual.conv1(x).flatten(2).transpose(1, 2)  # (B, N, W)
        x = torch.cat([visual.class_embedding.expand(x.shape[0], 1, -1), x], dim=1) + visual.positional_embedding
        x = visual.ln_pre(x)
        for layer in visual.transformer.resblocks:
            x = _block(layer, x, None)
        return visual.ln_post(x[:, 0]) @ visual.proj  # type: ignore[no-any-return]


def _block(layer: Any, x: Tensor, mask: Tensor | None) -> Tensor:
    """One of openai-clip's ResidualAttentionBlocks, batch first; mask (N, N) is added to the scores."""
    B, N, W = x.shape
    attention = layer.attn
    qkv = F.linear(layer.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)  # (B, N, 3 W)
    q, k, v = qkv.view(B, N, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, H, N, W/H) each
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    x = x + attention.out_proj(y.transpose(1, 2).reshape(B, N, W))
    return x + layer.mlp(layer.ln_2(x))  # type: ignore[no-any-return]


def load_clip(weights: Weights) -> Teacher:
    """The teacher. Its weights are downloaded unless named by `weights` or MCLIP_CLIP_WEIGHTS.

    Raises AssetError when openai-clip or the weights are missing, or the weights are not the published ones.
    """
    folder = _package_folder()
    path = _weights_file(weights)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AssetError(f"{path}: is larger than the weights of CLIP ViT-B/32 can be", _ELSEWHERE)
        digest = sha256(path)
    except OSError as error:
        raise AssetError(f"{path}: cannot be read ({error.strerror or error})", _ELSEWHERE) from None
    verified = digest == SHA256
    if not verified and not weights.unverified:
        raise AssetError(
            f"{path}: is not OpenAI's CLIP ViT-B/32, or is cut short: its sha256 is {digest}",
            "download it again; if you mean to use other weights, say so with --unverified",
        )
    model = _build(_model_code(folder), _read_weights(path), path)
    return Teacher(
        name=NAME,
        module=TextTower(model),
        tokenizer_json=tokenizer_json(folder / "bpe_simple_vocab_16e6.txt.gz"),
        width=model.text_projection.shape[1],
        max_tokens=model.context_length,
        licence="CLIP ViT-B/32, MIT" if verified else f"weights of CLIP's shape with sha256 {digest}",
        cleaning="ftfy",
        norm=10.0,
        image_module=ImageTower(model),
        image_size=model.visual.input_resolution,
        unverified="" if verified else digest,
    )


def tokenizer_json(merges_file: Path) -> str:
    """openai-clip's byte pair encoding as a file of the `tokenizers` library, for texts cleaned with "ftfy".

    merges_file: bpe_simple_vocab_16e6.txt.gz of openai-clip
    """
    lines = gzip.decompress(merges_file.read_bytes()).decode("utf-8").split("\n")
    merges = [line.split() for line in lines[1 : _MERGES + 1]]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), _START, _END]
    ids = {token: index for index, token in enumerate(tokens)}
    table = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[token], "content": token, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for token in (_START, _END)
        ],
        # Enough for ASCII; the rest is mclip.runtime.cleaning's.
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Replace", "pattern": {"Regex": SPACES}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": _START, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": _END, "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (_START, _END)
            },
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "vocab": ids,
            "merges": merges,
        },
    }
    return json.dumps(table, ensure_ascii=False)


def _byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes, in the order of the vocabulary: its own, or one from 256 on."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, own), *(chr(256 + index) for index in range(256 - len(own)))]


def _weights_file(weights: Weights) -> Path:
    named = weights.file or published.named_file()
    if named is not None:
        if not named.is_file():
            origin = "" if weights.file else f" ({ENVIRONMENT})"
            raise AssetError(f"{named}{origin}: no such file of CLIP's weights", _ELSEWHERE)
        return named
    theirs = published.openai_file()
    if theirs.is_file() and sha256(theirs) == SHA256:  # openai-clip has downloaded it
        return theirs
    return fetch(URL, SHA256, cache_folder(), hint=_ELSEWHERE)


def _package_folder() -> Path:
    """The folder of openai-clip's package."""
    try:
        listed = files(_PACKAGE) or []
    except PackageNotFoundError:
        raise AssetError(f"the text space {NAME} needs the package {_PACKAGE}", 'pip install "mclip[train]"') from None
    for file in listed:
        if file.name == "model.py":
            return Path(str(file.locate())).parent
    raise AssetError(f"the package {_PACKAGE} holds no model.py", f"pip install {_PACKAGE}==1.0.1")


def _model_code(folder: Path) -> ModuleType:
    # The package's __init__ imports pkg_resources, which setuptools no longer has, and torchvision, for one resize.
    spec = importlib.util.spec_from_file_location("openai_clip_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive, as published, or of a plain state dict.

    Reading a TorchScript archive runs code that is in it: that is what --unverified trusts.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated; the published file will stay one
            return dict(torch.jit.load(path, map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
    except RuntimeError:
        pass  # not TorchScript
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # Of files that are none of its own, torch's reader raises nearly anything.
        raise AssetError(f"{path}: holds no weights that can be read, or is cut short", _ELSEWHERE) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise AssetError(f"{path}: is no plain state dict of tensors", _ELSEWHERE)
    return state


def _build(code: ModuleType, state: dict[str, Tensor], path: Path) -> Any:
    """openai-clip's model with these weights, in fp32, frozen."""
    for name, shape in SHAPES.items():
        found = tuple(state[name].shape) if name in state else "missing"
        if found != shape:
            raise AssetError(f"{path}: is no CLIP ViT-B/32: {name} is {found}, not {shape}", _ELSEWHERE)
    try:
        model = code.build_model(state)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AssetError(f"{path}: is no CLIP ViT-B/32 ({reason})", _ELSEWHERE) from None
    return model.float().eval().requires_grad_(False)
