"""Command lines with a file or an option that is bad, and the exit codes that are right: for benchmarks.bad_inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.spoil import spoil_bytes, spoil_glb, spoil_json, spoil_npz, spoil_onnx, spoil_text

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"

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
