"""Graphs derived from the models in mclip.nn, with fewer operations and the same results.

The model in mclip.nn is the definition, and what is trained. For weights that no longer change, part of its arithmetic
can be done once, at export. In either architecture, per attention,

- the key's bias adds the same number to all scores of a query, which a softmax does not see: it is left out;
- the value's bias passes through the softmax unchanged, as weights sum to one: it joins the output's bias;
- the scale of the scores, one over the square root of a head's width, is in the query's weights.

In the paper's architecture

- what the latent adds to every frame of every layer is one matrix for all layers;
- the first layer of the decoder sees positions alone: its queries, keys, values and scores are made once for a batch;
- the encoder's last layer is worked out for the one token that becomes the latent: scores are `(Wk^T q) h`, and what
  they weight is `h` itself, to which the value's weights are applied once.

In the dct architecture

- scale and shift of every decoder layer come from the latent by one matrix, with the affine part of its norms in it.

MiniLM, whose weights a pack stores rounded, keeps them as they are but for the keys' biases and the scale.

A norm before a linear map keeps its affine part: onnxruntime's kernel multiplies by a scale in any case.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mclip.nn import dct, paper
from mclip.nn.layers import FeedForward, SelfAttention
from mclip.nn.teachers import BertLayer, MiniLM
from mclip.pack import TensorSpec
from mclip.recipe import ModelConfig
from mclip.runtime.representation import COLUMNS, ROWS

# The first opset with Gelu as one node; onnxruntime 1.20 knows it.
OPSET = 20
_IR_VERSION = 10
# onnxruntime's own operators, of which MultiHeadAttention is one on every device.
_CONTRIB = "com.microsoft"
_NORM_EPSILON = 1e-5
# Of a slice that goes on to the last.
_END = 2**31 - 1
_DTYPES = {"float32": TensorProto.FLOAT, "bool": TensorProto.BOOL, "int64": TensorProto.INT64}


def folded(module: nn.Module, inputs: tuple[TensorSpec, ...], output: TensorSpec) -> onnx.ModelProto | None:
    """The ONNX graph of a motion encoder, a motion decoder or MiniLM, any batch and length; else None."""
    graph = _Graph()
    x, mask = (spec.name for spec in inputs) if len(inputs) == 2 else ("", "")
    with torch.no_grad():
        if isinstance(module, paper.MotionEncoder):
            result = _paper_encoder(graph, module, x, mask)
        elif isinstance(module, paper.MotionDecoder):
            result = _paper_decoder(graph, module, x, mask)
        elif isinstance(module, dct.MotionEncoder):
            result = _dct_encoder(graph, module, x, mask)
        elif isinstance(module, dct.MotionDecoder):
            result = _dct_decoder(graph, module, x, mask)
        elif isinstance(module, MiniLM):
            result = _minilm(graph, module, x, mask)
        else:
            return None
    return graph.model(inputs, result, output)


class _Graph:
    """Nodes and weights, in the order they are added. Methods take and give names of values."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: int | float | list[int]) -> str:
        """One node of one output."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def split(self, x: str, parts: int, axis: int) -> list[str]:
        names = [f"v{len(self._nodes)}.{part}" for part in range(parts)]
        self._nodes.append(helper.make_node("Split", [x], names, axis=axis, num_outputs=parts))
        return names

    def weight(self, value: Tensor | NDArray[np.generic], dtype: type[np.generic] = np.float32) -> str:
        array = np.asarray(value.detach() if isinstance(value, Tensor) else value, dtype=dtype, order="C")
        name = f"w{len(self._weights)}"
        self._weights[name] = numpy_helper.from_array(array, name)
        return name

    def integers(self, *values: int) -> str:
        return self.weight(np.array(values), np.int64)

    def linear(self, x: str, weight: Tensor, bias: Tensor | None) -> str:
        """x (..., I), weight (O, I), bias (O,) -> (..., O)."""
        y = self.op("MatMul", x, self.weight(weight.T))
        return y if bias is None else self.op("Add", y, self.weight(bias))

    def norm(self, x: str, norm: nn.LayerNorm | int) -> str:
        """A layer norm; with an int, the width, one without an affine part."""
        if isinstance(norm, int):
            return self.op("LayerNormalization", x, self.weight(torch.ones(norm)), axis=-1, epsilon=_NORM_EPSILON)
        return self.op(
            "LayerNormalization", x, self.weight(norm.weight), self.weight(norm.bias), axis=-1, epsilon=norm.eps
        )

    def feedforward(self, x: str, layers: FeedForward) -> str:
        wide, _, _, narrow = layers
        assert isinstance(wide, nn.Linear) and isinstance(narrow, nn.Linear)
        return self.linear(self.op("Gelu", self.linear(x, wide.weight, wide.bias)), narrow.weight, narrow.bias)

    def attention(self, x: str, layer: SelfAttention, mask: str) -> str:
        """x (B, N, W), mask (B, N) int32 -> (B, N, W)."""
        maps = _Attention(layer)
        q, k, v = (
            self.linear(x, maps.query, maps.query_bias),
            self.linear(x, maps.key, None),
            self.linear(x, maps.value, None),
        )
        y = self.op("MultiHeadAttention", q, k, v, "", mask, domain=_CONTRIB, num_heads=layer.heads, scale=1.0)
        return self.linear(y, layer.out.weight, maps.out_bias)

    def model(self, inputs: tuple[TensorSpec, ...], result: str, output: TensorSpec) -> onnx.ModelProto:
        """The whole, with `result` as its only output."""
        self._nodes.append(helper.make_node("Identity", [result], [output.name]))
        graph = helper.make_graph(
            self._nodes, "motion", [_value(spec) for spec in inputs], [_value(output)], list(self._weights.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, _DTYPES[spec.dtype], spec.axes)


class _Attention:
    """The maps of a self-attention, weights (W, W) and biases (W,), folded as the module docstring says."""

    def __init__(self, layer: SelfAttention) -> None:
        width = layer.out.in_features
        scale = 1.0 / math.sqrt(width // layer.heads)
        query, self.key, self.value = layer.qkv.weight.chunk(3)
        query_bias, _, value_bias = layer.qkv.bias.chunk(3)
        self.query, self.query_bias = query * scale, query_bias * scale
        self.out_bias = layer.out.weight @ value_bias + layer.out.bias


def _layers(module: nn.Module) -> list[Any]:
    """The layers of an encoder or decoder; torch does not say of what class they are."""
    assert isinstance(module.layers, nn.ModuleList)
    return list(module.layers)


def _frames(graph: _Graph, x: str) -> str:
    """The length (1,) of x along its second axis."""
    return graph.op("Shape", x, start=1, end=2)


def _fill_patches(graph: _Graph, x: str, axes: int, patch: int) -> str:
    """x (B, T, ...) with zeros after its last frame, until patches are full."""
    if patch == 1:
        return x
    missing = graph.op("Mod", graph.op("Neg", _frames(graph, x)), graph.integers(patch))
    zeros = graph.integers(*[0] * axes)
    pads = graph.op(
        "Concat", zeros, graph.integers(0), missing, *([graph.integers(*[0] * (axes - 2))] * (axes > 2)), axis=0
    )
    return graph.op("Pad", x, pads)


def _tokens(graph: _Graph, mask: str, patch: int) -> str:
    """Tokens (B, N) int32 that hold at least one frame of mask (B, T)."""
    tokens = graph.op("Cast", mask, to=TensorProto.INT32)
    if patch == 1:
        return tokens
    tokens = graph.op("Reshape", _fill_patches(graph, tokens, 2, patch), graph.integers(0, -1, patch))
    return graph.op("ReduceMax", tokens, graph.integers(2), keepdims=0)


def _counted(graph: _Graph, tokens: str) -> str:
    """0 to N - 1, (N, 1) float32, for tokens (B, N)."""
    length = graph.op("Squeeze", _frames(graph, tokens))
    at = graph.op("Range", graph.weight(np.array(0), np.int64), length, graph.weight(np.array(1), np.int64))
    return graph.op("Unsqueeze", graph.op("Cast", at, to=TensorProto.FLOAT), graph.integers(1))


def _positions(graph: _Graph, at: str, width: int) -> str:
    """mclip.nn.layers.positions (N, W) at (N, 1)."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = graph.op("Mul", at, graph.weight(frequency))  # (N, W / 2)
    pairs = [graph.op("Unsqueeze", graph.op(kind, angle), graph.integers(2)) for kind in ("Sin", "Cos")]
    return graph.op("Reshape", graph.op("Concat", *pairs, axis=2), graph.integers(-1, width))


