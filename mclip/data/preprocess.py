"""A folder of motion files into one store, in worker processes, resumable after any end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip import __version__
from mclip.body.model import load_body
from mclip.data.coverage import Coverage, cover, file_keys
from mclip.data.images import Drawing
from mclip.data.journal import Entry, digest, open_journal, read_entry_images, read_entry_takes
from mclip.data.labelling import Labelling, gather_captions, read_labelling
from mclip.data.labels import split_take
from mclip.data.sources import source_of
from mclip.data.splits import assign_splits
from mclip.data.store import SPLITS, MotionStore, read_store, write_store
from mclip.data.workers import Job, run_jobs
from mclip.errors import DataError, UsageError
from mclip.files import sha256
from mclip.formats import SUFFIXES
from mclip.formats.folder import find_sources
from mclip.formats.pool import check_workers
from mclip.formats.tables import load_rig_table
from mclip.motion import MAX_FPS, MIN_FPS
from mclip.render.frames import find_backend

# Options that no file's own entry depends on.
_DECIDED_AT_THE_END = ("labels", "babel", "humanml3d", "split", "val", "test", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What preprocess did.

    done       False if the output was there already, made from the same files with the same options
    reused     files whose result an earlier, interrupted run had kept
    seconds    of motion
    splits     motions per split
    skipped    (path, reason)
    notes      what else the user should know, one sentence each
    coverage   how files and the labels of BABEL or HumanML3D came together; None without those
    """

    output: Path
    done: bool
    files: int
    reused: int
    motions: int
    frames: int
    seconds: float
    captions: int
    texts: int
    images: int
    splits: Mapping[str, int]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    coverage: Coverage | None = None


def preprocess(
    root: Path,
    output: Path,
    *,
    fps: float = 30.0,
    labels: Path | None = None,
    babel: Path | None = None,
    humanml3d: Path | None = None,
    split: str | None = None,
    rig: Path | None = None,
    workers: int | None = None,
    dask: str | None = None,
    val: float = 0.05,
    test: float = 0.1,
    seed: int = 0,
    drawing: Drawing | None = None,
    force: bool = False,
) -> Report:
    """Turn every motion file under `root` into the store `output`.

    fps: the store's frame rate; labels: a label file (mclip.data.labels); babel, humanml3d: folders with those labels
    for AMASS (mclip.data.babel, mclip.data.humanml3d); all that are given are used, and without any of them captions
    come from file names; split: "babel", "amass" or "seed", by default the first that applies; rig: a joint table for
    skeletons that are not known; workers: processes, by default one per processor; dask: the address of a Dask cluster
    that does the work instead (mclip.formats.cluster); val and test: the parts of the
    recordings of each kind that are kept for validation and testing, chosen by seed, where no official split is used;
    drawing: how frames are drawn, None for no pictures; force: replace an output made with other options.
    The result depends on the files and options alone. An interrupted run is taken up again by the next with the same
    output.
    Raises UsageError for options out of range or an output that may not be replaced, DataError when there is nothing
    to put into the store, AssetError when the body or the renderer is missing.
    """
    _check_options(output, fps, val, test)
    check_workers(workers, dask)
    if rig:
        load_rig_table(rig)
    if drawing:
        load_body(drawing.body)
        find_backend(drawing.renderer)
    paths, problems = find_sources(root)
    _check_output(output, [root / path for path in paths], [labels, rig, drawing.body if drawing else None])
    if not paths and not problems:
        raise DataError(f"{root}: no motion files", f"looked for {', '.join(SUFFIXES)} in it and the folders below")
    every = [*paths, *(path for path, _ in problems)]
    labelling = read_labelling(root, every, labels=labels, babel=babel, humanml3d=humanml3d, split=split)
    _check_output(output, [file for files in labelling.files.values() for file in files], [])
    options = {
        "mclip": __version__,
        "fps": fps,
        "rig": _sha256_of(rig),
        "skeletons": _skeletons(root, paths),
        "labels": _sha256_of(labels),
        "val": val,
        "test": test,
        "seed": seed,
        "renderer": drawing.renderer if drawing else "",
        "camera": drawing.camera if drawing else "",
        "body": "" if drawing is None else _sha256_of(drawing.body) or "free",
    }
    # Named only where they are given: stores made before there were such labels stay as they are.
    options |= {name: _digest_of(files) for name, files in labelling.files.items()}
    options |= {"split": split} if split else {}
    unopened = [Entry(path=path, sha256="", reason=reason) for path, reason in problems]
    with open_journal(output) as journal:
        if output.exists() and not force:
            store = _existing(root, output, paths, unopened, options)
            journal.clear()
            return _report(store, root, labelling, done=False)
        # What an entry depends on besides its file; captions and splits are decided at the end.
        key = digest({name: options[name] for name in options if name not in _DECIDED_AT_THE_END})
        jobs = [
            Job(root=root, path=path, journal=journal.folder, fps=fps, rig=rig, drawing=drawing, key=key)
            for path in paths
        ]
        if dask is not None:
            jobs = [job.absolute() for job in jobs]
        entries = sorted([*run_jobs(jobs, workers or _processors(), dask), *unopened], key=lambda entry: entry.path)
        if not any(entry.takes for entry in entries):
            journal.clear()
            first = entries[0]
            raise DataError(f"{root}: none of {len(entries)} motion files can be used", f"{first.path}: {first.reason}")
        notes = _assemble(journal.store, root, entries, options, labelling)
        journal.publish(output)
        journal.clear()
        reused = sum(entry.reused for entry in entries)
        return _report(read_store(output, mmap=True), root, labelling, done=True, reused=reused, notes=notes)


