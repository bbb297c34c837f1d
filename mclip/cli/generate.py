"""mclip generate."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import typer

    from mclip.runtime.bulk import Made
    from mclip.runtime.engine import Engine
    from mclip.runtime.prompts import Job, PromptFile


def generate(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...", help="What the motion should show; several make several motions."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File (.npz, .bvh, .glb, .csv, .npy), or folder. [default: TEXT.npz]"),
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="Prompts, one a line, or JSONL with text, seconds and out; - is stdin.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Picture to make a motion from; for packs with an image tower.")
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts that the pack cannot read whole.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Length of the motion. [default: the pack's]")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second. [default: the pack's]")] = None,
    variations: Annotated[int, typer.Option(metavar="N", help="Different motions for each prompt.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Chooses the variations after the first. [default: 0]")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that make the motions of --file. [default: this one]")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask cluster that makes the motions of --file: tcp://host:8786."),
    ] = None,
    pack: Annotated[str | None, typer.Option(help="Pack by name or folder. [default: mini, or MCLIP_PACK]")] = None,
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="End with 4 if a line of --file was left out.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Make all anew, and replace files mclip generate did not make.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make motions from text, or from pictures.

    Each is decoded from a motion the pack was trained on; variations are decoded from others of its kind, or from
    blends of two. The same seed makes the same files. --json names the training motion and has a confidence: the
    cosine of the prompt and the nearest caption, 1 for the same words. Where it is low, nothing like it was trained on.

    Lines of --file that cannot be used are left out and told. Files they made already are left as they are.

    Example: mclip generate "couch" -o sit.npz

    Example: mclip generate "an old person walks" "kick" -o motions --variations 4 --seed 7
    """
    from mclip.console import Results, err, progress, skipped_lines
    from mclip.errors import UsageError
    from mclip.pack import find_pack, open_pack

    if seed is not None and (variations == 1 or seed < 0):
        raise UsageError(
            "--seed is negative" if seed < 0 else "--seed has no effect on the first motion", "--variations 4 --seed 1"
        )
    given = bool(text or image)
    if given == (file is not None):
        raise UsageError(
            "give prompts or --file, not both" if given else "nothing to generate", 'mclip generate "a person waves"'
        )
    apart = workers is not None or dask is not None
    if apart and file is None:
        raise UsageError("--workers and --dask are for many prompts", "mclip generate --file prompts.txt --workers 4")
    # Files are read while numpy is loaded, and graphs are started while all the rest is.
    opened = open_pack(find_pack(pack), require_sha256)
    graphs = ("motion_decoder",) if image and not text else ("motion_decoder", "text_encoder")
    opened.read_ahead(*graphs)
    from mclip.runtime.engine import Engine

    engine = Engine(opened, device, quick=given)
    if not apart:
        engine.start(*graphs)
    from mclip.formats.positions import HUMANML3D_FPS
    from mclip.runtime import bulk, prompts
    from mclip.runtime.tasks import MAX_VARIATIONS
    from mclip.view.files import save

    if not 1 <= variations <= MAX_VARIATIONS:
        raise UsageError(f"--variations {variations} is not between 1 and {MAX_VARIATIONS}")
    if fps is None and out is not None and out.suffix.lower() == ".npy":
        fps = HUMANML3D_FPS
    jobs = _jobs(engine, text or [], image or [], file, seconds, truncate=truncate)
    # Several motions of one prompt make numbered files, or fill a folder where the name is one.
    folder = file is not None or len(jobs) > 1 or (variations > 1 and out is not None and not out.suffix)
    planned = partial(prompts.plan, jobs, out, folder=folder)
    prompts.check_outputs(
        (file for _, path in planned() for file in prompts.number(path, max(1, variations))), force=force
    )
    make = partial(bulk.make, engine)
    if apart:
        from mclip.formats.pool import check_workers
        from mclip.runtime.apart import make_apart

        check_workers(workers, dask)
        make = partial(make_apart, opened, device, workers=workers or 1, dask=dask)
    settings = bulk.Settings(fps=fps, truncate=truncate, variations=variations, seed=seed or 0, anew=force or given)
    bad = jobs.bad if isinstance(jobs, prompts.PromptFile) else {}
    with Results(as_json=as_json) as results:
        reused = 0
        written = bulk.scratch(out or Path(), save) if file is not None else nullcontext(save)
        with written as save_one, progress("generate", len(jobs) * max(1, variations)) as bar:
            for made in make(planned(), settings, save_one):
                _warn(engine, made)
                results.add(_summary(made), f"{made.path}: {made.frames} frames at {made.fps:g} fps")
                reused += made.reused
                bar.advance()
        for line in skipped_lines([(f"{file}:{number}", reason) for number, reason in bad.items()]):
            err(line)
        if reused:
            err(f"{reused} were there already; --force makes them anew")
        rest: dict[str, Any] = {"pack": {"name": engine.manifest.name, "sha256": engine.pack.digest}}
        if file is not None:
            rest |= {"reused": reused, "skipped": [{"line": n, "reason": reason} for n, reason in bad.items()]}
        results.emit("motions", rest)
    if strict and bad:
        raise SystemExit(4)


def _jobs(
    engine: Engine,
    texts: list[str],
    pictures: list[Path],
    file: str | None,
    seconds: float | None,
    *,
    truncate: bool,
) -> list[Job] | PromptFile:
    import sys

    from mclip.errors import UsageError
    from mclip.runtime import tasks
    from mclip.runtime.prompts import MAX_PROMPT_BYTES, Job, PromptFile

    if file is None:
        return [
            *(Job(tasks.Prompt(text, seconds)) for text in texts),
            *(Job(tasks.Prompt("", seconds, path)) for path in pictures),
        ]
    if file == "-":
        if sys.stdin is None:  # closed before we began
            raise UsageError("--file -: there is no stdin", "echo walk | mclip generate --file - -o out/")
        content = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
    else:
        try:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_PROMPT_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    check = partial(tasks.check, engine, truncate=truncate)
    return PromptFile(content, "stdin" if file == "-" else file, seconds, check)


def _warn(engine: Engine, made: Made) -> None:
    """Say that a prompt is unlike all captions: once, with its first variation, which is the best match."""
    from mclip.console import err
    from mclip.runtime.prompts import low_confidence

    prior, score = engine.manifest.prior, made.origin.get("confidence")
    # Pictures are never as near as texts are.
    told = made.prompt.picture is not None or made.variation > 0 or made.reused
    if prior and score is not None and not told and score < prior.confident:
        err(low_confidence(made.prompt.text, made.origin["nearest"], score))


def _summary(made: Made) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "path": str(made.path),
        "text": made.prompt.text,
        "frames": made.frames,
        "fps": made.fps,
    }
    if made.prompt.picture:
        summary["image"] = str(made.prompt.picture)
    if "confidence" in made.origin:
        names = {"confidence": "confidence", "nearest": "nearest", "label": "label", "motion": "source"}
        summary |= {name: made.origin[key] for name, key in names.items()}
    return summary