def _cosines(graph: _Graph, at: str, config: ModelConfig) -> str:
    """mclip.nn.dct.cosines, transposed: (N, K) at (N, 1)."""
    order = torch.arange(config.coefficients)
    scale = torch.where(order == 0, 1.0, math.sqrt(2.0))
    middle = graph.op("Add", at, graph.weight(np.array(0.5)))
    angle = graph.op("Mul", middle, graph.weight(order * (math.pi * config.patch / config.period)))
    return graph.op("Mul", graph.op("Cos", angle), graph.weight(scale))


def _embedded(graph: _Graph, x: str, mask: str, embed: nn.Linear, config: ModelConfig) -> str:
    """Tokens (B, N, W) of features (B, T, 25, 6), which count where mask (B, T) is true."""
    real = graph.op("Unsqueeze", graph.op("Cast", mask, to=TensorProto.FLOAT), graph.integers(2))
    x = graph.op("Mul", graph.op("Reshape", x, graph.integers(0, 0, ROWS * COLUMNS)), real)
    if config.patch > 1:
        x = _fill_patches(graph, x, 3, config.patch)
        x = graph.op("Reshape", x, graph.integers(0, -1, config.patch * ROWS * COLUMNS))
    return graph.linear(x, embed.weight, embed.bias)


def _with_tokens(graph: _Graph, h: str, tokens: str, learnt: Tensor, width: int) -> tuple[str, str]:
    """h (B, N, W) and its tokens (B, N) with learnt (n, W) before them, and positions added."""
    count = len(learnt)
    batch = graph.op("Shape", h, start=0, end=1)
    size = graph.op("Concat", batch, graph.integers(count, width), axis=0)
    h = graph.op("Concat", graph.op("Expand", graph.weight(learnt[None]), size), h, axis=1)
    tokens = graph.op("Pad", tokens, graph.integers(0, count, 0, 0), graph.weight(np.array(1), np.int32))
    return graph.op("Add", h, _positions(graph, _counted(graph, tokens), width)), tokens


