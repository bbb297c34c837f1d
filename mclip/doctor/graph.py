"""The smallest ONNX graph worth running, y = x x, without the onnx package.

Protocol buffers are (field number, value) pairs: a number, or bytes with their length. The numbers are those of
onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

_FLOAT = 1
_IR_VERSION, _OPSET = 8, 13


def square() -> bytes:
    """A model with input x (2, 2) and output y = x @ x (2, 2), float32."""
    node = _field(1, b"x") + _field(1, b"x") + _field(2, b"y") + _field(4, b"MatMul")
    graph = _field(1, node) + _field(2, b"square") + _field(11, _tensor(b"x")) + _field(12, _tensor(b"y"))
    opset = _field(1, b"") + _field(2, _OPSET)
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, opset)


def _tensor(name: bytes) -> bytes:
    """A ValueInfoProto of a (2, 2) float32 tensor."""
    dimension = _field(1, _field(1, 2))
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, dimension + dimension)))


def _field(number: int, value: int | bytes) -> bytes:
    # All numbers here are below 128, and so one byte.
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value
