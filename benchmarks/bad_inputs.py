"""Bad inputs to all commands: files of tests/golden spoilt in a thousand ways, and options with values of every kind.

    python -m benchmarks.bad_inputs --count 2000 --seed 0

Each is run in a process of its own with a limit on memory and on time. A failure is a traceback, processor time above
10 s, memory above 1 GB, a file outside the output, an exit code that is not of the kind of the input, or with --json a
result that is no JSON. Failures are printed with what makes them again; the last line has the counts.
Training is given recipes and options that it has to refuse; what memory it takes for those it accepts is its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
MAX_SECONDS, MAX_BYTES = 10, 1_000_000_000
# On a busy machine much more time passes than is used.
MAX_WAIT = 120
TRACEBACK, HANG = 70, -signal.SIGPROF

# Arguments that stand for files, in the order in which a shell would find them.
BAD, GOOD = "{bad}", "{good}"


@dataclass(frozen=True, slots=True)
class Case:
    """A command line, the files it is given below the working directory, and the exit codes that are right."""

    line: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...]
    codes: frozenset[int]
    origin: str

    @property
    def digest(self) -> str:
        """What tells it from the others."""
        found = hashlib.sha256(repr(self.line).encode())
        for name, content in self.files:
            found.update(name.encode() + b"\0" + content)
        return found.hexdigest()


# --- spoiling --------------------------------------------------------------------------------------------------------

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


# --- what is given to which command ----------------------------------------------------------------------------------


class Assets:
    """Files in order, made once: `folder` has a motion, a folder of motions, a store, a pack, a run and an axis."""

    def __init__(self, folder: Path) -> None:
        import torch

        from mclip.data.store import read_store
        from mclip.export.pack import Texts, export_pack
        from mclip.formats import save
        from mclip.nn.model import MotionClip
        from mclip.runtime.axis import save_axis
        from mclip.runtime.engine import Engine
        from mclip.train.checkpoint import save_checkpoint
        from tests.fakes import swinging, tiny_recipe, tiny_teacher, write_tiny_store

        self.folder = folder
        motion = swinging("head", 0, seed=1, frames=30)
        motion.save(folder / "good.npz")
        for suffix in (".bvh",):
            save(folder / f"good{suffix}", motion)
        (folder / "library").mkdir()
        for place in range(2):
            swinging("head", place, place).save(folder / "library" / f"{place}.npz")
        (folder / "made").mkdir()
        store = read_store(write_tiny_store(folder / "made"))
        shutil.copy(store.file, folder / "store.h5")
        shutil.rmtree(folder / "made")
        torch.manual_seed(0)
        model = MotionClip(tiny_recipe().model)
        save_checkpoint(folder / "run", model, torch.optim.AdamW(model.parameters()), 5, tiny_recipe(), {})
        texts = Texts(card="# tiny\n", license="CC0-1.0\n")
        pack = export_pack(model.eval(), tiny_recipe(), tiny_teacher(), folder / "pack", texts=texts, store=store)
        save_axis(folder / "axis.json", Engine(pack, "cpu"), "nods", np.ones(24, np.float32), manner=False)
        (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


RECIPE = """name = "tiny"
seed = 3
[data]
store = "store.h5"
window = 20
min_window = 10
speed = [0.8, 1.2]
exclude = ["a"]
[model]
latent = 24
width = 64
heads = 2
[loss]
text = 0.1
[optim]
steps = 1
warmup = 0
lr = 1e-4
"""
RIG = b'name = "own"\n[joints]\npelvis = "pelvis"\nleft_hip = "left_hip"\n[tpose]\npelvis = ["+x", "+y", "+z"]\n'
LABELS = {
    "labels.txt": b"nods\nwaves\nbends\n",
    "labels.csv": b'label,n\nnods,1\n"waves",2\n',
    "labels.json": b'["nods", "waves", "bends"]',
}
CAPTIONS = {
    "captions.csv": b"path,caption,start,end,label,split\n0.npz,nods,0,0.5,nod,train\n1.npz,waves,,,wave,test\n",
    "captions.jsonl": b'{"path": "0.npz", "caption": "nods", "start": 0.1}\n{"path": "1.npz", "caption": "waves"}\n',
}
PROMPTS = {
    "prompts.txt": b"nods\nwaves\n",
    "prompts.jsonl": b'{"text": "nods", "seconds": 0.5, "out": "a.npz"}\n{"text": "waves"}\n',
}
OPTIONS = b"modeltype: motionclip\nlatent_dim: 64\nnum_layers: 1\nnum_frames: 20\nglob: true\nlosses: [rc, vel]\n"
BABEL = (
    b'{"1": {"feat_p": "A/A/0/0_poses.npz", "dur": 1.5, "seq_ann": {"labels": [{"raw_label": "nod", '
    b'"proc_label": "nod", "act_cat": ["nod"]}]}, "frame_ann": null}}'
)
MOTION_COMMANDS = (
    "convert {bad} out/made.npz",
    "convert {bad} out/made.bvh --json",
    "convert {bad} out/made.glb",
    "view {bad} -o out/made.png --frames 1 --size 32 --renderer numpy",
    "view {bad} -o out/made.html",
    "classify {bad} --labels nods,waves --json",
    "search nods {bad} --json",
    "search --like {bad} {good}/library --index out.mclip-index",
    "edit {bad} --add nods -o out/made.npz",
    "edit {good}/good.npz --add {bad} -o out/made.npz --json",
    "interpolate {bad} {good}/good.npz -o out --steps 2",
)
MOTION, TEXT, PACK = frozenset({0, 4}), frozenset({0, 2, 4}), frozenset({0, 6})


def motions(assets: Assets, rng: random.Random) -> Iterator[Case]:
    """Spoilt motion files, in folders too."""
    seeds = {
        path.name: path.read_bytes() for path in GOLDEN.rglob("*") if path.suffix in (".bvh", ".glb", ".npz", ".amc")
    }
    seeds |= {name: assets.read(name) for name in ("good.npz", "good.bvh")} | {"made.npz": assets.read("library/0.npz")}
    asf = {path.stem: path.read_bytes() for path in GOLDEN.rglob("*.asf")}
    names = sorted(seeds)
    while True:
        name = rng.choice(("good.npz", "good.bvh", *names, *names))
        content, suffix = seeds[name], Path(name).suffix
        beside: list[tuple[str, bytes]] = []
        with contextlib.suppress(Exception):
            if suffix == ".npz" and rng.random() < 0.7:
                content = spoil_npz(content, rng)
            elif suffix == ".glb" and rng.random() < 0.7:
                content = spoil_glb(content, rng)
            else:
                content = (spoil_text if suffix in (".bvh", ".amc") else spoil_bytes)(content, rng)
        if suffix == ".amc":
            skeleton = asf.get(Path(name).stem) or next(iter(asf.values()))
            beside.append(("bad.asf", spoil_text(skeleton, rng) if rng.random() < 0.6 else skeleton))
        file = (f"bad{suffix}", content)
        if rng.random() < 0.15:
            line = rng.choice(
                ("preprocess in --no-frames --workers 1 -o out.h5", "classify in --labels nods,waves --json")
            )
            inside = [(f"in/{each}", data) for each, data in (file, *beside)]
            yield case(assets, line, [*inside, ("in/good.npz", seeds["good.npz"])], MOTION, name)
        else:
            # Of several animations one has to be chosen.
            codes = MOTION | {2} if suffix == ".glb" else MOTION
            yield case(assets, rng.choice(MOTION_COMMANDS), [file, *beside], codes, name)


def texts(assets: Assets, rng: random.Random) -> Iterator[Case]:
    """Spoilt recipes, rig tables, labels, captions, prompts, axes and annotations."""
    kinds: list[tuple[str, dict[str, bytes], frozenset[int]]] = [
        ("train {bad} --store {good}/none.h5 -o out/run", {"recipe.toml": RECIPE.encode()}, frozenset({2, 3, 4})),
        ("convert {good}/good.bvh out/made.npz --rig {bad}", {"rig.toml": RIG}, frozenset({2, 4})),
        ("classify {good}/good.npz --json --labels {bad}", LABELS, TEXT),
        ("preprocess {good}/library --no-frames --workers 1 -o out.h5 --labels {bad}", CAPTIONS, TEXT),
        ("generate --json -o out --file {bad}", PROMPTS, frozenset({0, 2})),
        (
            "edit {good}/good.npz -o out/made.npz --axis {bad}",
            {"axis.json": assets.read("axis.json")},
            frozenset({0, 4, 6}),
        ),
        ("evaluate {good}/pack --data {good}/store.h5 --split test --classes {bad}", LABELS, TEXT),
        ("preprocess {good}/library --no-frames --workers 1 -o out.h5 --babel in", {"in/train.json": BABEL}, TEXT),
        ("export in/checkpoint.pth.tar -o out/pack --without-text", {"in/opt.yaml": OPTIONS}, frozenset({4})),
        ("view in -o out/made.html", {"in/curves.csv": b"step,loss\n1,0.5\n2,0.25\n"}, MOTION),
    ]
    while True:
        line, files, codes = rng.choice(kinds)
        name = rng.choice(sorted(files))
        content = files[name]
        if name.endswith(".json") and rng.random() < 0.6:
            content = json.dumps(spoil_json(json.loads(content), rng)).encode()
        else:
            content = spoil_text(content, rng)
        given = [(name if "/" in name else f"bad{Path(name).suffix}", content)]
        if "--babel" in line:
            given.append(("in/val.json", BABEL))
        if "checkpoint" in line:
            given.append(("in/checkpoint.pth.tar", b"PK"))
        yield case(assets, line, given, codes, name)


def corpus(assets: Assets, _: random.Random) -> Iterator[Case]:
    """The hand-made ones, each with the command that expected.toml has for it."""
    for group in tomllib.loads((GOLDEN / "bad" / "expected.toml").read_text(encoding="utf-8"))["commands"]:
        if "{}" not in group["run"]:
            continue
        for name in group["files"]:
            source = GOLDEN / "bad" / name.split("/")[0]
            inside = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else []
            beside = [path for path in source.parent.glob(f"{source.stem}.*") if path.is_file()]
            files = [(path.relative_to(GOLDEN).as_posix(), path.read_bytes()) for path in (*inside, *beside)]
            line = group["run"].replace("{}", f"bad/{name}").replace("evaluate pack", "evaluate {good}/pack")
            for own in ("good.npz", "good.bvh", "store.h5"):
                line = line.replace(f" {own}", f" {{good}}/{own}")
            line = line.replace("preprocess motions", "preprocess {good}/library").replace("out/made.h5", "out.h5")
            yield case(assets, line, files, frozenset({group["code"]}), name)


# What makes a tokenizer BERT's, but for its words.
_ALWAYS = {"SpecialToken": {"id": "[UNK]", "type_id": 0}}
BERT: dict[str, Any] = {
    "added_tokens": [
        {"id": 0, "content": "[UNK]", "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ],
    "normalizer": {"type": "BertNormalizer", "strip_accents": None}
    | dict.fromkeys(("clean_text", "handle_chinese_chars", "lowercase"), True),
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [_ALWAYS, {"Sequence": {"id": "A", "type_id": 0}}, _ALWAYS],
        "pair": [{"Sequence": {"id": name, "type_id": place}} for place, name in enumerate("AB")],
        "special_tokens": {"[UNK]": {"id": "[UNK]", "ids": [0], "tokens": ["[UNK]"]}},
    },
    "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
}


def packs(assets: Assets, rng: random.Random) -> Iterator[Case]:
    """Spoilt packs: the manifest, or a file with a manifest that agrees."""
    whole = {path.name: path.read_bytes() for path in (assets.folder / "pack").iterdir()}
    manifest = json.loads(whole["manifest.json"])
    lines = (
        "generate nods -o out --pack pack --json",
        "classify {good}/good.npz --labels nods,waves --pack pack",
        "evaluate pack --data {good}/store.h5 --split test",
        "interpolate nods waves --steps 2 -o out --pack pack",
    )
    table = json.loads(whole["tokenizer.json"])
    bert = json.dumps({**table, **BERT, "model": {**table["model"], **BERT["model"]}}).encode()
    while True:
        files = dict(whole)
        # Of a kind that is read without the library.
        plain = rng.random() < 0.3
        if plain:
            files["tokenizer.json"] = bert
        if rng.random() < 0.4 and not plain:
            name = "manifest.json"
            changed = spoil_json(manifest, rng)
            files[name] = json.dumps(changed).encode() if rng.random() < 0.8 else spoil_text(whole[name], rng)
        else:
            name = "tokenizer.json" if plain else rng.choice([each for each in whole if each != "manifest.json"])
            with contextlib.suppress(Exception):
                files[name] = (
                    spoil_npz(whole[name], rng)
                    if name.endswith(".npz")
                    else json.dumps(spoil_json(json.loads(files[name]), rng)).encode()
                    if name.endswith(".json") and rng.random() < 0.7
                    else spoil_onnx(whole[name], rng)
                    if name.endswith(".onnx") and rng.random() < 0.7
                    else spoil_bytes(files[name], rng)
                )
            agreed = json.loads(whole["manifest.json"])
            if rng.random() < 0.9:
                agreed["files"][name] = {
                    "size": len(files[name]),
                    "sha256": hashlib.sha256(files[name]).hexdigest(),
                }
            files["manifest.json"] = json.dumps(agreed).encode()
        # A text that the tokenizer has learnt to cut otherwise may be too long; frames may be others.
        given = [(f"pack/{each}", content) for each, content in files.items()]
        yield case(assets, rng.choice(lines), given, PACK | {2, 4}, f"pack/{name}")


def binaries(assets: Assets, rng: random.Random) -> Iterator[Case]:
    """Spoilt stores, bodies, pictures, checkpoints and indices."""
    body = {path.name: path.read_bytes() for path in (GOLDEN / "bad").glob("*.pkl")}
    run = {
        path.relative_to(assets.folder / "run"): path.read_bytes()
        for path in (assets.folder / "run").rglob("*.*")
        if path.is_file()
    }
    store = assets.read("store.h5")
    while True:
        kind = rng.randrange(4)
        if kind == 0:
            line = rng.choice(
                (
                    "evaluate {good}/pack --data {bad} --split test",
                    "export {good}/run -o out/pack --without-text --store {bad}",
                )
            )
            # Its tables are at the beginning and the end; most of it is numbers.
            head = spoil_bytes(store[:8000], rng) + store[8000:] if rng.random() < 0.5 else spoil_bytes(store, rng)
            yield case(assets, line, [("bad.h5", head)], frozenset({0, 2, 4}), "store.h5")
        elif kind == 1:
            name = rng.choice(sorted(body))
            line = "view {good}/good.npz -o out/made.png --frames 1 --size 32 --renderer numpy --body {bad}"
            yield case(assets, line, [("bad.pkl", spoil_bytes(body[name], rng))], frozenset({5}), name)
        elif kind == 2:
            part = rng.choice(sorted(run))
            content = run[part]
            if part.suffix == ".json" and rng.random() < 0.7:
                content = json.dumps(spoil_json(json.loads(content), rng)).encode()
            else:
                content = spoil_bytes(content, rng)
            given = [(f"run/{each}", content if each == part else data) for each, data in run.items()]
            yield case(assets, "export run -o out/pack --without-text", given, MOTION, f"run/{part}")
        else:
            name = "official-call/checkpoint.pth.tar"
            content = spoil_bytes((GOLDEN / "bad" / name).read_bytes(), rng)
            given = [("in/checkpoint.pth.tar", content), ("in/opt.yaml", OPTIONS)]
            yield case(assets, "export in/checkpoint.pth.tar -o out/pack --without-text", given, frozenset({4}), name)


VALUES = (
    "", "-1", "0", "1", "nan", "inf", "1e309", "99999999999999999999", "../../x", "/dev/null", "a" * 300, "é\udcff",
    "--", "x,y", "1:2:3", "0:0:0", "\t\n", "[", "none", "good.npz", ".", "{good}/good.npz", "{good}/pack", "{good}",
)  # fmt: skip
BASES: dict[str, str] = {
    "generate": "generate nods -o out/x.npz",
    "edit": "edit {good}/good.npz --add nods -o out/x.npz",
    "interpolate": "interpolate nods {good}/good.npz -o out",
    "classify": "classify {good}/good.npz --labels nods,waves",
    "search": "search nods {good}/good.npz",
    "view": "view {good}/good.npz -o out/x.png --frames 1 --size 32 --renderer numpy",
    "convert": "convert {good}/good.npz out/x.npz",
    "preprocess": "preprocess {good}/library -o out.h5 --no-frames --workers 1",
    "train": "train {good}/recipe.toml -o out/run --store {good}/none.h5",
    "export": "export {good}/run -o out/pack --without-text",
    "evaluate": "evaluate {good}/pack --data {good}/store.h5 --split test",
}
# What starts programs, opens a window or waits for one; and what takes a day if it is told to.
SKIPPED = {"--open", "--dask", "--install-completion", "--show-completion", "--workers", "--variations", "--version"}
# Where things are written: what would be a file outside of the output then is the output.
SKIPPED |= {"--out", "--index", "--save-axis"}


def options(assets: Assets, rng: random.Random) -> Iterator[Case]:
    """One or two options with values of every kind, on a command line that is right otherwise."""
    import typer.main

    from mclip.cli import app

    group: Any = typer.main.get_command(app)
    known = {name: [p for p in group.get_command(None, name).params if p.name != "help"] for name in BASES}
    while True:
        name = rng.choice(sorted(BASES))
        line = BASES[name].split()
        for _ in range(rng.choice((1, 1, 2))):
            parameter = rng.choice(known[name])
            value = rng.choice(VALUES)
            flags = [flag for flag in parameter.opts if flag.startswith("-")]
            if not flags:
                line.append(value)
            elif not SKIPPED & set(flags):
                line += [flags[-1]] if getattr(parameter, "is_flag", False) else [flags[-1], value]
        if rng.random() < 0.3:
            line.append("--json")
        yield case(assets, line, [], frozenset({0, 2, 3, 4, 5, 6, 7}), "options")


def case(
    assets: Assets, line: str | Sequence[str], files: Sequence[tuple[str, bytes]], codes: frozenset[int], origin: str
) -> Case:
    """A case; {bad} is its first file, {good} the folder of those in order."""
    words = line.split() if isinstance(line, str) else line
    bad = files[0][0] if files else ""
    given = tuple(word.replace(BAD, bad).replace(GOOD, str(assets.folder)) for word in words)
    return Case(given, tuple(files), codes, origin)


SOURCES: tuple[tuple[Callable[[Assets, random.Random], Iterator[Case]], float], ...] = (
    (motions, 0.4),
    (texts, 0.2),
    (packs, 0.15),
    (binaries, 0.1),
    (options, 0.15),
    (corpus, 0.15),
)


# --- running ---------------------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, its size and time of change."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (
            status.st_size if path.is_file() else -1,
            status.st_mtime_ns * path.is_file(),
        )
    return found


def kept(assets: Assets) -> dict[str, tuple[int, int]]:
    """What no command may change: all but the index of a folder that is searched."""
    return {name: state for name, state in snapshot(assets.folder).items() if not name.endswith(".mclip-index")}


def run(case: Case, work: Path) -> tuple[int, int, float]:
    """Exit code (or minus the signal that ended it), bytes of memory at the most, processor time."""
    child = os.fork()
    if child == 0:
        code = TRACEBACK
        try:
            os.chdir(work)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(work.parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
            # More than is allowed, so that what is taken shows; a bomb ends here.
            resource.setrlimit(resource.RLIMIT_AS, (used + 4 * MAX_BYTES,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
            code = command(case.line)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    before = time.monotonic()
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - before > MAX_WAIT:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    return code, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def command(line: Sequence[str]) -> int:
    """`mclip` in this process; its exit code, or TRACEBACK."""
    import traceback

    from mclip.cli import main

    sys.argv = ["mclip", *line]
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", errors="surrogateescape", closefd=False) for number in (1, 2)
    )
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else TRACEBACK
    except BaseException:
        traceback.print_exc()
        return TRACEBACK
    return 0


def judge(case: Case, code: int, peak: int, work: Path, before: dict[str, Any], out: str, err: str) -> list[str]:
    """What is wrong with how it ended."""
    wrong = []
    if code == HANG or code == -signal.SIGKILL:
        wrong.append("hang")
    elif code == TRACEBACK or "Traceback (most recent call last)" in err:
        wrong.append("traceback")
    elif code < 0:
        wrong.append("crash")
    elif code not in case.codes:
        wrong.append("exit code")
    if peak > MAX_BYTES:
        wrong.append("memory")
    after = snapshot(work)
    if any(after.get(name) != state for name, state in before.items() if name.split("/")[0] not in ("out", "out.h5")):
        wrong.append("input changed")
    new = {name for name in after.keys() - before.keys() if not name.startswith("out")}
    # The index of a library lies in it unless told otherwise.
    if {name for name in new if not name.endswith(".mclip-index")}:
        wrong.append("file outside")
    if code != 0 and any(not name.startswith("out.h5.partial") for name in after.keys() - before.keys() - new):
        wrong.append("left behind")
    # What follows "--" is no option.
    options = case.line[: case.line.index("--")] if "--" in case.line else case.line
    if code == 0 and "--json" in options:
        try:
            json.loads(out)
        except ValueError:
            wrong.append("no JSON")
    return wrong


def main() -> None:
    """Make, run and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="how many distinct inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one of " + ", ".join(source.__name__ for source, _ in SOURCES))
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that fail")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        good = folder / "good"
        good.mkdir()
        os.environ["MCLIP_PACK"] = str(good / "pack")
        os.environ["HOME"] = str(folder)
        assets = Assets(good)
        preload()
        counts = attempt(assets, folder, arguments)
    print(json.dumps(counts))
    sys.exit(1 if counts["failures"] else 0)