def _frames_of(graph: _Graph, h: str, mask: str, features: nn.Linear) -> str:
    """Features (B, T, 25, 6) of tokens h (B, N, W)."""
    x = graph.op("Reshape", graph.linear(h, features.weight, features.bias), graph.integers(0, -1, ROWS, COLUMNS))
    return graph.op("Slice", x, graph.integers(0), _frames(graph, mask), graph.integers(1))


def _latent(graph: _Graph, z: str, latent: nn.Module, config: ModelConfig) -> str:
    if isinstance(latent, nn.Linear):
        z = graph.linear(z, latent.weight, latent.bias)
    return graph.op("LpNormalization", z, axis=-1, p=2) if config.normalize else z


def _paper_encoder(graph: _Graph, module: paper.MotionEncoder, x: str, mask: str) -> str:
    config = module.config
    h = _embedded(graph, x, mask, module.embed, config)
    h, tokens = _with_tokens(graph, h, _tokens(graph, mask, config.patch), module.tokens, config.width)
    *layers, last = _layers(module)
    for layer in layers:
        h = graph.norm(graph.op("Add", h, graph.attention(h, layer.attention, tokens)), layer.attention_norm)
        h = graph.norm(graph.op("Add", h, graph.feedforward(h, layer.feedforward)), layer.feedforward_norm)
    first = graph.op("Gather", h, graph.weight(np.array(0), np.int64), axis=1)  # (B, W)
    h = graph.norm(graph.op("Add", first, _pooled(graph, first, h, last.attention, tokens)), last.attention_norm)
    h = graph.norm(graph.op("Add", h, graph.feedforward(h, last.feedforward)), last.feedforward_norm)
    return _latent(graph, h, module.latent, config)