def _check_output(output: Path, sources: Sequence[Path], others: Sequence[Path | None]) -> None:
    """Refuse to replace what is read, forced or not."""
    inputs = {path.resolve() for path in (*sources, *others) if path is not None}
    if output.exists() and output.resolve() in inputs:
        raise UsageError(f"{output}: the output would replace an input", "choose another name with -o")


def _check_options(output: Path, fps: float, val: float, test: float) -> None:
    if output.is_dir():
        raise UsageError(f"{output}: is a folder", "give the name of a file with -o")
    if not MIN_FPS <= fps <= MAX_FPS:
        raise UsageError(f"--fps {fps:g} is not between {MIN_FPS:g} and {MAX_FPS:g}")
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UsageError(f"--val {val:g} and --test {test:g} leave nothing to train on", "both are parts of 1")


def _sha256_of(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _digest_of(files: Sequence[Path]) -> str:
    """A digest of the files' names and contents."""
    return digest([(file.name, _sha256_of(file)) for file in files])


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _skeletons(root: Path, paths: Sequence[str]) -> str:
    """A digest of all .asf files that .amc files may refer to, "" without any."""
    folders = sorted({(root / path).parent for path in paths if path.lower().endswith(".amc")})
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.suffix.lower() == ".asf"]
    return digest([(file.relative_to(root).as_posix(), _content(file)) for file in files]) if files else ""


def _existing(
    root: Path, output: Path, paths: Sequence[str], unopened: Sequence[Entry], options: Mapping[str, Any]
) -> MotionStore:
    """An output that is as this run would make it; UsageError for any other."""
    try:
        store = read_store(output, mmap=True)
    except DataError as error:
        raise UsageError(f"{error.message}, and is in the way", "replace it with --force") from None
    names = {*options, *(name for name in _DECIDED_AT_THE_END if name in store.options)}
    different = sorted(name for name in names if store.options.get(name) != options.get(name))
    if different:
        raise UsageError(
            f"{output}: exists, made with other options ({', '.join(different)})",
            "replace it with --force, or choose another -o",
        )
    held = _files(store)
    with ThreadPoolExecutor() as pool:
        now = dict(zip(paths, pool.map(lambda path: _content(root / path), paths), strict=True))
    now |= {entry.path: "" for entry in unopened}
    if held != now:
        changed = sum(held.get(path) != now.get(path) for path in held.keys() | now.keys())
        raise UsageError(
            f"{output}: exists, made before {changed} of the files changed, came or went",
            "replace it with --force, or choose another -o",
        )
    return store


