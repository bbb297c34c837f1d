"""The container of glTF 2.0: chunks, and the numbers that accessors describe.

A .glb is a 12-byte header, a JSON chunk and a binary chunk; accessors in the JSON say where in the binary chunk which
numbers lie. On reading, every index and every offset is checked before it is used.
Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import shown

# A sparse accessor needs no bytes for its values, so the file's size is no limit.
MAX_VALUES = 1_000_000
# MAX_NODES of mclip.formats.glb with tracks for each take some 10 MB; parsed, JSON is up to twenty times as large.
MAX_JSON_BYTES = 32 * 2**20

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_INDICES = (5121, 5123, 5125)
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_CODES = {name: code for code, name in _COMPONENTS.items()}
_KINDS: dict[tuple[int, ...], str] = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
# What a buffer view is for: a mesh's vertices, or its triangles.
ARRAY, ELEMENTS = 34962, 34963


class MalformedError(Exception):
    """What is wrong in a file; who knows its path says where."""


class GltfBuilder:
    """A .glb in the making: `document` is filled by the caller, the binary chunk by `add`."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {"bufferViews": [], "accessors": []}
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, values: NDArray[Any], *, target: int | None = None, bounds: bool = False) -> int:
        """The index of a new accessor for values (count,), (count, width) or (count, 4, 4) of a glTF number type.

        target: ARRAY or ELEMENTS for what a mesh is drawn from; bounds: give least and largest value, where glTF asks.
        """
        kind = _KINDS[values.shape[1:]]
        content = values.astype(values.dtype.newbyteorder("<")).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": self._size, "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        accessor: dict[str, Any] = {
            "bufferView": len(self.document["bufferViews"]),
            "componentType": _CODES[values.dtype.newbyteorder("<").str.replace("|", "<")],
            "count": len(values),
            "type": kind,
        }
        if bounds:
            flat = values.reshape(len(values), -1)
            accessor |= {"min": flat.min(axis=0).tolist(), "max": flat.max(axis=0).tolist()}
        padded = content + bytes(-len(content) % 4)
        self._chunks.append(padded)
        self._size += len(padded)
        self.document["bufferViews"].append(view)
        self.document["accessors"].append(accessor)
        return len(self.document["accessors"]) - 1

    def content(self) -> bytes:
        """The bytes of the file."""
        document = {**self.document, "buffers": [{"byteLength": self._size}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + self._size
        return b"".join(
            [
                struct.pack("<5I", _MAGIC, 2, length, len(text), _JSON),
                text,
                struct.pack("<2I", self._size, _BIN),
                *self._chunks,
            ]
        )


@dataclass(frozen=True, slots=True)
class GltfFile:
    """A .glb's JSON document and binary chunk."""

    document: dict[str, Any]
    binary: bytes

    def item(self, key: str, index: Any) -> dict[str, Any]:
        """document[key][index], an object."""
        items = as_list(self.document, key)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
            raise MalformedError(f"there is no {key}[{shown(index)}]")
        if not isinstance(items[index], dict):
            raise MalformedError(f"{key}[{index}] is no object")
        value: dict[str, Any] = items[index]
        return value

    def accessor(self, index: Any, kind: str) -> NDArray[np.float64]:
        """The values (count, width) of an accessor of the given type. Raises MalformedError."""
        accessor = self.item("accessors", index)
        where = f"accessors[{index}]"
        if accessor.get("type") != kind:
            raise MalformedError(f"{where} is no {kind}")
        count, width = _natural(accessor, "count"), _WIDTHS[kind]
        if not 0 < count <= MAX_VALUES:
            raise MalformedError(f"{where} has {count} values, not 1 to {MAX_VALUES}")
        component = accessor.get("componentType")
        if "bufferView" in accessor:
            values = self._view(accessor, component, count, width, where).copy()
        else:
            values = np.zeros((count, width), _dtype(component, where))
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            changed = _natural(sparse, "count")
            indices, replacements = sparse["indices"], sparse["values"]
            if indices.get("componentType") not in _INDICES or changed > count:
                raise MalformedError(f"{where}: its sparse indices are no whole numbers, or too many")
            at = self._view(indices, indices.get("componentType"), changed, 1, f"{where} sparse indices")[:, 0]
            if changed and int(at.max()) >= count:
                raise MalformedError(f"{where}: a sparse index is {int(at.max())}, there are {count} values")
            values[at] = self._view(replacements, component, changed, width, f"{where} sparse values")
        with np.errstate(invalid="ignore"):  # signalling NaNs, refused below
            result = values.astype(np.float64)
        if accessor.get("normalized") and values.dtype.kind in "iu":
            result = np.maximum(result / np.iinfo(values.dtype).max, -1.0)
        if not np.isfinite(result).all():
            raise MalformedError(f"{where} holds NaN or infinite values")
        return result

    def _view(self, owner: dict[str, Any], component: Any, count: int, width: int, where: str) -> NDArray[Any]:
        """(count, width) values of the buffer view that `owner` (an accessor or half of a sparse one) points to."""
        dtype = _dtype(component, where)
        view = self.item("bufferViews", owner["bufferView"])
        if self.item("buffers", view.get("buffer")).get("uri") is not None or view.get("buffer") != 0:
            raise MalformedError("its data lies in another file; export one .glb")
        start, size = _natural(view, "byteOffset", 0), _natural(view, "byteLength")
        offset, element = _natural(owner, "byteOffset", 0), dtype.itemsize * width
        stride = _natural(view, "byteStride", element)
        if start + size > len(self.binary):
            raise MalformedError(f"{where} lies outside the file's data")
        if stride < element or (count and offset + (count - 1) * stride + element > size):
            raise MalformedError(f"{where} lies outside its buffer view")
        return np.ndarray((count, width), dtype, self.binary, start + offset, (stride, dtype.itemsize))


def parse(content: bytes) -> GltfFile:
    """The chunks of a whole .glb file. Raises MalformedError."""
    if len(content) < 20:
        raise MalformedError("too short for a .glb file")
    magic, version, length, json_length, kind = struct.unpack_from("<5I", content)
    if magic != _MAGIC:
        raise MalformedError("not a .glb file (it does not begin with 'glTF')")
    if version != 2:
        raise MalformedError(f"glTF version {version}; only 2 can be read")
    if length > len(content):
        raise MalformedError(f"cut off: {len(content)} of {length} bytes are there")
    if kind != _JSON or 20 + json_length > length:
        raise MalformedError("the JSON chunk is not where it should be")
    if json_length > MAX_JSON_BYTES:
        raise MalformedError(f"its JSON has {json_length >> 20} MiB, more than {MAX_JSON_BYTES >> 20}")
    try:
        document = json.loads(content[20 : 20 + json_length])
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the JSON chunk cannot be parsed ({error})") from None
    if not isinstance(document, dict):
        raise MalformedError("the JSON chunk holds no object")
    required = [name for name in as_list(document, "extensionsRequired") if isinstance(name, str) and "meshopt" in name]
    if required:
        raise MalformedError(f"compressed with {required[0][:40]}, which cannot be read; export without compression")
    start = 20 + json_length
    if start + 8 > length:
        return GltfFile(document, b"")
    size, kind = struct.unpack_from("<2I", content, start)
    end = start + 8 + size
    if kind != _BIN or end > length:
        raise MalformedError("the binary chunk is cut off or of an unknown kind")
    return GltfFile(document, content[start + 8 : end])


def as_list(owner: dict[str, Any], key: str) -> list[Any]:
    """owner[key], a list; empty when it is not there."""
    value = owner.get(key, [])
    if not isinstance(value, list):
        raise MalformedError(f"'{key}' is no list")
    return value


def _natural(owner: dict[str, Any], key: str, default: int | None = None) -> int:
    value = owner.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MalformedError(f"'{key}' is {shown(value)}, not a whole number")
    return value


def _dtype(component: Any, where: str) -> np.dtype[Any]:
    if not isinstance(component, int) or component not in _COMPONENTS:
        raise MalformedError(f"{where} has the unknown component type {shown(component)}")
    return np.dtype(_COMPONENTS[component])
