"""Finished work beside an unfinished output: `<output>.partial/` holds one entry per source file, and a lock.

An entry is an .npz without that suffix, named by a digest of everything its content depends on, and written atomically:
one that is there is whole and right, whichever run wrote it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mclip.data.sources import Take
from mclip.files import atomic_path, cannot_write
from mclip.locks import empty, own_folder

SUFFIX = ".partial"


class Length(NamedTuple):
    """A motion of a file: its name, its frames in the store, and the rate and frames it has in the file."""

    name: str
    frames: int
    source_fps: float
    source_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What became of one source file.

    file    the entry's file, or None if nothing was kept (the file could not even be read to the end)
    sha256  of the source file, "" if it could not be read
    reason  why it was skipped, "" if it was not
    takes   its motions
    reused  whether an earlier run made it
    """

    path: str
    sha256: str
    file: Path | None = None
    reason: str = ""
    takes: tuple[Length, ...] = ()
    reused: bool = False


def digest(*parts: object) -> str:
    """A name for what depends on `parts` and on nothing else."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, sort_keys=True).encode()).hexdigest()[:40]


def write_entry(file: Path, path: str, sha256: str, *, takes: Sequence[Take] = (), reason: str = "") -> Entry:
    """Keep a file's motions, or the reason why it has none."""
    lengths = tuple(Length(take.name, len(take.rotations), take.source_fps, take.source_frames) for take in takes)
    meta = {"path": path, "sha256": sha256, "reason": reason, "takes": lengths, "genders": [t.gender for t in takes]}
    arrays: dict[str, Any] = {"meta": np.array(json.dumps(meta))}
    for number, take in enumerate(takes):
        arrays |= {
            f"rotations{number}": take.rotations,
            f"transl{number}": take.transl,
            f"betas{number}": take.betas,
            f"frames{number}": np.array([frame for frame, _ in take.images], np.int32),
            f"sizes{number}": np.array([len(image) for _, image in take.images], np.int64),
            f"images{number}": np.frombuffer(b"".join(image for _, image in take.images), np.uint8),
        }
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)
    return Entry(path=path, sha256=sha256, file=file, reason=reason, takes=lengths)


def read_entry(file: Path) -> Entry | None:
    """The entry, or None if there is none or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            meta = json.loads(str(arrays["meta"]))
        return Entry(
            path=meta["path"],
            sha256=meta["sha256"],
            file=file,
            reason=meta["reason"],
            takes=tuple(Length(str(name), int(a), float(fps), int(b)) for name, a, fps, b in meta["takes"]),
            reused=True,
        )
    except Exception:
        # Written atomically, so only a failing disk gets here; numpy and zipfile have a dozen words for that.
        return None


def read_entry_takes(entry: Entry) -> Iterator[tuple[Take, NDArray[np.int64]]]:
    """The motions of an entry, one after another, without their images: of those (P, 2), frame and bytes of each."""
    if entry.file is None:
        return
    with np.load(entry.file, allow_pickle=False) as arrays:
        genders = json.loads(str(arrays["meta"]))["genders"]
        for number, length in enumerate(entry.takes):
            take = Take(
                name=length.name,
                rotations=arrays[f"rotations{number}"],
                transl=arrays[f"transl{number}"],
                betas=arrays[f"betas{number}"],
                gender=genders[number],
                source_fps=length.source_fps,
                source_frames=length.source_frames,
            )
            yield take, np.stack([arrays[f"frames{number}"], arrays[f"sizes{number}"]], axis=1)


def read_entry_images(entry: Entry) -> Iterator[NDArray[np.uint8]]:
    """The bytes of an entry's images, those of one motion after those of another."""
    if entry.file is None:
        return
    with np.load(entry.file, allow_pickle=False) as arrays:
        for number in range(len(entry.takes)):
            yield arrays[f"images{number}"]


class Journal:
    """The locked folder of entries of one output; made by `open_journal`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The output is made in here: what a kill leaves of it goes with the folder.
        self.store = folder / "store"

    def publish(self, output: Path) -> None:
        """Put the finished store in its place."""
        try:
            os.replace(self.store, output)
        except OSError as error:
            raise cannot_write(output, error) from None

    def clear(self) -> None:
        """Take all entries away: the output is whole, or there will be none."""
        empty(self.folder)


@contextlib.contextmanager
def open_journal(output: Path) -> Iterator[Journal]:
    """Open the journal of `output` for this process alone; in the end it is taken away if it holds no entries.

    The lock goes with the process, however that ends. Raises UsageError when another process holds it or the place
    cannot be written.
    """
    folder = output.with_name(output.name + SUFFIX)
    busy = f"{output}: another mclip preprocess is writing it"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(own_folder(folder, busy, "wait for it, or choose another -o"))
        except OSError as error:
            raise cannot_write(output, error) from None
        yield Journal(folder)
