"""A pack: a model, as a directory that can be copied, checked and run without torch.

A pack MUST hold these files, flat in one directory, and each MUST be listed in the manifest with its size and sha256:

    text_encoder.onnx    ids (B, L), mask (B, L) int64               -> text_embedding (B, D)
    motion_encoder.onnx  features (B, T, 25, 6) float32, mask (B, T) -> latent (B, D)
    motion_decoder.onnx  latent (B, D), mask (B, T) bool             -> features (B, T, 25, 6)
    tokenizer.json       of the `tokenizers` library, without padding and truncation
    LICENSE, CARD.md     what it may be used for, what it was made from, how good it is

It MAY hold token_embeddings.npy, see mclip.runtime.tokens: text_encoder.onnx then takes the rows of the tokens,
words (B, L, W) float32, instead of ids, or besides them.
It MAY hold image_encoder.onnx, pixels (B, S, S, 3) uint8, RGB -> image_embedding (B, D), whose S is in the manifest.
It MAY hold a prior (`bank.npz`, see mclip.runtime.prior), which turns text embeddings into latents; without one the
embedding itself is decoded. A pack without text, made where the text space's weights were not at hand, holds no
text_encoder.onnx, tokenizer.json and prior: motions are encoded and decoded, texts are not. Files the manifest does not
list are never opened.

`manifest.json` is the JSON form of `Manifest` below: every key without a default is required, unknown keys are errors.
`format` is raised when an older mclip could misread the pack; a newer one is refused. A pack is data: ONNX graphs with
their weights inside, JSON and plain arrays. Nothing in it can run code or name a file outside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import stat
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mclip.errors import PackError, shown
from mclip.names import REPRESENTATIONS

FORMAT = 1
MANIFEST = "manifest.json"
MOTION_GRAPHS = ("motion_encoder", "motion_decoder")
GRAPHS = ("text_encoder", *MOTION_GRAPHS)
OPTIONAL_GRAPHS = ("image_encoder",)
REQUIRED = (*(f"{graph}.onnx" for graph in MOTION_GRAPHS), "LICENSE", "CARD.md")
REQUIRED_FOR_TEXT = ("text_encoder.onnx", "tokenizer.json")
# The inputs of each graph, by name; of the first, those that it needs.
INPUTS: Mapping[str, tuple[str, ...]] = {
    "text_encoder": ("words", "ids", "mask"),
    "motion_encoder": ("features", "mask"),
    "motion_decoder": ("latent", "mask"),
    "image_encoder": ("pixels",),
}
TOKEN_TABLE = "token_embeddings.npy"
# The text encoder's input that takes the table's rows.
WORDS = "words"
PRIORS = ("bank",)
PRECISIONS = ("fp32", "fp16", "int8")
CLEANINGS = ("none", "ftfy")

# A manifest with a recipe inside is a few kilobytes.
MAX_MANIFEST_BYTES = 1_000_000
# CLIP's text tower in fp32 is 0.25 GB; protobuf itself ends at 2 GB.
MAX_FILE_BYTES = 2_000_000_000
MAX_FILES = 32
# Attention takes memory with the square of either. Recipes have windows of 1,000 frames at most, CLIP reads 77 tokens,
# MiniLM 512.
MAX_FRAMES = 2_000
MAX_TOKENS = 4_096
MAX_LATENT = 65_536

ENVIRONMENT = "MCLIP_PACK"
_SHIPPED = Path(__file__).parent / "packs"
_DEFAULT = "mini"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# The key under which ONNX's TensorProto.external_data names a file.
_EXTERNAL_DATA = b"location"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """A file of the pack: its size in bytes and the SHA-256 of its content, 64 hex digits."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph. axes: a name where the length may vary, else the length."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Largest absolute difference from the torch model, over the lengths and batches tried at export.

    exported: of the graph as exported, fp32 weights; stored: of the graph in the pack, with its reduced weights
    """

    exported: float
    stored: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """One graph: what goes in, what comes out, how its weights are stored, how exact it is."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: str
    parity: Parity


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Frames per motion: the range that was trained on, and what to make when nothing is asked for."""

    min: int
    max: int
    default: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSpec:
    """What turns text embeddings into latents. confident: scores below it deserve a warning."""

    kind: str
    file: str
    confident: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a pack says about itself.

    mclip           version that wrote it
    latent          width D of latents and text embeddings
    representation  how a frame is written as numbers, see mclip.runtime.representation
    fps             frames per second of every motion in and out
    max_tokens      longest text, special tokens included; None for a pack without text
    recipe          the resolved training recipe
    data            training motions by source
    license         one line; the text is in LICENSE
    text_cleaning   what happens to texts before they are cut into tokens, see mclip.runtime.cleaning
    unverified      SHA-256 of the text space's weights if they are not the published ones, else ""
    """

    format: int
    mclip: str
    name: str
    text_space: str
    max_tokens: int | None
    latent: int
    representation: str
    fps: float
    frames: Lengths
    precision: str
    graphs: Mapping[str, GraphSpec]
    prior: PriorSpec | None
    files: Mapping[str, FileSpec]
    recipe: Mapping[str, Any]
    data: Mapping[str, int]
    license: str
    text_cleaning: str = "none"
    unverified: str = ""

    @property
    def has_text(self) -> bool:
        """Whether the pack can embed texts."""
        return self.max_tokens is not None

    def __post_init__(self) -> None:
        for valid, key, rule in self._rules():
            if not valid:
                raise PackError(f"{key} {rule}")

    def _rules(self) -> list[tuple[bool, str, str]]:
        frames, prior = self.frames, self.prior
        texts = REQUIRED_FOR_TEXT if self.has_text else ()
        needed = {*REQUIRED, *texts, *(f"{graph}.onnx" for graph in self.graphs), *([prior.file] if prior else [])}
        graphs = GRAPHS if self.has_text else MOTION_GRAPHS
        optional = OPTIONAL_GRAPHS if self.has_text else ()
        text = self.graphs.get("text_encoder")
        if text and any(tensor.name == WORDS for tensor in text.inputs):
            needed.add(TOKEN_TABLE)
        return [
            (self.format == FORMAT, "format", f"must be {FORMAT}, not {self.format}"),
            (is_plain(self.name), "name", "must be letters, digits, '.', '-' and '_'"),
            (
                self.representation in REPRESENTATIONS,
                "representation",
                f"is {self.representation}; this mclip knows {', '.join(REPRESENTATIONS)}",
            ),
            (0 < self.latent <= MAX_LATENT, "latent", f"must lie between 1 and {MAX_LATENT}"),
            (
                self.max_tokens is None or 0 < self.max_tokens <= MAX_TOKENS,
                "max_tokens",
                f"must lie between 1 and {MAX_TOKENS}",
            ),
            (1 <= self.fps <= 1000, "fps", "must lie between 1 and 1000"),
            (0 < frames.min <= frames.default <= frames.max <= MAX_FRAMES, "frames", "needs 0 < min <= default <= max"),
            (
                self.text_cleaning in CLEANINGS,
                "text_cleaning",
                f"is {self.text_cleaning!r}; this mclip knows {', '.join(CLEANINGS)}",
            ),
            (self.precision in PRECISIONS, "precision", f"must be one of {', '.join(PRECISIONS)}"),
            (
                set(graphs) <= set(self.graphs) <= {*graphs, *optional},
                "graphs",
                f"must be {', '.join(graphs)}" + (f", and may be {', '.join(optional)}" if optional else ""),
            ),
            *(
                (
                    _takes(name, graph),
                    f"graphs.{name}",
                    f"must take {', '.join(INPUTS[name])} and give one output",
                )
                for name, graph in self.graphs.items()
                if name in INPUTS
            ),
            (prior is None or self.has_text, "prior", "needs a text encoder"),
            (prior is None or prior.kind in PRIORS, "prior.kind", f"must be one of {', '.join(PRIORS)}"),
            (len(self.files) <= MAX_FILES, "files", f"lists more than {MAX_FILES} files"),
            (needed <= set(self.files), "files", f"must list {', '.join(sorted(needed - set(self.files)))}"),
            *(
                (is_plain(name) and name != MANIFEST, f"files: {shown(name)}", "is no plain file name")
                for name in self.files
            ),
            *(
                (bool(_SHA256.fullmatch(spec.sha256)), f"files.{name}.sha256", "must be 64 hex digits")
                for name, spec in self.files.items()
            ),
            *(
                (0 <= spec.size <= MAX_FILE_BYTES, f"files.{name}.size", f"must lie between 0 and {MAX_FILE_BYTES}")
                for name, spec in self.files.items()
            ),
        ]


