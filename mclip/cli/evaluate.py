"""mclip evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mclip.evaluate import Evaluation


def evaluate(
    pack: Annotated[str, typer.Argument(metavar="PACK", help="Pack by name or folder.")],
    data: Annotated[Path, typer.Option(help="Store made by mclip preprocess.")],
    split: Annotated[str, typer.Option(help="Which recordings: train, val or test.")] = "test",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a pack on held-out recordings.

    Mean joint errors in millimetres and recognition rates, with the protocol they were computed under.

    Example: mclip evaluate mini --data motions.h5
    """
    from dataclasses import asdict

    from mclip.cli import need
    from mclip.console import emit
    from mclip.runtime.engine import Engine

    with need("train"):
        from mclip.data.store import read_store
        from mclip.evaluate import evaluate as score

    engine = Engine.open(pack, device)
    result = score(engine, read_store(data), split)
    emit(
        {
            "pack": engine.manifest.name,
            "sha256": engine.pack.digest,
            "data": str(data),
            "protocol": result.protocol,
            **asdict(result),
        },
        as_json=as_json,
        text=_table(result),
    )


def _table(result: Evaluation) -> str:
    width = max(len(name) for name in result.scores)
    lines = [f"{'':{width}}  windows  MPJPE mm root  absolute  spans  top-1  top-5  action"]
    for name, scores in result.scores.items():
        lines.append(
            f"{name:{width}}  {scores.windows:7}  {scores.mpjpe_root:13.1f}  {scores.mpjpe_absolute:8.1f}  "
            f"{scores.spans:5}  {scores.top1:5.3f}  {scores.top5:5.3f}  {scores.action:6.3f}"
        )
    return "\n".join([*lines, result.protocol])
