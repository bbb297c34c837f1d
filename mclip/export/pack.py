"""Writing a pack: graphs, tokenizer, prior and manifest, checked before anybody sees them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mclip import __version__
from mclip.console import err
from mclip.data.store import MotionStore
from mclip.errors import DataError, PackError, UsageError, choices
from mclip.export.bank import build_bank
from mclip.export.graphs import Exportable, exportables, to_onnx
from mclip.export.measures import int8_gain, joint_error
from mclip.export.precision import reduced_table, to_fp16, to_int8, to_stored_int8
from mclip.export.tokens import cut_table
from mclip.files import cannot_write, new_folder, sha256, write_text
from mclip.nn.model import MotionClip
from mclip.nn.teachers import Teacher
from mclip.pack import (
    FORMAT,
    MANIFEST,
    PRECISIONS,
    TOKEN_TABLE,
    WORDS,
    FileSpec,
    GraphSpec,
    JointError,
    Lengths,
    Manifest,
    Pack,
    Parity,
    PriorSpec,
    TensorSpec,
    is_plain,
    manifest_to_json,
    open_pack,
)
from mclip.recipe import Recipe, recipe_to_dict
from mclip.runtime.engine import Engine
from mclip.runtime.session import Session
from mclip.runtime.tokens import save_table

# Lengths and batches at which graphs are compared with torch.
_LENGTHS, _BATCHES = (1, 2, 17, 60, 97), (1, 3)
# Largest absolute difference from torch of a graph with fp32 weights; rounding alone gives a few millionths.
MAX_EXPORTED = 1e-4
# The same with reduced weights: above it the reduction has broken the graph. Features and latents are of order one.
MAX_STORED = {"fp32": MAX_EXPORTED, "fp16": 0.02, "stored int8": 0.1, "int8": 0.5}
AUTO = "auto"
# How many times as fast int8 has to be for `auto` to take it. A measured gain may be a fifth off on a busy machine, and
# packs are copied to processors that gain less: half as fast again is sure to be some gain, and worth some exactness.
CLEARLY_FASTER = 1.5
# Below this cosine between a prompt and the nearest caption, the two rarely mean the same.
CONFIDENT = {"minilm-l6": 0.5, "clip-vit-b32": 0.8}

# A card or a licence is a few pages.
MAX_TEXT_BYTES = 1_000_000
_WEIGHTS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp32": lambda model: model,
    "fp16": to_fp16,
    "stored int8": to_stored_int8,
    "int8": to_int8,
}
# How the teacher's towers are stored: they run once a prompt, so that exact arithmetic costs little.
_TOWER_WEIGHTS = {"fp32": "fp32", "fp16": "fp16", "int8": "stored int8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What a pack says in words: CARD.md and LICENSE, and the licence in one line."""

    card: str
    license: str

    @property
    def license_line(self) -> str:
        """The first line of the licence that says anything."""
        return next((line.strip() for line in self.license.splitlines() if line.strip()), "")


