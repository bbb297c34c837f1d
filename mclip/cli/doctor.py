"""mclip doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer


def doctor(
    pack: Annotated[
        str | None, typer.Argument(metavar="PACK", help="Explain this pack, by name or folder, instead.")
    ] = None,
    amass: Annotated[Path | None, typer.Option(metavar="DIR", help="AMASS folder to look through.")] = None,
    babel: Annotated[Path | None, typer.Option(metavar="DIR", help="BABEL folder, to compare with --amass.")] = None,
    body_models: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with body files.")] = None,
    clip_weights: Annotated[
        Path | None, typer.Option(help="CLIP's ViT-B-32.pt. [default: MCLIP_CLIP_WEIGHTS, else where it is kept]")
    ] = None,
    device: Annotated[str, typer.Option(help="What to run PACK on: auto, cpu or cuda.")] = "auto",
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what works on this machine, and how to fix what does not.

    Ends with 1 if something is wrong that no command can do without; what is optional is a warning. Uses no network.

    With PACK: what it is, what it was made from, whether each file is as exported, and what it runs on. Ends with 6 if
    it is damaged.

    Example: mclip doctor --amass amass/ --babel babel_v1.0_release/

    Example: mclip doctor packs/mine
    """
    from dataclasses import asdict

    from mclip.console import emit
    from mclip.doctor import ERROR, Places, examine
    from mclip.errors import PackError, UsageError

    places = Places(amass=amass, babel=babel, bodies=body_models, clip_weights=clip_weights)
    if pack is not None:
        if places != Places():
            raise UsageError("a pack and folders are two questions", f"mclip doctor {pack}")
        from mclip.doctor.packs import explain

        explanation = explain(pack, device, require_sha256)
        emit(explanation.table(), as_json=as_json, text="\n".join(explanation.lines()))
        if any(finding.status == ERROR for finding in explanation.findings):
            raise SystemExit(PackError.exit_code)
        return
    if require_sha256 is not None or device != "auto":
        raise UsageError("--require-sha256 and --device are about a pack", "mclip doctor PACK")
    findings = examine(places)
    counts = {status: sum(finding.status == status for finding in findings) for status in ("ok", "warning", "error")}
    lines = [line for finding in findings for line in finding.lines()]
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    table = {"findings": [asdict(finding) for finding in findings], **counts}
    emit(table, as_json=as_json, text="\n".join([*lines, summary]))
    if counts[ERROR]:
        raise SystemExit(1)
