"""Makes the bad files beside it: python -m tests.golden.bad.make. What each is refused with is in expected.toml.

All are made by hand from nothing, and CC0. Nothing in them is worth running: where one would call something it is
os.mkdir("harm"), so that a test can see it.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FRAMES = 12
FILES: dict[str, Callable[[], bytes]] = {}


def file(name: str) -> Callable[[Callable[[], bytes | str]], Callable[[], bytes | str]]:
    """Notes how a file is made."""

    def note(function: Callable[[], bytes | str]) -> Callable[[], bytes | str]:
        def content() -> bytes:
            made = function()
            return made.encode() if isinstance(made, str) else made

        FILES[name] = content
        return function

    return note


class Harm:
    """Unpickled, it makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, ("harm",)


# --- .npz ------------------------------------------------------------------------------------------------------------


def npy(values: Any, *, shape: str = "", dtype: str = "") -> bytes:
    """An .npy file; its header may say something else than it holds."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(values))
    content = stream.getvalue()
    if not shape and not dtype:
        return content
    (length,) = struct.unpack("<H", content[8:10])
    header = content[10 : 10 + length].decode("latin1")
    if shape:
        header = header[: header.index("'shape': ") + 9] + shape + ", }"
    if dtype:
        header = header.replace(f"'{np.asarray(values).dtype.str}'", f"'{dtype}'")
    header = header.rstrip().ljust(length - 1) + "\n"
    if len(header) > length:
        header += " " * (-(len(header) + 10) % 64)
    return content[:8] + struct.pack("<H", len(header)) + header.encode("latin1") + content[10 + length :]


def archive(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=9) as made:
        for name, content in entries:
            # Always of the same time.
            made.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def motion(**changes: bytes | None) -> list[tuple[str, bytes]]:
    """The arrays of a motion, some changed or left out."""
    arrays: dict[str, bytes | None] = {
        "poses": npy(np.zeros((FRAMES, 72), np.float32)),
        "trans": npy(np.zeros((FRAMES, 3), np.float32)),
        "mocap_framerate": npy(30.0),
        **changes,
    }
    return [(f"{name}.npy", content) for name, content in arrays.items() if content is not None]


@file("bomb.npz")
def _() -> bytes:
    content = archive(motion(), zipfile.ZIP_DEFLATED)
    at = content.index(b"PK\1\2")
    # The size once unpacked, in the table of contents: 3.9 GB, as much as it can say without more.
    return content[: at + 24] + struct.pack("<I", 3_900_000_000) + content[at + 28 :]


@file("bomb-zip64.npz")
def _() -> bytes:
    content = archive(motion(), zipfile.ZIP_DEFLATED)
    at = content.index(b"PK\1\2")
    name = content[at + 46 : at + 46 + 9]
    extra = struct.pack("<HHQ", 1, 8, 100_000_000_000)  # 100 GB
    head = content[at : at + 24] + b"\xff" * 4 + content[at + 28 : at + 30] + struct.pack("<H", len(extra))
    changed = content[:at] + head + content[at + 32 : at + 46] + name + extra + content[at + 55 :]
    end = changed.index(b"PK\5\6")
    (size,) = struct.unpack("<I", changed[end + 12 : end + 16])
    return changed[: end + 12] + struct.pack("<I", size + len(extra)) + changed[end + 16 :]


@file("zeros.npz")
def _() -> bytes:
    return archive(motion(poses=npy(np.zeros((115_000, 156), np.int8))), zipfile.ZIP_DEFLATED)


@file("shape.npz")
def _() -> bytes:
    return archive(motion(poses=npy(np.zeros(9), shape="(10000000000, 156)")))


@file("negative.npz")
def _() -> bytes:
    return archive(motion(poses=npy(np.zeros(9), shape="(-5, 156)")))


@file("empty-values.npz")
def _() -> bytes:
    return archive(motion(gender=npy(np.zeros(1, "U1"), dtype="<U0", shape="(100000000000,)")))


@file("text.npz")
def _() -> bytes:
    return archive(motion(mclip=npy(np.array("{}"), dtype="<U999999999")))


@file("header.npz")
def _() -> bytes:
    return archive(motion(poses=npy(np.zeros(9), shape="(" * 3000 + ")" * 3000)))


@file("objects.npz")
def _() -> bytes:
    return archive(motion(poses=npy(np.zeros(1), dtype="|O", shape="(1,)")[:128] + pickle.dumps([Harm()])))


@file("pickle.npz")
def _() -> bytes:
    return pickle.dumps(Harm())


@file("lzma.npz")
def _() -> bytes:
    return archive(motion(), zipfile.ZIP_LZMA)


@file("twice.npz")
def _() -> bytes:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return archive([*motion(), *motion()])


@file("directory.npz")
def _() -> bytes:
    content = archive(motion())
    end = content.index(b"PK\5\6")
    return content[: end + 12] + struct.pack("<I", 2_000_000_000) + content[end + 16 :]


@file("nan.npz")
def _() -> bytes:
    return archive(motion(trans=npy(np.full((FRAMES, 3), np.nan))))


@file("records.npz")
def _() -> bytes:
    return archive(motion(poses=npy(np.zeros(FRAMES, [("a", "f4"), ("b", "f4")]))))


@file("slow.npz")
def _() -> bytes:
    arrays = motion(
        poses=npy(np.zeros((50_000, 72), np.int8)),
        trans=npy(np.zeros((50_000, 3), np.int8)),
        mocap_framerate=npy(1.0),
    )
    return archive(arrays, zipfile.ZIP_DEFLATED)


# --- .bvh and .amc ---------------------------------------------------------------------------------------------------

ROOT = "HIERARCHY\nROOT hip\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n"


def bvh(body: str = "}\n", frames: str = "1", time: str = "0.1", values: str = "0\n") -> str:
    return f"{ROOT}{body}MOTION\nFrames: {frames}\nFrame Time: {time}\n{values}"


@file("many-joints.bvh")
def _() -> str:
    return bvh("JOINT a{}" * 1001 + "}\n")


@file("deep.bvh")
def _() -> str:
    return bvh("JOINT a{" * 990 + "}" * 990 + "}\n")


@file("many-channels.bvh")
def _() -> str:
    return bvh().replace("CHANNELS 1 Xrotation", "CHANNELS 5000 " + "Xrotation " * 1000)


@file("many-frames.bvh")
def _() -> str:
    return bvh(frames="1000000")


@file("absurd-frames.bvh")
def _() -> str:
    return bvh(frames="9" * 5000)


@file("long-line.bvh")
def _() -> str:
    return bvh(frames="x" * 12_000).replace("Frame Time", "Nothing")


@file("unfolds.bvh")
def _() -> str:
    return bvh("JOINT a{}" * 700 + "}\n", frames="3000", values="0\n" * 3000)


@file("nan.bvh")
def _() -> str:
    return bvh(values="nan\n")


@file("last-word.bvh")
def _() -> str:
    return bvh(frames="2000", values="0\n" * 1999 + "zero")


@file("braces.bvh")
def _() -> str:
    return "HIERARCHY\n" + "{" * 1200


@file("unfolds.asf")
def _() -> str:
    bones = "".join(f"begin\nname b{i}\nend\n" for i in range(560))
    links = "".join(f"root b{i}\n" for i in range(560))
    return f":root\norder\n:bonedata\n{bones}:hierarchy\n{links}"[:20_000]


@file("unfolds.amc")
def _() -> str:
    return "".join(f"{i % 10}\nb0\n" for i in range(3600))


# --- .glb ------------------------------------------------------------------------------------------------------------

NODES: list[dict[str, Any]] = [{"name": "hip", "children": [1]}, {"name": "knee"}]
# Two times and two places, as float32.
KEYS = np.array([0, 1], np.float32).tobytes() + np.zeros((2, 3), np.float32).tobytes()


def glb(change: Callable[[dict[str, Any]], object] = lambda document: None, binary: bytes = KEYS) -> bytes:
    """A .glb that moves one node, changed."""
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "nodes": [dict(node) for node in NODES],
        "skins": [{"joints": [0, 1]}],
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 8},
            {"buffer": 0, "byteOffset": 8, "byteLength": 24},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 2, "type": "SCALAR"},
            {"bufferView": 1, "componentType": 5126, "count": 2, "type": "VEC3"},
        ],
        "animations": [
            {
                "name": "a",
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "translation"}}],
                "samplers": [{"input": 0, "output": 1}],
            }
        ],
    }
    change(document)
    return container(json.dumps(document, separators=(",", ":")).encode(), binary)


def container(text: bytes, binary: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    head = struct.pack("<5I", 0x46546C67, 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    return head + text + struct.pack("<2I", len(binary), 0x004E4942) + binary


def sparse(component: int, indices: bytes, count: int = 1) -> Callable[[dict[str, Any]], None]:
    """The places become sparse, with indices of this type."""

    def change(document: dict[str, Any]) -> None:
        document["bufferViews"].append({"buffer": 0, "byteOffset": 32, "byteLength": len(indices)})
        document["accessors"][1]["sparse"] = {
            "count": count,
            "indices": {"bufferView": 2, "componentType": component},
            "values": {"bufferView": 1},
        }

    return change


def at(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """One value of the document becomes another."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


