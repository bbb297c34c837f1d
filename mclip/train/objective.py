"""The training objective: the weighted sum of the losses to which a recipe gives a weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mclip.body.model import load_body
from mclip.data.dataset import Batch
from mclip.errors import DeviceError
from mclip.nn import losses
from mclip.nn.model import MotionClip
from mclip.nn.rotations import joint_positions
from mclip.nn.vertices import VertexLoss
from mclip.recipe import IMAGE_WEIGHTS, RECONSTRUCTION_WEIGHTS, TEXT_WEIGHTS, LossWeights
from mclip.train.world import World

_ALIGNMENTS = (losses.cosine_loss, losses.mse_loss, losses.cross_entropy_loss)  # TEXT_WEIGHTS, IMAGE_WEIGHTS
_DECODED = ("text_decode", "edit")
# What is said of pairs of neighbouring frames; all other reconstruction losses are of frames.
_OF_PAIRS = ("velocity", "feature_velocity")
_ALONE = World(0, 1, torch.device("cpu"))


class Objective:
    """The losses of a recipe; those without weight are not computed.

    terms: their names, in order, which are those of the weights
    """

    def __init__(self, weights: LossWeights, world: World = _ALONE, precision: str = "fp32") -> None:
        """world: the processes that each have a share of the batch; precision: as in the recipe.

        Raises AssetError when the body of the vertex loss cannot be read, DeviceError for a GPU without bf16.
        """
        if precision == "bf16" and world.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise DeviceError("this GPU has no bf16", 'set optim.precision = "fp32"')
        self.weights, self._world, self._bf16 = weights, world, precision == "bf16"
        order = (*RECONSTRUCTION_WEIGHTS, *TEXT_WEIGHTS, *IMAGE_WEIGHTS, "contrast", *_DECODED)
        self.terms = tuple(name for name in order if getattr(weights, name) > 0)
        self._vertices: VertexLoss | None = None
        if weights.vertices > 0:
            body = load_body(Path(weights.body) if weights.body else None)
            self._vertices = VertexLoss(body, weights.vertex_form, weights.vertex_sample, world.device)

    def __call__(self, model: MotionClip, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses on this process's share of a batch, and its unweighted terms.

        Means over all processes are those of the whole batch.
        """
        features, mask, text = (self._tensor(array) for array in (batch.features, batch.mask, batch.text))
        with self._arithmetic():
            latents = model.encode(features, mask)
        latents = latents.float()
        # One call decodes all there is to decode: latents, captions, edits.
        parts = {"own": (latents, features, mask), **self._decoded(batch, latents, text)}
        sources, targets, masks = (torch.cat(column) for column in zip(*parts.values(), strict=True))
        with self._arithmetic():
            prediction = model.decode(sources, torch.ones_like(masks))
        prediction = prediction.float()
        sizes = [len(source) for source, _, _ in parts.values()]
        errors = dict(zip(parts, self._reconstructions(prediction, targets, masks, sizes), strict=True))

        terms = dict(errors["own"])
        terms |= self._alignments(batch, latents, text)
        for name in _DECODED:
            if name in self.terms:
                terms[name] = self._weighted(errors[name])
        return self._weighted(terms), terms

    def _arithmetic(self) -> torch.autocast:
        """That of the model. Losses are in fp32: in bf16 a joint is placed to the centimetre."""
        return torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._bf16)

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        return torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._world.device)

    def _decoded(self, batch: Batch, latents: Tensor, text: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Latents, features and mask of what else is to be decoded into what."""
        few = len(batch.exemplar)
        parts: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        if "text_decode" in self.terms:
            parts["text_decode"] = text[:few], self._tensor(batch.exemplar), self._tensor(batch.exemplar_mask)
        if "edit" in self.terms:
            rows = self._tensor(np.flatnonzero(batch.has_other))
            moved = losses.edited(latents[:few], text[:few], self._tensor(batch.other_text))[rows]
            parts["edit"] = moved, self._tensor(batch.other)[rows], self._tensor(batch.other_mask)[rows]
        return parts

    def _reconstructions(
        self, prediction: Tensor, target: Tensor, mask: Tensor, sizes: list[int]
    ) -> list[dict[str, Tensor]]:
        """For each of the parts that a batch is made of, the reconstruction losses of its features (B, T, 25, 6)."""
        joints = wanted_joints = None
        if "joints" in self.terms or "velocity" in self.terms:
            joints, wanted_joints = joint_positions(prediction), joint_positions(target)
        parts: list[dict[str, Tensor]] = []
        start = 0
        pairs = mask[:, 1:] & mask[:, :-1]
        counts = [torch.stack([part.sum() for part in torch.split(kind, sizes)]) for kind in (mask, pairs)]
        of_frames, of_pairs = self._world.shares(torch.stack(counts)).unbind()  # (P,) each
        for index, size in enumerate(sizes):
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
            parts.append({n: value * (of_pairs if n in _OF_PAIRS else of_frames)[index] for n, value in part.items()})
        return parts

    def _alignments(self, batch: Batch, latents: Tensor, text: Tensor) -> dict[str, Tensor]:
        """The losses between the whole batch's latents and what they are to be near, the same in all processes."""
        terms: dict[str, Tensor] = {}
        if self.weights.needs_text or self.weights.needs_images:
            latents = self._world.gather(latents)
        if self.weights.needs_text:
            text = self._world.gather(text)
            terms |= self._alignment(TEXT_WEIGHTS, latents, text)
        if self.weights.needs_images:
            image = self._world.gather(self._tensor(batch.image))
            seen = self._world.gather(self._tensor(batch.has_image).to(torch.uint8)).bool()
            terms |= self._alignment(IMAGE_WEIGHTS, latents[seen], image[seen])
        if "contrast" in self.terms:
            label = self._world.gather(self._tensor(batch.label))
            terms["contrast"] = losses.contrast_loss(latents, text, label, self.weights.temperature)
        return terms

    def _alignment(self, names: tuple[str, ...], latents: Tensor, embeddings: Tensor) -> dict[str, Tensor]:
        """The weighted losses between latents (B, D) and embeddings (B, D); zero if there are none of them."""
        return {
            name: loss(latents, embeddings) if len(latents) else latents.sum()
            for name, loss in zip(names, _ALIGNMENTS, strict=True)
            if name in self.terms
        }
