"""The transformers of MotionCLIP as its authors built them (Tevet et al., ECCV 2022, section 3), batch first.

The encoder reads two learnt tokens and the frames; the first token's output is the latent (the second is what its
authors kept of ACTOR's variance token). The decoder answers one zero query per frame, with positional encoding, from
the latent alone. Since that memory has length one, attention over it has a single weight, one: cross-attention is a
linear map of the latent added to every frame, and that is how it is written here.

The original's latents are as wide as its transformers. Where ours are not, linear maps stand between.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclip.nn.layers import FeedForward, SelfAttention, additive_mask, patch_mask, positions
from mclip.recipe import ModelConfig
from mclip.runtime.representation import COLUMNS, ROWS

_TOKENS = 2


def _between(inputs: int, outputs: int) -> nn.Module:
    """A linear map, or none where widths agree (module docstring)."""
    return nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each followed by a residual and a norm (post-norm)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.width)
        self.feedforward = FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, W), mask (B, 1, 1, N) -> (B, N, W)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Self-attention, the latent's contribution, feed-forward; post-norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.width)
        # Value and output maps of attention over a memory of one token (module docstring).
        self.memory = nn.Sequential(nn.Linear(config.width, config.width), nn.Linear(config.width, config.width))
        self.memory_norm = nn.LayerNorm(config.width)
        self.feedforward = FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, W), memory (B, 1, W), mask (B, 1, 1, N) -> (B, N, W)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        x = self.memory_norm(x + self.dropout(self.memory(memory)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))  # type: ignore[no-any-return]


class MotionEncoder(nn.Module):
    """Windows to latents."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.patch * ROWS * COLUMNS, config.width)
        self.tokens = nn.Parameter(torch.randn(_TOKENS, config.width))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.latent = _between(config.width, config.latent)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode features x (B, T, 25, 6), mask (B, T) true where real, into latents (B, D)."""
        B, T = mask.shape
        p = self.config.patch
        x = (x * mask[..., None, None]).flatten(2)  # (B, T, 150)
        x = F.pad(x, (0, 0, 0, -T % p)).view(B, -1, p * ROWS * COLUMNS)  # (B, N, p * 150)
        h = self.embed(x)
        h = torch.cat([self.tokens.expand(B, -1, -1), h], dim=1)  # (B, 2 + N, W)
        h = h + positions(h.shape[1], self.config.width).to(h)
        attend = additive_mask(F.pad(patch_mask(mask, p), (_TOKENS, 0), value=True))
        for layer in self.layers:
            h = layer(h, attend)
        z = self.latent(h[:, 0])  # (B, D)
        return F.normalize(z, dim=-1) if self.config.normalize else z


class MotionDecoder(nn.Module):
    """Latents to windows of any length."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.memory = _between(config.latent, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.features = nn.Linear(config.width, config.patch * ROWS * COLUMNS)

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """Decode latents z (B, D) into features (B, T, 25, 6); mask (B, T) true where frames are wanted."""
        B, T = mask.shape
        p = self.config.patch
        # Unit vectors are scaled to unit variance per coordinate, which is what linear layers are initialised for.
        scale = math.sqrt(self.config.latent) if self.config.normalize else 1.0
        memory = self.memory(z * scale)[:, None]  # (B, 1, W)
        tokens = patch_mask(mask, p)
        h = positions(tokens.shape[1], self.config.width).to(z).expand(B, -1, -1)  # (B, N, W)
        attend = additive_mask(tokens)
        for layer in self.layers:
            h = layer(h, memory, attend)
        return self.features(h).view(B, -1, ROWS, COLUMNS)[:, :T]  # type: ignore[no-any-return]
