"""The training objective: the weighted sum of the losses to which a recipe gives a weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mclip.body.model import load_body
from mclip.data.dataset import Batch
from mclip.nn import losses
from mclip.nn.model import MotionClip
from mclip.nn.rotations import joint_positions
from mclip.nn.vertices import VertexLoss
from mclip.recipe import IMAGE_WEIGHTS, RECONSTRUCTION_WEIGHTS, TEXT_WEIGHTS, LossWeights

_ALIGNMENTS = (losses.cosine_loss, losses.mse_loss, losses.cross_entropy_loss)  # TEXT_WEIGHTS, IMAGE_WEIGHTS
_DECODED = ("text_decode", "edit")


class Objective:
    """The losses of a recipe; those without weight are not computed.

    terms: their names, in order, which are those of the weights
    """

    def __init__(self, weights: LossWeights) -> None:
        """Raises AssetError when the body of the vertex loss cannot be read."""
        self.weights = weights
        order = (*RECONSTRUCTION_WEIGHTS, *TEXT_WEIGHTS, *IMAGE_WEIGHTS, "contrast", *_DECODED)
        self.terms = tuple(name for name in order if getattr(weights, name) > 0)
        self._vertices: VertexLoss | None = None
        if weights.vertices > 0:
            body = load_body(Path(weights.body) if weights.body else None)
            self._vertices = VertexLoss(body, weights.vertex_form, weights.vertex_sample)

    def __call__(self, model: MotionClip, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses on a batch, and its unweighted terms."""
        features, mask, text = (torch.from_numpy(array) for array in (batch.features, batch.mask, batch.text))
        latents = model.encode(features, mask)
        # One call decodes all there is to decode: latents, captions, edits.
        parts = {"own": (latents, features, mask), **self._decoded(batch, latents, text)}
        sources, targets, masks = (torch.cat(column) for column in zip(*parts.values(), strict=True))
        prediction = model.decode(sources, torch.ones_like(masks))
        sizes = [len(source) for source, _, _ in parts.values()]
        errors = dict(zip(parts, self._reconstructions(prediction, targets, masks, sizes), strict=True))

        terms = dict(errors["own"])
        terms |= self._alignment(TEXT_WEIGHTS, latents, text)
        if self.weights.needs_images:
            seen = torch.from_numpy(np.flatnonzero(batch.has_image))
            terms |= self._alignment(IMAGE_WEIGHTS, latents[seen], torch.from_numpy(batch.image)[seen])
        if "contrast" in self.terms:
            label = torch.from_numpy(batch.label)
            terms["contrast"] = losses.contrast_loss(latents, text, label, self.weights.temperature)
        for name in _DECODED:
            if name in self.terms:
                terms[name] = self._weighted(errors[name]) if name in errors else latents.new_zeros(())
        return self._weighted(terms), terms

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        return torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()

    def _decoded(self, batch: Batch, latents: Tensor, text: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Latents, features and mask of what else is to be decoded into what."""
        few = len(batch.exemplar)
        parts: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        if "text_decode" in self.terms and few:
            parts["text_decode"] = text[:few], torch.from_numpy(batch.exemplar), torch.from_numpy(batch.exemplar_mask)
        if "edit" in self.terms and few:
            rows = torch.from_numpy(np.flatnonzero(batch.has_other))
            moved = losses.edited(latents[:few], text[:few], torch.from_numpy(batch.other_text))[rows]
            parts["edit"] = moved, torch.from_numpy(batch.other)[rows], torch.from_numpy(batch.other_mask)[rows]
        return parts

    def _reconstructions(
        self, prediction: Tensor, target: Tensor, mask: Tensor, sizes: list[int]
    ) -> list[dict[str, Tensor]]:
        """For each of the parts that a batch is made of, the reconstruction losses of its features (B, T, 25, 6)."""
        joints = wanted_joints = None
        if "joints" in self.terms or "velocity" in self.terms:
            joints, wanted_joints = joint_positions(prediction), joint_positions(target)
        parts, start = [], 0
        for size in sizes:
            rows = slice(start, start := start + size)
            made, wanted, valid = prediction[rows], target[rows], mask[rows]
            part: dict[str, Tensor] = {}
            if "rotation" in self.terms:
                part["rotation"] = losses.rotation_loss(made, wanted, valid)
            if "root" in self.terms:
                part["root"] = losses.root_loss(made, wanted, valid)
            if joints is not None and wanted_joints is not None:
                here, there = joints[rows], wanted_joints[rows]
                pose, wanted_pose = here - here[:, :, :1], there - there[:, :, :1]
                if "joints" in self.terms:
                    part["joints"] = losses.position_loss(pose, wanted_pose, valid)
                if "velocity" in self.terms:
                    part["velocity"] = losses.velocity_loss(here, there, valid)
            if "features" in self.terms:
                part["features"] = losses.position_loss(made, wanted, valid)
            if "feature_velocity" in self.terms:
                part["feature_velocity"] = losses.velocity_loss(made, wanted, valid)
            if self._vertices is not None:
                part["vertices"] = self._vertices(made, wanted, valid)
            parts.append(part)
        return parts

    def _alignment(self, names: tuple[str, ...], latents: Tensor, embeddings: Tensor) -> dict[str, Tensor]:
        """The weighted losses between latents (B, D) and embeddings (B, D); zero if there are none of them."""
        return {
            name: loss(latents, embeddings) if len(latents) else latents.sum()
            for name, loss in zip(names, _ALIGNMENTS, strict=True)
            if name in self.terms
        }
