"""Motion files of every kind that mclip writes: those of mclip.formats, and .glb, which shows a body."""

from __future__ import annotations

from pathlib import Path

from mclip.formats import check_writable
from mclip.formats import save as save_motion
from mclip.formats.style import Style, choose
from mclip.motion import Motion


def save(path: Path, motion: Motion, style: Style | None = None) -> None:
    """Write a motion as the path's suffix says, atomically. Raises UsageError for what cannot be written so."""
    check_writable(path)
    if path.suffix.lower() != ".glb":
        save_motion(path, motion, style)
        return
    from mclip.body.model import load_body
    from mclip.view.glb import write_glb

    choose(path, style or Style())
    write_glb(path, motion, load_body(), name=path.stem)
