"""Pictures of motions, in the format their suffix names: a contact sheet (.png), or a film (.webp, .gif, .mp4)."""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mclip import __version__
from mclip.body.model import Body
from mclip.errors import AssetError, UsageError
from mclip.files import atomic_path
from mclip.motion import Motion
from mclip.view import film as films
from mclip.view import sheet as sheets
from mclip.view.film import Film, film
from mclip.view.sheet import contact_sheet
from mclip.view.stage import check_view

FILMS: tuple[str, ...] = (".webp", ".gif", ".mp4")
SUFFIXES: tuple[str, ...] = (".png", *FILMS)
# Height of a picture where motions are to be compared at a glance.
SMALL = 160
# The note in a picture that says that we made the file.
MARK = "mclip"
# All pictures of a .gif or .webp are held before they are written.
MAX_FILM_BYTES = 1_500_000_000
# A .gif has 256 colours, one of which is none. Every so many frames one is looked at to choose them.
_COLOURS, _LOOKED_AT = 255, 8


@dataclass(frozen=True, slots=True)
class Look:
    """How pictures are taken; None is what suits the format.

    frames       pictures of each motion on a sheet
    size         height of a picture in pixels
    fps          of a film
    view         where the camera stands, one of mclip.view.stage.VIEWS
    transparent  without floor and background; not for .mp4
    backend      who draws, one of mclip.render.frames.BACKENDS
    """

    frames: int | None = None
    size: int | None = None
    fps: float | None = None
    view: str = "follow"
    transparent: bool = False
    backend: str = "numba"


def check_output(path: Path, look: Look | None = None, *, force: bool = False) -> None:
    """Raise UsageError when no such picture can be written to `path`: wrong suffix or option, or a file that is not
    ours; AssetError when the package for it is missing."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: mclip view cannot write {path.suffix or 'files without a suffix'}",
            f"it writes .html, {', '.join(SUFFIXES)}",
        )
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", "name a file with -o")
    if look and look.fps is not None and suffix == ".png":
        raise UsageError("--fps has no effect on a sheet of pictures", "choose .webp, .gif or .mp4, or --frames")
    if look and look.frames is not None and suffix != ".png":
        raise UsageError("--frames has no effect on a film", "choose .png, or --fps")
    if look and look.transparent and suffix == ".mp4":
        raise UsageError("an .mp4 cannot be transparent", "choose .webp or .gif")
    if look:
        check_view(look.view)
    if path.exists() and not force and not is_preview(path):
        raise UsageError(f"{path}: exists, and was not made by mclip view", "use --force to replace it")
    if suffix == ".mp4":
        _require_av()


def is_preview(path: Path) -> bool:
    """Whether mclip made this picture or film."""
    if path.suffix.lower() == ".mp4":
        return _is_own_mp4(path)
    try:
        with Image.open(path, formats=("PNG", "GIF", "WEBP")) as picture:
            notes = (picture.info.get(key, b"") for key in ("comment", "xmp"))
            return MARK in picture.info or any(bytes(note).startswith(_note("")[:9]) for note in notes)
    except Exception:
        # PIL raises a dozen kinds for files that are no pictures.
        return False


def write_preview(
    path: Path,
    motions: Sequence[tuple[str, Motion]],
    body: Body,
    look: Look | None = None,
    *,
    command: str = "view",
    force: bool = False,
) -> None:
    """Draw (caption, motion) pairs into `path`, atomically; `command` made them. Raises as `check_output` does, and
    UsageError for numbers out of range."""
    look = look or Look()
    check_output(path, look, force=force)
    if path.suffix.lower() == ".png":
        sheet = contact_sheet(
            motions,
            body,
            frames=sheets.FRAMES if look.frames is None else look.frames,
            size=sheets.SIZE if look.size is None else look.size,
            view=look.view,
            transparent=look.transparent,
            backend=look.backend,
        )
        _write_sheet(path, sheet, command)
        return
    made = film(
        motions,
        body,
        size=films.SIZE if look.size is None else look.size,
        fps=look.fps,
        view=look.view,
        transparent=look.transparent,
        backend=look.backend,
    )
    if path.suffix.lower() == ".mp4":
        _write_mp4(path, made, command)
        return
    if made.frames * made.size[0] * made.size[1] * 4 > MAX_FILM_BYTES:
        raise UsageError(
            f"{path}: {made.frames} pictures of {made.size[0]} by {made.size[1]} pixels are too many",
            "choose a lower --fps, a smaller --size, or .mp4",
        )
    (_write_gif if path.suffix.lower() == ".gif" else _write_webp)(path, made, command)


def write_sheet(path: Path, motions: Sequence[tuple[str, Motion]], body: Body, *, command: str) -> None:
    """Draw (caption, motion) pairs below each other into `path` (.png), atomically; `command` made them."""
    _write_sheet(path, contact_sheet(motions, body, size=SMALL), command)


def _note(command: str) -> bytes:
    return f"{MARK} {json.dumps({'command': command, 'version': __version__})}".encode()


def _write_sheet(path: Path, sheet: Image.Image, command: str) -> None:
    mark = PngInfo()
    mark.add_text(MARK, json.dumps({"command": command, "version": __version__}))
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG", pnginfo=mark)


def _durations(made: Film, unit: int) -> list[int]:
    """Milliseconds that each picture is shown, whole multiples of `unit` that add up to the film's length."""
    ends = [round((index + 1) * 1000 / made.fps / unit) * unit for index in range(made.frames)]
    return [max(end - start, unit) for start, end in zip([0, *ends], ends, strict=False)]


