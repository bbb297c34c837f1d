"""mclip interpolate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer


def interpolate(
    ends: Annotated[list[str], typer.Argument(metavar="END...", help="Two or more: motion files or texts.")],
    steps: Annotated[int, typer.Option(help="How many motions, the ends included.")] = 5,
    blend: Annotated[bool, typer.Option("--blend", help="Join them to one motion that moves along the path.")] = False,
    path: Annotated[str, typer.Option(help="slerp (on the sphere) or linear.")] = "slerp",
    easing: Annotated[str, typer.Option(help="linear, or smooth: slower near the ends.")] = "linear",
    seconds: Annotated[float | None, typer.Option(help="Length of each motion. [default: of the ends]")] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder; a file with --blend. [default: A-to-B]"),
    ] = None,
    pack: Annotated[str | None, typer.Option(help="Pack by name or folder. [default: mini, or MCLIP_PACK]")] = None,
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace files mclip interpolate did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make motions between motions.

    A file each and a contact sheet.

    Example: mclip interpolate walk.npz "a person kicks" --steps 5
    """
    from mclip.console import emit
    from mclip.runtime import interpolate as task
    from mclip.runtime.bases import read_source, start_for
    from mclip.runtime.engine import Engine
    from mclip.runtime.outputs import SHEET, default_stem, in_folder, not_inputs
    from mclip.runtime.prompts import check_outputs
    from mclip.view.files import save

    task.check_options(len(ends), steps, path, easing)
    sources = [read_source(end) for end in ends]
    stem = default_stem(sources[0], ["to", ends[-1]])
    folder = out or stem
    files = (
        [out or stem.with_name(f"{stem.name}.npz")]
        if blend
        else in_folder(folder, [f"step_{number:02}" for number in range(1, steps + 1)])
    )
    check_outputs(files, force=force, command="interpolate")
    not_inputs(files, sources)
    if not blend:
        from mclip.view.preview import check_output

        check_output(folder / SHEET, force=force)
    engine = Engine.open(pack, device, quick=True, sha256=require_sha256)
    start_for(engine, sources)
    found = [task.to_end(engine, source) for source in sources]
    made = task.steps_between(engine, found, steps, path=path, easing=easing, seconds=seconds)
    if blend:
        made = [task.blend(made)]
    for file, step in zip(files, made, strict=True):
        save(file, step.motion)
    if not blend:
        from mclip.body.model import load_body
        from mclip.view.preview import write_sheet

        write_sheet(
            folder / SHEET, [(step.caption, step.motion) for step in made], load_body(None), command="interpolate"
        )
    lines = [
        f"{file}: {step.caption}, {len(step.motion)} frames at {step.motion.fps:g} fps"
        for file, step in zip(files, made, strict=True)
    ]
    emit(
        {
            "motions": [
                {"path": str(file), "at": step.at, "frames": len(step.motion), "fps": step.motion.fps}
                for file, step in zip(files, made, strict=True)
            ],
            "sheet": None if blend else str(folder / SHEET),
            "pack": {"name": engine.manifest.name, "sha256": engine.pack.digest},
        },
        as_json=as_json,
        text="\n".join([*lines, *([] if blend else [str(folder / SHEET)])]),
    )