def export_pack(
    model: MotionClip,
    recipe: Recipe,
    teacher: Teacher | None,
    out: Path,
    *,
    texts: Texts,
    store: MotionStore | None = None,
    precision: str = "fp16",
    text_precision: str = "int8",
    image_tower: bool = False,
    record: Mapping[str, Any] | None = None,
    name: str | None = None,
    force: bool = False,
) -> Pack:
    """Write a pack directory and open it.

    teacher: embeds the pack's texts; without one the pack has the two motion graphs alone.
    store: its training motions become the prior; without one, text embeddings are decoded as they are.
    precision: of the motion graphs' weights, one of mclip.pack.PRECISIONS, or AUTO: int8 if the decoder clearly gains
    from it on this processor, else fp16.
    text_precision: of the teacher's; int8 is then with fp32 arithmetic (mclip.export.precision).
    image_tower: whether pictures can be given to the pack.
    record: what the manifest says of the training; by default the whole recipe.
    Raises PackError when a graph differs from torch by more than it may; DataError when latents and texts differ in
    width; UsageError when `out` is there and is no pack or `force` is false, or for a store without a teacher.
    """
    for wanted, known in ((precision, (*PRECISIONS, AUTO)), (text_precision, PRECISIONS)):
        if wanted not in known:
            raise UsageError(f"there is no precision {wanted!r}", choices(wanted, known))
    if image_tower and teacher is None:
        raise UsageError("--image-tower: a pack without text has no image tower either", "leave --without-text out")
    if image_tower and teacher is not None and teacher.image_module is None:
        raise UsageError(f"--image-tower: the text space {teacher.name} has no image tower", "clip-vit-b32 has one")
    if name is not None and not is_plain(name):
        raise UsageError(f"--name {name}: is no name for a pack", "use letters, digits, '.', '-' and '_'")
    if teacher is None and store is not None:
        raise UsageError("a prior answers texts, and this pack reads none", "leave --store or --without-text out")
    if teacher is not None and teacher.width != model.config.latent:
        raise DataError(
            f"the latents are {model.config.latent} wide, the embeddings of {teacher.name} {teacher.width}",
            "--without-text makes a pack of the motion graphs alone",
        )
    vocabulary = Tokenizer.from_str(teacher.tokenizer_json).get_vocab_size() if teacher is not None else 0
    with _new_directory(out, force) as folder:
        graphs: dict[str, GraphSpec] = {}
        items = exportables(model, teacher, vocabulary, image_tower=image_tower)
        if precision == AUTO:
            precision = _choose(items, recipe.data.window)
        for item in items:
            tower = item.file in ("text_encoder", "image_encoder")
            weights = _TOWER_WEIGHTS[text_precision] if tower else precision
            graphs[item.file] = _write_graph(item, folder, weights, vocabulary)
        if teacher is not None:
            write_text(folder / "tokenizer.json", teacher.tokenizer_json)
        write_text(folder / "CARD.md", texts.card)
        write_text(folder / "LICENSE", texts.license)

        def save(prior: PriorSpec | None, joints: JointError | None) -> None:
            manifest = _manifest(folder, recipe, teacher, graphs, prior, joints, store, precision, texts, record, name)
            write_text(folder / MANIFEST, manifest_to_json(manifest))

        save(None, None)
        if store is not None and teacher is not None:
            # The pack's own text encoder: a prompt in a caption's words then meets it exactly.
            engine = Engine(open_pack(folder), "cpu")
            bank = build_bank(
                store, recipe.data, lambda x, mask: _encode(model, x, mask), engine.decode, engine.encode_text
            )
            bank.save(folder / "bank.npz")
            joints = joint_error(model, engine, store, recipe.data)
            save(PriorSpec(kind="bank", file="bank.npz", confident=CONFIDENT[teacher.name]), joints)
        open_pack(folder).verify()
    return open_pack(out)


def _manifest(
    folder: Path,
    recipe: Recipe,
    teacher: Teacher | None,
    graphs: dict[str, GraphSpec],
    prior: PriorSpec | None,
    joints: JointError | None,
    store: MotionStore | None,
    precision: str,
    texts: Texts,
    record: Mapping[str, Any] | None,
    name: str | None,
) -> Manifest:
    files = {
        file.name: FileSpec(size=file.stat().st_size, sha256=sha256(file))
        for file in sorted(folder.iterdir())
        if file.name != MANIFEST
    }
    return Manifest(
        format=FORMAT,
        mclip=__version__,
        name=name or recipe.name,
        text_space=recipe.text_space,
        max_tokens=teacher.max_tokens if teacher else None,
        latent=recipe.model.latent,
        representation=recipe.data.representation,
        fps=store.fps if store else 30.0,
        frames=Lengths(min=recipe.data.min_window, max=recipe.data.window, default=recipe.data.window),
        precision=precision,
        graphs=graphs,
        prior=prior,
        files=files,
        recipe=record or recipe_to_dict(recipe),
        data=_sources(store, recipe) if store else {},
        license=texts.license_line,
        text_cleaning=teacher.cleaning if teacher is not None else "none",
        unverified=teacher.unverified if teacher is not None else "",
        joints=joints,
    )


def _choose(items: list[Exportable], frames: int) -> str:
    """The precision that `auto` is here."""
    gain = int8_gain(next(item for item in items if item.file == "motion_decoder"), frames)
    taken = "int8" if gain >= CLEARLY_FASTER else "fp16"
    err(f"in int8 the decoder is {gain:.2f} times as fast as in fp16 on this processor: {taken} is taken")
    return taken


def _sources(store: MotionStore, recipe: Recipe) -> dict[str, int]:
    """Training motions by source."""
    train = Counter(store.source[index] for index in range(len(store)) if store.split[index] == "train")
    return {source: count for source, count in sorted(train.items()) if source not in recipe.data.exclude}


