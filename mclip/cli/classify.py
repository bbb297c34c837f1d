"""mclip classify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mclip.cli.options import Dask

if TYPE_CHECKING:
    from mclip.runtime.classify import Clip


def classify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Motion files, and folders of them.")],
    top: Annotated[int, typer.Option(metavar="N", help="How many labels to print for each motion.")] = 1,
    labels: Annotated[
        str | None,
        typer.Option(help="babel-60, babel-120, a list with commas, or a file. [default: babel-60]"),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="P", help='Answer "unknown" where no label scores that much.')
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Say when in each motion it shows what.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes that read files. [default: as many as help]")] = None,
    dask: Dask = None,
    pack: Annotated[str | None, typer.Option(help="Pack by name or folder. [default: mini, or MCLIP_PACK]")] = None,
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="End with 4 if any file was skipped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Say what motions show, among labels of your choice.

    Scores are probabilities over the labels: they say which fits best, not whether one fits. Long motions are read in
    windows. A file for --labels has one a line; a .csv has a column "label", a .json a list.

    Example: mclip classify clips/ --top 5

    Example: mclip classify take.bvh --labels "walk, run, sit down" --timeline --threshold 0.5
    """
    from mclip.console import Results, csv_text, err, out, skipped_lines
    from mclip.errors import UsageError
    from mclip.formats.pool import check_workers
    from mclip.runtime.classify import Classifier, classify_files
    from mclip.runtime.engine import Engine
    from mclip.runtime.labels import read_labels

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    if top < 1:
        raise UsageError("--top must be 1 or more")
    check_workers(workers, dask)
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"--threshold {threshold:g} is not between 0 and 1")
    classifier = Classifier(Engine.open(pack, device, sha256=require_sha256), read_labels(labels), threshold or 0.0)
    skipped: list[tuple[str, str]] = []
    lines: list[tuple[str, ...]] = []  # of the table, whose columns are as wide as their widest line
    # Scores are kept on disk until all are known: a large tree has more than fit into memory.
    with Results(as_json=as_json) as results:
        if as_csv:
            results.add({}, csv_text(_TIMELINE if timeline else _LABELS, []))
        for clip in classify_files(classifier, paths, skipped, workers, dask):
            if as_json:
                results.add(_clip(clip, top, timeline=timeline, threshold=threshold is not None), "")
            elif as_csv:
                for row in _timeline_rows(clip) if timeline else _label_rows(clip, top):
                    results.add({}, csv_text(row, []))
            else:
                lines += _lines(clip, top, timeline=timeline, threshold=threshold is not None)
        for line in skipped_lines(skipped):
            err(line)
        if as_json or as_csv:
            results.emit("clips", {"skipped": [{"path": path, "reason": reason} for path, reason in skipped]})
        else:
            out(_table(lines, timeline=timeline, threshold=threshold is not None))
    if strict and skipped:
        raise SystemExit(4)


def _clip(clip: Clip, top: int, *, timeline: bool, threshold: bool) -> dict[str, Any]:
    from dataclasses import astuple

    result: dict[str, Any] = {
        "path": clip.path,
        "labels": [{"name": name, "score": round(score, 6)} for name, score in clip.answer.labels[:top]],
    }
    if threshold:
        result["answer"] = clip.answer.answer
    if timeline:
        result["timeline"] = [
            {"start": round(start, 3), "end": round(end, 3), "label": label, "score": round(score, 6)}
            for start, end, label, score in map(astuple, clip.answer.timeline)
        ]
    return result


_LABELS = ("path", "rank", "label", "score", "answer")
_TIMELINE = ("path", "start", "end", "label", "score")


def _label_rows(clip: Clip, top: int) -> list[tuple[str, ...]]:
    return [
        (clip.path, str(rank), name, f"{score:.6f}", clip.answer.answer)
        for rank, (name, score) in enumerate(clip.answer.labels[:top], 1)
    ]


def _timeline_rows(clip: Clip) -> list[tuple[str, ...]]:
    return [
        (clip.path, f"{part.start:.3f}", f"{part.end:.3f}", part.label, f"{part.score:.6f}")
        for part in clip.answer.timeline
    ]


def _lines(clip: Clip, top: int, *, timeline: bool, threshold: bool) -> list[tuple[str, ...]]:
    if timeline:
        return [
            (clip.path, f"{part.start:.1f}-{part.end:.1f} s", part.label, f"{part.score:.2f}")
            for part in clip.answer.timeline
        ]
    best = ", ".join(f"{name} {score:.2f}" for name, score in clip.answer.labels[:top])
    return [(clip.path, *((clip.answer.answer,) if threshold else ()), best)]


def _table(lines: list[tuple[str, ...]], *, timeline: bool, threshold: bool) -> str:
    from mclip.console import table

    if timeline:
        return table(("file", "when", "label", "score"), lines)
    return table(("file", *(("answer",) if threshold else ()), "labels"), lines)