GLBS: dict[str, Callable[[], bytes]] = {
    "offset": lambda: glb(at("bufferViews", 1, "byteOffset", value=1_000_000_000)),
    "negative": lambda: glb(at("bufferViews", 1, "byteOffset", value=-8)),
    "stride": lambda: glb(at("bufferViews", 1, "byteStride", value=10**30)),
    "count": lambda: glb(at("accessors", 1, "count", value=999_999_999_999)),
    "unbacked": lambda: glb(at("accessors", 1, value={"componentType": 5126, "count": 10**9, "type": "VEC3"})),
    "component": lambda: glb(at("accessors", 1, "componentType", value=5130)),
    "sparse-float": lambda: glb(sparse(5126, struct.pack("<f", 1.5)), KEYS + struct.pack("<f", 1.5)),
    "sparse-signed": lambda: glb(sparse(5120, b"\x80"), KEYS + b"\x80"),
    "sparse-far": lambda: glb(sparse(5125, struct.pack("<I", 4_000_000_000)), KEYS + b"\xff" * 4),
    "sparse-many": lambda: glb(sparse(5121, b"\0", 9), KEYS + b"\0"),
    "elsewhere": lambda: glb(at("buffers", 0, "uri", value="/etc/passwd")),
    "buffer": lambda: glb(at("bufferViews", 1, "buffer", value=7)),
    "circle": lambda: glb(at("nodes", 1, "children", value=[0])),
    "own-child": lambda: glb(at("nodes", 1, "children", value=[1])),
    "hours": lambda: glb(binary=np.array([0, 1e7], np.float32).tobytes() + KEYS[8:]),
    "nan": lambda: glb(binary=np.array([0, np.nan], np.float32).tobytes() + KEYS[8:]),
    "backwards": lambda: glb(binary=np.array([1, 0], np.float32).tobytes() + KEYS[8:]),
    "deep": lambda: container(b"[" * 1100, b""),
    "big-number": lambda: glb(at("nodes", 0, "translation", value=[10**400, 0, 0])),
    "length": lambda: struct.pack("<5I", 0x46546C67, 2, 0xFFFFFFFF, 0xFFFFFFF0, 0x4E4F534A) + b"{}  ",
    "types": lambda: glb(at("animations", 0, "channels", value=[None, 3, "x"])),
    "extensions": lambda: glb(at("extensionsRequired", value=7)),
    "name": lambda: glb(at("animations", 0, "name", value={"a": [1, 2, 3]})),
}
for _name, _make in GLBS.items():
    FILES[f"{_name}.glb"] = _make


