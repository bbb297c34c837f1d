"""The store: every motion of a folder at one frame rate, with captions, splits and rendered frames, in one HDF5 file.

Schema 1. N motions, F frames in all, C captions, K texts, M labels, P images, S skipped files.

Attributes of the root group
    schema            int     1; a reader MUST refuse any other number
    fps               float   frames per second of every motion
    created_by        str     such as "mclip 0.1.0 preprocess"
    options           str     JSON: what the store was made with
    body              str     the body in the images, "" without images
    renderer, camera  str     how the images were made, "" without images

Datasets
    rotations (F, 24, 6) float32   local joint rotations, 6D (mclip.geometry); joint 0 is the root in the world
    transl    (F, 3)     float32   metres, Z up; the pelvis lies at transl + rest_joints[0]
    offsets   (N+1,)     int64     motion i is frames offsets[i] to offsets[i+1] (exclusive); every motion has a frame
    path      (N,)       str       source file, relative to the folder, with "/"; "x.glb#Take" for one of several
    sha256    (N,)       str       of the source file's bytes, 64 hex digits
    source    (N,)       str       first folder of the path, "" if it has none
    split     (N,)       uint8     0 train, 1 val, 2 test; the attribute `names` lists them
    betas     (N, 10)    float32   SMPL shape
    gender    (N,)       str       neutral, female or male
    texts     (K,)       str       all captions and their mirror images, each once, none blank
    labels    (M,)       str       all action classes, each once, none blank
    captions/motion, captions/start, captions/stop     (C,) int32   frames start to stop (exclusive) of a motion
    captions/text, captions/mirrored                   (C,) int32   indices into texts; `mirrored` has left and right
                                                                    exchanged and is equal to `text` if there is neither
    captions/label                                     (C,) int32   index into labels
    skipped/path, skipped/sha256, skipped/reason       (S,) str     files that could not be used, and why

Datasets that MAY be missing
    source_fps (N,) float64   frames per second of the source file, before it was resampled
    captions/layer     (C,)   int32     of the captions of one motion and layer, the later row holds the frames that it
                                        shares with earlier ones; missing: every caption has its own
    captions/processed (C,)   int32     index into texts: the caption as its data set cleaned it (BABEL's proc_label);
                                        missing: equal to captions/text
    categories/offsets (C+1,) int64     caption c is of the action categories offsets[c] to offsets[c+1] (exclusive),
    categories/label   (R,)   int32     which are indices into labels; there may be none, or several (BABEL's act_cat);
                                        missing: each caption's label is its only category
    embeddings/<text space>  (K, W) float32   embeddings of texts, as long as the text space makes them
    image_embeddings/<text space>  (P, W) float32   those of the images
    frames/data              (bytes,) uint8   images, one after another, each a WebP file
    frames/offsets           (P+1,)   int64   image p is bytes offsets[p] to offsets[p+1]
    frames/motion, frames/frame  (P,) int32   the motion, and the frame of it, that an image shows

Every dataset MUST be contiguous and uncompressed (a window is then one read, or none when memory-mapped), and lie in
the file itself: links, virtual datasets and external storage are refused. Strings are UTF-8 of fixed length, padded
with NUL. Other attributes and datasets MAY be there and are ignored. A writer MUST replace the file atomically.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mclip import __version__
from mclip.data.hdf5 import Reader, blocks, create, opened, writing
from mclip.errors import DataError
from mclip.files import atomic_path
from mclip.geometry import matrix_to_axis_angle, rot6d_to_matrix
from mclip.motion import GENDERS, MAX_METRES, Motion

SCHEMA = 1
SPLITS: tuple[str, ...] = ("train", "val", "test")
FEATURES = (24, 6)
# Rows of rotations are unit vectors; the rest is for interpolation and rounding.
_MAX_6D = 2.0
# Frames that are checked at once.
_BLOCK = 100_000
# A text space's name is the name of a dataset: "/" or "." would reach elsewhere.
SPACE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Captions:
    """What is said about which frames: columns (C,) int32, and each caption's action categories.

    Meanings are those of the module docstring; what a store lacks is filled in as told there.
    """

    motion: NDArray[np.int32]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    text: NDArray[np.int32]
    mirrored: NDArray[np.int32]
    label: NDArray[np.int32]
    layer: NDArray[np.int32]
    processed: NDArray[np.int32]
    category_offsets: NDArray[np.int64]  # (C+1,)
    category: NDArray[np.int32]  # (R,)

    def __len__(self) -> int:
        """The number of captions C."""
        return len(self.motion)

    def categories(self, row: int) -> NDArray[np.int32]:
        """The action categories of a caption, as indices into the store's labels; none for some."""
        return self.category[self.category_offsets[row] : self.category_offsets[row + 1]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """Rendered images; the bytes stay in the file until asked for."""

    store: Path
    offsets: NDArray[np.int64]
    motion: NDArray[np.int32]
    frame: NDArray[np.int32]

    def __len__(self) -> int:
        """The number of images P."""
        return len(self.motion)

    def read(self, indices: Sequence[int]) -> list[bytes]:
        """The encoded images of these indices, in their order."""
        with opened(self.store) as file:
            data = file["frames/data"]
            return [bytes(data[self.offsets[index] : self.offsets[index + 1]]) for index in indices]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionStore:
    """A store as arrays; names, shapes and units are those of the module docstring, `split` holds the names."""

    file: Path
    fps: float
    created_by: str
    options: Mapping[str, Any]
    rotations: NDArray[np.float32]
    transl: NDArray[np.float32]
    offsets: NDArray[np.int64]
    path: tuple[str, ...]
    sha256: tuple[str, ...]
    source: tuple[str, ...]
    split: tuple[str, ...]
    betas: NDArray[np.float32]
    gender: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    captions: Captions
    skipped: tuple[tuple[str, str, str], ...] = ()  # path, sha256, reason
    source_fps: NDArray[np.float64] | None = None
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    image_embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    frames: Frames | None = None
    body: str = ""
    renderer: str = ""
    camera: str = ""

    def __len__(self) -> int:
        """The number of motions N."""
        return len(self.path)

    def digest(self) -> str:
        """A SHA-256 of what training draws from it: motions, splits, captions, and which frames have pictures.

        Not of embeddings, which are made of those and added to the file by the first training.
        """
        captions, frames = self.captions, self.frames
        texts = [self.fps, self.split, self.source, self.texts, self.labels]
        result = hashlib.sha256(json.dumps(texts).encode())
        arrays = [
            self.rotations,
            self.transl,
            self.offsets,
            *(getattr(captions, item.name) for item in fields(captions)),
        ]
        arrays += [frames.offsets, frames.motion, frames.frame] if frames else []
        for array in arrays:
            result.update(np.ascontiguousarray(array).data)
        return result.hexdigest()

    def length(self, index: int) -> int:
        """The number of frames of motion `index`."""
        return int(self.offsets[index + 1] - self.offsets[index])

    def check_values(self) -> None:
        """Read all frames; raises DataError for the first motion with values that no motion has."""
        for start in range(0, len(self.transl), _BLOCK):
            block = slice(start, start + _BLOCK)
            # NaN is not smaller than anything.
            right = (np.abs(self.rotations[block]) <= _MAX_6D).all(axis=(1, 2))
            right &= (np.abs(self.transl[block]) <= MAX_METRES).all(axis=1)
            if not right.all():
                motion = int(np.searchsorted(self.offsets, start + int(right.argmin()), side="right")) - 1
                raise DataError(
                    f"{self.file}: motion {self.path[motion]} has values that are not finite or not of a motion",
                    "make the store again with: mclip preprocess DIR --force",
                )

    def motion(self, index: int) -> Motion:
        """Motion `index`."""
        frames = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        matrices = rot6d_to_matrix(np.asarray(self.rotations[frames], np.float64))
        return Motion(
            pose=matrix_to_axis_angle(matrices).astype(np.float32),
            transl=np.array(self.transl[frames]),
            fps=self.fps,
            betas=self.betas[index],
            gender=self.gender[index],
            origin={"store": self.file.name, "path": self.path[index]},
        )


class StoreWriter:
    """Fills a new store; made by `write_store`, which creates the arrays that are filled motion by motion."""

    def __init__(self, file: h5py.File, frames: int) -> None:
        self._file = file
        self._rotations = create(file, "rotations", (frames, *FEATURES), np.float32)
        self._transl = create(file, "transl", (frames, 3), np.float32)
        self._at = 0

    def add_motion(self, rotations: NDArray[np.float32], transl: NDArray[np.float32]) -> None:
        """Append the next motion's rotations (T, 24, 6) and transl (T, 3)."""
        frames = slice(self._at, self._at + len(rotations))
        self._rotations[frames] = rotations
        self._transl[frames] = transl
        self._at = frames.stop

    def array(self, name: str, values: NDArray[Any]) -> None:
        """Write a whole dataset of numbers."""
        create(self._file, name, values.shape, values.dtype)[...] = values

    def strings(self, name: str, values: Sequence[str]) -> None:
        """Write a whole dataset of strings."""
        encoded = [value.encode() for value in values]
        dtype = h5py.string_dtype("utf-8", max(1, max(map(len, encoded), default=1)))
        create(self._file, name, (len(encoded),), dtype)[...] = np.array(encoded, dtype)

    def images(self, images: NDArray[np.int64], data: Iterable[NDArray[np.uint8]]) -> None:
        """Write all images (P, 3): motion, frame and bytes of each; data: the bytes of all, in pieces of any size."""
        self.array("frames/offsets", np.concatenate([[0], np.cumsum(images[:, 2])]).astype(np.int64))
        self.array("frames/motion", images[:, 0].astype(np.int32))
        self.array("frames/frame", images[:, 1].astype(np.int32))
        dataset, at = create(self._file, "frames/data", (int(images[:, 2].sum()),), np.uint8), 0
        for piece in data:
            dataset[at : at + len(piece)] = piece
            at += len(piece)

    def splits(self, values: Sequence[str]) -> None:
        """Write the names of the motions' splits."""
        self.array("split", np.array([SPLITS.index(value) for value in values], np.uint8))
        self._file["split"].attrs["names"] = list(SPLITS)


@contextmanager
def write_store(
    path: Path,
    *,
    frames: int,
    fps: float,
    options: Mapping[str, Any],
    body: str = "",
    renderer: str = "",
    camera: str = "",
) -> Iterator[StoreWriter]:
    """Write a store of `frames` frames in all; it takes its place when the block ends well, and never before.

    body, renderer, camera: of the images, if there are any. Raises UsageError when `path` cannot be written.
    """
    with atomic_path(path) as temporary:
        with writing(temporary, "w") as file:
            file.attrs["schema"] = SCHEMA
            file.attrs["fps"] = float(fps)
            texts = {
                "created_by": f"mclip {__version__} preprocess",
                "options": json.dumps(options, ensure_ascii=False, sort_keys=True),
                "body": body,
                "renderer": renderer,
                "camera": camera,
            }
            for name, text in texts.items():
                # Of fixed length: HDF5 may search for ever in a damaged heap of strings of any length.
                file.attrs[name] = np.bytes_(text.encode())
            yield StoreWriter(file, frames)


def write_embeddings(path: Path, space: str, embeddings: NDArray[np.float32], *, images: bool = False) -> None:
    """Keep the embeddings (K, W) of a store's texts in it, or those (P, W) of its images, in place of older ones.

    Raises DataError when they do not fit the texts or images, or are no directions.
    """
    if not space or not set(space) <= SPACE_CHARACTERS:
        raise DataError(f"{space!r} is no name for a text space", "use letters, digits, '-' and '_'")
    store = read_store(path, mmap=True)
    wanted = len(store.frames or ()) if images else len(store.texts)
    if embeddings.ndim != 2 or len(embeddings) != wanted:
        what = "images" if images else "texts"
        raise DataError(f"{path}: has {wanted} {what}, the embeddings have shape {embeddings.shape}")
    lengths = (np.linalg.norm(block.astype(np.float64), axis=1) for block in blocks(embeddings))
    if not all((np.isfinite(length) & (length > 1e-6)).all() for length in lengths):
        raise DataError(f"{path}: embeddings of {space} are zero or not finite")
    del store
    with atomic_path(path) as temporary:
        shutil.copyfile(path, temporary)
        with writing(temporary, "r+") as file:
            name = f"{'image_' if images else ''}embeddings/{space}"
            if name in file:
                del file[name]
            create(file, name, embeddings.shape, np.float32)[...] = embeddings


def read_store(path: Path, *, mmap: bool = False) -> MotionStore:
    """Read and check a store.

    mmap: leave rotations, transl and embeddings in the file, mapped read-only and unchecked (`check_values`), instead
    of reading them into memory.
    Raises DataError for anything that is not a whole store of this schema.
    """
    with opened(path) as file:
        _check_schema(path, file)
        reader = Reader(path, file, mmap=mmap)
        offsets = reader.array("offsets", np.int64, None)
        count, total = len(offsets) - 1, int(offsets[-1]) if len(offsets) else 0
        if count < 0 or offsets[0] != 0 or (np.diff(offsets) <= 0).any():
            raise DataError(f"{path}: 'offsets' does not rise from 0")
        texts, labels = reader.strings("texts", None), reader.strings("labels", None)
        store = MotionStore(
            file=path,
            fps=reader.number("fps"),
            created_by=reader.text("created_by"),
            options=reader.json("options"),
            rotations=reader.array("rotations", np.float32, total, *FEATURES, mapped=True),
            transl=reader.array("transl", np.float32, total, 3, mapped=True),
            offsets=offsets,
            path=reader.strings("path", count),
            sha256=reader.strings("sha256", count),
            source=reader.strings("source", count),
            split=_splits(reader, count),
            betas=reader.array("betas", np.float32, count, 10),
            gender=reader.strings("gender", count),
            texts=texts,
            labels=labels,
            captions=_captions(reader),
            skipped=_skipped(reader),
            source_fps=reader.optional("source_fps", np.float64, count),
            embeddings=reader.tables("embeddings", len(texts)),
            image_embeddings=reader.tables("image_embeddings", None),
            frames=_frames(reader, count),
            body=reader.text("body"),
            renderer=reader.text("renderer"),
            camera=reader.text("camera"),
        )
    _check(store)
    if not mmap:
        store.check_values()
    return store


def _check(store: MotionStore) -> None:
    """Everything points at something that is there."""
    path, captions = store.file, store.captions
    if not 0 < store.fps < float("inf"):
        raise DataError(f"{path}: fps is {store.fps}")
    if not set(store.gender) <= set(GENDERS):
        raise DataError(f"{path}: 'gender' holds more than {', '.join(GENDERS)}")
    texts, labels = len(store.texts), len(store.labels)
    limits = {"motion": len(store), "text": texts, "mirrored": texts, "processed": texts, "label": labels}
    for name, limit in limits.items():
        column = getattr(captions, name)
        if len(column) != len(captions) or (column < 0).any() or (column >= limit).any():
            raise DataError(f"{path}: 'captions/{name}' points outside the store")
    if not len(captions.start) == len(captions.stop) == len(captions.layer) == len(captions):
        raise DataError(f"{path}: the captions' columns differ in length")
    rises = captions.category_offsets[0] == 0 and (np.diff(captions.category_offsets) >= 0).all()
    whole = rises and captions.category_offsets[-1] == len(captions.category)
    if not whole or (captions.category < 0).any() or (captions.category >= labels).any():
        raise DataError(f"{path}: 'categories' points outside the store")
    for space, embeddings in store.image_embeddings.items():
        if len(embeddings) != len(store.frames or ()):
            raise DataError(f"{path}: 'image_embeddings/{space}' does not fit the images")
    lengths = np.diff(store.offsets)[captions.motion]
    if (captions.start < 0).any() or (captions.stop <= captions.start).any() or (captions.stop > lengths).any():
        raise DataError(f"{path}: a caption's frames lie outside its motion")


def _check_schema(path: Path, file: h5py.File) -> None:
    schema = file.attrs.get("schema")
    if not isinstance(schema, (int, np.integer)):
        raise DataError(f"{path}: not a store of mclip", "make one with: mclip preprocess DIR")
    if schema != SCHEMA:
        raise DataError(
            f"{path}: has schema {schema}, this mclip reads {SCHEMA}", "make it again with: mclip preprocess DIR"
        )


def _captions(reader: Reader) -> Captions:
    names = ("motion", "start", "stop", "text", "mirrored", "label")
    columns = {name: reader.array(f"captions/{name}", np.int32, None) for name in names}
    count = len(columns["motion"])
    layer = reader.optional("captions/layer", np.int32, count)
    processed = reader.optional("captions/processed", np.int32, count)
    offsets, category = np.arange(count + 1, dtype=np.int64), columns["label"]
    if reader.has("categories"):
        offsets = reader.array("categories/offsets", np.int64, count + 1)
        category = reader.array("categories/label", np.int32, None)
    return Captions(
        **columns,
        layer=np.arange(count, dtype=np.int32) if layer is None else layer,
        processed=columns["text"] if processed is None else processed,
        category_offsets=offsets,
        category=category,
    )


def _splits(reader: Reader, motions: int) -> tuple[str, ...]:
    numbers = reader.array("split", np.uint8, motions)
    if (numbers >= len(SPLITS)).any():
        raise DataError(f"{reader.path}: 'split' holds numbers that are no split")
    return tuple(SPLITS[number] for number in numbers)


def _skipped(reader: Reader) -> tuple[tuple[str, str, str], ...]:
    path = reader.strings("skipped/path", None)
    sha256, reason = (reader.strings(f"skipped/{name}", len(path)) for name in ("sha256", "reason"))
    return tuple(zip(path, sha256, reason, strict=True))


def _frames(reader: Reader, motions: int) -> Frames | None:
    if not reader.has("frames"):
        return None
    offsets = reader.array("frames/offsets", np.int64, None)
    size = reader.shape("frames/data")
    motion = reader.array("frames/motion", np.int32, len(offsets) - 1)
    frame = reader.array("frames/frame", np.int32, len(offsets) - 1)
    rises = len(offsets) > 0 and offsets[0] == 0 and (np.diff(offsets) > 0).all() and size == (offsets[-1],)
    if not rises or (motion < 0).any() or (motion >= motions).any() or (frame < 0).any():
        raise DataError(f"{reader.path}: 'frames' points outside the store")
    return Frames(store=reader.path, offsets=offsets, motion=motion, frame=frame)
