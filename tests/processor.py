"""Arithmetic of the processor that made the golden numbers: torch's float32 kernels for 512-bit vectors.

In what order a sum is taken is up to these kernels, not to the model. Here each step is one IEEE operation, and any
machine computes what that one did. GELU alone is exact here; with the table oneDNN has for 512-bit vectors in its
place, latents, reconstructions, generated features and rotations are the golden ones to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# How MKL cuts long sums: partial sums are added in turn.
_CUTS = {1024: [384, 320, 320]}
_LANES = 16
# Layer norms are computed with vectors half as wide.
_NORM_LANES = 8

_gelu = F.gelu


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a b + c, rounded once: products of float32 are exact in float64."""
    return (a.double() * b.double() + c.double()).float()


def product(a: Tensor, b: Tensor) -> Tensor:
    """a (..., M, K) times b (..., K, N), summed over K in turn."""
    total = torch.zeros(())
    for k in range(a.shape[-1]):
        total = fma(a[..., :, k, None], b[..., None, k, :], total)
    return total


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y, rows = bias, x.reshape(-1, x.shape[-1])
    cuts = _CUTS.get(x.shape[-1], [x.shape[-1]])
    for part, of_weight in zip(torch.split(rows, cuts, dim=1), torch.split(weight, cuts, dim=1), strict=True):
        y = y + product(part, of_weight.T)
    return y.view(*x.shape[:-1], -1)


def layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Mean and variance by Welford's method in each lane, then from lane to lane."""
    vectors = x.reshape(*x.shape[:-1], -1, _NORM_LANES).unbind(-2)
    mean = squares = torch.zeros_like(vectors[0])
    for count, vector in enumerate(vectors, 1):
        delta = vector - mean
        mean = fma(delta, torch.tensor(1.0) / count, mean)
        squares = fma(delta, vector - mean, squares)
    whole, spread = torch.zeros_like(x[..., :1]), torch.zeros_like(x[..., :1])
    for lane in range(_NORM_LANES):
        share = torch.tensor(1.0) / (lane + 1)
        delta = mean[..., lane, None] - whole
        whole = fma(share, delta, whole)
        before = torch.tensor(float(lane * len(vectors)))
        spread = spread + fma(delta * delta * share, before, squares[..., lane, None])
    # MKL's square root of float32 may be off in the last place.
    scale = 1 / (spread / x.shape[-1] + torch.tensor(eps)).double().sqrt().float()
    return fma((x - whole) * scale, weight, bias)


def attention(q: Tensor, k: Tensor, v: Tensor, *, attn_mask: Tensor, dropout_p: float) -> Tensor:
    scores = product(q, k.mT) * torch.tensor(1 / math.sqrt(q.shape[-1])) + attn_mask
    scores = scores - scores.amax(-1, keepdim=True)
    full = scores.shape[-1] // _LANES * _LANES
    # The last ones, which do not fill a vector, are computed and summed one by one.
    weights = torch.cat([quick_exp(scores[..., :full]), scores[..., full:].double().exp().float()], dim=-1)
    lanes = torch.zeros(())
    for vector in torch.split(weights[..., :full], _LANES, dim=-1):
        lanes = lanes + vector
    while lanes.shape[-1] > 1:
        half, other = lanes.chunk(2, dim=-1)
        lanes = half + other
    for rest in torch.split(weights[..., full:], 1, dim=-1):
        lanes = lanes + rest
    return product(weights, v) * (1 / lanes)


def quick_exp(x: Tensor) -> Tensor:
    """torch's exp_u20, good to 20 units in the last place: a polynomial between powers of two."""
    kept = x.clamp(min=-87.33654)
    power = torch.floor(fma(kept, torch.tensor(1.44269504), torch.tensor(0.5)))
    rest = fma(-power, torch.tensor(0.693147182), kept)
    y = torch.tensor(0.00828929059)
    for term in (0.0418978221, 0.166676521, 0.499991506, 0.999999701, 1.0):
        y = fma(rest, y, torch.tensor(term))
    return torch.where(x < kept, 0.0, torch.ldexp(y, power))


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return _gelu(x.double(), approximate=approximate).float()


# What they take the place of in torch.nn.functional.
KERNELS = {"linear": linear, "layer_norm": layer_norm, "scaled_dot_product_attention": attention, "gelu": gelu}