def preload() -> None:
    """Import what commands import, so that each child has it already."""
    import importlib

    from mclip.cli import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"mclip.cli.{name}")
    for name in (
        "api",
        "export.pack",
        "export.official",
        "evaluate.evaluation",
        "train.loop",
        "view.files",
        "view.preview",
    ):
        importlib.import_module(f"mclip.{name}")


def attempt(assets: Assets, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run distinct cases until there are enough; returns the counts."""
    rng = random.Random(arguments.seed)
    chosen = [(source, share) for source, share in SOURCES if arguments.only in (None, source.__name__)]
    streams = [source(assets, rng) for source, _ in chosen]
    shares = [share for _, share in chosen]
    seen: set[str] = set()
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    refused, failures, most, longest = 0, 0, 0, 0.0
    good = kept(assets)
    while sum(tried.values()) < arguments.count:
        place = rng.choices(range(len(streams)), shares)[0]
        each = next(streams[place], None)
        if each is None:
            shares[place] = 0.0  # all of the corpus was tried
            continue
        if each.digest in seen:
            continue
        seen.add(each.digest)
        work = folder / "work"
        work.mkdir()
        for name, content in each.files:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content)
        before = snapshot(work)
        code, peak, seconds = run(each, work)
        out, err = ((folder / name).read_text(encoding="utf-8", errors="replace") for name in ("stdout", "stderr"))
        problems = judge(each, code, peak, work, before, out, err)
        if kept(assets) != good:
            problems.append("file outside")
            good = kept(assets)
        tried[each.line[0]] += 1
        refused += code != 0
        most, longest = max(most, peak), max(longest, seconds)
        if problems:
            failures += 1
            wrong.update(problems)
            line = " ".join(repr(word) if not word.isprintable() or not word else word for word in each.line)
            how = f"code {code}, {(peak) / 1e6:.0f} MB, {seconds:.1f} s"
            print(f"{', '.join(problems)}: {how}: {each.origin}: mclip {line}")
            print("    " + "\n    ".join(err.strip().splitlines()[-4:]), flush=True)
            if arguments.keep:
                shutil.copytree(work, arguments.keep / f"{failures:04d}-{each.digest[:8]}", symlinks=True)
        shutil.rmtree(work, ignore_errors=True)
    return {
        "benchmark": "bad_inputs",
        "seed": arguments.seed,
        "tried": sum(tried.values()),
        "refused": refused,
        "commands": dict(sorted(tried.items())),
        "failures": failures,
        "kinds": dict(sorted(wrong.items())),
        "most_megabytes": round(most / 1e6),
        "longest_seconds": round(longest, 2),
    }


if __name__ == "__main__":
    main()
