"""The latents of a folder of motions, in one file beside them, so that a search reads no motion.

An index MUST begin with the eight bytes of MAGIC, the length of the header as a little-endian uint64, and the header,
UTF-8 JSON. Two little-endian arrays follow, each at the next multiple of 64 bytes, the windows of one motion after
another: bounds (W, 2) int32, their first frames and those after the last, and latents (W, D) float32, of unit length,
which are mapped into memory and never read as a whole. The header has

    pack, sha256   name and digest of the pack that made the latents; those of another pack mean something else
    windows        W; width: D
    fps            frames per second of the bounds
    files          columns: paths below the folder, bytes, mtimes in ns or 0, SHA-256, number of windows or, for files
                   of named motions or none, [[animation, windows], ...], reasons

A file whose size and mtime are as they were is not looked at again. If the mtime alone differs its SHA-256 decides. An
mtime of 0 stands for one so recent that the file may have changed since within the clock's resolution. Files that
cannot be read are there with the reason and without motions, so that they are tried again only when they change.

The file is replaced as a whole, while motions are being encoded every CHECKPOINT_S seconds: whatever ends the program
leaves an index that is true as far as it goes, and the next run goes on from there.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mclip.console import progress
from mclip.errors import DataError, MotionError, PackError, UsageError
from mclip.files import atomic_path, cannot_write, new_folder, open_regular, sha256, sweep
from mclip.formats import SUFFIXES
from mclip.formats.folder import File, read_files, scan
from mclip.locks import locked
from mclip.runtime.classify import check_length
from mclip.runtime.encoded import Encoded
from mclip.runtime.engine import Engine
from mclip.runtime.prior import unit

MAGIC = b"mclipix1"
NAME = ".mclip-index"
CHECKPOINT_S = 20.0
_ALIGN = 64
# A million files with names of a hundred letters.
MAX_HEADER_BYTES = 400_000_000
# File systems tell times apart to two seconds at worst.
_RECENT_NS = 2_000_000_000


class Entry(NamedTuple):
    """A file of the library.

    path     below the folder, with "/"
    size     bytes; mtime: in ns, 0 if too recent to be relied on
    motions  (animation, number of windows) each; the animation is "" in files that hold one
    reason   why there are none, else ""
    """

    path: str
    size: int
    mtime: int
    sha256: str
    motions: tuple[tuple[str, int], ...]
    reason: str

    @property
    def windows(self) -> int:
        """How many rows of the latents are the file's."""
        return sum(windows for _, windows in self.motions)


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The windows of a library: latents (W, D), bounds (W, 2) in frames at fps, the files they belong to in order.

    pack, digest: which pack made the latents
    """

    pack: str
    digest: str
    fps: float
    entries: tuple[Entry, ...]
    latents: NDArray[np.float32]
    bounds: NDArray[np.int32]

    def save(self, path: Path) -> None:
        """Write the index (module docstring), atomically."""
        header = json.dumps(
            {
                "pack": self.pack,
                "sha256": self.digest,
                "windows": len(self.latents),
                "width": self.latents.shape[1],
                "fps": self.fps,
                "files": [
                    [e.path for e in self.entries],
                    [e.size for e in self.entries],
                    [e.mtime for e in self.entries],
                    [e.sha256 for e in self.entries],
                    [_packed(e.motions) for e in self.entries],
                    [e.reason for e in self.entries],
                ],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(MAGIC + struct.pack("<Q", len(header)) + header)
            for array in (self.bounds.astype("<i4"), self.latents.astype("<f4", copy=False)):
                file.write(b"\0" * (_aligned(file.tell()) - file.tell()))
                file.write(array.data)


def _packed(motions: tuple[tuple[str, int], ...]) -> Any:
    return motions[0][1] if len(motions) == 1 and not motions[0][0] else motions


def _unpacked(motions: Any) -> tuple[tuple[str, int], ...]:
    return (("", motions),) if type(motions) is int else tuple((str(name), int(windows)) for name, windows in motions)


def _aligned(offset: int) -> int:
    return offset + -offset % _ALIGN


def load_index(path: Path) -> Index:
    """Open an index. Raises DataError if the file is none, or damaged; OSError if it cannot be opened."""
    with open_regular(path) as file:
        _check_magic(path, file.read(len(MAGIC)))
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, os.fstat(file.fileno()).st_size):
                raise ValueError(f"its header has {length} bytes")
            return _parse(path, file, json.loads(file.read(length)))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, struct.error) as error:
            raise DataError(f"{path}: the index is damaged ({error})", "--rebuild makes it anew") from None


def _check_magic(path: Path, start: bytes) -> None:
    if start != MAGIC:
        raise DataError(f"{path}: is not an index of mclip search", "name another file with --index")


def _parse(path: Path, file: BinaryIO, header: Any) -> Index:
    paths, sizes, mtimes, digests, motions, reasons = header["files"]
    # Types column by column: an index has tens of thousands of files, and opening it is most of a search.
    for column, kind in ((paths, str), (sizes, int), (mtimes, int), (digests, str), (reasons, str)):
        if set(map(type, column)) - {kind}:
            raise TypeError("a column has values of another type")
    columns = zip(paths, sizes, mtimes, digests, map(_unpacked, motions), reasons, strict=False)
    entries = tuple(map(partial(tuple.__new__, Entry), columns))  # half the time of calling Entry
    if {len(column) for column in header["files"]} != {len(entries)}:
        raise ValueError("its columns are not of one length")
    rows, width = int(header["windows"]), int(header["width"])
    counts = [windows for entry in entries for _, windows in entry.motions]
    if sum(counts) != rows or min(counts, default=1) < 1 or width < 1:
        raise ValueError("its tables do not fit together")
    fps = float(header["fps"])
    if not 1 <= fps <= 1000:
        raise ValueError(f"it has {fps:g} frames per second")
    bounds = _aligned(file.tell())
    latents = _aligned(bounds + 8 * rows)
    if os.fstat(file.fileno()).st_size != latents + 4 * rows * width:
        raise ValueError("its length is wrong")

    def array(offset: int, dtype: str, *shape: int) -> NDArray[Any]:
        # Nothing cannot be mapped.
        return np.memmap(file, dtype, "r", offset, shape) if rows else np.zeros(shape, dtype)

    return Index(
        pack=str(header["pack"]),
        digest=str(header["sha256"]),
        fps=fps,
        entries=entries,
        latents=array(latents, "<f4", rows, width),
        bounds=array(bounds, "<i4", rows, 2),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """An index that is up to date, how many files were encoded for it, and (path, reason) of what cannot be used."""

    index: Index
    encoded: int
    skipped: tuple[tuple[str, str], ...]


def update_index(
    engine: Engine,
    folder: Path,
    path: Path | None = None,
    *,
    rebuild: bool = False,
    workers: int | None = None,
    dask: str | None = None,
) -> Update:
    """The index of a folder, brought up to date: files that are new or have changed are encoded, those gone left out.

    path: where it is, FOLDER/NAME if None; rebuild: do not use what is there; workers, dask: see `read_files`.
    Raises DataError for a folder without motion files, PackError when another pack made the index, and UsageError when
    it has to be written and cannot be.
    """
    path = path or folder / NAME
    found, problems = scan(folder)
    if not found:
        raise DataError(f"{folder}: holds no motion files", f"mclip reads {', '.join(SUFFIXES)}")
    library, encoded = _Library(engine, folder, path, _open(engine, path, rebuild=rebuild)), 0
    if not library.is_true_of(found):
        with _alone(path):
            # Another run may have brought it up to date by now.
            library = _Library(engine, folder, path, _open(engine, path, rebuild=rebuild))
            encoded = library.update(found, workers, dask)
    bad = [(entry.path, entry.reason) for entry in library.index.entries if entry.reason]
    skipped = sorted((str(folder / name), reason) for name, reason in (*problems, *bad))
    return Update(library.index, encoded, tuple(skipped))


def index_files(engine: Engine, paths: Sequence[Path], workers: int | None = None, dask: str | None = None) -> Update:
    """An index of single files, which is kept nowhere. workers, dask: see `read_files`."""
    library = _Library(engine, Path(), None, None)
    encoded = library.update({str(path): path.stat() for path in paths}, workers, dask)
    return Update(library.index, encoded, tuple((e.path, e.reason) for e in library.index.entries if e.reason))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """A block in which no other process writes the index: the slower of two would put less in place of more."""
    busy = f"{path}: another mclip search is reading the library's motions"
    with ExitStack() as stack:
        try:
            stack.enter_context(new_folder(path.parent))
            stack.enter_context(locked(path.with_name(f"{path.name}.lock"), busy, "wait for it"))
        except OSError as error:
            raise UsageError(cannot_write(path, error).message, "keep the index elsewhere with --index") from None
        sweep(path)
        yield


def _open(engine: Engine, path: Path, *, rebuild: bool) -> Index | None:
    try:
        if rebuild:
            with open_regular(path) as file:
                _check_magic(path, file.read(len(MAGIC)))
            return None
        index = load_index(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})", "name another file with --index") from None
    if index.digest != engine.pack.digest:
        other = index.pack != engine.manifest.name
        raise PackError(
            f"{path}: was made with the pack {index.pack}, not {engine.manifest.name}"
            if other
            else f"{path}: was made with another pack of the name {index.pack}",
            "search with that one (--pack), or make the index anew with --rebuild",
        )
    if index.latents.shape[1] != engine.manifest.latent:
        raise DataError(f"{path}: the index is damaged (its latents are of another width)", "--rebuild makes it anew")
    return index


class _Library:
    """An index while it is brought up to date; path: where it is kept, None for nowhere."""

    def __init__(self, engine: Engine, folder: Path, path: Path | None, old: Index | None) -> None:
        self._engine, self._folder, self._path = engine, folder, path
        self.index = old or self._collect([], [])

    def is_true_of(self, found: Mapping[str, os.stat_result]) -> bool:
        """Whether the index has these files as they are, as far as size and mtime tell."""
        return len(found) == len(self.index.entries) and all(
            name == entry.path and status.st_size == entry.size and status.st_mtime_ns == entry.mtime
            for (name, status), entry in zip(found.items(), self.index.entries, strict=True)
        )

    def update(self, found: Mapping[str, os.stat_result], workers: int | None, dask: str | None) -> int:
        """Encode what is new or has changed; returns how many files that were."""
        if self.is_true_of(found):
            return 0
        old = {entry.path: entry for entry in self.index.entries}
        kept = {name: self._reuse(old.get(name), name, status) for name, status in found.items()}
        wanted = [name for name, entry in kept.items() if entry is None]
        if not wanted and list(kept.values()) == list(self.index.entries):
            return 0
        rows = self._rows()
        done = {name: (entry, rows[name]) for name, entry in kept.items() if entry is not None}
        self._save(found, done)  # now, while little is lost if it cannot be
        saved = time.monotonic()
        try:
            with progress("index", len(found), len(done)) as bar:
                names = {self._folder / name: name for name in wanted}
                for file in read_files(list(names), self._engine.manifest.fps, workers, dask):
                    name = names[file.path]
                    done[name] = self._encode(name, found[name], file)
                    bar.advance(note=file.path.name)
                    if time.monotonic() - saved > CHECKPOINT_S:
                        self._save(found, done)
                        saved = time.monotonic()
        finally:
            # Ctrl-C keeps what was finished.
            if wanted:
                self._save(found, done)
        return len(wanted)

    def _reuse(self, entry: Entry | None, name: str, status: os.stat_result) -> Entry | None:
        """The entry of a file that has not changed, else None."""
        if entry is None or entry.size != status.st_size:
            return None
        if entry.mtime == status.st_mtime_ns:
            return entry
        try:
            same = sha256(self._folder / name) == entry.sha256
        except OSError:
            return None
        return entry._replace(mtime=_mtime(status)) if same else None

    def _encode(self, name: str, status: os.stat_result, file: File) -> tuple[Entry, _Rows]:
        motions: list[tuple[str, int]] = []
        reasons, encoded = [file.reason] if file.reason else [], list[Encoded]()
        for animation, motion in file.motions:
            try:
                check_length(self._engine.manifest, motion)
            except MotionError as error:
                reasons.append(f"{animation} {error.message}".strip())
                continue
            (windows,) = self._engine.encode_motions([motion])
            windows.latents[:] = unit(windows.latents)
            motions.append((animation, len(windows.start)))
            encoded.append(windows)
        entry = Entry(name, status.st_size, _mtime(status), file.sha256, tuple(motions), "; ".join(reasons))
        return entry, self._join(
            [(item.latents, np.stack([item.start, item.stop], axis=1).astype(np.int32)) for item in encoded]
        )

    def _rows(self) -> dict[str, _Rows]:
        """What the index has of each file, in memory: a mapped file cannot be replaced everywhere."""
        latents, bounds = np.array(self.index.latents), np.array(self.index.bounds)
        rows, at = {}, 0
        for entry in self.index.entries:
            here = slice(at, at + entry.windows)
            rows[entry.path] = latents[here], bounds[here]
            at += entry.windows
        return rows

    def _save(self, found: Iterable[str], done: Mapping[str, tuple[Entry, _Rows]]) -> None:
        items = [done[name] for name in found if name in done]
        self.index = self._collect([entry for entry, _ in items], [rows for _, rows in items])
        if self._path is not None:
            self.index.save(self._path)

    def _collect(self, entries: Sequence[Entry], rows: Sequence[_Rows]) -> Index:
        manifest = self._engine.manifest
        latents, bounds = self._join(rows)
        return Index(manifest.name, self._engine.pack.digest, manifest.fps, tuple(entries), latents, bounds)

    def _join(self, rows: Sequence[_Rows]) -> _Rows:
        none = np.zeros((0, self._engine.manifest.latent), np.float32), np.zeros((0, 2), np.int32)
        return np.concatenate([none[0], *(row[0] for row in rows)]), np.concatenate(
            [none[1], *(row[1] for row in rows)]
        )


_Rows = tuple[NDArray[np.float32], NDArray[np.int32]]
"""latents (W, D) and bounds (W, 2) of a file's windows"""


def _mtime(status: os.stat_result) -> int:
    """The time of the last change, 0 if it is too recent to be relied on."""
    return status.st_mtime_ns if time.time_ns() - status.st_mtime_ns > _RECENT_NS else 0
