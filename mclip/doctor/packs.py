"""Checks of packs: the one that is used without --pack, and all there is to say about any."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mclip.doctor.finding import ERROR, OK, WARNING, Finding, Places
from mclip.errors import MclipError
from mclip.pack import ENVIRONMENT, FORMAT, MANIFEST, OLDEST, Manifest, Pack, find_pack, open_pack, read_manifest

# Of the names in front of what a pack says; a SHA-256 after it ends with a terminal's line.
_NAME = 16
_TEXT = "a person walks"


def default(places: Places) -> list[Finding]:
    """The mini pack and, if the environment names another, that: every byte, and a motion made from a text."""
    packs = [os.environ[ENVIRONMENT]] if os.environ.get(ENVIRONMENT) else []
    return [_made(name) for name in [*packs, "mini"]]


def _made(name: str) -> Finding:
    title = "mini pack" if name == "mini" else ENVIRONMENT
    start = time.perf_counter()
    try:
        pack = open_pack(find_pack(name))
        pack.verify()
        device = _run(pack)
    except MclipError as error:
        step = 'pip install --force-reinstall --no-deps "mclip"' if name == "mini" else f"unset {ENVIRONMENT}"
        return Finding(title, ERROR, error.message, error.hint if name != "mini" and error.hint else step)
    seconds = time.perf_counter() - start
    size = sum(spec.size for spec in pack.manifest.files.values()) / 1e6
    text = f"{pack.path}: {size:.0f} MB as exported; read, started and run on {device} in {seconds:.1f} s"
    return Finding(title, OK, text)


def _run(pack: Pack, device: str = "auto") -> str:
    """The device on which all graphs of a pack run and give finite numbers. Raises MclipError."""
    import numpy as np

    from mclip.errors import PackError
    from mclip.runtime.engine import Engine
    from mclip.runtime.representation import COLUMNS, ROWS

    engine = Engine(pack, device, quick=True)
    manifest = pack.manifest
    engine.start(*manifest.graphs)
    frames = manifest.frames.default
    mask = np.ones((1, frames), np.bool_)
    results = [engine.encode_motion(np.zeros((1, frames, ROWS, COLUMNS), np.float32), mask)]
    results.append(engine.decode(np.zeros((1, manifest.latent), np.float32), mask))
    if manifest.has_text:
        results.append(engine.locate([_TEXT]))
    if "image_encoder" in manifest.graphs:
        results.append(engine.encode_images(np.zeros((1, engine.image_size, engine.image_size, 3), np.uint8)))
    if not all(np.isfinite(result).all() for result in results):
        raise PackError(f"{pack.path}: its graphs give numbers that are not finite", "re-run mclip export")
    return "CUDA" if engine.device == "cuda" else "the processor"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say about a pack: what its manifest says, and what was found when that was checked."""

    path: Path
    manifest: Manifest
    digest: str
    findings: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """As text."""
        return [
            *_about(self.path, self.manifest, self.digest),
            "",
            *(line for f in self.findings for line in f.lines()),
        ]

    def table(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pack": str(self.path),
            "sha256": self.digest,
            "manifest": asdict(self.manifest),
            "findings": [asdict(finding) for finding in self.findings],
        }


def explain(name: str | Path, device: str = "auto", sha256: str | None = None) -> Explanation:
    """Check every file of a pack, run its graphs, and say what it is.

    sha256: the identity it has to have. Raises PackError for what is no pack or not that one, UsageError.
    """
    path = find_pack(name)
    manifest, digest = read_manifest(path)
    findings = [_file(Pack(path, manifest, digest), each) for each in sorted(manifest.files)]
    findings += _unlisted(path, manifest)
    if sha256 is not None:
        open_pack(path, sha256)
    if all(finding.status == OK for finding in findings if finding.name == "file"):
        findings.append(_graphs(open_pack(path), device))
    else:
        findings.append(Finding("graphs", ERROR, "not run: files are not what the manifest says"))
    if manifest.unverified:
        text = f"its text space is not the published one: weights of sha256 {manifest.unverified[:12]}"
        findings.append(Finding("text space", WARNING, text, "ask who made it; mclip export without --unverified"))
    return Explanation(path, manifest, digest, tuple(findings))


