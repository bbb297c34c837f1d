"""mclip evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer

    from mclip.evaluate import Evaluation


def evaluate(
    pack: Annotated[str, typer.Argument(metavar="PACK", help="Pack by name or folder.")],
    data: Annotated[Path, typer.Option(help="Store made by mclip preprocess.")],
    split: Annotated[
        str | None,
        typer.Option(help="Which recordings: train, val or test. [default: test; val with BABEL's classes]"),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Also recognise these classes: babel-60, babel-120, or a file with one a line."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Measure what is drawn by chance so many times.")] = 1,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Keep the result in this .json file, too.")] = None,
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a file mclip evaluate did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a pack on held-out recordings.

    Reconstruction, recognition, retrieval and how generated motion moves, with the protocol they were computed under.

    Example: mclip evaluate mini --data motions.h5 --seeds 5 -o result.json
    """
    import json
    from dataclasses import asdict

    from mclip import __version__
    from mclip.cli import need
    from mclip.console import emit
    from mclip.files import write_text
    from mclip.runtime.engine import Engine

    with need("train"):
        from mclip.data.store import read_store
        from mclip.evaluate import evaluate as score
        from mclip.evaluate.protocol import check_output, seed_range
        from mclip.evaluate.recognition import LISTS, find_classes

    chosen = seed_range(seeds)
    if out is not None:
        check_output(out, force=force)
    classes = find_classes(labels) if labels else ()
    # The original's recognition is scored on val.
    split = split or ("val" if labels in LISTS else "test")
    engine = Engine.open(pack, device, sha256=require_sha256)
    result = score(engine, read_store(data), split, seeds=chosen, classes=classes)
    report = {
        "command": "evaluate",
        "mclip": __version__,
        "pack": engine.manifest.name,
        "sha256": engine.pack.digest,
        "data": str(data),
        "protocol": result.protocol,
        **asdict(result),
    }
    if out is not None:
        write_text(out, json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    pack_line = f"pack {engine.manifest.name}, sha256 {engine.pack.digest}"
    emit(report, as_json=as_json, text=f"{_table(result)}\n{pack_line}")


def _table(result: Evaluation) -> str:
    width = max(len(name) for name in result.scores)
    lines = [f"{'':{width}}  windows  MPJPE mm root  absolute  spans  top-1  top-5  action"]
    for name, scores in result.scores.items():
        lines.append(
            f"{name:{width}}  {scores.windows:7}  {scores.mpjpe_root:13.1f}  {scores.mpjpe_absolute:8.1f}  "
            f"{scores.spans:5}  {scores.top1:5.3f}  {scores.top5:5.3f}  {scores.action:6.3f}"
        )
    return "\n".join([*lines, *_errors(result), *_classes(result), *_recall(result), *_moves(result), result.protocol])


def _errors(result: Evaluation) -> list[str]:
    total = result.scores["total"]
    return [
        "",
        f"vertices {total.vertex_root:.1f} mm root, {total.vertex_absolute:.1f} mm absolute; "
        f"velocity {total.velocity:.0f} mm/s; rotations {total.rotation:.1f} degrees, 6D {total.rot6d:.4f}",
    ]


def _classes(result: Evaluation) -> list[str]:
    found = result.recognition
    if found is None:
        return []
    rows = [["", "top-1", "top-5"]]
    rows += [[rule, *(found[f"{rule}_top{top}"].format() for top in (1, 5))] for rule in ("any", "strict", "balanced")]
    windows, shown = (found[name].mean for name in ("windows", "classes"))
    return ["", f"{windows:.0f} windows of {shown:.0f} of {len(result.classes)} classes", *_align(rows)]


def _recall(result: Evaluation) -> list[str]:
    rows = [["retrieval", "", "R@1", "R@3", "R@5", "R@10", "median rank"]]
    for protocol, ways in result.retrieval.items():
        for way, found in ways.items():
            shares = [found[name].format() for name in ("r1", "r3", "r5", "r10")]
            rows.append([protocol.replace("_", " "), way.replace("_", " "), *shares, found["median_rank"].format(1)])
    return ["", *_align(rows)]


def _moves(result: Evaluation) -> list[str]:
    generation = result.generation
    rows = [["", "skating m/s", "skating steps", "jitter 100 m/s3", "joint speed m/s"]]
    names = ("skating", "skating_ratio", "jitter", "speed")
    rows.append(["real", *(f"{getattr(generation.real, name):.3f}" for name in names)])
    rows.append(["generated", *(generation.generated[name].format() for name in names)])
    lines = ["", *_align(rows)]
    if ratio := generation.energy_ratio:
        lines.append(
            f"joint speed of generated to real, by label: median {ratio['median'].format(2)}, "
            f"within 0.75 and 1.25 for {ratio['within'].format(2)} of them"
        )
    return [*lines, ""]


def _align(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
