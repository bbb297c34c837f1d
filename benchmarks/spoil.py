"""Ways to spoil a file of each kind, so that it is still much like one: for benchmarks.bad_inputs."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import zipfile
from typing import Any

import numpy as np

NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?")
ABSURD = (
    b"-1", b"0", b"nan", b"inf", b"-inf", b"1e309", b"1e-309", b"99999999999999999999", b"0x7fffffff", b"", b"x",
    "١".encode(), b"4294967296", b"-0.0", b"null", b"[]", b"{}", b'"1"', b"true",
)  # fmt: skip
WEIRD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**9, 10**400, 1e308, "", "x", "../../x", "/etc/passwd", "\x00", "\ud800", "a" * 3000, [],
    {}, [[[[]]]], {"a": {"b": 1}}, [None] * 50,
)  # fmt: skip


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut short, bits turned, bytes put in, taken out or repeated."""
    kind, size = rng.randrange(6), len(content)
    at = rng.randrange(max(size, 1))
    data = bytearray(content)
    if kind == 0:
        return content[:at]
    if kind == 1:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            if size:
                data[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
    elif kind == 3:
        del data[at : at + rng.choice((1, 4, 100, 1000))]
    elif kind == 4:
        data[at:at] = data[at : at + rng.choice((4, 100, 2000))] * rng.choice((1, 2, 20))
    else:
        data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80"))
    return bytes(data)


def spoil_text(content: bytes, rng: random.Random) -> bytes:
    """Numbers that are absurd, lines exchanged, repeated or left out; or as `spoil_bytes`."""
    kind = rng.randrange(5)
    if kind == 0:
        return spoil_bytes(content, rng)
    lines = content.split(b"\n")
    # Of a recording most lines are frames: the beginning is as interesting as all the rest.
    at = rng.randrange(len(lines) if rng.random() < 0.5 else min(len(lines), 60))
    if kind in (1, 2):
        found = list(NUMBER.finditer(lines[at]))
        if found:
            match = rng.choice(found)
            lines[at] = lines[at][: match.start()] + rng.choice(ABSURD) + lines[at][match.end() :]
        else:
            words = lines[at].split(b" ")
            words[rng.randrange(len(words))] = rng.choice(ABSURD)
            lines[at] = b" ".join(words)
    elif kind == 3:
        lines[at:at] = lines[at : at + rng.choice((1, 5))] * rng.choice((1, 3, 200))
    else:
        del lines[at : at + rng.choice((1, 2, 10))]
    return b"\n".join(lines)


def spoil_json(value: Any, rng: random.Random) -> Any:
    """A value somewhere in it becomes another, or goes, or a key is one that nobody knows."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            walk(part[key])

    value = json.loads(json.dumps(value))
    walk(value)
    if not places:
        return rng.choice(WEIRD)
    part, key = rng.choice(places)
    if rng.random() < 0.2:
        del part[key]
    elif isinstance(part, dict) and rng.random() < 0.1:
        part[rng.choice(("", "x", "../x", "a" * 3000))] = part.pop(key)
    else:
        part[key] = rng.choice(WEIRD)
    return value


def spoil_npz(content: bytes, rng: random.Random) -> bytes:
    """An array of another type or shape, with absurd values, or whose header lies."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(list(arrays))
    array, kind = arrays[name], rng.randrange(8)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        with contextlib.suppress(ValueError, TypeError):
            arrays[name] = array.astype(rng.choice(("i1", "u8", "f2", "c8", "S3", "U3", "?", ">f4", "M8[s]")))
    elif kind == 2:
        arrays[name] = np.resize(array, rng.choice(((), (0,), (1,), (3, 0), (2, 2, 2), (7, 72), (1, 156, 1), (50, 3))))
    elif kind == 3 and array.dtype.kind == "f" and array.size:
        array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -1e30, 3e38, 1e-40))
    elif kind == 4:
        arrays[name] = np.array(rng.choice(("x", "ä" * 999, b"y", 3, 1e300, "{}", '{"up": 7}', '{"a": 1e999}')))
    elif kind == 5:
        arrays[rng.choice(("betas", "gender", "mclip", "fps", "pose_body", "x/../y"))] = array
    stream = io.BytesIO()
    (np.savez_compressed if rng.random() < 0.5 else np.savez)(stream, **arrays)
    made = stream.getvalue()
    if kind < 6:
        return made
    # The numbers in an array's header, or in the archive's own tables.
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    member = f"{name}.npy"
    parts[member] = (
        NUMBER.sub(lambda match: rng.choice((match[0], rng.choice(ABSURD))), parts[member][:128]) + parts[member][128:]
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for entry_name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(entry_name), part)
    return stream.getvalue()


def spoil_glb(content: bytes, rng: random.Random) -> bytes:
    """A value of the document becomes another, the binary chunk staying as it is."""
    length = int.from_bytes(content[12:16], "little")
    text = json.dumps(spoil_json(json.loads(content[20 : 20 + length]), rng)).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    head = b"glTF" + (2).to_bytes(4, "little") + (20 + len(text) + len(rest)).to_bytes(4, "little")
    return head + len(text).to_bytes(4, "little") + b"JSON" + text + rest


OPERATORS = (
    "ConstantOfShape", "Tile", "Expand", "Range", "Reshape", "MatMul", "Pad", "Loop", "If", "Gather", "Identity",
    "Cast", "Resize", "NonZero", "OneHot", "Concat", "RandomNormal", "EyeLike", "CumSum", "Einsum", "Conv",
)  # fmt: skip
LENGTHS = (0, -1, 1, 2, 7, 10**3, 10**5, 10**7, 10**9, 2**31 - 1, 2**40, -(2**63), 2**63 - 1)


def spoil_onnx(content: bytes, rng: random.Random) -> bytes:
    """Another operator, another input, whole numbers that are absurd, or operators one after another without end."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(content)
    graph, kind = model.graph, rng.randrange(5)
    node = rng.choice(graph.node)
    if kind == 0:
        node.op_type = rng.choice(OPERATORS)
    elif kind == 1:
        names = [name for each in graph.node for name in each.input if name]
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == 2:
        whole = [w for w in graph.initializer if w.data_type == onnx.TensorProto.INT64] or list(graph.initializer)
        weight = rng.choice(whole)
        values = np.array(numpy_helper.to_array(weight))
        if values.size:
            values.flat[rng.randrange(values.size)] = values.dtype.type(rng.choice(LENGTHS[:9]))
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    elif kind == 3:
        attribute = rng.choice(
            [each for item in graph.node for each in item.attribute] or [helper.make_attribute("x", 1)]
        )
        attribute.i = rng.choice(LENGTHS)
    else:
        # What a graph is given grows, and grows.
        name, start = f"grown{rng.random()}", node.input[0]
        counts = rng.choice(([2], [64, 64], [10**4], [10**9], [1, 1, 10**6]))
        graph.initializer.append(numpy_helper.from_array(np.array(counts, np.int64), f"{name}_counts"))
        for place in range(rng.choice((1, 4, 40))):
            operator = rng.choice(("Tile", "Expand", "MatMul"))
            made = helper.make_node(operator, [start, f"{name}_counts"], [f"{name}{place}"])
            if made.op_type == "MatMul":
                made.input[1] = start
            graph.node.insert(list(graph.node).index(node), made)
            start = made.output[0]
        node.input[0] = start
    return bytes(model.SerializeToString())