def _pooled(graph: _Graph, first: str, h: str, layer: SelfAttention, tokens: str) -> str:
    """What attention over h (B, N, W) gives its first token alone, itself `first` (B, W): (B, W)."""
    maps, heads = _Attention(layer), layer.heads
    width = layer.out.in_features
    keys = maps.key.view(heads, -1, width)  # (H, W / H, W)
    values = maps.value.view(heads, -1, width).transpose(1, 2)  # (H, W, W / H)
    q = graph.op("Reshape", graph.linear(first, maps.query, maps.query_bias), graph.integers(0, heads, -1))
    q = graph.op("MatMul", graph.op("Transpose", q, perm=[1, 0, 2]), graph.weight(keys))  # (H, B, W)
    scores = graph.op("MatMul", graph.op("Transpose", q, perm=[1, 0, 2]), graph.op("Transpose", h, perm=[0, 2, 1]))
    share = graph.op("Softmax", graph.op("Add", scores, _additive(graph, tokens, 1)), axis=-1)  # (B, H, N)
    pooled = graph.op("Transpose", graph.op("MatMul", share, h), perm=[1, 0, 2])  # (H, B, W)
    y = graph.op("Transpose", graph.op("MatMul", pooled, graph.weight(values)), perm=[1, 0, 2])  # (B, H, W / H)
    return graph.linear(graph.op("Reshape", y, graph.integers(0, width)), layer.out.weight, maps.out_bias)


def _additive(graph: _Graph, tokens: str, axis: int) -> str:
    """Tokens (B, N) as what is added to scores, 0 or -inf, with a new axis, or several from `axis` on."""
    real = graph.op("Unsqueeze", graph.op("Cast", tokens, to=TensorProto.BOOL), graph.integers(*range(1, 1 + axis)))
    return graph.op("Where", real, graph.weight(np.array(0.0)), graph.weight(np.array(-np.inf)))


def _paper_decoder(graph: _Graph, module: paper.MotionDecoder, z: str, mask: str) -> str:
    config = module.config
    tokens = _tokens(graph, mask, config.patch)
    shifts = _shifts(graph, module, z)  # (B, 1, W) for each layer
    h = _positions(graph, _counted(graph, tokens), config.width)  # (N, W)
    for number, (layer, shift) in enumerate(zip(_layers(module), shifts, strict=True)):
        attended = (
            graph.attention(h, layer.attention, tokens) if number else _of_positions(graph, h, layer.attention, tokens)
        )
        h = graph.norm(graph.op("Add", attended, h), layer.attention_norm)  # (B, N, W) from here on
        h = graph.norm(graph.op("Add", h, shift), layer.memory_norm)
        h = graph.norm(graph.op("Add", h, graph.feedforward(h, layer.feedforward)), layer.feedforward_norm)
    return _frames_of(graph, h, mask, module.features)


