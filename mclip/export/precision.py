"""How a graph's weights are stored, and what that costs.

`fp16` and `stored int8`: the weights are stored small and turned back into fp32 when the graph is loaded (onnxruntime
folds the Cast), so that arithmetic is fp32 and the same on every processor. int8 has one scale per output channel of a
matrix and per row of a table. What is multiplied with a matrix is scaled after it: where a graph is run once and its
weights are turned into fp32 in the run, that takes half the time for a short text, and for long ones no more.

`int8`: matrices are multiplied in int8, with scales for the activations found at run time. Faster only on processors
with int8 instructions. Weights use seven bits, because without those instructions pairs of eight-bit products overflow
silently. On 256 test windows of the mini model it moved joints by 16 mm in the mean (stored int8: 4 mm), and decoded
batches of eight 2.1 times as fast as fp16 on a processor with AVX-512 VNNI (the paper's model: 2.7 times).

Tables of word vectors stay inside the graph, and rows are picked from them before they become fp32. In a file of their
own, mapped into memory, CLIP's 49,408 rows would make a pack no smaller (64.0 MB either way in int8, 126.9 MB in fp16),
and a command's first prompt a tenth cheaper (in int8, 0.70 for 0.77 s of processor time): every file of a pack is read
in any case, for its hash.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from mclip.export.graphs import quiet

# Biases, norms and scales are not worth the loss.
_MIN_ELEMENTS = 4096


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph with its large fp32 weights stored as fp16."""
    result = _copy(model)
    for weight, values in _large_weights(result):
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            continue  # out of fp16's range: stays as it is
        name = weight.name
        users = [node for node in result.graph.node if name in node.input]
        _replace(result, weight, half)
        weight.name = f"{name}.fp16"
        if len(users) == 1 and users[0].op_type == "Gather" and users[0].input[0] == name:
            _pick_small(result, users[0], f"{name}.fp16")
        else:
            _first(result, helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT))
    return result


def to_stored_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph with its matrices and tables stored as int8 and scales."""
    result = _copy(model)
    uses = {name: (node, place) for node in result.graph.node for place, name in enumerate(node.input)}
    for weight, values in _large_weights(result):
        node, place = uses[weight.name]
        if values.ndim != 2 or sum(weight.name in other.input for other in result.graph.node) != 1:
            continue
        if node.op_type == "MatMul" and place == 1:
            _store_factor(result, weight, values, node)
        elif node.op_type == "Gemm" and place == 1:
            transposed = any(item.name == "transB" and item.i for item in node.attribute)
            _store_matrix(result, weight, values, axis=1 if transposed else 0)
        elif node.op_type == "Gather" and place == 0:
            _store_table(result, weight, values, node)
    return result


def reduced_table(table: NDArray[np.float32], weights: str) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """A table (V, W) as it is stored with a tower of these weights, values (V, W) and scales (V,)."""
    if weights == "stored int8":
        values, scale = _quantize(table, axis=1)
        return values, scale[:, 0]
    half = weights == "fp16" and float(np.abs(table).max()) < float(np.finfo(np.float16).max)
    return table.astype(np.float16 if half else np.float32), np.ones(len(table), np.float32)


def to_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph that multiplies its matrices in int8; stacks of matrices stay as they are."""
    result = _copy(model)
    stacks = {weight.name for weight in result.graph.initializer if len(weight.dims) > 2}
    excluded = [node for node in result.graph.node if node.op_type == "MatMul" and stacks.intersection(node.input)]
    for number, node in enumerate(excluded):
        node.name = f"stack{number}"
    with quiet(), tempfile.TemporaryDirectory() as folder:  # the function only writes to a path
        path = Path(folder) / "graph.onnx"
        quantize_dynamic(
            result,
            path,
            nodes_to_exclude=[node.name for node in excluded],
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        return onnx.load(path)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def _large_weights(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, NDArray[np.float32]]]:
    for weight in list(model.graph.initializer):
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims, dtype=np.int64) >= _MIN_ELEMENTS:
            yield weight, numpy_helper.to_array(weight)


def _quantize(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Signed int8 and the scales that undo it, one for each line along `axis`."""
    scale = np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-12) / 127.0
    return np.rint(values / scale).astype(np.int8), scale.astype(np.float32)


def _store_matrix(model: onnx.ModelProto, weight: onnx.TensorProto, values: NDArray[np.float32], axis: int) -> None:
    name = weight.name
    small, scale = _quantize(values, axis)
    _replace(model, weight, small)
    weight.name = f"{name}.int8"
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    _first(model, helper.make_node("Mul", [f"{name}.fp32", f"{name}.scale"], [name]))
    _first(model, helper.make_node("Cast", [f"{name}.int8"], [f"{name}.fp32"], to=onnx.TensorProto.FLOAT))


def _store_factor(
    model: onnx.ModelProto, weight: onnx.TensorProto, values: NDArray[np.float32], product: onnx.NodeProto
) -> None:
    """A product's columns are scaled instead of the matrix's: they are few where a text is short."""
    name, output = weight.name, product.output[0]
    small, scale = _quantize(values, axis=0)
    _replace(model, weight, small)
    weight.name = f"{name}.int8"
    model.graph.initializer.append(numpy_helper.from_array(scale[0], f"{name}.scale"))
    product.input[1], product.output[0] = f"{name}.fp32", f"{output}.unscaled"
    place = list(model.graph.node).index(product)
    scaled = helper.make_node("Mul", [f"{output}.unscaled", f"{name}.scale"], [output])
    model.graph.node.insert(place + 1, scaled)
    _first(model, helper.make_node("Cast", [f"{name}.int8"], [f"{name}.fp32"], to=onnx.TensorProto.FLOAT))


def _store_table(
    model: onnx.ModelProto, weight: onnx.TensorProto, values: NDArray[np.float32], gather: onnx.NodeProto
) -> None:
    """Rows are picked while they are int8: the whole table never becomes fp32."""
    name, ids, output = weight.name, gather.input[1], gather.output[0]
    small, scale = _quantize(values, axis=1)
    _replace(model, weight, small)
    weight.name = f"{name}.int8"
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    place = list(model.graph.node).index(gather)
    nodes = [
        helper.make_node("Gather", [f"{name}.int8", ids], [f"{output}.int8"], axis=0),
        helper.make_node("Cast", [f"{output}.int8"], [f"{output}.fp32"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}.scale", ids], [f"{output}.scale"], axis=0),
        helper.make_node("Mul", [f"{output}.fp32", f"{output}.scale"], [output]),
    ]
    model.graph.node.remove(gather)
    for step, node in enumerate(nodes):
        model.graph.node.insert(place + step, node)


def _pick_small(model: onnx.ModelProto, gather: onnx.NodeProto, table: str) -> None:
    """Rows are picked while they are small: the whole table never becomes fp32."""
    output = gather.output[0]
    gather.input[0], gather.output[0] = table, f"{output}.fp16"
    cast = helper.make_node("Cast", [f"{output}.fp16"], [output], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(list(model.graph.node).index(gather) + 1, cast)


def _replace(model: onnx.ModelProto, weight: onnx.TensorProto, values: NDArray[np.generic]) -> None:
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def _first(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    model.graph.node.insert(0, node)
