"""mclip convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Motion: .npz, .bvh, .amc or .glb.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Motion: .npz or .bvh. [default: IN.npz]")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of OUT. [default: IN's]")] = None,
    rig: Annotated[Path | None, typer.Option(help="Joint table (TOML) for a skeleton mclip does not know.")] = None,
    take: Annotated[str | None, typer.Option(help="Which animation of a .glb.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file mclip convert did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn a motion file into another format, on SMPL's skeleton.

    Example: mclip convert walk.bvh walk.npz --fps 30
    """
    from mclip.console import emit
    from mclip.formats.convert import convert as run

    path, motion = run(source, target, fps=fps, rig=rig, take=take, force=force)
    emit(
        {"path": str(path), "frames": len(motion), "fps": motion.fps, "seconds": motion.seconds},
        as_json=as_json,
        text=f"{path}: {len(motion)} frames at {motion.fps:g} fps, {motion.seconds:.1f} s",
    )
