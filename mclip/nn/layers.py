"""What the transformers of this package are built of, batch first."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclip.recipe import ModelConfig


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, W); mask (B, 1, 1, N), 0 where a token may be attended to and -inf where not."""
        B, N, W = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)  # (B, H, N, W/H) each
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(B, 1, N, N), dropout_p=dropout)
        return self.out(y.transpose(1, 2).reshape(B, N, W))  # type: ignore[no-any-return]


class FeedForward(nn.Sequential):
    """Two linear layers around a GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(
            nn.Linear(config.width, config.feedforward),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, config.width),
        )


def positions(length: int, width: int) -> Tensor:
    """Sinusoidal positional encoding (length, width) of Vaswani et al. 2017, section 3.5."""
    at = torch.arange(length)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = at * frequency  # (length, width / 2)
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).view(-1, width)


def patch_mask(mask: Tensor, patch: int) -> Tensor:
    """Tokens (B, N) that hold at least one real frame of mask (B, T)."""
    return F.pad(mask, (0, -mask.shape[1] % patch)).view(mask.shape[0], -1, patch).any(-1)


def additive_mask(mask: Tensor) -> Tensor:
    """A boolean mask (B, N) as what is added to attention scores: (B, 1, 1, N), 0 or -inf."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))[:, None, None]
