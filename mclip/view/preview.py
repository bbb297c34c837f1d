"""Preview files, in the format their suffix names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mclip import __version__
from mclip.body.model import Body
from mclip.errors import UsageError
from mclip.files import atomic_path
from mclip.motion import Motion
from mclip.view.sheet import FRAMES, SIZE, contact_sheet

SUFFIXES: tuple[str, ...] = (".png",)
# Height of a picture where motions are to be compared at a glance.
SMALL = 160
# The PNG text chunk that says that we made the file.
MARK = "mclip"


def check_output(path: Path, *, force: bool = False) -> None:
    """Raise UsageError when no preview can be written to `path`: wrong suffix, or a file there that is not ours."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: mclip view cannot write {path.suffix or 'files without a suffix'}",
            f"it writes {', '.join(SUFFIXES)}",
        )
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", "name a file with -o")
    if path.exists() and not force and not is_preview(path):
        raise UsageError(f"{path}: exists, and was not made by mclip view", "use --force to replace it")


def is_preview(path: Path) -> bool:
    """Whether mclip made this picture."""
    try:
        with Image.open(path) as picture:
            return MARK in picture.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def write_preview(
    path: Path,
    motion: Motion,
    body: Body,
    *,
    caption: str,
    frames: int = FRAMES,
    size: int = SIZE,
    backend: str = "numba",
    force: bool = False,
) -> None:
    """Draw a motion into `path` (.png: a contact sheet), atomically. Raises UsageError as `check_output` does."""
    check_output(path, force=force)
    _write(path, contact_sheet([(caption, motion)], body, frames=frames, size=size, backend=backend), "view")


def write_sheet(path: Path, motions: Sequence[tuple[str, Motion]], body: Body, *, command: str) -> None:
    """Draw (caption, motion) pairs below each other into `path` (.png), atomically; `command` made them."""
    _write(path, contact_sheet(motions, body, size=SMALL), command)


def _write(path: Path, sheet: Image.Image, command: str) -> None:
    mark = PngInfo()
    mark.add_text(MARK, json.dumps({"command": command, "version": __version__}))
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG", pnginfo=mark)
