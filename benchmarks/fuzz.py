"""Coverage-guided fuzzing of what reads files of others: python -m benchmarks.fuzz READER [--minutes 10] [--out DIR]

Needs atheris (pip install atheris; Linux and macOS). From small files of every kind that a reader takes, libFuzzer
makes others, keeps those that reach new lines, and goes on from them. Files of several parts (the arrays of an .npz,
the chunks of a .glb) are changed part by part and put together again, else nothing would come past their checksums;
JSON is now and then changed as a tree.

A reader may return, or raise a MclipError, within SECONDS of processor time and MEMORY. All else is a finding: any
other exception, any warning. Each kind of finding is kept once, as the smallest file that was found to show it, in
DIR, and the files that reach different lines in DIR/READER. The last line is one JSON object: how many files were
tried, how many edges of the readers' code they reached (mclip's own and the parsers that are Python), and the findings.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mclip.errors import MclipError

SECONDS = 10.0
MEMORY = 1 << 30
MAX_BYTES = 1 << 15
ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
# What is watched: ours, and the parsers below it that are written in Python.
WATCHED = ["mclip", "zipfile", "tomllib", "json", "numpy.lib"]
# Values that parsers tend to forget.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**400, -0.5, 1e39, 1e308, float("nan"), float("inf")),
    *("", "..", "/etc/passwd", "\x00", "\ud800", "a" * 300, [], {}, [[]], [{}], [0, 0, 0], {"a": 1}),
)
_MAX_TRIES = 2000
# Only what is imported under atheris's eyes is watched, this module's own imports too.
_CHILD = f"""
import sys
import atheris
with atheris.instrument_imports(include={WATCHED!r}):
    import benchmarks.fuzz as it, tomllib
    import mclip.formats.bvh, mclip.formats.glb, mclip.formats.tables, mclip.motion, mclip.pack, mclip.recipe
it.fuzz(sys.argv[1], int(sys.argv[2]), it.Path(sys.argv[3]), it.Path(sys.argv[4]))
"""


@dataclass(frozen=True)
class Reader:
    """What is fuzzed. split and join: a file's parts, each of which is changed on its own."""

    suffix: str
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    split: Callable[[bytes], list[bytes]] = lambda content: [content]
    join: Callable[[list[bytes]], bytes] = lambda parts: parts[0]


def _read_motion(path: Path) -> object:
    from mclip.formats import load_all

    return load_all(path)


def _read_npz(path: Path) -> object:
    from mclip.motion import load_npz, summarize

    summarize(path)
    return load_npz(path)


def _read_recipe(path: Path) -> object:
    from mclip.recipe import load_recipe

    return load_recipe(path)


def _read_table(path: Path) -> object:
    from mclip.formats.tables import load_rig_table

    return load_rig_table(path)


def _read_manifest(path: Path) -> object:
    from mclip.pack import manifest_from_json

    return manifest_from_json(path.read_bytes())


def _short_bvh() -> list[bytes]:
    """The first three frames of each."""
    seeds = []
    for path in sorted((GOLDEN / "bvh").glob("*.bvh")):
        head, body = re.split(r"(?<=Frame Time:)", path.read_text(), maxsplit=1)
        lines = body.splitlines()
        seeds.append("\n".join([re.sub(r"Frames:.*", "Frames: 3", head) + lines[0], *lines[1:4], ""]).encode())
    return seeds


def _short_npz() -> list[bytes]:
    """Three frames of a recording in each layout."""
    from mclip.motion import LAYOUTS, load_npz

    motion = load_npz(GOLDEN / "kaykit" / "Cheer.npz").slice(0, 3)
    seeds = []
    with tempfile.TemporaryDirectory() as name:
        for layout in LAYOUTS:
            for up in "yz":
                path = Path(name) / f"{layout}-{up}.npz"
                motion.save(path, layout=layout, up=up)
                seeds.append(path.read_bytes())
    parts: dict[str, Any] = {"root_orient": motion.pose[:, 0], "pose_body": motion.pose[:, 1:22].reshape(3, 63)}
    split = io.BytesIO()
    np.savez(split, trans=motion.transl, mocap_frame_rate=np.array(30), gender=np.array(b"female"), **parts)
    return [*seeds, split.getvalue()]


