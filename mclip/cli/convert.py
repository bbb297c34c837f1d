"""mclip convert."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import typer

    from mclip.view.convert import Converted


def convert(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN [OUT]",
            help="Motion: .npz, .bvh, .amc or .glb; OUT also .csv or .npy. With -o any number.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="OUT, or the folder for several. [default: IN.npz]")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="SUFFIX", help="Format, without OUT. [default: npz]")] = None,
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
    strict: Annotated[bool, typer.Option("--strict", help="End with 4 if any file was skipped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn motion files into another format, on SMPL's skeleton.

    .npz: SMPL rotations as in AMASS, metres, Z up. .bvh: rotations, centimetres, Y up. .glb: the free body, skinned and
    animated, metres, Y up. .csv: positions of 24 joints, metres, Z up. .npy: positions of 22 joints as in HumanML3D,
    metres, Y up, 20 frames per second. All right-handed; rotations cannot be read back from .csv and .npy.
    Fingers, face and soft tissue of a .npz are left out; the skeletons of other formats have SMPL's mean shape.

    Example: mclip convert walk.bvh walk.npz --fps 30

    Example: mclip convert walk.npz walk.bvh --up z --scale 1

    Example: mclip convert clips/ -o out/ --to glb
    """
    from mclip.console import Results, emit, err, skipped_lines
    from mclip.errors import DataError, UsageError
    from mclip.formats import WRITABLE
    from mclip.formats.style import Style
    from mclip.view.convert import Converted, convert_all
    from mclip.view.convert import convert as run

    style = Style(up=up, scale=scale, layout=layout)
    # As cp does; a folder with the suffix of a file is more likely a slip.
    if output is None and len(paths) == 2 and os.path.isdir(paths[1]) and paths[1].suffix.lower() not in WRITABLE:
        output = paths.pop()
    target = _target(paths, output, to)
    if target is not None:
        done = run(paths[0], target, style, fps=fps, rig=rig, take=take, force=force)
        for each in _left_out(done):
            err(f"{done.path}: {each}")
        emit(_facts(done), as_json=as_json, text=_line(done))
        return
    if output is None or _is_file_name(output):
        raise UsageError("several files need a folder to go to", "mclip convert clips/ -o out/ --to bvh")
    skipped: list[tuple[str, str]] = []
    made, left_out = 0, Counter[str]()
    with Results(as_json=as_json) as results:
        for item in convert_all(paths, output, _suffix(to), style, fps=fps, rig=rig, take=take, force=force):
            if isinstance(item, Converted):
                left_out.update(_left_out(item))
                results.add(_facts(item), _line(item))
                made += 1
            else:
                skipped.append((item.path, item.reason))
        for line in (*skipped_lines(skipped), *(f"{count} files {each}" for each, count in left_out.items())):
            err(line)
        if not made:
            raise DataError(f"none of {len(skipped)} files could be converted", "--verbose names each")
        results.emit("files", {"skipped": [{"path": path, "reason": reason} for path, reason in skipped]})
    if strict and skipped:
        raise SystemExit(4)


def _target(paths: list[Path], output: Path | None, to: str | None) -> Path | None:
    """The file that the only input becomes; None for inputs that go into a folder."""
    source, *others = paths
    if os.path.isdir(source):
        return None
    if output is not None:
        return output if not others and to is None and _is_file_name(output) else None
    if not others:
        return source.with_suffix(_suffix(to))
    return others[0] if len(others) == 1 and to is None else None


def _is_file_name(output: Path) -> bool:
    from mclip.formats import WRITABLE

    return output.suffix.lower() in WRITABLE and not output.is_dir()


def _suffix(to: str | None) -> str:
    return f".{(to or 'npz').lower().removeprefix('.')}"


def _left_out(done: Converted) -> list[str]:
    """What of the file that was read is not in the one that was written, for people."""
    parts = done.motion.origin.get("left_out")
    return [f"without {parts}: mclip moves SMPL's 24 joints and keeps 10 betas"] if parts else []


def _facts(done: Converted) -> dict[str, Any]:
    motion = done.motion
    return {
        "path": str(done.path),
        "frames": len(motion),
        "fps": motion.fps,
        "seconds": motion.seconds,
        "up": done.style.up,
        "units_per_metre": done.style.scale,
    }


def _line(done: Converted) -> str:
    motion = done.motion
    return (
        f"{done.path}: {len(motion)} frames at {motion.fps:g} fps, {motion.seconds:.1f} s, "
        f"{done.style.unit}, {done.style.up.upper()} up"
    )
