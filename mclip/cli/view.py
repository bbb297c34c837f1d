"""mclip view: a picture of a motion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Motion: .npz, .bvh, .amc or .glb.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Picture, .png. [default: FILE.png]")] = None,
    frames: Annotated[int, typer.Option(help="Pictures, evenly spaced over the motion.")] = 8,
    size: Annotated[int, typer.Option(help="Height of a picture in pixels.")] = 320,
    body: Annotated[Path | None, typer.Option(help="SMPL body (.npz or .pkl). [default: the free body]")] = None,
    renderer: Annotated[str, typer.Option(help="numba, numpy or pyrender.")] = "numba",
    take: Annotated[str | None, typer.Option(help="Which animation of a .glb.")] = None,
    rig: Annotated[Path | None, typer.Option(help="Joint table (TOML) for a skeleton mclip does not know.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file mclip view did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw a motion as a sheet of pictures.

    The body at even times, from left to right.

    Example: mclip view sit.npz -o sit.png
    """
    from mclip.body.model import load_body
    from mclip.console import emit
    from mclip.formats import check_readable, load
    from mclip.view.preview import check_output, write_preview

    check_readable(file)
    path = out or file.with_suffix(".png")
    check_output(path, force=force)
    motion = load(file, rig=rig, take=take)
    caption = str(motion.origin.get("text") or motion.origin.get("prompt") or take or file.stem)
    write_preview(
        path, motion, load_body(body), caption=caption, frames=frames, size=size, backend=renderer, force=force
    )
    emit(
        {"path": str(path), "frames": len(motion), "fps": motion.fps, "seconds": motion.seconds},
        as_json=as_json,
        text=str(path),
    )
