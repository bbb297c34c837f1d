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
`format` is raised when an older mclip could misread the pack; one that is newer than FORMAT or older than OLDEST is
refused. A pack is data: ONNX graphs with their weights inside, JSON and plain arrays. Nothing in it can run code or
name a file outside it.

A pack's identity is the SHA-256 of its manifest, which holds those of all its files. Every byte is compared with it:
those that are used before they are, in memory or in the mapping they are used from; those that are not before the
first result of a graph is given (mclip.runtime.engine). So a result is of a whole pack, and of the one it names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import mmap
import os
import re
import stat
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from mclip import __version__
from mclip.errors import PackError, UsageError, shown
from mclip.names import REPRESENTATIONS

FORMAT = 2
# The oldest that is still read.
OLDEST = 2
MANIFEST = "manifest.json"
MOTION_GRAPHS = ("motion_encoder", "motion_decoder")
GRAPHS = ("text_encoder", *MOTION_GRAPHS)
OPTIONAL_GRAPHS = ("image_encoder",)
REQUIRED = (*(f"{graph}.onnx" for graph in MOTION_GRAPHS), "LICENSE", "CARD.md")
TOKENIZER = "tokenizer.json"
REQUIRED_FOR_TEXT = ("text_encoder.onnx", TOKENIZER)
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
_AGAIN = "copy the pack again, or re-run mclip export"
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
class JointError:
    """How far joints of recorded windows, encoded and decoded by the pack, are from those of the torch model in fp32.

    mean_mm, max_mm: of 24 joints in every frame of so many windows of a split of the store; measured at export, on the
    processor it ran on
    """

    mean_mm: float
    max_mm: float
    split: str
    windows: int

    @property
    def is_sound(self) -> bool:
        """Whether these can be measured figures."""
        return 0 <= self.mean_mm <= self.max_mm < float("inf") and self.windows > 0 and is_plain(self.split)

    @property
    def text(self) -> str:
        """In words."""
        where = f"in {self.windows} windows of the split {self.split}"
        return f"joints {self.mean_mm:.3g} mm from torch's in the mean, {self.max_mm:.3g} at most, {where}"


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
    joints          what the weights' precision costs on recorded motion; None where no store was given at export
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
    joints: JointError | None = None

    @property
    def has_text(self) -> bool:
        """Whether the pack can embed texts."""
        return self.max_tokens is not None

    def __post_init__(self) -> None:
        for valid, key, rule in self._rules():
            if not valid:
                raise PackError(f"{key} {rule}")

    def _rules(self) -> list[tuple[bool, str, str]]:
        frames, prior, joints = self.frames, self.prior, self.joints
        texts = REQUIRED_FOR_TEXT if self.has_text else ()
        needed = {*REQUIRED, *texts, *(f"{graph}.onnx" for graph in self.graphs), *([prior.file] if prior else [])}
        graphs = GRAPHS if self.has_text else MOTION_GRAPHS
        optional = OPTIONAL_GRAPHS if self.has_text else ()
        text = self.graphs.get("text_encoder")
        if text and any(tensor.name == WORDS for tensor in text.inputs):
            needed.add(TOKEN_TABLE)
        return [
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
            (joints is None or joints.is_sound, "joints", "needs 0 <= mean_mm <= max_mm, and windows of a split"),
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

    Contents are compared with their sha256 when they are read, and those of the other files by `verify_rest`.
    digest: SHA-256 of the manifest, which through its hashes identifies the whole pack
    """

    path: Path
    manifest: Manifest
    digest: str
    # Files that are being read, and those whose content was what the manifest says.
    _ahead: dict[str, Ahead] = field(default_factory=dict, repr=False, compare=False)
    _right: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def reference(self) -> str:
        """What other processes, on machines with this mclip, find the pack by."""
        return self.path.name if self.path.parent == _SHIPPED else str(self.path.absolute())

    def read_ahead(self, *graphs: str) -> None:
        """Begin to read what graphs of the pack need, and what texts do, while other work goes on.

        What is wrong with a file is said when it is used.
        """
        names = [f"{graph}.onnx" for graph in graphs]
        if "text_encoder" in graphs:
            names += [TOKENIZER, TOKEN_TABLE, *([self.manifest.prior.file] if self.manifest.prior else [])]
        for name in self.manifest.files.keys() & names - self._ahead.keys():
            self._ahead[name] = Ahead(partial(self._map if name == TOKEN_TABLE else self._read, name))

    def read(self, name: str) -> bytes:
        """The content of a listed file. Raises PackError if it is not what the manifest says."""
        ahead = self._ahead.pop(name, None)
        content: bytes = ahead.result() if ahead else self._read(name)
        return content

    def map(self, name: str) -> mmap.mmap:
        """A listed file, mapped into memory. Raises PackError as `read`."""
        ahead = self._ahead.pop(name, None)
        content: mmap.mmap = ahead.result() if ahead else self._map(name)
        return content

    def _read(self, name: str) -> bytes:
        path = self.path / name
        content = _read(path, self.manifest.files[name].size)
        self._compare(path, content)
        return content

    def _map(self, name: str) -> mmap.mmap:
        path = self.path / name
        _regular(path)
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise PackError(f"{path}: cannot be read ({error})", _AGAIN) from None
        self._compare(path, content)
        return content

    def _compare(self, path: Path, content: bytes | mmap.mmap) -> None:
        """Raise PackError if this is not what the manifest says of a file."""
        spec = self.manifest.files[path.name]
        if len(content) != spec.size or hashlib.sha256(content).hexdigest() != spec.sha256:
            raise _mismatch(path)
        self._right.add(path.name)

    def check(self, name: str) -> None:
        """Hash a listed file without keeping it. Raises PackError as `read`."""
        path = self.path / name
        _regular(path)
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise PackError(f"{path}: cannot be read ({error.strerror})") from None
        spec = self.manifest.files[name]
        if found != (spec.size, spec.sha256):
            raise _mismatch(path)
        self._right.add(name)

    def verify_rest(self) -> None:
        """Hash the files that were not read so far. Raises PackError for the first that is not what it should be."""
        for name in self.manifest.files:
            if ahead := self._ahead.get(name):
                ahead.result()
            elif name not in self._right:
                self.check(name)

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


class Ahead(Thread):
    """Work that is done while other work goes on, such as the reading of a file."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work
        self._found: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Do it."""
        try:
            self._found = self._work()
        except BaseException as error:  # whoever asks for the result is told
            self._error = error

    def result(self) -> Any:
        """What was found, once it is there. Raises what the work raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._found


def open_pack(path: Path, sha256: str | None = None) -> Pack:
    """Open a pack directory (module docstring). sha256: the identity it has to have, 64 hex digits; None for any.

    Raises PackError, which says what is wrong and what to do; UsageError for what is no SHA-256.
    """
    manifest, digest = read_manifest(path)
    if sha256 is not None:
        _require(path, digest, sha256)
    for name, spec in manifest.files.items():
        status = _regular(path / name)
        if status.st_size != spec.size:
            raise PackError(f"{path / name}: has {status.st_size} bytes, the manifest says {spec.size}", _AGAIN)
    return Pack(path, manifest, digest)


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """The manifest of a pack directory, whose other files are not looked at, and its SHA-256. Raises PackError."""
    if not path.is_dir():
        raise PackError(f"{path}: no such pack directory", "mclip export makes one")
    if not (path / MANIFEST).exists():
        raise PackError(f"{path}: not a pack, it has no {MANIFEST}", "mclip export makes one")
    content = _read(path / MANIFEST, MAX_MANIFEST_BYTES)
    try:
        manifest = manifest_from_json(content)
    except PackError as error:
        raise PackError(f"{path / MANIFEST}: {error.message}", error.hint) from None
    return manifest, hashlib.sha256(content).hexdigest()


def _require(path: Path, digest: str, wanted: str) -> None:
    if not _SHA256.fullmatch(wanted.lower()):
        raise UsageError(f"{wanted!r} is no SHA-256", f"64 hex digits; mclip doctor {path} prints the pack's")
    if wanted.lower() != digest:
        raise PackError(f"{path}: this pack is {digest}, not {wanted.lower()}", "another pack, or changed since")


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
        raise PackError(f"not readable JSON ({error})", _AGAIN) from None
    if isinstance(table, dict):
        _check_format(table)
    try:
        manifest = typing.cast(Manifest, _build(Manifest, table, "manifest"))
    except PackError as error:
        # A pack of a newer mclip may have a key we do not know, or a value.
        raise PackError(error.message, error.hint or _written_by(table)) from None
    return manifest


def _check_format(table: dict[str, Any]) -> None:
    """Raise PackError for a manifest whose format this mclip does not read."""
    number = table.get("format")
    if type(number) is not int or OLDEST <= number <= FORMAT:
        return  # what is no number has a message of its own
    reads = f"format {FORMAT}" if OLDEST == FORMAT else f"formats {OLDEST} to {FORMAT}"
    writer = table["mclip"][:40] if isinstance(table.get("mclip"), str) else "?"
    if number > FORMAT:
        hint = f"it was written by mclip {writer}, this is {__version__}: pip install -U mclip"
    else:
        hint = f"it was written by mclip {writer}: run mclip export again on what it was made from"
    raise PackError(f"the pack has format {shown(number)}, this mclip reads {reads}", hint)


def _written_by(table: Any) -> str:
    """What to do about a manifest that does not fit, by who wrote it."""
    writer = table.get("mclip") if isinstance(table, dict) else None
    if isinstance(writer, str) and writer != __version__:
        return f"it was written by mclip {writer[:40]}, this is {__version__}; install that one, or re-run mclip export"
    return _AGAIN


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
    return PackError(f"{path}: sha256 does not match the manifest", _AGAIN)


def _regular(path: Path) -> os.stat_result:
    """The status of a file that is no link. A link could lead anywhere."""
    try:
        status = path.lstat()
    except OSError:
        raise PackError(f"{path}: is missing", _AGAIN) from None
    if not stat.S_ISREG(status.st_mode):
        raise PackError(f"{path}: is not a regular file", "a pack holds no links; copy the files themselves")
    return status


def _read(path: Path, limit: int) -> bytes:
    """The content of a file, of which no more than `limit` bytes are wanted."""
    if _regular(path).st_size > limit:
        raise PackError(f"{path}: is larger than {limit} bytes", _AGAIN)
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise PackError(f"{path}: cannot be read ({error.strerror})") from None