def _short_glb() -> list[bytes]:
    """A skeleton of SMPL's joints with every kind of track, with a skin and without."""
    from mclip.formats.gltf import GltfBuilder
    from mclip.skeleton.smpl import JOINT_NAMES, PARENTS, REST_JOINTS

    seeds = []
    for skinned in (True, False):
        builder = GltfBuilder()
        nodes: list[dict[str, Any]] = []
        for joint, (name, parent) in enumerate(zip(JOINT_NAMES, PARENTS, strict=True)):
            place = REST_JOINTS[joint] - (REST_JOINTS[parent] if parent >= 0 else 0)
            nodes.append({"name": name, "translation": place.tolist()})
            if parent >= 0:
                nodes[parent].setdefault("children", []).append(joint)
        turn = np.array([[0, 0, 0, 1], [0.6, 0, 0, 0.8], [0, 0.6, 0, 0.8]], np.float32)
        times = builder.add(np.array([0, 0.1, 0.2], np.float32))
        outputs = {
            "LINEAR": builder.add(turn),
            "STEP": builder.add((turn * 127).astype(np.int8)),
            "CUBICSPLINE": builder.add(np.repeat(turn, 3, axis=0)),
        }
        moved = builder.add(REST_JOINTS[:3].astype(np.float32))
        at, put = builder.add(np.array([1], np.uint8)), builder.add(np.ones((1, 3), np.float32))
        document = builder.document
        document["accessors"][outputs["STEP"]]["normalized"] = True
        views = [document["accessors"][index]["bufferView"] for index in (at, put)]
        document["accessors"][moved]["sparse"] = {
            "count": 1,
            "indices": {"bufferView": views[0], "componentType": 5121},
            "values": {"bufferView": views[1]},
        }
        if skinned:
            inverse = np.tile(np.eye(4, dtype=np.float32), (len(nodes), 1, 1))
            inverse[:, 3, :3] = -REST_JOINTS
            joints = list(range(len(nodes)))
            document["skins"] = [{"joints": joints, "inverseBindMatrices": builder.add(inverse)}]
        else:
            nodes[0]["matrix"] = np.eye(4).ravel().tolist()
            del nodes[0]["translation"]
        samplers: list[dict[str, Any]] = [
            {"input": times, "output": output, "interpolation": mode} for mode, output in outputs.items()
        ]
        channels = [{"sampler": n, "target": {"node": n + 3, "path": "rotation"}} for n in range(3)]
        channels.append({"sampler": 3, "target": {"node": 0, "path": "translation"}})
        samplers.append({"input": times, "output": moved})
        document |= {"asset": {"version": "2.0"}, "nodes": nodes}
        document["animations"] = [{"name": "a", "samplers": samplers, "channels": channels, "extras": {"fps": 30}}]
        seeds.append(builder.content())
    return seeds