def _file(pack: Pack, name: str) -> Finding:
    spec = pack.manifest.files[name]
    described = f"{name}: {_size(spec.size)}, sha256 {spec.sha256[:12]}"
    try:
        if name.removesuffix(".onnx") in pack.manifest.graphs:
            pack.read_graph(name.removesuffix(".onnx"))
        else:
            pack.check(name)
    except MclipError as error:
        return Finding("file", ERROR, f"{described}: {error.message.removeprefix(f'{pack.path / name}: ')}", error.hint)
    return Finding("file", OK, described)


def _unlisted(path: Path, manifest: Manifest) -> list[Finding]:
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in {*manifest.files, MANIFEST})
    if not others:
        return []
    shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    return [Finding("file", WARNING, f"not in the manifest, never opened: {shown}", f"ls -l {path}")]


def _graphs(pack: Pack, device: str) -> Finding:
    try:
        where = _run(pack, device)
    except MclipError as error:
        return Finding("graphs", ERROR, error.message, error.hint)
    except ModuleNotFoundError as error:
        return Finding("graphs", ERROR, f"cannot be run: the package {error.name} is missing", "mclip doctor")
    return Finding("graphs", OK, f"all {len(pack.manifest.graphs)} run on {where}, and give finite numbers")


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"


def _about(path: Path, manifest: Manifest, digest: str) -> list[str]:
    from mclip.doctor.finding import wrapped

    frames, fps, prior = manifest.frames, manifest.fps, manifest.prior
    data = ", ".join(f"{source} {count}" for source, count in manifest.data.items())
    size = _size(sum(spec.size for spec in manifest.files.values()))
    reads = f"{FORMAT}" if OLDEST == FORMAT else f"{OLDEST} to {FORMAT}"
    entries = {
        "pack": f"{manifest.name}, {size} in {path}",
        "sha256": digest,
        "format": f"{manifest.format}, written by mclip {manifest.mclip}; this mclip reads {reads}",
        "licence": manifest.license or "not said; see LICENSE",
        "text space": f"{manifest.text_space}, texts of up to {manifest.max_tokens} tokens"
        if manifest.has_text
        else f"{manifest.text_space}, but it reads no texts",
        "pictures": "can be read" if "image_encoder" in manifest.graphs else "cannot be read",
        "motion": f"{manifest.representation}, latents of {manifest.latent} numbers, {fps:g} fps, {frames.min} to "
        f"{frames.max} frames ({frames.min / fps:.1f} to {frames.max / fps:.1f} s), {frames.default} if not told",
        "prior": f"{prior.kind} in {prior.file}; confident from {prior.confident:g}" if prior else "none: as the paper",
        "trained on": f"{sum(manifest.data.values())} motions: {data}" if manifest.data else "not said",
        "trained by": _recipe(manifest.recipe),
        "precision": f"{manifest.precision}; differences from torch, measured at export:",
        **{
            f"  {name}": f"{spec.weights}: {spec.parity.stored:.2g}, and {spec.parity.exported:.2g} before rounding"
            for name, spec in manifest.graphs.items()
        },
        **({"  on motion": manifest.joints.text} if manifest.joints else {}),
    }
    lines = []
    for name, text in entries.items():
        if len(name) >= _NAME:
            first, rest = f"{name} ", wrapped(text, len(name) + 1)
        else:
            first, rest = f"{name:{_NAME}}", wrapped(text, _NAME)
        lines += [first + rest[0], *(" " * len(first) + line for line in rest[1:])]
    return lines


def _recipe(recipe: Mapping[str, Any]) -> str:
    """The few words of a recipe that say most. It may be anything."""
    wanted = (
        ("name", ""),
        ("model.architecture", ""),
        ("model.width", "width"),
        ("optim.steps", "steps"),
        ("optim.epochs", "epochs"),
        ("optim.batch", "batch"),
        ("optim.init", "from"),
        ("seed", "seed"),
    )
    words = []
    for key, word in wanted:
        value: Any = recipe
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, (str, int, float)) and value not in ("", 0):
            words.append(f"{word} {str(value)[:60]}".strip())
    return (", ".join(words) or "not said") + "; the whole recipe: --json"
