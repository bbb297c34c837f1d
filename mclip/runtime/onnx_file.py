"""What an ONNX file is made of, looked at before onnxruntime sees it.

A pack's graphs compute, one operator after another, on weights in the same file. What else the format allows is
refused: weights in other files, operators of other domains, graphs within graphs (loops may never end), functions,
training, sparse weights (a few bytes stand for any amount of memory), and work on weights alone, which onnxruntime does
while it loads a graph and does not let be ended. onnxruntime itself refuses operators that it does not know; what a run
may take is limited by mclip.runtime.limits. The file is a protobuf message:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from mclip.errors import PackError

# onnxruntime's own operators that our graphs have; some of the others read files.
CONTRIB: frozenset[str] = frozenset({"MultiHeadAttention"})
_STANDARD, _CONTRIB_DOMAIN = ("", "ai.onnx"), "com.microsoft"
# What our graphs do to weights alone: unpack them, times a scale. Exporters do the rest.
OF_WEIGHTS: frozenset[str] = frozenset(
    {"Cast", "Constant", "DequantizeLinear", "Identity", "Mul", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
# Ours have some hundreds.
MAX_NODES = 20_000

# Numbers of fields in onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_WEIGHT, _GRAPH_INPUT, _GRAPH_SPARSE = 1, 5, 11, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_DIMS, _TENSOR_NAME, _TENSOR_EXTERNAL = 1, 8, 13
_INPUT_NAME = 1
# How the bytes of a field go on.
_VARINT, _SIZED, _FIXED = 0, 2, {1: 8, 5: 4}
# Of a weight; None if it is not known.
_Shape: TypeAlias = tuple[int, ...] | None


class _Node(NamedTuple):
    operator: str
    inputs: list[str]
    outputs: list[str]


class _RefusedError(Exception):
    """What a graph has that no pack needs."""


def check_graph(content: bytes, name: str) -> None:
    """Raise PackError unless this is an ONNX model of the kind a pack has; name is for the message."""
    try:
        for field, value in _fields(memoryview(content)):
            if field == _MODEL_GRAPH:
                _check_nodes(value)
            elif field in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
                raise _RefusedError("holds functions or training")
    except _RefusedError as error:
        raise PackError(
            f"{name}: {error}, which no pack needs", "re-run mclip export; use no pack that has it"
        ) from None
    except (ValueError, IndexError, TypeError) as error:
        raise PackError(f"{name}: is no ONNX model ({error})", "copy the pack again, or re-run mclip export") from None


def _check_nodes(graph: memoryview) -> None:
    nodes: list[_Node] = []
    weights: dict[str, _Shape] = {"": ()}  # an input that is left out has no name
    known: set[str] = set()
    for field, value in _fields(graph):
        if field == _GRAPH_NODE:
            nodes.append(_check_node(value))
            if len(nodes) > MAX_NODES:
                raise _RefusedError(f"has more than {MAX_NODES} operators")
        elif field == _GRAPH_WEIGHT:
            name, shape = _check_tensor(value)
            weights[name] = shape
        elif field == _GRAPH_INPUT:
            known.update(_text(name) for kind, name in _fields(value) if kind == _INPUT_NAME)
        elif field == _GRAPH_SPARSE:
            raise _RefusedError("holds sparse weights")
    for node in nodes:
        if all(name in weights for name in node.inputs):
            shape = _unpacked(node, [weights[name] for name in node.inputs])
            weights.update(dict.fromkeys(node.outputs, shape))
        elif any(name not in known and name not in weights for name in node.inputs):
            raise _RefusedError("has operators out of order")
        else:
            known.update(node.outputs)


def _unpacked(node: _Node, shapes: list[_Shape]) -> _Shape:
    """The shape of what an operator makes of weights alone, as far as it is followed; refuses what makes them more."""
    if node.operator not in OF_WEIGHTS:
        raise _RefusedError(f"computes {node.operator[:40]} of weights alone")
    if node.operator != "Mul":
        return shapes[0] if node.operator in ("Cast", "DequantizeLinear", "Identity") and shapes else None
    for one, other in (shapes, shapes[::-1]):
        if one is not None and other is not None and len(one) >= len(other):
            if all(have == want or want == 1 for have, want in zip(one[::-1], other[::-1], strict=False)):
                return one
    raise _RefusedError("computes weights that are larger than those it has")


def _check_node(node: memoryview) -> _Node:
    operator = domain = ""
    inputs, outputs = list[str](), list[str]()
    for field, value in _fields(node):
        if field == _NODE_INPUT:
            inputs.append(_text(value))
        elif field == _NODE_OUTPUT:
            outputs.append(_text(value))
        elif field == _NODE_OPERATOR:
            operator = _text(value)
        elif field == _NODE_DOMAIN:
            domain = _text(value)
        elif field == _NODE_ATTRIBUTE:
            for kind, item in _fields(value):
                if kind in _ATTRIBUTE_GRAPHS:
                    raise _RefusedError("has graphs within its graph")
                if kind in _ATTRIBUTE_SPARSE:
                    raise _RefusedError("holds sparse weights")
                if kind in _ATTRIBUTE_TENSORS:
                    _check_tensor(item)
    if domain not in _STANDARD and not (domain == _CONTRIB_DOMAIN and operator in CONTRIB):
        raise _RefusedError(f"has the operator {operator[:40]} of the domain {domain[:40]}")
    return _Node(operator, inputs, outputs)


def _check_tensor(tensor: memoryview) -> tuple[str, _Shape]:
    """The name of a tensor and its shape; refuses one whose data is elsewhere."""
    name, shape = "", list[int]()
    for field, value in _fields(tensor):
        if field == _TENSOR_EXTERNAL:
            raise _RefusedError("refers to data outside the file")
        if field == _TENSOR_NAME:
            name = _text(value)
        elif field == _TENSOR_DIMS:  # one, or several in a row
            at = 0
            while at < len(value):
                length, at = _varint(value, at)
                shape.append(length)
    return name, tuple(shape)


def _text(value: memoryview) -> str:
    return bytes(value).decode(errors="replace")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message by number."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _SIZED:
            size, at = _varint(message, at)
        elif kind == _VARINT:
            size = _varint(message, at)[1] - at
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + size > end:
            raise ValueError("it is cut short")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = message[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")