def _write_graph(item: Exportable, folder: Path, weights: str, vocabulary: int) -> GraphSpec:
    """Export, reduce, compare with torch, write; the token table of a text encoder into a file of its own."""
    full = to_onnx(item)
    exported = _difference(item, full.SerializeToString(), None)
    table = None
    if item.file == "text_encoder" and (cut := cut_table(full, vocabulary)):
        full, words = cut
        values, scale = reduced_table(words, weights)
        save_table(folder / TOKEN_TABLE, values, scale)
        table = values.astype(np.float32) * scale[:, None]
    content = _WEIGHTS[weights](full).SerializeToString()
    stored = _difference(item, content, table)
    # Rounding in fp32 depends on the layers' inner values; what reduced weights do grows with the results.
    limits = (MAX_EXPORTED, MAX_STORED[weights] * (1.0 if weights == "fp32" else item.scale))
    for difference, limit, what in ((exported, limits[0], "fp32"), (stored, limits[1], weights)):
        if not difference <= limit:
            raise PackError(
                f"{item.file}.onnx with {what} weights differs from torch by {difference:.2g}, more than {limit:g}",
                "no pack was written; try --precision fp32, and report it if that fails too",
            )
    (folder / f"{item.file}.onnx").write_bytes(content)
    inputs = item.inputs
    if table is not None:
        kept = {value.name for value in full.graph.input}
        words_spec = TensorSpec(name=WORDS, dtype="float32", axes=("batch", "tokens", table.shape[1]))
        inputs = (words_spec, *(spec for spec in inputs if spec.name in kept))
    return GraphSpec(
        inputs=inputs, outputs=(item.output,), weights=weights, parity=Parity(exported=exported, stored=stored)
    )


def _difference(item: Exportable, content: bytes, table: NDArray[np.float32] | None) -> float:
    """Largest absolute difference between torch and the graph, over lengths, batches and masks.

    table: where the graph takes its words from, if it takes them
    """
    session = Session(content, f"{item.file}.onnx", "cpu")
    random = np.random.default_rng(0)
    largest = 0.0
    for length in _LENGTHS:
        for batch in _BATCHES:
            inputs = item.draw(batch, length, random)
            with torch.inference_mode():
                expected = item.module(*(torch.from_numpy(value) for value in inputs)).numpy()
            feeds = dict(zip((spec.name for spec in item.inputs), inputs, strict=True))
            if table is not None:
                feeds[WORDS] = table[feeds["ids"]]
            found = session.run(*(feeds[name] for name in session.inputs))
            if found.shape != expected.shape:
                raise PackError(f"{item.file}.onnx gives {found.shape} where torch gives {expected.shape}")
            largest = max(largest, float(np.abs(found - expected).max()))
    return largest


def _encode(model: MotionClip, features: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    with torch.inference_mode():
        latents: NDArray[np.float32] = model.encode(torch.from_numpy(features), torch.from_numpy(mask)).numpy()
    return latents


@contextmanager
def _new_directory(out: Path, force: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place when the block ends well."""
    if out.exists() and not (force and (out / MANIFEST).is_file()):
        pack = (out / MANIFEST).is_file()
        raise UsageError(
            f"{out}: is already there{'' if pack else ', and is no pack'}",
            "choose another place with -o" + (", or replace it with --force" if pack else ""),
        )
    try:
        with new_folder(out.parent):
            folder = Path(tempfile.mkdtemp(prefix=f".{out.name[:20]}-", dir=out.parent))
            try:
                yield folder
                folder.chmod(0o755)
                if out.exists():
                    # Two renames: the old pack is whole until the new one is there.
                    old = folder.with_name(f"{folder.name}-old")
                    os.replace(out, old)
                    os.replace(folder, out)
                    shutil.rmtree(old)
                else:
                    os.replace(folder, out)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise cannot_write(out, error) from None


def read_texts(recipe: Recipe, card: Path | None, license_: Path | None) -> Texts:
    """CARD.md and LICENSE from files; what says only what is known, without them. Raises UsageError."""
    return Texts(
        card=_read_text(card) if card else f"# {recipe.name}\n\nNo card was given at export.\n",
        license=_read_text(license_) if license_ else "No licence was given at export: ask who made this pack.\n",
    )


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise UsageError(f"{path}: is larger than {MAX_TEXT_BYTES} bytes", "give a text of a few pages")
        return content.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text") from None