def _write_webp(path: Path, made: Film, command: str) -> None:
    first, *rest = made.pictures
    with atomic_path(path) as temporary:
        first.save(
            temporary, "WEBP", save_all=True, append_images=rest, duration=_durations(made, 1), loop=0,
            quality=80, method=0, xmp=_note(command),
        )  # fmt: skip


def _write_gif(path: Path, made: Film, command: str) -> None:
    pictures = list(made.pictures)
    # One palette for all, or colours would flicker; without dithering, which would crawl.
    looked_at = pictures[:: max(len(pictures) // _LOOKED_AT, 1)]
    strip = Image.new("RGB", (made.size[0], made.size[1] * len(looked_at)), "white")
    for index, picture in enumerate(looked_at):
        strip.paste(picture.convert("RGB"), (0, made.size[1] * index))
    palette = strip.quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    # The brightest colour chosen is a mean of near whites; paper is white.
    colours = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    colours[colours.sum(axis=1, dtype=int).argmax()] = 255
    palette.putpalette(colours.tobytes())
    first, *rest = (_with_palette(picture, palette) for picture in pictures)
    with atomic_path(path) as temporary:
        first.save(
            temporary, "GIF", save_all=True, append_images=rest, duration=_durations(made, 10), loop=0,
            comment=_note(command), optimize=False,
            **({"transparency": _COLOURS, "disposal": 2} if "transparency" in first.info else {}),
        )  # fmt: skip


def _with_palette(picture: Image.Image, palette: Image.Image) -> Image.Image:
    result = picture.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    if picture.mode == "RGBA":
        # A .gif knows no half: what is mostly there is there.
        result.paste(_COLOURS, mask=picture.getchannel("A").point([255] * 128 + [0] * 128))
        result.info["transparency"] = _COLOURS
    return result


def _require_av() -> None:
    try:
        import av  # noqa: F401
    except ImportError:
        raise AssetError("writing .mp4 needs the package av", 'pip install "mclip[mp4]", or choose .webp') from None


def _is_own_mp4(path: Path) -> bool:
    # The note stands in the file as it is, in front of the pictures or behind them: the file is not read but mapped.
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content[4:8] == b"ftyp" and content.find(_note("")[:9]) >= 0
    except (OSError, ValueError):
        return False


def _write_mp4(path: Path, made: Film, command: str) -> None:
    from fractions import Fraction

    import av

    with atomic_path(path) as temporary, av.open(str(temporary), "w", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = _note(command).decode()
        stream = container.add_stream("libx264", rate=Fraction(made.fps).limit_denominator(1001))
        stream.width, stream.height = made.size
        # What every player plays.
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for picture in made.pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