@file("many-animations.glb")
def _() -> bytes:
    def change(document: dict[str, Any]) -> None:
        document["animations"] = document["animations"] * 120

    return glb(change, np.array([0, 600], np.float32).tobytes() + KEYS[8:])


# --- TOML, JSON, CSV, YAML -------------------------------------------------------------------------------------------

FILES |= {
    "deep.toml": lambda: b"name = " + b"[" * 1100,
    "dots.toml": lambda: b"a" + b".a" * 500 + b" = 1\n",
    "hex.toml": lambda: b"name = 0x" + b"f" * 3575,
    "digits.toml": lambda: b"name = " + b"9" * 4400,
    "seed.toml": lambda: b'name = "x"\nseed = 0x' + b"f" * 3575,
    "latin.toml": lambda: b'name = "\xe9"\n',
    "layers.toml": lambda: b'name = "x"\n[model]\nencoder_layers = 16000\n',
    "rig-hex.toml": lambda: b"[joints]\npelvis = 0x" + b"f" * 3575,
    "rig-direction.toml": lambda: b'[joints]\npelvis = "hip"\n[rest]\nhip = [0x' + b"f" * 2000 + b", 0, 0]\n",
    "rig-dots.toml": lambda: b"[joints]\npelvis" + b".a" * 500 + b" = 1\n",
    "deep-labels.json": lambda: b"[" * 1100,
    "digits-labels.json": lambda: b"[" + b"9" * 4400 + b"]",
    "object-labels.json": lambda: b'{"walk": 0}',
    "half-labels.json": lambda: b'["walk", "run", "\\ud800"]',
    "field-labels.csv": lambda: b'label\n"' + b"x" * 4_000 + b"\nwalk\n",
    "quote-labels.csv": lambda: b'label\n"walk\n',
    "long-labels.txt": lambda: b"walk\n" + b"run " * 1000 + b"\n",
    "caption.csv": lambda: b"path,caption\nx.bvh," + b"a" * 4_000 + b"\n",
    "seconds.csv": lambda: b"path,caption,start\nx.bvh,walk," + b"9" * 4400 + b"\n",
    "column.csv": lambda: b"path,caption," + b"x" * 4000 + b"\n",
    "deep.jsonl": lambda: b'{"path": "x", "caption": ' + b"[" * 1100 + b"\n",
    "seconds.jsonl": lambda: b'{"path": "x", "caption": "y", "start": 1' + b"0" * 400 + b"}\n",
    "captions.jsonl": lambda: b'{"path": "x", "caption": ' + b"[" * 500 + b"]" * 500 + b"}\n",
    "deep-prompts.jsonl": lambda: b'{"text": ' + b"[" * 1100 + b"\n",
    "out-prompts.jsonl": lambda: b'{"text": "nods", "out": "../out.npz"}\n{"text": "nods", "out": "/tmp/out.npz"}\n',
    "seconds-prompts.jsonl": lambda: b'{"text": "nods", "seconds": 1' + b"0" * 400 + b"}\n",
    "infinite-prompts.jsonl": lambda: b'{"text": "nods", "seconds": Infinity}\n',
    "list-prompts.jsonl": lambda: b'{"text": ["nods"]}\n',
    "long-prompts.txt": lambda: b"nods " * 1000,
    "latin-prompts.txt": lambda: b"nods\xff\xfe\n",
    "deep-axis.json": lambda: b"[" * 1100,
    "format-axis.json": lambda: b'{"kind": "mclip axis", "format": ' + b"[" * 400 + b"]" * 400 + b"}",
    "classes-number.txt": lambda: b"{}",
    "classes-deep.txt": lambda: b'{"a": ' + b"[" * 1100,
    "classes-twice.txt": lambda: b"walk\nrun\nwalk\n",
}