@dataclass(frozen=True, slots=True)
class Pack:
    """An opened pack: the manifest is checked, the files are there and have the right size.

    Contents are compared with their sha256 when they are read, so a command pays for the files it uses only.
    digest: SHA-256 of the manifest, which through its hashes identifies the whole pack
    """

    path: Path
    manifest: Manifest
    digest: str

    def read(self, name: str) -> bytes:
        """The content of a listed file. Raises PackError if it is not what the manifest says."""
        spec = self.manifest.files[name]
        content = _read(self.path / name, spec.size)
        if len(content) != spec.size or hashlib.sha256(content).hexdigest() != spec.sha256:
            raise _mismatch(self.path / name)
        return content

    def check(self, name: str) -> Path:
        """The path of a listed file that is to be memory-mapped. Raises PackError as `read`."""
        spec = self.manifest.files[name]
        path = self.path / name
        size = _regular(path).st_size
        with path.open("rb") as file:
            if size != spec.size or hashlib.file_digest(file, "sha256").hexdigest() != spec.sha256:
                raise _mismatch(path)
        return path

    def read_graph(self, graph: str) -> bytes:
        """The ONNX model of one of the manifest's graphs, guaranteed to hold all its weights."""
        content = self.read(f"{graph}.onnx")
        # Searching the bytes needs no protobuf and cannot be fooled: the key stands in the file as it is.
        if _EXTERNAL_DATA in content:
            raise PackError(f"{self.path / graph}.onnx: refers to data outside the file", "re-run mclip export")
        return content

    def verify(self) -> None:
        """Read every file. Raises PackError for the first that is not what the manifest says."""
        for name in self.manifest.files:
            if name.removesuffix(".onnx") in self.manifest.graphs:
                self.read_graph(name.removesuffix(".onnx"))
            else:
                self.read(name)