def _shifts(graph: _Graph, module: paper.MotionDecoder, z: str) -> list[str]:
    """What the latent adds to every frame in each layer, (B, 1, W)."""
    config = module.config
    weights, biases = [], []
    for layer in _layers(module):
        value, out = layer.memory
        weight, bias = out.weight @ value.weight, out.weight @ value.bias + out.bias
        if isinstance(module.memory, nn.Linear):
            weight, bias = weight @ module.memory.weight, weight @ module.memory.bias + bias
        weights.append(weight * (math.sqrt(config.latent) if config.normalize else 1.0))
        biases.append(bias)
    shifts = graph.op("Unsqueeze", graph.linear(z, torch.cat(weights), torch.cat(biases)), graph.integers(1))
    return graph.split(shifts, len(weights), axis=2) if len(weights) > 1 else [shifts]


def _of_positions(graph: _Graph, h: str, layer: SelfAttention, tokens: str) -> str:
    """Attention over h (N, W), the same for all of a batch but for what tokens (B, N) leave out: (B, N, W)."""
    maps, heads = _Attention(layer), layer.heads
    width = layer.out.in_features
    by_head = graph.integers(0, heads, width // heads)
    q, k, v = (
        graph.op("Transpose", graph.op("Reshape", y, by_head), perm=perm)
        for y, perm in (
            (graph.linear(h, maps.query, maps.query_bias), [1, 0, 2]),
            (graph.linear(h, maps.key, None), [1, 2, 0]),
            (graph.linear(h, maps.value, None), [1, 0, 2]),
        )
    )
    scores = graph.op("Add", graph.op("MatMul", q, k), _additive(graph, tokens, 2))  # (B, H, N, N)
    y = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), v)  # (B, H, N, W / H)
    y = graph.op("Reshape", graph.op("Transpose", y, perm=[0, 2, 1, 3]), graph.integers(0, 0, width))
    return graph.linear(y, layer.out.weight, maps.out_bias)


def _dct_encoder(graph: _Graph, module: dct.MotionEncoder, x: str, mask: str) -> str:
    config = module.config
    real = _tokens(graph, mask, config.patch)
    h = _embedded(graph, x, mask, module.embed, config)
    h, tokens = _with_tokens(graph, h, real, module.token, config.width)
    for layer in _layers(module):
        h = graph.op("Add", h, graph.attention(graph.norm(h, layer.attention_norm), layer.attention, tokens))
        h = graph.op("Add", h, graph.feedforward(graph.norm(h, layer.feedforward_norm), layer.feedforward))
    h = graph.norm(h, module.norm)
    first, rest = (
        graph.op("Slice", h, graph.integers(start), graph.integers(stop), graph.integers(1))
        for start, stop in ((0, 1), (1, _END))
    )
    series = graph.op("Transpose", _cosines(graph, _counted(graph, real), config), perm=[1, 0])  # (K, N)
    series = graph.op("Mul", series, graph.weight(np.array(config.patch / config.period)))
    used = graph.op("Unsqueeze", graph.op("Cast", real, to=TensorProto.FLOAT), graph.integers(1))  # (B, 1, N)
    transform = graph.op("MatMul", graph.op("Mul", series, used), rest)  # (B, K, W)
    read = graph.op("Concat", first, transform, axis=1)
    read = graph.op("Reshape", read, graph.integers(0, (1 + config.coefficients) * config.width))
    return _latent(graph, read, module.latent, config)