# --- pictures --------------------------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it is so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


FILES |= {
    "bomb.png": lambda: png(60_000, 60_000, zlib.compress(bytes(1_000_000), 9)),
    "large.png": lambda: png(9_000, 9_000, zlib.compress(bytes(1000))),
    "narrow.png": lambda: png(100_000, 1, zlib.compress(bytes(300_001))),
    "nothing.png": lambda: png(0, 0),
    "cut.png": lambda: png(64, 64, zlib.compress(bytes(100))),
    "gif.gif": lambda: b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",",
    "script.eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(harm) (w) file\n",
}


# --- bodies and checkpoints ------------------------------------------------------------------------------------------


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def smpl(**changes: Any) -> bytes:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {
        "v_template": np.zeros((4, 3)),
        "f": np.array([[0, 1, 2]]),
        "weights": np.eye(4, 24),
        "shapedirs": np.zeros((4, 3, 10)),
        "J_regressor": np.zeros((24, 4)),
        "kintree_table": np.stack([np.array([-1, *PARENTS]), np.arange(24)]),
        **changes,
    }
    np.savez(stream, **arrays)
    return stream.getvalue()


PARENTS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

FILES |= {
    "call.pkl": lambda: pickle.dumps({"v_template": Harm()}, 2),
    "global.pkl": lambda: b"cbuiltins\neval\n(S'1'\ntR.",
    "memo.pkl": lambda: opcodes(b"}", b"r" + struct.pack("<I", 0xFFFFFFF0)),
    "bytes.pkl": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "deep.pkl": lambda: opcodes(b"]" * 1500 + b"a" * 1499),
    "defaults.pkl": lambda: opcodes(
        b"cnumpy.core.multiarray\n_reconstruct\n", b"N}U\x0c__defaults__U\x01x\x85s\x86b0}"
    ),
    "sparse.pkl": lambda: (
        opcodes(
            # {"J_regressor": csc_matrix with a column of 2**40 entries}
            b"}U\x0bJ_regressor",
            b"cscipy.sparse.csc\ncsc_matrix\n)\x81}(",
            b"U\x06_shapeK\x18K\x01\x86U\x04data",
            array_opcodes(np.zeros(1)),
            b"U\x07indices",
            array_opcodes(np.zeros(1, np.int64)),
            b"U\x06indptr",
            array_opcodes(np.array([0, 2**40])),
            b"ubs",
        )
        + b""
    ),
    "not-numbers.npz": lambda: smpl(f=np.array([["a", "b", "c"]])),
    "far-faces.npz": lambda: smpl(f=np.array([[0, 1, 99]])),
    "no-faces.npz": lambda: smpl(f=np.zeros((0, 3), np.int64)),
    "flat.npz": lambda: smpl(kintree_table=np.array(3)),
    "regressor.npz": lambda: smpl(J_regressor_idx=np.array([[0, -9]]), J_regressor_val=np.array([1.0])),
}


