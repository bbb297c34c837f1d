"""Makes the golden files that are cut from published archives.

    python tests/golden/regenerate.py RAW

RAW holds the unpacked archives (recipes/mini/README.md says where they are from). Writes kaykit/knight.glb: the rig of
the KayKit knight with two of its animations, without meshes, materials and textures.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

ANIMATIONS = ("Idle", "Sit_Chair_Down")


def cut(content: bytes, animations: tuple[str, ...]) -> bytes:
    """A .glb with the skeleton and the named animations of another one, whose numbers are copied as they are."""
    (size,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + size])
    binary = content[28 + size :]
    parent = {child: index for index, node in enumerate(document["nodes"]) for child in node.get("children", [])}
    skin = document["skins"][0]
    kept: set[int] = set()
    for joint in skin["joints"]:
        while joint is not None and joint not in kept:
            kept.add(joint)
            joint = parent.get(joint)
    node = {old: new for new, old in enumerate(sorted(kept))}

    accessors: list[dict[str, Any]] = []
    views: list[dict[str, int]] = []
    numbers: dict[int, int] = {}
    buffer = bytearray()

    def accessor(old: int) -> int:
        """The new number of an accessor, whose bytes are copied the first time it is asked for."""
        if old not in numbers:
            entry = dict(document["accessors"][old])
            view = document["bufferViews"][entry["bufferView"]]
            assert "byteStride" not in view
            start = view.get("byteOffset", 0)
            views.append({"buffer": 0, "byteOffset": len(buffer), "byteLength": view["byteLength"]})
            buffer.extend(binary[start : start + view["byteLength"]])
            buffer.extend(bytes(-len(buffer) % 4))
            accessors.append(entry | {"bufferView": len(views) - 1})
            numbers[old] = len(accessors) - 1
        return numbers[old]

    result = {
        "asset": document["asset"],
        "scene": 0,
        "scenes": [{"nodes": [node[index] for index in document["scenes"][0]["nodes"] if index in node]}],
        "nodes": [
            document["nodes"][old]
            | {"children": [node[child] for child in document["nodes"][old].get("children", []) if child in node]}
            for old in sorted(kept)
        ],
        "skins": [
            {
                "name": skin["name"],
                "joints": [node[joint] for joint in skin["joints"]],
                "inverseBindMatrices": accessor(skin["inverseBindMatrices"]),
            }
        ],
        "animations": [
            {
                "name": animation["name"],
                "samplers": [
                    sampler | {"input": accessor(sampler["input"]), "output": accessor(sampler["output"])}
                    for sampler in animation["samplers"]
                ],
                "channels": [
                    channel | {"target": channel["target"] | {"node": node[channel["target"]["node"]]}}
                    for channel in animation["channels"]
                ],
            }
            for animation in document["animations"]
            if animation["name"] in animations
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(buffer)}],
    }
    # glTF forbids empty lists.
    for entry in result["nodes"]:
        if not entry["children"]:
            del entry["children"]
    text = json.dumps(result, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<5I", 0x46546C67, 2, 28 + len(text) + len(buffer), len(text), 0x4E4F534A)
    return header + text + struct.pack("<2I", len(buffer), 0x004E4942) + bytes(buffer)


if __name__ == "__main__":
    raw, golden = Path(sys.argv[1]), Path(__file__).parent
    (golden / "kaykit" / "knight.glb").write_bytes(cut((raw / "kaykit" / "Knight.glb").read_bytes(), ANIMATIONS))
