"""mclip preprocess: a folder of motion files into one HDF5 store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mclip.cli.options import Dask

if TYPE_CHECKING:
    from mclip.data.coverage import Coverage
    from mclip.data.preprocess import Report

# Paths shown of each kind; --json has them all.
SHOWN_PATHS = 3


def preprocess(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with .npz (AMASS), .bvh, .amc or .glb files.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The store. [default: DIR.h5]")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Captions: CSV or JSONL with path, caption and, if known, start, end, label, split."),
    ] = None,
    babel: Annotated[Path | None, typer.Option(metavar="DIR", help="BABEL v1.0: labels for AMASS.")] = None,
    humanml3d: Annotated[Path | None, typer.Option(metavar="DIR", help="HumanML3D: captions for AMASS.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="babel, amass (by data set) or seed (by chance). [default: the first that there is]"),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second of the store.")] = 30.0,
    rig: Annotated[Path | None, typer.Option(help="Joint table (TOML) for a skeleton mclip does not know.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. [default: one per processor]")] = None,
    dask: Dask = None,
    val: Annotated[float, typer.Option(help="Part of the recordings kept for validation.")] = 0.05,
    test: Annotated[float, typer.Option(help="Part of the recordings kept for testing.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Chooses which recordings those are.")] = 0,
    frames: Annotated[bool, typer.Option("--frames/--no-frames", help="Draw the middle frame of every 60.")] = True,
    renderer: Annotated[str, typer.Option(help="numba, numpy or pyrender.")] = "numba",
    size: Annotated[int, typer.Option(help="Pixels on each side of a picture.")] = 224,
    body: Annotated[
        Path | None, typer.Option(help="SMPL body to draw (.npz or .pkl). [default: the free body]")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 4 if any file was skipped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing store.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read a folder of motion files into one store for training.

    Can be interrupted and started again: what was finished is kept.

    Example: mclip preprocess amass/ --babel babel_v1.0_release/ -o motions.h5

    Example: mclip preprocess amass/ --dask tcp://scheduler:8786
    """
    from mclip.cli import need
    from mclip.console import emit, err, skipped_lines

    with need("train"):
        from mclip.data import preprocess as run
        from mclip.data.images import Drawing

    report = run.preprocess(
        folder,
        out or _beside(folder),
        fps=fps,
        labels=labels,
        babel=babel,
        humanml3d=humanml3d,
        split=split,
        rig=rig,
        workers=workers,
        dask=dask,
        val=val,
        test=test,
        seed=seed,
        drawing=Drawing(renderer=renderer, size=size, body=body) if frames else None,
        force=force,
    )
    for line in (*skipped_lines(report.skipped), *_uncovered_lines(report.coverage), *report.notes):
        err(line)
    emit(_summary(report), as_json=as_json, text=_text(report))
    if strict and report.skipped:
        raise SystemExit(4)


def _beside(folder: Path) -> Path:
    """The folder's name with .h5, beside it."""
    whole = folder.resolve()
    return whole.with_name((whole.name or "motions") + ".h5")


def _text(report: Report) -> str:
    from mclip.console import duration

    splits = ", ".join(f"{number} {name}" for name, number in report.splits.items())
    images = f", {report.images} images" if report.images else ""
    state = "" if report.done else "  (was complete already)"
    table = "".join(f"\n{line}" for line in report.coverage.table()) if report.coverage else ""
    return (
        f"{report.output}: {report.motions} motions ({splits}), {duration(report.seconds)}, "
        f"{report.captions} captions{images}, {len(report.skipped)} files skipped{state}{table}"
    )


def _summary(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "output": str(report.output),
        "done": report.done,
        "files": report.files,
        "reused": report.reused,
        "motions": report.motions,
        "frames": report.frames,
        "seconds": round(report.seconds, 3),
        "captions": report.captions,
        "texts": report.texts,
        "images": report.images,
        "splits": dict(report.splits),
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
        "notes": list(report.notes),
        "coverage": asdict(report.coverage) if report.coverage else None,
    }


def _uncovered_lines(coverage: Coverage | None) -> list[str]:
    """Labels without files, and files without labels."""
    if coverage is None:
        return []
    lines = []
    for what, paths in (("missing", coverage.missing), ("unlabelled", coverage.unlabelled)):
        more = f", ... ({len(paths)}; --json lists them all)" if len(paths) > SHOWN_PATHS else ""
        if paths:
            lines.append(f"{what}: {', '.join(paths[:SHOWN_PATHS])}{more}")
    return lines
