"""mclip view: pictures and films of motions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mclip.motion import Motion


def view(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Motions: .npz, .bvh, .amc or .glb.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Picture (.png) or film (.webp, .gif, .mp4). [default: FILE.png]")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Pictures on a sheet, evenly spaced over the motion. [default: 8]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Height of a picture in pixels. [default: 320, 240 in a film]")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Pictures per second of a film. [default: FILE's or 30]")] = None,
    camera: Annotated[str, typer.Option(help="follow, front, side or turntable.")] = "follow",
    transparent: Annotated[bool, typer.Option("--transparent", help="No floor, no background; not for .mp4.")] = False,
    body: Annotated[Path | None, typer.Option(help="SMPL body (.npz or .pkl). [default: the free body]")] = None,
    renderer: Annotated[str, typer.Option(help="numba, numpy or pyrender.")] = "numba",
    take: Annotated[str | None, typer.Option(help="Which animation of a .glb.")] = None,
    rig: Annotated[Path | None, typer.Option(help="Joint table (TOML) for a skeleton mclip does not know.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file mclip view did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw motions as a sheet of pictures or as a film.

    A sheet has the body at even times, from left to right, a row for each motion. A film plays the motions side by
    side. The camera follows the body, stands still in front or at its left side, or goes around it once.

    Example: mclip view sit.npz -o sit.png

    Example: mclip view walk.npz walk-old.npz -o compare.webp --camera side
    """
    from mclip.body.model import load_body
    from mclip.console import emit
    from mclip.formats import check_readable, load
    from mclip.view.preview import Look, check_output, write_preview

    for file in files:
        check_readable(file)
    path = out or files[0].with_suffix(".png")
    look = Look(frames=frames, size=size, fps=fps, view=camera, transparent=transparent, backend=renderer)
    check_output(path, look, force=force)
    motions = [load(file, rig=rig, take=take) for file in files]
    named = [
        (_caption(file, motion, take, alone=len(files) == 1), motion)
        for file, motion in zip(files, motions, strict=True)
    ]
    write_preview(path, named, load_body(body), look, force=force)
    told = [{"frames": len(motion), "fps": motion.fps, "seconds": motion.seconds} for motion in motions]
    emit(
        {"path": str(path), **(told[0] if len(told) == 1 else {"motions": told})},
        as_json=as_json,
        text=str(path),
    )


def _caption(file: Path, motion: Motion, take: str | None, *, alone: bool) -> str:
    """What a motion was made from; beside others, its file tells them apart."""
    if not alone:
        return file.stem
    return str(motion.origin.get("text") or motion.origin.get("prompt") or take or file.stem)
