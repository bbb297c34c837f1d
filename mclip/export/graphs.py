"""The three graphs of a pack, out of torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from mclip.nn.model import MotionClip
from mclip.pack import TensorSpec
from mclip.runtime.representation import COLUMNS, ROWS

# The first opset with LayerNormalization in one node is 17; the exporter starts at 18.
OPSET = 18


@dataclass(frozen=True, slots=True)
class Exportable:
    """A module of two inputs, something and its mask, with what names them.

    file: without suffix; inputs, output: as in the manifest
    sample: draws the first input for a mask (B, L), true where there is something
    """

    file: str
    module: nn.Module
    inputs: tuple[TensorSpec, TensorSpec]
    output: TensorSpec
    sample: Callable[[np.random.Generator, NDArray[np.bool_]], NDArray[np.generic]]

    def draw(self, batch: int, length: int, random: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
        """Random inputs; the first row is full, the others are shorter."""
        mask = np.arange(length)[None] < np.maximum(1, length - 3 * np.arange(batch))[:, None]  # (B, L)
        return self.sample(random, mask), mask.astype(self.inputs[1].dtype)


def exportables(model: MotionClip, text_module: nn.Module | None, vocabulary: int) -> list[Exportable]:
    """The graphs of a pack: text encoder if there is one, motion encoder, motion decoder.

    vocabulary: number of token ids
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
    if text_module is None:
        return motions
    return [
        Exportable(
            "text_encoder",
            text_module,
            (
                TensorSpec(name="ids", dtype="int64", axes=("batch", "tokens")),
                TensorSpec(name="mask", dtype="int64", axes=("batch", "tokens")),
            ),
            TensorSpec(name="text_embedding", dtype="float32", axes=("batch", width)),
            ids,
        ),
        *motions,
    ]


def to_onnx(item: Exportable) -> onnx.ModelProto:
    """The module as an ONNX graph with fp32 weights inside, any batch and any length.

    torch's new exporter takes ten times as long as its old one, but leaves half the nodes: onnxruntime then starts the
    graph in half the time (measured), which every command pays.
    """
    dynamic = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, length in enumerate(spec.axes) if isinstance(length, str)}
        for spec in item.inputs
    )
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")  # about torch's own internals
        program = torch.onnx.export(
            item.module.eval(),
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