def _dct_decoder(graph: _Graph, module: dct.MotionDecoder, z: str, mask: str) -> str:
    config, width = module.config, module.config.width
    scale = math.sqrt(config.latent) if config.normalize else 1.0
    tokens = _tokens(graph, mask, config.patch)
    at = _counted(graph, tokens)
    memory = graph.linear(z, module.memory.weight * scale, module.memory.bias)
    memory = graph.op("Unsqueeze", memory, graph.integers(1))  # (B, 1, W)
    series = graph.linear(z, module.series.weight * scale, module.series.bias)
    series = graph.op("Reshape", series, graph.integers(0, config.coefficients, width))
    h = _positions(graph, at, width)
    h = graph.op("Add", graph.op("Add", graph.op("Mul", h, memory), h), memory)  # (B, N, W)
    h = graph.op("Add", h, graph.op("MatMul", _cosines(graph, at, config), series))
    weights, biases = zip(*(_modulation(layer) for layer in _layers(module)), strict=True)
    parts = iter(graph.split(graph.linear(memory, torch.cat(weights), torch.cat(biases)), 4 * len(weights), axis=2))
    for layer in _layers(module):
        y = graph.op("Add", graph.op("Mul", graph.norm(h, width), next(parts)), next(parts))
        h = graph.op("Add", h, graph.attention(y, layer.attention, tokens))
        y = graph.op("Add", graph.op("Mul", graph.norm(h, width), next(parts)), next(parts))
        h = graph.op("Add", h, graph.feedforward(y, layer.feedforward))
    return _frames_of(graph, graph.norm(h, module.norm), mask, module.features)


def _modulation(layer: dct.DecoderLayer) -> tuple[Tensor, Tensor]:
    """Weight (4 W, W) and bias (4 W,) of scale and shift after both norms, whose affine part is in them.

    `(g n + b) (1 + s) + t` is `n g (1 + s) + b (1 + s) + t`, n being normalised and s and t linear in the latent.
    """
    weights, biases = [], []
    maps = zip(layer.modulation.weight.chunk(4), layer.modulation.bias.chunk(4), strict=True)
    for norm in (layer.attention_norm, layer.feedforward_norm):
        (scale, scale_bias), (shift, shift_bias) = next(maps), next(maps)
        weights += [norm.weight[:, None] * scale, norm.bias[:, None] * scale + shift]
        biases += [norm.weight * (1 + scale_bias), norm.bias * (1 + scale_bias) + shift_bias]
    return torch.cat(weights), torch.cat(biases)


def _minilm(graph: _Graph, module: MiniLM, ids: str, mask: str) -> str:
    at = graph.op("Cast", graph.op("Squeeze", _counted(graph, ids), graph.integers(1)), to=TensorProto.INT64)
    words, positions = (
        graph.op("Gather", graph.weight(table.weight), rows, axis=0)
        for table, rows in ((module.words, ids), (module.positions, at))
    )
    types = graph.op("Add", positions, graph.weight(module.types.weight[0]))
    h = graph.norm(graph.op("Add", words, types), module.norm)  # (B, L, W)
    tokens = graph.op("Cast", mask, to=TensorProto.INT32)
    for layer in _layers(module):
        h = graph.norm(graph.op("Add", h, _bert_attention(graph, h, layer, tokens)), layer.attention_norm)
        wide = graph.op("Gelu", graph.linear(h, layer.up.weight, layer.up.bias))
        h = graph.norm(graph.op("Add", h, graph.linear(wide, layer.down.weight, layer.down.bias)), layer.out_norm)
    real = graph.op("Unsqueeze", graph.op("Cast", mask, to=TensorProto.FLOAT), graph.integers(1))  # (B, 1, L)
    # The mean's divisor goes with its length.
    return graph.op(
        "LpNormalization", graph.op("Squeeze", graph.op("MatMul", real, h), graph.integers(1)), axis=-1, p=2
    )


def _bert_attention(graph: _Graph, h: str, layer: BertLayer, tokens: str) -> str:
    scale = 1.0 / math.sqrt(layer.query.out_features // layer.heads)
    q = graph.linear(h, layer.query.weight * scale, layer.query.bias * scale)
    k = graph.linear(h, layer.key.weight, None)
    v = graph.linear(h, layer.value.weight, layer.value.bias)
    y = graph.op("MultiHeadAttention", q, k, v, "", tokens, domain=_CONTRIB, num_heads=layer.heads, scale=1.0)
    return graph.linear(y, layer.attention_out.weight, layer.attention_out.bias)
