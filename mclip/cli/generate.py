"""mclip generate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mclip.runtime.prompts import Job
    from mclip.runtime.tasks import Generated


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
    pack: Annotated[str | None, typer.Option(help="Pack by name or folder. [default: mini, or MCLIP_PACK]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace files mclip generate did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make motions from text, or from pictures.

    Each is decoded from a motion the pack was trained on; variations are decoded from others of its kind, or from
    blends of two. The same seed makes the same files. --json names the training motion and has a confidence: the
    cosine of the prompt and the nearest caption, 1 for the same words. Where it is low, nothing like it was trained on.

    Example: mclip generate "couch" -o sit.npz

    Example: mclip generate "an old person walks" "kick" -o motions --variations 4 --seed 7
    """
    from mclip.console import emit, err, progress
    from mclip.errors import UsageError
    from mclip.runtime import prompts, tasks
    from mclip.runtime.engine import Engine
    from mclip.view.files import save

    if seed is not None and (variations == 1 or seed < 0):
        raise UsageError(
            "--seed is negative" if seed < 0 else "--seed has no effect on the first motion", "--variations 4 --seed 1"
        )
    jobs = _jobs(text or [], image or [], file, seconds)
    # Several motions of one prompt make numbered files, or fill a folder where the name is one.
    folder = file is not None or len(jobs) > 1 or (variations > 1 and out is not None and not out.suffix)
    planned = prompts.plan(jobs, out, folder=folder)
    paths = [file for _, path in planned for file in prompts.number(path, max(1, variations))]
    prompts.check_outputs(paths, force=force)
    engine = Engine.open(pack, device)
    made = tasks.generate(
        engine,
        [prompt for prompt, _ in planned],
        fps=fps,
        truncate=truncate,
        variations=variations,
        seed=seed or 0,
    )
    results = []
    with progress("generate", len(paths)) as bar:
        for number, (path, item) in enumerate(zip(paths, made, strict=True)):
            save(path, item.motion)
            prior = engine.manifest.prior
            # Once for each prompt: the first variation is the best match. Pictures are never as near as texts are.
            told = item.prompt.picture is not None or number % variations
            if item.match and prior and not told and item.match.score < prior.confident:
                err(prompts.low_confidence(item.prompt.text, item.match.caption, item.match.score))
            results.append(_summary(path, item))
            bar.advance()
    emit(
        {"motions": results, "pack": {"name": engine.manifest.name, "sha256": engine.pack.digest}},
        as_json=as_json,
        text="\n".join(f"{item['path']}: {item['frames']} frames at {item['fps']:g} fps" for item in results),
    )


def _jobs(texts: list[str], pictures: list[Path], file: str | None, seconds: float | None) -> list[Job]:
    import sys
    from dataclasses import replace

    from mclip.errors import UsageError
    from mclip.runtime.prompts import MAX_PROMPT_BYTES, Job, read_prompts
    from mclip.runtime.tasks import Prompt

    given = bool(texts or pictures)
    if given == (file is not None):
        raise UsageError(
            "give prompts or --file, not both" if given else "nothing to generate", 'mclip generate "a person waves"'
        )
    if file is None:
        asked = [*(Prompt(text, seconds) for text in texts), *(Prompt("", seconds, path) for path in pictures)]
        return [Job(prompt) for prompt in asked]
    if file == "-":
        content = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
    else:
        try:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_PROMPT_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    jobs = read_prompts(content, "stdin" if file == "-" else file)
    return [
        job if job.prompt.seconds is not None else replace(job, prompt=replace(job.prompt, seconds=seconds))
        for job in jobs
    ]


def _summary(path: Path, item: Generated) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "path": str(path),
        "text": item.prompt.text,
        "frames": len(item.motion),
        "fps": item.motion.fps,
    }
    if item.prompt.picture:
        summary["image"] = str(item.prompt.picture)
    if item.match:
        summary |= {
            "confidence": round(item.match.score, 4),
            "nearest": item.match.caption,
            "label": item.match.label,
            "motion": item.match.name,
        }
    return summary
