"""Motion files of any kind in and out; .glb is written by mclip.view.files, since it holds a body."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mclip.errors import MotionError, UsageError, meant
from mclip.formats.style import Style, choose
from mclip.motion import Motion, load_npz

if TYPE_CHECKING:
    from mclip.skeleton.retarget import RigMotion

SUFFIXES: tuple[str, ...] = (".npz", ".bvh", ".amc", ".glb")
WRITABLE: tuple[str, ...] = (".npz", ".bvh", ".glb", ".csv", ".npy")
# What mclip view makes of a motion.
_VIEWS = (".html", ".png", ".webp", ".gif", ".mp4")
# Animations named in a message, which is to stay within three lines.
_SHOWN = 12


def load(path: Path, *, rig: Path | None = None, take: str | None = None) -> Motion:
    """Read one motion from a file of any kind in SUFFIXES.

    rig: a rig table for skeletons that are in none of ours (mclip/formats/tables.py); take: which animation of a .glb.
    Raises MotionError for files that cannot be read; UsageError when `take` is needed or not there.
    """
    motions = load_all(path, rig=rig)
    if take is not None:
        for name, motion in motions:
            if name == take:
                return motion
    elif len(motions) == 1:
        return motions[0][1]
    names = [name for name, _ in motions if name]
    if not names:
        raise UsageError(f"{path}: has one motion without a name, not {take!r}", "leave --take out")
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    raise UsageError(
        f"{path}: has {len(motions)} animations" if take is None else f"{path}: has no animation {take!r}",
        f"{meant(take or '', names)}choose one with --take: {listed}",
    )


def check_readable(path: Path) -> None:
    """Raise MotionError unless `load` knows the path's suffix, and for pipes and devices."""
    if path.suffix.lower() in (".csv", ".npy"):
        raise MotionError(
            f"{path}: holds joint positions at most, and those say nothing of how bones turn about themselves",
            f"mclip reads files with rotations: {', '.join(SUFFIXES)}",
        )
    if path.suffix.lower() not in SUFFIXES:
        if not os.path.exists(path):
            raise MotionError(f"{path}: no such file or folder")
        raise MotionError(f"{path}: not a motion file mclip reads", f"it reads {', '.join(SUFFIXES)}")
    # A pipe may never end, or never begin.
    if os.path.exists(path) and not path.is_file() and not path.is_dir():
        raise MotionError(f"{path}: is not a regular file", "copy it to one first")


def load_all(path: Path, *, rig: Path | None = None) -> list[tuple[str, Motion]]:
    """All motions of a file with their names; the name is empty in formats that hold one motion."""
    check_readable(path)
    if path.suffix.lower() == ".npz":
        return [("", load_npz(path))]
    try:
        return [(name, _to_motion(motion, rig)) for name, motion in _read_rigs(path)]
    except MotionError as error:
        if str(path) in error.message or (rig and str(rig) in error.message):
            raise
        raise MotionError(f"{path}: {error.message}", error.hint) from None


def check_writable(path: Path) -> None:
    """Raise UsageError unless `save` knows the path's suffix."""
    if path.suffix.lower() not in WRITABLE:
        if path.suffix.lower() in _VIEWS:
            hint = f"make an .npz, and of that: mclip view FILE.npz -o {path.name}"
            raise UsageError(f"{path}: {path.suffix} files are written by mclip view", hint)
        what = f"{path.suffix} files" if path.suffix else "a file without a suffix"
        raise UsageError(f"{path}: mclip cannot write {what}", f"it writes {', '.join(WRITABLE)}")


def save(path: Path, motion: Motion, style: Style | None = None) -> None:
    """Write a motion as the path's suffix says, atomically. Raises UsageError for what cannot be written so."""
    check_writable(path)
    chosen = choose(path, style or Style())
    suffix = path.suffix.lower()
    if suffix == ".bvh":
        from mclip.formats.bvh import write_bvh

        write_bvh(path, motion, up=chosen.up, scale=chosen.scale)
    elif suffix == ".npz":
        motion.save(path, layout=chosen.layout, up=chosen.up)
    elif suffix == ".glb":
        raise UsageError(f"{path}: a .glb needs a body", "mclip.view.files.save writes it")
    else:
        from mclip.formats.positions import write_csv, write_npy

        (write_csv if suffix == ".csv" else write_npy)(path, motion, chosen)


def _read_rigs(path: Path) -> list[tuple[str, RigMotion]]:
    suffix = path.suffix.lower()
    if suffix == ".glb":
        from mclip.formats.glb import read_glb

        return read_glb(path)
    if suffix == ".amc":
        from mclip.formats.amc import read_amc

        return [("", read_amc(path))]
    from mclip.formats.bvh import read_bvh

    return [("", read_bvh(path))]


def _to_motion(motion: RigMotion, rig: Path | None) -> Motion:
    from mclip.formats.bvh import is_own
    from mclip.formats.tables import bind, find_rig_table, load_rig_table
    from mclip.skeleton.retarget import retarget

    table = bind(load_rig_table(rig), motion) if rig else find_rig_table(motion)
    pose, transl = retarget(motion, table, ground=not is_own(motion))
    return Motion(pose=pose, transl=transl, fps=motion.fps)
