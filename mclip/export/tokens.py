"""Taking the token table out of a text tower's graph (mclip.runtime.tokens)."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mclip.pack import WORDS


def cut_table(model: onnx.ModelProto, vocabulary: int) -> tuple[onnx.ModelProto, NDArray[np.float32]] | None:
    """A copy of the graph that takes the rows of its tokens as `words` (B, L, W), and the table (V, W) they are in.

    Its input `ids` stays if it has another use. None for a graph that does not begin with such a table.
    """
    graph = model.graph
    tables = {w.name: w for w in graph.initializer if len(w.dims) == 2 and w.dims[0] >= vocabulary}
    found = [node for node in graph.node if node.op_type == "Gather" and node.input[0] in tables]
    if len(found) != 1 or sum(found[0].input[0] in node.input for node in graph.node) != 1:
        return None
    table = numpy_helper.to_array(tables[found[0].input[0]]).astype(np.float32)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    gather = next(node for node in graph.node if node.output[0] == found[0].output[0])
    graph.initializer.remove(next(weight for weight in graph.initializer if weight.name == gather.input[0]))
    graph.node.remove(gather)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == gather.output[0]:
                node.input[place] = WORDS
    _prune(graph)
    inputs = {item.name: item for item in graph.input}
    words = helper.make_tensor_value_info(WORDS, TensorProto.FLOAT, ["batch", "tokens", table.shape[1]])
    del graph.input[:]
    used = {name for node in graph.node for name in node.input}
    graph.input.extend([words, *(item for name, item in inputs.items() if name in used)])
    return result, table


def _prune(graph: onnx.GraphProto) -> None:
    """Remove the nodes whose results nothing uses any more."""
    wanted = {item.name for item in graph.output}
    for node in reversed(list(graph.node)):  # in the order of a graph, users come after what they use
        if wanted.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            wanted.update(node.input)
