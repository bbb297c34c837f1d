"""mclip search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import numpy as np
    import typer
    from numpy.typing import NDArray

    from mclip.runtime.engine import Engine
    from mclip.runtime.search import Cluster, Hit


def search(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[TEXT] LIBRARY...", help="What to look for, then folders or motion files."),
    ],
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Look for motions like this one instead of a text.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="How many motions to print.")] = 10,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Leave out motions nearly the same as a better one.")
    ] = False,
    cluster: Annotated[
        int | None, typer.Option(metavar="N", help="Group the motions found, or without TEXT the whole library.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the index is kept. [default: LIBRARY/.mclip-index]")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the index anew, with this pack.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes that read files. [default: as many as help]")] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask cluster that reads the files, such as tcp://host:8786."),
    ] = None,
    pack: Annotated[str | None, typer.Option(help="Pack by name or folder. [default: mini, or MCLIP_PACK]")] = None,
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="End with 4 if any file was skipped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find motions by what they show, or by an example.

    The first search of a folder reads all its motions and keeps an index there; later ones read what is new or has
    changed. Can be interrupted and started again. Scores are cosines; times are those of the best part of a motion.

    Example: mclip search "someone waves" library/

    Example: mclip search --like clip.npz library/ --top 5 --dedupe

    Example: mclip search library/ --cluster 8
    """
    from dataclasses import asdict

    from mclip.console import emit, err, skipped_lines
    from mclip.errors import UsageError
    from mclip.pack import find_pack, open_pack

    if top < 1 or (cluster is not None and cluster < 1):
        raise UsageError("--top and --cluster must be 1 or more")
    text, paths = _split(words, like, cluster)
    opened = open_pack(find_pack(pack), require_sha256)
    if text:
        opened.read_ahead("text_encoder")  # while numpy is loaded
    from mclip.formats.pool import check_workers
    from mclip.runtime import search as run
    from mclip.runtime.engine import Engine

    check_workers(workers, dask)
    # One text is soonest read by an engine that starts quickly, a library by one that runs quickly.
    engine, reader = Engine(opened, device), Engine(opened, device, quick=True)
    queries = run.text_query(reader, text) if text else _windows_of(engine, like) if like else None
    library, skipped = run.open_library(engine, paths, index, rebuild=rebuild, workers=workers, dask=dask)
    hits = [] if queries is None else library.search(queries, top, dedupe=dedupe, without=like)
    groups = None
    if cluster is not None:
        groups = library.cluster(engine, cluster, None if queries is None else [hit.path for hit in hits])
    for line in skipped_lines(skipped):
        err(line)
    emit(
        {
            "text": text or None,
            "like": str(like) if like else None,
            "motions": len(library),
            "results": [{**asdict(hit), "score": round(hit.score, 6)} for hit in hits],
            **({} if groups is None else {"clusters": [asdict(group) for group in groups]}),
            "skipped": [{"path": path, "reason": reason} for path, reason in skipped],
        },
        as_json=as_json,
        text=_hits(hits) if groups is None else _clusters(groups),
    )
    if strict and skipped:
        raise SystemExit(4)


def _windows_of(engine: Engine, path: Path) -> NDArray[np.float32]:
    """What to look for when a motion is to be like that of a file: its windows (Q, D)."""
    from mclip.errors import MotionError
    from mclip.formats import load
    from mclip.runtime.search import motion_query

    motion = load(path)
    try:
        return motion_query(engine, motion)
    except MotionError as error:
        raise MotionError(f"{path}: {error.message}", error.hint) from None


def _split(words: list[str], like: Path | None, cluster: int | None) -> tuple[str, list[Path]]:
    """The text, "" if there is none, and the libraries."""
    from mclip.errors import UsageError

    no_text = like is not None or (cluster is not None and Path(words[0]).exists())
    text, paths = ("", words) if no_text else (words[0], words[1:])
    if not paths:
        raise UsageError("say what to look for, and where", 'mclip search "a person waves" library/')
    if not no_text and not text.strip():
        raise UsageError("the text is empty", 'say what the motion should show, such as "a person waves"')
    return text, [Path(path) for path in paths]


def _hits(hits: list[Hit]) -> str:
    from mclip.console import table

    rows = []
    for hit in hits:
        more = f"+{len(hit.alike)} alike" if hit.alike else ""
        rows.append((f"{hit.score:.2f}", hit.path, f"{hit.start:.1f}-{hit.end:.1f} s", more))
    return table(("score", "file", "when", ""), rows)


def _clusters(groups: list[Cluster]) -> str:
    from mclip.console import table

    return table(
        ("motions", "nearest to", "such as"),
        [(str(len(group.motions)), group.name, ", ".join(group.motions[:3])) for group in groups],
    )
