"""Transformers that learn motion from hours of it: MotionCLIP's, with time in the latent from the start.

In MotionCLIP's decoder a latent is the same vector for every frame, and frames differ by their positional encoding
alone; what happens over time has to be worked out by products that the layers must first learn, and a short training
stays with poses that hardly move. Here

- tokens exchange a few coefficients of the discrete cosine transform over time with the latent: the encoder's latent
  reads them, the decoder's queries begin as the series they give (as Mao et al., ICCV 2019, section 3.1, write motion);
- the latent scales and shifts what every decoder layer sees (FiLM: Perez et al., AAAI 2018);
- norms come before what they normalise (Xiong et al., ICML 2020);
- an untrained decoder stands at rest.

All else is the paper's: frames in, a token for the latent, queries with sinusoidal positions, one vector between.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclip.nn.layers import FeedForward, SelfAttention, additive_mask, patch_mask, positions
from mclip.recipe import ModelConfig
from mclip.runtime.representation import COLUMNS, ROWS

# One frame at rest: every rotation the identity, in 6D, and no translation.
_REST = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0] * (ROWS - 1) + [0.0] * COLUMNS


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to what it was given (pre-norm)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.feedforward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, W), mask (B, 1, 1, N) -> (B, N, W)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """The same, with the latent's scale and shift after each norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.width, 4 * config.width)
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.feedforward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, W), memory (B, 1, W), mask (B, 1, 1, N) -> (B, N, W)."""
        scale, shift, wide_scale, wide_shift = self.modulation(memory).chunk(4, dim=-1)  # (B, 1, W) each
        y = self.attention_norm(x) * (1 + scale) + shift
        x = x + self.dropout(self.attention(y, mask))
        y = self.feedforward_norm(x) * (1 + wide_scale) + wide_shift
        return x + self.dropout(self.feedforward(y))  # type: ignore[no-any-return]


class MotionEncoder(nn.Module):
    """Windows to latents."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.patch * ROWS * COLUMNS, config.width)
        self.token = nn.Parameter(torch.randn(1, config.width))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = nn.LayerNorm(config.width)
        self.latent = nn.Linear((1 + config.coefficients) * config.width, config.latent)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode features x (B, T, 25, 6), mask (B, T) true where real, into latents (B, D)."""
        B, T = mask.shape
        p = self.config.patch
        x = (x * mask[..., None, None]).flatten(2)  # (B, T, 150)
        x = F.pad(x, (0, 0, 0, -T % p)).view(B, -1, p * ROWS * COLUMNS)  # (B, N, p * 150)
        real = patch_mask(mask, p)  # (B, N)
        h = torch.cat([self.token.expand(B, -1, -1), self.embed(x)], dim=1)  # (B, 1 + N, W)
        h = h + positions(h.shape[1], self.config.width).to(h)
        attend = additive_mask(F.pad(real, (1, 0), value=True))
        for layer in self.layers:
            h = layer(h, attend)
        h = self.norm(h)
        series = cosines(real.shape[1], self.config).to(h) * (p / self.config.period)  # (K, N)
        transform = series @ (h[:, 1:] * real[..., None])  # (B, K, W)
        z = self.latent(torch.cat([h[:, :1], transform], dim=1).flatten(1))
        return F.normalize(z, dim=-1) if self.config.normalize else z


class MotionDecoder(nn.Module):
    """Latents to windows of any length; what lies beyond the period is less sure."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.memory = nn.Linear(config.latent, config.width)
        self.series = nn.Linear(config.latent, config.coefficients * config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.width)
        self.features = nn.Linear(config.width, config.patch * ROWS * COLUMNS)
        with torch.no_grad():
            self.series.weight.mul_(0.2)
            self.features.weight.mul_(0.1)
            self.features.bias.copy_(torch.tensor(_REST).repeat(config.patch))

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """Decode latents z (B, D) into features (B, T, 25, 6); mask (B, T) true where frames are wanted."""
        B, T = mask.shape
        config = self.config
        # Unit vectors are scaled to unit variance per coordinate, which is what linear layers are initialised for.
        z = z * (math.sqrt(config.latent) if config.normalize else 1.0)
        memory = self.memory(z)[:, None]  # (B, 1, W)
        tokens = patch_mask(mask, config.patch)  # (B, N)
        N = tokens.shape[1]
        series = self.series(z).view(B, config.coefficients, config.width)
        h = positions(N, config.width).to(z) * (1 + memory) + memory  # (B, N, W)
        h = h + cosines(N, config).to(z).T @ series
        attend = additive_mask(tokens)
        for layer in self.layers:
            h = layer(h, memory, attend)
        return self.features(self.norm(h)).view(B, -1, ROWS, COLUMNS)[:, :T]  # type: ignore[no-any-return]


def cosines(tokens: int, config: ModelConfig) -> Tensor:
    """The first K functions (K, N) of the discrete cosine transform (DCT-II) over a period, at N tokens.

    Each has mean square one over a period; beyond it they run on, as the period in reverse.
    """
    at = (torch.arange(tokens) + 0.5) * (math.pi * config.patch / config.period)
    order = torch.arange(config.coefficients)
    scale = torch.where(order == 0, 1.0, math.sqrt(2.0))
    return scale[:, None] * torch.cos(order[:, None] * at)
