"""The graphs of a pack, out of torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mclip.export.folded import folded
from mclip.nn.model import MotionClip
from mclip.nn.teachers import Teacher
from mclip.pack import TensorSpec
from mclip.runtime.representation import COLUMNS, ROWS

# The first opset with LayerNormalization in one node is 17; the exporter starts at 18.
OPSET = 18


@dataclass(frozen=True, slots=True)
class Exportable:
    """A module of one input, or of two, something and its mask, with what names them.

    file: without suffix; inputs, output: as in the manifest
    sample: draws the first input for a mask (B, L), true where there is something
    longest: largest L it can take, None for any
    scale: how long its results are, in units of the others'
    """

    file: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    sample: Callable[[np.random.Generator, NDArray[np.bool_]], NDArray[np.generic]]
    longest: int | None = None
    scale: float = 1.0

    def draw(self, batch: int, length: int, random: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
        """Random inputs; the first row is full, the others are shorter."""
        length = min(length, self.longest or length)
        mask = np.arange(length)[None] < np.maximum(1, length - 3 * np.arange(batch))[:, None]  # (B, L)
        return (self.sample(random, mask), *(mask.astype(spec.dtype) for spec in self.inputs[1:]))


class _UnitTexts(nn.Module):
    """What a text tower gives, at unit length. (The exporter wants inputs by name.)"""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return F.normalize(self.tower(ids, mask), dim=-1)


class _UnitImages(nn.Module):
    """What an image tower gives, at unit length."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.tower(pixels), dim=-1)


def exportables(
    model: MotionClip, teacher: Teacher | None, vocabulary: int, *, image_tower: bool = False
) -> list[Exportable]:
    """The graphs of a pack: text encoder if there is a teacher, motion encoder, motion decoder and, if wanted, image
    encoder.

    vocabulary: number of token ids. Embeddings have unit length if latents do.
    """
    width = model.config.latent
    frames = TensorSpec(name="mask", dtype="bool", axes=("batch", "frames"))
    motion = TensorSpec(name="features", dtype="float32", axes=("batch", "frames", ROWS, COLUMNS))
    latent = TensorSpec(name="latent", dtype="float32", axes=("batch", width))

    def ids(random: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.generic]:
        return np.where(mask, random.integers(0, vocabulary, mask.shape), 0)

    def features(random: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.generic]:
        return random.standard_normal((*mask.shape, ROWS, COLUMNS)).astype(np.float32)

    def latents(random: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.generic]:
        values = random.standard_normal((len(mask), width)).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return values

    motions = [
        Exportable("motion_encoder", model.encoder, (motion, frames), latent, features),
        Exportable("motion_decoder", model.decoder, (latent, frames), motion, latents),
    ]
    if teacher is None:
        return motions
    size = teacher.image_size
    shorten = model.config.normalize and teacher.norm != 1.0
    scale = 1.0 if shorten else teacher.norm

    def pixels(random: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.generic]:
        return random.integers(0, 256, (len(mask), size, size, 3), dtype=np.uint8)

    graphs = [
        Exportable(
            "text_encoder",
            _UnitTexts(teacher.module) if shorten else teacher.module,
            (
                TensorSpec(name="ids", dtype="int64", axes=("batch", "tokens")),
                TensorSpec(name="mask", dtype="int64", axes=("batch", "tokens")),
            ),
            TensorSpec(name="text_embedding", dtype="float32", axes=("batch", width)),
            ids,
            longest=teacher.max_tokens,
            scale=scale,
        ),
        *motions,
    ]
    if image_tower and teacher.image_module is not None:
        graphs.append(
            Exportable(
                "image_encoder",
                _UnitImages(teacher.image_module) if shorten else teacher.image_module,
                (TensorSpec(name="pixels", dtype="uint8", axes=("batch", size, size, 3)),),
                TensorSpec(name="image_embedding", dtype="float32", axes=("batch", width)),
                pixels,
                longest=1,
                scale=scale,
            )
        )
    return graphs


def to_onnx(item: Exportable) -> onnx.ModelProto:
    """The module as an ONNX graph with fp32 weights inside, any batch and any length.

    The motion graphs are those of mclip.export.folded. The teacher's come from torch, whose new exporter takes ten
    times as long as its old one, but leaves half the nodes: onnxruntime then starts the graph in half the time
    (measured), which every command pays.
    """
    if (model := folded(item.module.eval(), item.inputs, item.output)) is not None:
        return model
    dynamic = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, length in enumerate(spec.axes) if isinstance(length, str)}
        for spec in item.inputs
    )
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")  # about torch's own internals
        program = torch.onnx.export(
            item.module,
            tuple(torch.from_numpy(value) for value in item.draw(2, 37, np.random.default_rng(0))),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic,
            input_names=[spec.name for spec in item.inputs],
            output_names=[item.output.name],
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
    # Where in which Python file a node came from is of no use to a user, and is none of their business.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:], model.graph.value_info[:], model.metadata_props[:]
    for tensor in (*model.graph.input, *model.graph.output):
        del tensor.metadata_props[:]
    for weight in model.graph.initializer:
        del weight.metadata_props[:]
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps exporters from logging about packages they would like to have."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