def open_pack(path: Path) -> Pack:
    """Open a pack directory (module docstring). Raises PackError, says what is wrong and what to do."""
    if not path.is_dir():
        raise PackError(f"{path}: no such pack directory", "mclip export makes one")
    if not (path / MANIFEST).exists():
        raise PackError(f"{path}: not a pack, it has no {MANIFEST}", "mclip export makes one")
    content = _read(path / MANIFEST, MAX_MANIFEST_BYTES)
    try:
        manifest = manifest_from_json(content)
    except PackError as error:
        raise PackError(f"{path / MANIFEST}: {error.message}", error.hint) from None
    for name, spec in manifest.files.items():
        status = _regular(path / name)
        if status.st_size != spec.size:
            raise PackError(
                f"{path / name}: has {status.st_size} bytes, the manifest says {spec.size}",
                "copy the pack again, or re-run mclip export",
            )
    return Pack(path, manifest, hashlib.sha256(content).hexdigest())


def find_pack(name_or_path: str | Path | None = None) -> Path:
    """The directory of a pack: a shipped pack's name, or a directory; None for MCLIP_PACK, else the mini pack.

    Raises PackError when there is none of that name.
    """
    wanted = str(name_or_path or os.environ.get(ENVIRONMENT) or _DEFAULT)
    if wanted in shipped_packs():
        return _SHIPPED / wanted
    if os.path.isdir(wanted):  # which, unlike Path.is_dir, takes a name too long for any folder
        return Path(wanted)
    names = ", ".join(shipped_packs()) or "none"
    raise PackError(
        f"{wanted}: no such pack; shipped with this mclip: {names}",
        f"give the directory of a pack with --pack or {ENVIRONMENT}; mclip export makes one",
    )