def array_opcodes(values: Any) -> bytes:
    """A numpy array as protocol 2 has it."""
    raw = values.tobytes()
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R",
            b"(K\x01K" + bytes([len(values)]) + b"\x85",
            b"cnumpy\ndtype\nU\x02" + values.dtype.str[1:].encode() + b"K\0K\x01\x87R",
            b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb",
            b"\x89U" + bytes([len(raw)]) + raw + b"tb",
        ]
    )


def torch_archive(content: bytes) -> bytes:
    return archive([("archive/data.pkl", content), ("archive/version", b"3\n")])


OPTIONS = "latent_dim: 64\nnum_layers: 1\nnum_frames: 20\n"
FILES |= {
    "official-call/checkpoint.pth.tar": lambda: torch_archive(pickle.dumps({"a": Harm()}, 2)),
    "official-call/opt.yaml": lambda: OPTIONS.encode(),
    "official-laughs/checkpoint.pth.tar": lambda: b"x",
    "official-laughs/opt.yaml": lambda: (
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20))
        + "modeltype: *a19\n"
    ).encode(),
    "official-merge/checkpoint.pth.tar": lambda: b"x",
    "official-merge/opt.yaml": lambda: (
        "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
    ).encode(),
    "official-tag/checkpoint.pth.tar": lambda: b"x",
    "official-tag/opt.yaml": lambda: b'modeltype: !!python/object/apply:os.mkdir ["harm"]\n',
    "official-hex/checkpoint.pth.tar": lambda: b"x",
    "official-hex/opt.yaml": lambda: b"latent_dim: 0x" + b"f" * 3575 + b"\n",
    "official-large/checkpoint.pth.tar": lambda: torch_archive(pickle.dumps({}, 2)),
    "official-large/opt.yaml": lambda: b"latent_dim: 16384\nnum_layers: 64\nnum_frames: 60\nff_size: 16384\n",
    "official-deep/checkpoint.pth.tar": lambda: b"x",
    "official-deep/opt.yaml": lambda: b"a: " + b"[" * 1100,
}
EMPTY_SAFETENSORS = struct.pack("<Q", 2) + b"{}"


def run_state(recipe: dict[str, Any], names: dict[str, str] | None = None) -> bytes:
    import hashlib

    digest = hashlib.sha256(EMPTY_SAFETENSORS).hexdigest()
    hashes = names if names is not None else {"model.safetensors": digest, "optimizer.safetensors": digest}
    return json.dumps({"step": 1, "mclip": "0", "recipe": recipe, "metrics": {}, "sha256": hashes}).encode()


LARGE = {"width": 16384, "feedforward": 16384, "encoder_layers": 8, "decoder_layers": 8, "latent": 24}
for _name, _state in {
    "run-large": lambda: run_state({"name": "x", "model": LARGE}),
    "run-names": lambda: run_state({"name": "x"}, {"/dev/zero": "0" * 64}),
    "run-deep": lambda: b'{"sha256": ' + b"[" * 1100,
    "run-list": lambda: b"[1, 2]",
    "run-weights": lambda: run_state({"name": "x", "model": {"latent": 24, "width": 64, "heads": 2}}),
}.items():
    FILES |= {
        f"{_name}/checkpoint-00000001/state.json": _state,
        f"{_name}/checkpoint-00000001/model.safetensors": lambda: EMPTY_SAFETENSORS,
        f"{_name}/checkpoint-00000001/optimizer.safetensors": lambda: EMPTY_SAFETENSORS,
    }
FILES["curves/curves.csv"] = lambda: b"step,loss\nnan,1\n"
FILES["curves-ragged/curves.csv"] = lambda: b"step,loss\n1,1\n1\n"
FILES["curves-empty/curves.csv"] = lambda: b""


def main() -> None:
    """Write all of them."""
    for name, make in FILES.items():
        (HERE / name).parent.mkdir(exist_ok=True, parents=True)
        (HERE / name).write_bytes(make())


if __name__ == "__main__":
    main()
