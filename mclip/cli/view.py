"""mclip view: motions as a page, a picture, or in the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import typer

    from mclip.train.samples import Sample
    from mclip.view.page import Shown
    from mclip.view.preview import Look


def view(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Motions: .npz, .bvh, .amc or .glb; or a folder of them, or a run."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Page .html, picture .png, film .webp .gif .mp4. [default: FILE.html]"),
    ] = None,
    terminal: Annotated[bool, typer.Option("--terminal", help="Play it here, in the terminal.")] = False,
    frames: Annotated[
        int | None, typer.Option(help="Pictures of a .png, evenly spaced over the motion. [default: 8]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Height of a picture in pixels. [default: 320; in a film 240]")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Pictures a second of a film. [default: FILE's or 30]")] = None,
    camera: Annotated[
        str | None, typer.Option(help="Of pictures and films: follow, front, side or turntable. [default: follow]")
    ] = None,
    transparent: Annotated[
        bool, typer.Option("--transparent", help="Pictures and films without floor and background; not .mp4.")
    ] = False,
    body: Annotated[Path | None, typer.Option(help="SMPL body (.npz or .pkl). [default: the free body]")] = None,
    renderer: Annotated[str, typer.Option(help="numba, numpy or pyrender.")] = "numba",
    take: Annotated[str | None, typer.Option(help="Which animation of a .glb.")] = None,
    pack: Annotated[str | None, typer.Option(help="Pack that maps a folder. [default: mini, or MCLIP_PACK]")] = None,
    require_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
    ] = None,
    rig: Annotated[Path | None, typer.Option(help="Joint table (TOML) for a skeleton mclip does not know.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file mclip view did not make.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at motions.

    A page plays one or several side by side in any browser, without a network; without -o it is opened. A picture has
    the body at even times, from left to right, a row for each motion; a film plays them in a grid. Their camera goes
    along with the body, stands in front of it or at its left side (and goes along if it goes far), or goes around it
    once. A folder becomes a map of its motions, which plays them; a run its curves, and samples of its last checkpoint.

    Example: mclip view sit.npz

    Example: mclip view walk.npz walk-angry.npz -o compare.html

    Example: mclip view sit.npz -o sit.png

    Example: mclip view walk.npz walk-angry.npz -o compare.webp --camera side

    Example: mclip view library/

    Example: mclip view runs/paper
    """
    from mclip.errors import UsageError
    from mclip.formats import check_readable, load
    from mclip.view.page import SUFFIXES, Shown, check_page_output, default_page, names_of
    from mclip.view.preview import Look, check_output

    if os.path.isdir(files[0]):  # whatever the name, it does not fail
        named: dict[str, object] = {"frames": frames, "size": size, "fps": fps, "camera": camera, "take": take}
        named |= {"terminal": terminal or None, "transparent": transparent or None, "body": body, "rig": rig}
        if unused := [name for name, value in named.items() if value is not None]:
            raise UsageError(f"--{unused[0]} is for motions, not for folders", f"mclip view {files[0]}")
        _folder(files, out, pack, require_sha256, force=force, as_json=as_json)
        return
    for file in files:
        check_readable(file)
    path = out or default_page(files)
    page = path.suffix.lower() in SUFFIXES and not terminal
    if page:
        # The page hands its body on, which the licence of SMPL does not allow.
        if body:
            raise UsageError("a page shows the free body only", "leave --body out, or make a picture: -o FILE.png")
        check_page_output(path, force=force)
    given = {"frames": frames, "size": size, "fps": fps, "camera": camera, "transparent": transparent or None}
    look = Look(frames, size, fps, camera or "follow", transparent, renderer)
    if page or terminal:
        if unused := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"--{unused[0]} is for pictures and films", "-o FILE.png, or -o FILE.webp")
    else:
        check_output(path, look, force=force)
    names = [take] if take and len(files) == 1 else names_of(files)
    shown = [Shown(name, load(file, rig=rig, take=take), file.name) for name, file in zip(names, files, strict=True)]
    if page:
        _page(path, shown, opened=out is None, force=force, as_json=as_json)
    elif terminal:
        _terminal(shown, body, out, as_json=as_json)
    else:
        _picture(path, shown, body, look, force=force, as_json=as_json)