def _files(store: MotionStore) -> dict[str, str]:
    """The files a store was made from, skipped ones included, with the SHA-256 of each."""
    files = {split_take(path)[0]: digest for path, digest in zip(store.path, store.sha256, strict=True)}
    return files | {path: digest for path, digest, _ in store.skipped}


def _content(path: Path) -> str:
    """The SHA-256 of a file's bytes, "" if it cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _assemble(
    path: Path, root: Path, entries: Sequence[Entry], options: Mapping[str, Any], labelling: Labelling
) -> tuple[str, ...]:
    """Write the store from the entries, in their order, to `path`; returns what the user should know."""
    takes = [(entry, take) for entry in entries for take in entry.takes]
    paths = [f"{entry.path}#{take.name}" if take.name else entry.path for entry, take in takes]
    hashes = [entry.sha256 for entry, _ in takes]
    frames = [take.frames for _, take in takes]
    skipped = [entry for entry in entries if entry.reason]
    fps = float(options["fps"])
    keys = file_keys(root, paths)
    lengths = [take for _, take in takes]
    captions = gather_captions(labelling, paths, keys, lengths, [entry.path for entry in skipped], fps)
    official, split_notes = labelling.official_split(keys)
    split = assign_splits(
        paths,
        hashes,
        captions.classes,
        captions.split,
        official=official,
        val=options["val"],
        test=options["test"],
        seed=options["seed"],
    )
    _check_space(path.parent, entries)
    drawn = {name: str(options[name]) for name in ("body", "renderer", "camera")}
    with write_store(path, frames=sum(frames), fps=fps, options=options, **drawn) as writer:
        betas: list[NDArray[np.float32]] = []
        genders: list[str] = []
        images: list[NDArray[np.int64]] = []
        for entry in entries:
            for take, shown in read_entry_takes(entry):
                writer.add_motion(take.rotations, take.transl)
                images.append(np.insert(shown, 0, len(betas), axis=1))
                betas.append(take.betas)
                genders.append(take.gender)
        writer.array("offsets", np.cumsum([0, *frames], dtype=np.int64))
        writer.strings("path", paths)
        writer.strings("sha256", hashes)
        writer.strings("source", [source_of(path) for path in paths])
        writer.splits(split)
        writer.array("betas", np.array(betas, np.float32))
        writer.strings("gender", genders)
        writer.array("source_fps", np.array([take.source_fps for take in lengths], np.float64))
        captions.write(writer)
        if options["renderer"]:
            pieces = (piece for entry in entries for piece in read_entry_images(entry))
            writer.images(np.concatenate(images), pieces)
        for name in ("path", "sha256", "reason"):
            writer.strings(f"skipped/{name}", [getattr(entry, name) for entry in skipped])
    used = [entry.sha256 for entry in entries if entry.takes]
    copies = len(used) - len(set(used))
    note = f"{copies} of {len(used)} files are copies of others; copies are in the same split"
    return (*captions.notes, *split_notes, *((note,) if copies else ()))


def _check_space(folder: Path, entries: Sequence[Entry]) -> None:
    """HDF5 takes a full disk badly, and says so late."""
    needed = sum(entry.file.stat().st_size for entry in entries if entry.file)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{folder.parent}: the store needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free",
            "free some space and run it again: what was finished is kept",
        )


def _report(
    store: MotionStore,
    root: Path,
    labelling: Labelling,
    *,
    done: bool,
    reused: int | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    files = len(_files(store))
    return Report(
        output=store.file,
        done=done,
        files=files,
        reused=files if reused is None else reused,
        motions=len(store),
        frames=len(store.transl),
        seconds=len(store.transl) / store.fps,
        captions=len(store.captions),
        texts=len(store.texts),
        images=len(store.frames) if store.frames else 0,
        splits={name: store.split.count(name) for name in SPLITS},
        skipped=tuple((path, reason) for path, _, reason in store.skipped),
        notes=notes,
        coverage=cover(store, root, labelling.annotations) if labelling.sets else None,
    )
