"""The original MotionCLIP's modules put together from torch's own, under the original's names: a second witness."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden" / "motionclip"


def positional_encoding(width: int) -> Tensor:
    """The table (5000, 1, width) a checkpoint carries: what Vaswani et al. define, in the original's float32."""
    table = [
        [
            math.sin(at / 10000 ** (i / width)) if i % 2 == 0 else math.cos(at / 10000 ** ((i - 1) / width))
            for i in range(width)
        ]
        for at in range(64)
    ]
    angle = torch.arange(5000.0)[:, None] * torch.exp(torch.arange(0.0, width, 2) * (-math.log(10000.0) / width))
    full = torch.stack([angle.sin(), angle.cos()], dim=-1).view(5000, 1, width)
    np.testing.assert_allclose(full[:64, 0], table, atol=1e-5)
    return full


class _Positions(nn.Module):
    pe: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", positional_encoding(width))


class _Encoder(nn.Module):
    def __init__(self, latent: int, layers: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.muQuery = nn.Parameter(torch.randn(1, latent))
        self.sigmaQuery = nn.Parameter(torch.randn(1, latent))
        self.skelEmbedding = nn.Linear(150, latent)
        self.sequence_pos_encoder = _Positions(latent)
        layer = nn.TransformerEncoderLayer(latent, heads, feedforward, 0.1, "gelu")
        self.seqTransEncoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class _Decoder(nn.Module):
    def __init__(self, latent: int, layers: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.actionBiases = nn.Parameter(torch.randn(1, latent))
        self.sequence_pos_encoder = _Positions(latent)
        layer = nn.TransformerDecoderLayer(latent, heads, feedforward, 0.1, "gelu")
        self.seqTransDecoder = nn.TransformerDecoder(layer, layers)
        self.finallayer = nn.Linear(latent, 150)


class Original(nn.Module):
    """Encoder and decoder, time first inside, in evaluation mode."""

    def __init__(self, latent: int, layers: int, heads: int = 4, feedforward: int = 1024, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        sizes = (latent, layers, heads, feedforward)
        self.encoder, self.decoder = _Encoder(*sizes), _Decoder(*sizes)
        self.eval().requires_grad_(False)

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """Latents (B, D) of x (B, T, 25, 6) with mask (B, T)."""
        encoder = self.encoder
        frames = encoder.skelEmbedding(x.flatten(2).transpose(0, 1))  # (T, B, D)
        queries = torch.stack([encoder.muQuery.expand(len(x), -1), encoder.sigmaQuery.expand(len(x), -1)])
        tokens = torch.cat([queries, frames])
        tokens = tokens + encoder.sequence_pos_encoder.pe[: len(tokens)]
        hidden = ~torch.cat([torch.ones(len(x), 2, dtype=torch.bool), mask], dim=1)
        return encoder.seqTransEncoder(tokens, src_key_padding_mask=hidden)[0]  # type: ignore[no-any-return]

    def decode(self, z: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, 25, 6) of latents (B, D), zero where mask (B, T) is false."""
        decoder, (B, T) = self.decoder, mask.shape
        queries = torch.zeros(T, B, z.shape[1]) + decoder.sequence_pos_encoder.pe[:T]
        out = decoder.finallayer(decoder.seqTransDecoder(queries, z[None], tgt_key_padding_mask=~mask))
        return out.transpose(0, 1).reshape(B, T, 25, 6) * mask[..., None, None]  # type: ignore[no-any-return]


def golden_tensors() -> dict[str, Tensor]:
    """The golden checkpoint, see tests/golden/motionclip/README.md."""
    tensors = Original(32, 2, seed=1).state_dict()
    with np.load(GOLDEN / "vectors.npz", allow_pickle=False) as vectors:
        for name in vectors:
            tensors[name] = torch.from_numpy(vectors[name])
    return tensors


def golden_arrays() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Golden inputs and outputs, time before rows: x (3, 60, 25, 6) and its mask (3, 60) are put together."""
    with np.load(GOLDEN / "io.npz", allow_pickle=False) as file, np.load(GOLDEN / "losses.npz") as of_them:
        arrays = {name: file[name] for name in file}
        arrays |= {name: of_them[name] for name in ("features", "loss_rc", "loss_vel", "loss_cosine")}
    mask = np.arange(60) < arrays["lengths"][:, None]
    x = np.concatenate([arrays["rot6d"], arrays["translation"].transpose(0, 2, 1)[:, :, None]], axis=2)
    arrays |= {"mask": mask, "x": x * mask[..., None, None]}
    for name in ("reconstruction", "generated"):
        arrays[name] = arrays[name].transpose(0, 3, 1, 2)
    arrays["generated_amass"] = arrays["generated"].copy()
    arrays["generated_amass"][:, :, 0] = arrays["generated_amass_root"].transpose(0, 2, 1)
    return arrays


def room(rot6d: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How far 6D (..., 6) is from standing for no rotation: an error e of it turns the rotation by about e / room.

    That is the length of the first row, or the distance of the second from the first's line if that is less.
    """
    first, second = rot6d[..., :3].astype(np.float64), rot6d[..., 3:].astype(np.float64)
    length = np.maximum(np.linalg.norm(first, axis=-1), 1e-30)
    distance: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    distance = np.minimum(length, np.linalg.norm(np.cross(first, second), axis=-1) / length)
    return distance