def _page(path: Path, shown: list[Shown], *, opened: bool, force: bool, as_json: bool) -> None:
    from mclip.console import emit
    from mclip.view.page import motion_page, write_page

    write_page(path, motion_page(shown), force=force)
    if opened and not as_json:
        _open(path)
    motions = [
        {"name": each.name, "frames": len(each.motion), "fps": each.motion.fps, "seconds": each.motion.seconds}
        for each in shown
    ]
    emit({"path": str(path), "motions": motions}, as_json=as_json, text=str(path))


def _open(path: Path) -> None:
    import sys

    from mclip.view.browser import open_page

    # Nobody waits for a window where the output goes to another program.
    if sys.stdout is not None and sys.stdout.isatty():
        open_page(path)


def _folder(
    files: list[Path], out: Path | None, pack: str | None, sha256: str | None, *, force: bool, as_json: bool
) -> None:
    """The page of a library, or of a training run."""
    from mclip.console import emit, err, skipped_lines
    from mclip.errors import UsageError
    from mclip.runtime.engine import Engine
    from mclip.runtime.search import open_library
    from mclip.view.library import library_page
    from mclip.view.page import SUFFIXES, check_page_output, write_page
    from mclip.view.run import is_run, run_page

    folder = files[0]
    if len(files) > 1:
        raise UsageError("a map is of one folder", f"mclip view {folder}")
    path = out or Path(folder.resolve().name + SUFFIXES[0])
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a folder becomes a page", f"-o {path.with_suffix(SUFFIXES[0]).name}")
    check_page_output(path, force=force)
    result: dict[str, Any] = {"path": str(path)}
    if is_run(folder):
        made, why = _samples(folder)
        page = run_page(folder, made, why)
        result["samples"] = len(made)
    else:
        engine = Engine.open(pack, sha256=sha256)
        library, skipped = open_library(engine, files)
        for line in skipped_lines(skipped):
            err(line)
        page = library_page(engine, folder, library)
        result |= {"motions": len(library), "skipped": [{"path": p, "reason": reason} for p, reason in skipped]}
    write_page(path, page, force=force)
    if out is None and not as_json:
        _open(path)
    emit(result, as_json=as_json, text=str(path))


def _samples(run: Path) -> tuple[list[Sample], str]:
    """Samples of a run's last checkpoint; none, and why, where they cannot be had. Curves can be seen anyway."""
    from mclip.cli import need
    from mclip.console import err
    from mclip.errors import MclipError
    from mclip.view.run import SAMPLES

    try:
        with need("train"):
            from mclip.train.samples import samples
        return samples(run, SAMPLES), ""
    except MclipError as error:
        err(f"no samples: {error.message}")
        return [], error.message


def _terminal(shown: list[Shown], body: Path | None, out: Path | None, *, as_json: bool) -> None:
    from mclip.body.model import load_body
    from mclip.errors import UsageError
    from mclip.view.page import caption
    from mclip.view.terminal import play_in_terminal

    if out or as_json or len(shown) > 1:
        raise UsageError("--terminal plays one motion and writes nothing", "leave other motions, -o and --json out")
    play_in_terminal(shown[0].motion, load_body(body), caption=caption(shown[0]))


def _picture(path: Path, shown: list[Shown], body: Path | None, look: Look, *, force: bool, as_json: bool) -> None:
    from mclip.body.model import load_body
    from mclip.console import emit
    from mclip.view.page import caption
    from mclip.view.preview import write_preview

    # Beside others, its name tells a motion apart, not what it was made from.
    named = [(each.name if len(shown) > 1 else caption(each), each.motion) for each in shown]
    write_preview(path, named, load_body(body), look, force=force)
    told = [{"frames": len(each.motion), "fps": each.motion.fps, "seconds": each.motion.seconds} for each in shown]
    one = told[0] if len(told) == 1 else {"motions": told}
    emit({"path": str(path), **one}, as_json=as_json, text=str(path))
