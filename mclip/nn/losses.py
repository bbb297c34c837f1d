"""Training losses as pure functions of tensors. Weights live in the recipe; sums live in the training loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# What CLIP was trained to (exp of its logit_scale, which its authors kept from rising further).
_CLIP_SCALE = 100.0


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (B, T, ...) over the frames where mask (B, T) is true; a scalar."""
    flat = values.flatten(2).mean(-1)  # (B, T)
    return (flat * mask).sum() / mask.sum().clamp(min=1)


def rotation_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the rotations in features (B, T, 25, 6)."""
    return masked_mean((prediction - target)[:, :, :24].square(), mask)


def root_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Smooth absolute error of the root translation in features (B, T, 25, 6), metres.

    Squared errors of paths would be all that counts: a dash goes ten metres where a wave goes nowhere.
    """
    error = F.smooth_l1_loss(prediction[:, :, 24, :3], target[:, :, 24, :3], beta=0.1, reduction="none")
    return masked_mean(error, mask)


def position_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of points (B, T, N, 3) in square metres per coordinate, or of features (B, T, 25, 6)."""
    return masked_mean((prediction - target).square(), mask)


def velocity_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the frame-to-frame differences of points (B, T, N, 3) or features (B, T, 25, 6)."""
    difference = (prediction[:, 1:] - prediction[:, :-1]) - (target[:, 1:] - target[:, :-1])
    return masked_mean(difference.square(), mask[:, 1:] & mask[:, :-1])


def cosine_loss(latents: Tensor, embeddings: Tensor) -> Tensor:
    """One minus the mean cosine of latents (B, D) and their embeddings (B, D)."""
    return 1.0 - F.cosine_similarity(latents, embeddings, dim=-1).mean()


def mse_loss(latents: Tensor, embeddings: Tensor) -> Tensor:
    """Mean squared difference of latents (B, D) and their embeddings (B, D)."""
    return F.mse_loss(latents, embeddings)


def cross_entropy_loss(latents: Tensor, embeddings: Tensor) -> Tensor:
    """CLIP's own loss of latents (B, D) and their embeddings (B, D), of any lengths: each must find its other.

    Unlike contrast_loss, rows with the same text are to be told apart, as in the original MotionCLIP.
    """
    logits = _CLIP_SCALE * F.normalize(latents, dim=-1) @ F.normalize(embeddings, dim=-1).T  # (B, B)
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))


def contrast_loss(latents: Tensor, embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """InfoNCE in both directions (van den Oord et al. 2018), all pairs of one label being positives.

    latents (B, D) and embeddings (B, D), unit length; labels (B,) integers.
    """
    logits = latents @ embeddings.T / temperature  # (B, B)
    positive = (labels[:, None] == labels[None, :]).to(logits)
    positive = positive / positive.sum(-1, keepdim=True)  # symmetric before this line, so rows serve both ways
    rows = -(positive * F.log_softmax(logits, dim=-1)).sum(-1)
    columns = -(positive * F.log_softmax(logits.T, dim=-1)).sum(-1)
    return 0.5 * (rows.mean() + columns.mean())


def edited(latents: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Latents (B, D) moved from their own caption's embedding to another's, both (B, D), at unit length."""
    return F.normalize(latents + other - own, dim=-1)
