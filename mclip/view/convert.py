"""From motion files to others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mclip.console import progress
from mclip.errors import MclipError, UsageError
from mclip.formats import WRITABLE, check_readable, check_writable, load, load_all
from mclip.formats.folder import gather, reason_of
from mclip.formats.positions import HUMANML3D_FPS
from mclip.formats.style import Chosen, Style, choose
from mclip.motion import MAX_FPS, MAX_FRAMES, MIN_FPS, Motion, load_npz
from mclip.runtime.prompts import slugify
from mclip.view.files import save


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A file that was written, what is in it, and how."""

    path: Path
    motion: Motion
    style: Chosen


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not converted, and why."""

    path: str
    reason: str


def convert(
    source: Path,
    target: Path | None = None,
    style: Style | None = None,
    *,
    fps: float | None = None,
    rig: Path | None = None,
    take: str | None = None,
    force: bool = False,
) -> Converted:
    """Read `source`, resample it to `fps` if given, and write it to `target` by its suffix.

    target: `source` with the suffix .npz if None; rig, take: as in `mclip.formats.load`; force: replace any file.
    Raises UsageError for an output that may not be written, MotionError for an input that cannot be read.
    """
    check_readable(source)
    path = source.with_suffix(".npz") if target is None else target
    _check_target(source, path, force=force)
    chosen, rate = _choose(path, style, fps)
    return _write(source, load(source, rig=rig, take=take), path, style, chosen, rate)


def _write(
    source: Path, motion: Motion, path: Path, style: Style | None, chosen: Chosen, fps: float | None
) -> Converted:
    if fps is not None:
        if motion.seconds * fps > MAX_FRAMES:
            raise UsageError(f"{source}: at {fps:g} fps it has more than {MAX_FRAMES} frames", "choose a lower --fps")
        motion = motion.resample(fps)
    motion = replace(motion, origin={**motion.origin, "command": "convert", "source": source.name})
    save(path, motion, style)
    return Converted(path, motion, chosen)


def convert_all(
    sources: Sequence[Path],
    folder: Path,
    suffix: str = ".npz",
    style: Style | None = None,
    *,
    fps: float | None = None,
    rig: Path | None = None,
    take: str | None = None,
    force: bool = False,
) -> Iterator[Converted | Skipped]:
    """Convert files, and those in folders, into files of `folder`, where those of a folder keep their places.

    A file that cannot be converted does not end it, and is named with the reason. Of a .glb with several animations
    each becomes a file, unless `take` names one. Options: see `convert`.
    Raises UsageError, before anything is written, for what is wrong for all; MotionError and DataError as
    `mclip.formats.folder.gather`.
    """
    if suffix not in WRITABLE:
        raise UsageError(f"--to {suffix}: mclip does not write it", f"it writes {', '.join(WRITABLE)}")
    chosen, rate = _choose(Path(f"a{suffix}"), style, fps)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file", "name a folder with -o")
    targets: dict[Path, Path] = {}
    skipped = []
    for source in sources:
        found, bad = gather([source])
        skipped += [Skipped(path, reason) for path, reason in bad]
        for path in found:
            place = path.relative_to(source) if source.is_dir() else Path(path.name)
            targets.setdefault(path, folder / place.with_suffix(suffix))
    return _convert_each(targets, skipped, style, chosen, fps=rate, rig=rig, take=take, force=force)


def _convert_each(
    targets: Mapping[Path, Path],
    skipped: Sequence[Skipped],
    style: Style | None,
    chosen: Chosen,
    *,
    fps: float | None,
    rig: Path | None,
    take: str | None,
    force: bool,
) -> Iterator[Converted | Skipped]:
    yield from skipped
    written: dict[Path, Path] = {}
    with progress("convert", len(targets)) as bar:
        for source, target in targets.items():
            try:
                several = take is None and source.suffix.lower() == ".glb"
                motions = load_all(source, rig=rig) if several else [("", load(source, rig=rig, take=take))]
                for name, motion in motions:
                    path = target.with_stem(f"{target.stem}-{slugify(name)}") if len(motions) > 1 else target
                    if path in written:
                        raise UsageError(f"{path} was made of {written[path]}")
                    _check_target(source, path, force=force)
                    yield _write(source, motion, path, style, chosen, fps)
                    written[path] = source
            except (MclipError, OSError, MemoryError) as error:
                yield Skipped(str(source), reason_of(error, source))
            bar.advance(note=source.name)


def _choose(path: Path, style: Style | None, fps: float | None) -> tuple[Chosen, float | None]:
    """The style and frame rate of a file to be written to `path`."""
    chosen = choose(path, style or Style())
    if path.suffix.lower() == ".npy":
        if fps not in (None, HUMANML3D_FPS):
            raise UsageError(f"--fps {fps:g}: a .npy has {HUMANML3D_FPS:g}", "leave --fps out, or choose .csv")
        fps = HUMANML3D_FPS
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise UsageError(f"--fps {fps:g} is not between {MIN_FPS:g} and {MAX_FPS:g}")
    return chosen, fps


def _check_target(source: Path, path: Path, *, force: bool) -> None:
    check_writable(path)
    try:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder", "name the file to write")
        if not path.exists():
            return
        if source.exists() and path.samefile(source):
            raise UsageError(f"{path}: the output would replace the input", "name another file to write")
    except OSError as error:
        raise UsageError(f"{path}: cannot write there ({error.strerror or error})", "choose another place") from None
    if not force and not _is_converted(path):
        raise UsageError(f"{path}: is already there, and not known to be mclip convert's", "--force overwrites it")


def _is_converted(path: Path) -> bool:
    if path.suffix.lower() != ".npz":
        return False
    try:
        return load_npz(path).origin.get("command") == "convert"
    except MclipError:
        return False
