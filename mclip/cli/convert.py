"""mclip convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Motion: .npz, .bvh, .amc or .glb.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Motion: .npz, .bvh, .glb, .csv or .npy. [default: IN.npz]")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of OUT. [default: IN's; 20 for .npy]")] = None,
    up: Annotated[
        str | None, typer.Option(metavar="y|z", help="The axis that points up. [default: z in .npz and .csv, else y]")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Units in a metre, of .bvh, .csv and .npy. [default: 100 for .bvh, else 1]")
    ] = None,
    layout: Annotated[str | None, typer.Option(help="Joints of a .npz: smpl, smplh or smplx. [default: smplh]")] = None,
    rig: Annotated[Path | None, typer.Option(help="Joint table (TOML) for a skeleton mclip does not know.")] = None,
    take: Annotated[str | None, typer.Option(help="Which animation of a .glb.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file mclip convert did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn a motion file into another format, on SMPL's skeleton.

    .npz: SMPL rotations as in AMASS, metres, Z up. .bvh: rotations, centimetres, Y up. .glb: the free body, skinned and
    animated, metres, Y up. .csv: positions of 24 joints, metres, Z up. .npy: positions of 22 joints as in HumanML3D,
    metres, Y up, 20 frames per second. All right-handed; rotations cannot be read back from .csv and .npy.

    Example: mclip convert walk.bvh walk.npz --fps 30

    Example: mclip convert walk.npz walk.bvh --up z --scale 1
    """
    from mclip.console import emit
    from mclip.formats.style import Style
    from mclip.view.convert import convert as run

    style = Style(up=up, scale=scale, layout=layout)
    done = run(source, target, style, fps=fps, rig=rig, take=take, force=force)
    motion = done.motion
    emit(
        {
            "path": str(done.path),
            "frames": len(motion),
            "fps": motion.fps,
            "seconds": motion.seconds,
            "up": done.style.up,
            "units_per_metre": done.style.scale,
        },
        as_json=as_json,
        text=f"{done.path}: {len(motion)} frames at {motion.fps:g} fps, {motion.seconds:.1f} s, "
        f"{done.style.unit}, {done.style.up.upper()} up",
    )
