"""mclip edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer


def edit(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Motion: .npz, .bvh, .amc or .glb; or a text.")],
    add: Annotated[list[str] | None, typer.Option(help="Text or motion file to add; may be repeated.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="The same to take away; may be repeated.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="With --to: what the motion is now.")] = None,
    to: Annotated[str | None, typer.Option(help="With --from: what it shall be.")] = None,
    axis: Annotated[Path | None, typer.Option(help="Add a direction saved before.")] = None,
    strength: Annotated[float, typer.Option(help="How much of it; 0 changes nothing.")] = 1.0,
    sweep: Annotated[
        str | None, typer.Option(metavar="A:B:N", help="N strengths from A to B: a file each, and a sheet.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="PARTS", help="Change only upper, lower, arms, legs, or joints: arms,head.")
    ] = None,
    keep_root: Annotated[
        bool, typer.Option("--keep-root", help="Keep the path over the ground and the heading.")
    ] = False,
    save_axis: Annotated[Path | None, typer.Option(help="Save the direction (.json).")] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File, or folder with --sweep. [default: BASE-TEXT]"),
    ] = None,
    pack: Annotated[str | None, typer.Option(help="Pack by name or folder. [default: mini, or MCLIP_PACK]")] = None,
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    rig: Annotated[Path | None, typer.Option(help="Joint table (TOML) for a skeleton mclip does not know.")] = None,
    take: Annotated[str | None, typer.Option(help="Which animation of BASE, if it is a .glb.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files mclip edit did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Change a motion by what is added and taken away.

    Length, frame rate, starting place, heading and the details of the motion stay.

    Example: mclip edit walk.npz --add "angry"
    """
    from mclip.console import emit, err, progress
    from mclip.runtime import edit as task
    from mclip.runtime.axis import check_axis_output
    from mclip.runtime.axis import save_axis as save_direction
    from mclip.runtime.bases import read_source, start_for, to_base
    from mclip.runtime.engine import Engine
    from mclip.runtime.outputs import not_inputs
    from mclip.runtime.prompts import check_outputs
    from mclip.runtime.residual import joint_weights
    from mclip.view.files import save

    strengths = task.read_strengths(strength, sweep)
    weights = joint_weights(only)
    source = read_source(base, rig=rig, take=take)
    terms = task.read_terms(add or [], remove or [], from_, to, axis)
    planned = task.plan(source, terms, axis, out, strengths, folder=sweep is not None)
    check_outputs(planned.paths, force=force, command="edit")
    not_inputs(planned.paths, [source, *(term.source for term in terms)])
    if planned.sheet:
        from mclip.view.preview import check_output

        check_output(planned.sheet, force=force)
    if save_axis:
        check_axis_output(save_axis, force=force)
    engine = Engine.open(pack, device, quick=True, sha256=require_sha256)
    start_for(engine, [source, *(term.source for term in terms)])
    what = task.prepare(engine, to_base(engine, source), terms, axis)
    for line in what.warnings:
        err(line)
    if save_axis:
        save_direction(save_axis, engine, what.name, what.vector, manner=what.manner)
    results, drawn = [], []
    with progress("edit", len(strengths)) as bar:
        for path, value in zip(planned.paths, strengths, strict=True):
            done = task.edit(engine, what, value, weights, keep_root=keep_root)
            save(path, done.motion)
            if done.outside:
                err(f"warning: strength {value:g} leaves what the pack was trained on")
            results.append({"path": str(path), "strength": value, "frames": len(done.motion), "fps": done.motion.fps})
            drawn.append((f"{what.name}, strength {value:g}", done.motion))
            bar.advance()
    if planned.sheet:
        from mclip.body.model import load_body
        from mclip.view.preview import write_sheet

        write_sheet(planned.sheet, drawn, load_body(None), command="edit")
    emit(
        {
            "motions": results,
            "terms": what.meanings,
            "sheet": str(planned.sheet) if planned.sheet else None,
            "axis": str(save_axis) if save_axis else None,
            "pack": {"name": engine.manifest.name, "sha256": engine.pack.digest},
        },
        as_json=as_json,
        text="\n".join(
            [
                *(f"{item['sign']}{item['name']}: {item['meaning']}" for item in what.meanings),
                *(f"{item['path']}: {item['frames']} frames at {item['fps']:g} fps" for item in results),
                *([str(planned.sheet)] if planned.sheet else []),
                *([str(save_axis)] if save_axis else []),
            ]
        ),
    )