def shipped_packs() -> list[str]:
    """Names of the packs inside this installation."""
    return sorted(manifest.parent.name for manifest in _SHIPPED.glob(f"*/{MANIFEST}"))


def manifest_from_json(content: bytes) -> Manifest:
    """Parse and check a manifest. Raises PackError that names the key."""
    try:
        table = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PackError(f"not readable JSON ({error})", "copy the pack again, or re-run mclip export") from None
    number = table.get("format") if isinstance(table, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise PackError(
            f"the pack has format {number}, this mclip reads up to {FORMAT}",
            f"it was written by mclip {shown(table.get('mclip', '?'))}: pip install -U mclip",
        )
    return typing.cast(Manifest, _build(Manifest, table, "manifest"))


def manifest_to_json(manifest: Manifest) -> str:
    """The manifest as it is written: complete, in the order of the fields."""
    return json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def is_plain(name: str) -> bool:
    """Whether this is a name for a pack or for a file in one: short, ASCII, no folder."""
    return _PLAIN_NAME.fullmatch(name) is not None


def _takes(name: str, graph: GraphSpec) -> bool:
    """Whether a graph has the inputs that it is run with, and one output."""
    inputs = [tensor.name for tensor in graph.inputs]
    known = set(inputs) <= set(INPUTS[name]) and 0 < len(set(inputs)) == len(inputs)
    return len(graph.outputs) == 1 and (known if name == "text_encoder" else tuple(inputs) == INPUTS[name])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice")
    return table


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _build(kind: Any, value: Any, key: str) -> Any:
    """`value`, out of JSON, as the type of its field."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise PackError(f"{key} must be an object")
        hints = typing.get_type_hints(kind)
        for name in value:
            if name not in hints:
                raise PackError(f"{key} has an unknown key {shown(name)}")
        for item in dataclasses.fields(kind):
            if item.name not in value and item.default is dataclasses.MISSING:
                raise PackError(f"{key} has no {item.name!r}")
        return kind(**{name: _build(hints[name], item, name) for name, item in value.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return _build_any(arguments, value, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise PackError(f"{key} must be a list")
        return tuple(_build(arguments[0], item, key) for item in value)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise PackError(f"{key} must be an object")
        return {name: _build(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**53 else float("inf")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PackError(f"{key} must be {kind.__name__}, not {shown(value)}")
    return value


def _build_any(options: tuple[Any, ...], value: Any, key: str) -> Any:
    """`value` as the first of several types that fits; the last one's complaint if none does."""
    *others, last = [option for option in options if option is not type(None)]
    if value is None and type(None) in options:
        return None
    for option in others:
        with contextlib.suppress(PackError):
            return _build(option, value, key)
    return _build(last, value, key)


def _mismatch(path: Path) -> PackError:
    return PackError(f"{path}: sha256 does not match the manifest", "copy the pack again, or re-run mclip export")


def _regular(path: Path) -> os.stat_result:
    """The status of a file that is no link. A link could lead anywhere."""
    try:
        status = path.lstat()
    except OSError:
        raise PackError(f"{path}: is missing", "copy the pack again, or re-run mclip export") from None
    if not stat.S_ISREG(status.st_mode):
        raise PackError(f"{path}: is not a regular file", "a pack holds no links; copy the files themselves")
    return status


def _read(path: Path, limit: int) -> bytes:
    """The content of a file, of which no more than `limit` bytes are wanted."""
    if _regular(path).st_size > limit:
        raise PackError(f"{path}: is larger than {limit} bytes", "copy the pack again, or re-run mclip export")
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise PackError(f"{path}: cannot be read ({error.strerror})") from None
