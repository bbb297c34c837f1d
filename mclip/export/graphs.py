"""The three graphs of a pack, out of torch."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from mclip.nn.model import COLUMNS, ROWS, MotionClip
from mclip.pack import TensorSpec

# The first opset with LayerNormalization in one node is 17; the exporter starts at 18.
OPSET = 18


@dataclass(frozen=True, slots=True)
class Exportable:
    """A module with what names its inputs and outputs.

    file: without suffix; example: inputs of any length, to trace with; inputs, outputs: as in the manifest
    """

    file: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec


def exportables(model: MotionClip, text_module: nn.Module) -> list[Exportable]:
    """The graphs of a pack: text encoder, motion encoder, motion decoder."""
    width = model.config.latent
    ids, tokens = torch.ones(2, 9, dtype=torch.int64), torch.ones(2, 9, dtype=torch.int64)
    features, frames = torch.zeros(2, 37, ROWS, COLUMNS), torch.ones(2, 37, dtype=torch.bool)
    frame_mask = TensorSpec(name="mask", dtype="bool", axes=("batch", "frames"))
    motion = TensorSpec(name="features", dtype="float32", axes=("batch", "frames", ROWS, COLUMNS))
    latent = TensorSpec(name="latent", dtype="float32", axes=("batch", width))
    return [
        Exportable(
            "text_encoder",
            text_module,
            (ids, tokens),
            (
                TensorSpec(name="ids", dtype="int64", axes=("batch", "tokens")),
                TensorSpec(name="mask", dtype="int64", axes=("batch", "tokens")),
            ),
            TensorSpec(name="text_embedding", dtype="float32", axes=("batch", width)),
        ),
        Exportable("motion_encoder", model.encoder, (features, frames), (motion, frame_mask), latent),
        Exportable("motion_decoder", model.decoder, (torch.zeros(2, width), frames), (latent, frame_mask), motion),
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
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # about torch's own internals
        program = torch.onnx.export(
            item.module.eval(),
            item.example,
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


class _quiet:
    """Keeps torch's exporter from logging about packages it would like to have."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)