def _files(*patterns: str) -> list[bytes]:
    return [path.read_bytes() for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def _split_zip(content: bytes) -> list[bytes]:
    """Names and contents in turns."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [part for entry in archive.infolist() for part in (entry.filename.encode(), archive.read(entry))]


def _join_zip(parts: list[bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may come twice
        for name, content in zip(parts[::2], parts[1::2], strict=True):
            # A fixed date: equal parts are equal files.
            archive.writestr(zipfile.ZipInfo(name.decode(errors="replace") or "_"), content)
    return file.getvalue()


def _split_glb(content: bytes) -> list[bytes]:
    length, _ = struct.unpack_from("<2I", content, 12)
    return [content[20 : 20 + length], content[28 + length :]]


def _join_glb(parts: list[bytes]) -> bytes:
    text, binary = (part + bytes([fill]) * (-len(part) % 4) for part, fill in zip(parts, b" \x00", strict=True))
    header = struct.pack("<5I", 0x46546C67, 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    return header + text + struct.pack("<2I", len(binary), 0x004E4942) + binary


READERS: dict[str, Reader] = {
    "bvh": Reader(".bvh", _read_motion, _short_bvh),
    "glb": Reader(".glb", _read_motion, _short_glb, _split_glb, _join_glb),
    "npz": Reader(".npz", _read_npz, _short_npz, _split_zip, _join_zip),
    "recipe": Reader(".toml", _read_recipe, lambda: _files("recipes/*.toml", "recipes/mini/recipe*.toml")),
    "table": Reader(".toml", _read_table, lambda: _files("mclip/formats/rigs/*.toml")),
    "manifest": Reader(".json", _read_manifest, lambda: _files("mclip/packs/mini/manifest.json")),
}


class Finding(Exception):
    """A reader did what it may not. kind: what findings are told apart by."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def attempt(reader: Reader, path: Path) -> bool:
    """Let the reader read a file; whether it could. Raises Finding."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(path)
        read = True
    except MclipError:
        read = False
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "mclip" in frame.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        raise Finding(f"{type(error).__name__} {where}", f"{error}"[:200]) from error
    seconds = time.process_time() - start
    if seconds > SECONDS:
        raise Finding("time", f"{seconds:.1f} s")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10  # kilobytes on Linux
    if grown > MEMORY // 2:
        raise Finding("memory", f"{grown >> 20} MiB")
    return read


def minimise(reader: Reader, content: bytes, shows: Callable[[bytes], bool]) -> bytes:
    """A small file that still shows what `content` does: pieces are left out as long as that can be seen."""
    try:
        parts = reader.split(content)
        if not shows(reader.join(parts)):
            raise ValueError
        join = reader.join
    except Exception:
        parts, join = [content], lambda parts: parts[0]
    tries = 0
    for at in range(len(parts)):
        size = len(parts[at])
        while size and tries < _MAX_TRIES:
            start = 0
            while start < len(parts[at]) and tries < _MAX_TRIES:
                tries += 1
                smaller = [*parts[:at], parts[at][:start] + parts[at][start + size :], *parts[at + 1 :]]
                if shows(join(smaller)):
                    parts = smaller
                else:
                    start += size
            size //= 2
    return join(parts)


def mutated_tree(content: bytes, chance: random.Random) -> bytes:
    """JSON with one value replaced by an odd one or another of the same text, or left out."""
    tree = json.loads(content)
    places: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo:
        owner = todo.pop()
        items = owner.items() if isinstance(owner, dict) else enumerate(owner) if isinstance(owner, list) else ()
        for key, value in items:
            places.append((owner, key))
            todo.append(value)
    if not places:
        return content
    owner, key = chance.choice(places)
    match chance.randrange(3):
        case 0:
            owner[key] = chance.choice(ODD)
        case 1:
            other, place = chance.choice(places)
            owner[key] = json.loads(json.dumps(other[place]))
        case _:
            del owner[key]
    return json.dumps(tree).encode()


def _words(seeds: list[bytes]) -> str:
    """libFuzzer's dictionary: the words of the seeds, and odd numbers."""
    words = {word for seed in seeds for word in re.findall(rb"[A-Za-z_]{3,20}", seed)}
    odd = [b"nan", b"inf", b"-1", b"1e999", b"1e38", b"9223372036854775808", b"true", b"[]", b"{}", b'""', b"\\x00"]
    return "".join(f'"{word.decode()}"\n'.replace('""""', '"\\"\\""') for word in [*sorted(words)[:500], *odd])


def fuzz(name: str, seconds: int, out: Path, scratch: Path) -> None:
    """Fuzz one reader until the time is over; libFuzzer then ends the process."""
    import atheris

    reader, path, known = READERS[name], scratch / f"file{READERS[name].suffix}", set[str]()

    def kind_of(content: bytes) -> str:
        path.write_bytes(content)
        try:
            attempt(reader, path)
        except Finding as finding:
            return finding.kind
        return ""

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            attempt(reader, path)
        except Finding as finding:
            kind = finding.kind
            if kind in known:
                return
            known.add(kind)
            small = minimise(reader, content, lambda other: kind_of(other) == kind)
            kept = out / f"{name}-{hashlib.sha256(small).hexdigest()[:8]}{reader.suffix}"
            kept.write_bytes(small)
            line = {"file": kept.name, "bytes": len(small), "kind": kind, "detail": str(finding)}
            with (out / "findings.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def mutate(content: bytes, limit: int, seed: int) -> bytes:
        chance = random.Random(seed)
        try:
            parts = reader.split(content) if chance.random() < 0.9 else [content]
            join = reader.join if len(parts) > 1 else lambda parts: parts[0]
            at = chance.randrange(len(parts))
            if parts[at][:1] == b"{" and chance.random() < 0.5:
                parts[at] = mutated_tree(parts[at], chance)
            else:
                parts[at] = bytes(atheris.Mutate(parts[at] or b"0", limit))
            return join(parts)[:limit]
        except Exception:  # no file of the kind any more
            return bytes(atheris.Mutate(content, limit))

    seeds = reader.seeds()
    for number, seed in enumerate(seeds):
        (scratch / "seeds" / str(number)).write_bytes(seed)
    (scratch / "words").write_text(_words(seeds), encoding="utf-8")
    size = int(re.findall(r"VmSize:\s*(\d+)", Path("/proc/self/status").read_text())[0]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    flags: dict[str, object] = {"max_total_time": seconds, "max_len": MAX_BYTES, "timeout": 120, "rss_limit_mb": 0}
    flags |= {"print_final_stats": 1, "dict": scratch / "words", "artifact_prefix": f"{out}/", "seed": 1}
    folders = [str(out / name), str(scratch / "seeds")]
    atheris.Setup(
        [sys.argv[0], *(f"-{key}={value}" for key, value in flags.items()), *folders], one, custom_mutator=mutate
    )
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz what reads other people's files.")
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    options = parser.parse_args()
    (options.out / options.reader).mkdir(parents=True, exist_ok=True)
    notes = options.out / "findings.jsonl"
    before = len(notes.read_text(encoding="utf-8").splitlines()) if notes.exists() else 0
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "seeds").mkdir()
        seconds = str(max(1, round(60 * options.minutes)))
        command = [sys.executable, "-c", _CHILD, options.reader, seconds, str(options.out.resolve()), scratch]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    edges, tried = re.findall(r"cov: (\d+)", done.stderr), re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    if not edges or not tried or done.returncode:
        sys.exit(f"libFuzzer ended with {done.returncode}:\n{done.stderr[-3000:]}")
    lines = notes.read_text(encoding="utf-8").splitlines()[before:] if notes.exists() else []
    figures = {"reader": options.reader, "minutes": options.minutes, "tried": int(tried[-1])}
    figures |= {"edges_of_seeds": int(edges[0]), "edges": int(edges[-1]), "findings": [json.loads(s) for s in lines]}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
