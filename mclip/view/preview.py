"""Pictures of motions, in the format their suffix names: a contact sheet (.png), or a film (.webp, .gif, .mp4)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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
# All pictures of a .gif are held before they are written, a byte a pixel.
MAX_GIF_BYTES = 1_000_000_000
# A .gif counts in hundredths of a second, and what is shorter than two of them browsers show for ten.
MAX_GIF_FPS = 50.0
# A film's metadata, with some bytes for each of its frames.
_MAX_MOOV = 16 * 2**20
# A .gif has 256 colours, one of which is none. Every so many frames one is looked at to choose them.
_COLOURS, _LOOKED_AT = 255, 8
# A picture of a .webp is what changed since the one before. Every so many one is whole, or small changes would add up.
_KEY = 9


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
    if look and look.fps is not None and look.fps > MAX_GIF_FPS and suffix == ".gif":
        raise UsageError(f"--fps {look.fps:g}: a .gif shows {MAX_GIF_FPS:g} at most", "choose .webp or .mp4, or fewer")
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
    if path.suffix.lower() == ".webp":
        _write_webp(path, made, command)
        return
    if made.frames * made.size[0] * made.size[1] > MAX_GIF_BYTES:
        raise UsageError(
            f"{path}: {made.frames} pictures of {made.size[0]} by {made.size[1]} pixels are too many",
            "choose a lower --fps, a smaller --size, .webp or .mp4",
        )
    _write_gif(path, made, command)


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


class _Reel(Image.Image):
    """A film as Pillow reads one that it is to write: each picture is drawn when its turn has come."""

    def __init__(self, made: Film) -> None:
        super().__init__()
        self.n_frames = made.frames
        self._pictures, self._shown = made.pictures, -1
        self.seek(0)

    def tell(self) -> int:
        return max(self._shown, 0)

    def seek(self, frame: int) -> None:
        # When all is written Pillow wants to be back where it began; there is no way back, and no need.
        while self._shown < frame:
            picture = next(self._pictures)
            self.im, self._mode, self._size = picture.im, picture.mode, picture.size
            self._shown += 1


def _write_webp(path: Path, made: Film, command: str) -> None:
    with atomic_path(path) as temporary:
        _Reel(made).save(
            temporary, "WEBP", save_all=True, duration=_durations(made, 1), loop=0,
            quality=80, method=0, kmin=_KEY, kmax=_KEY + 1, xmp=_note(command),
        )  # fmt: skip


def _write_gif(path: Path, made: Film, command: str) -> None:
    # One palette for all, or colours would flicker; without dithering, which would crawl.
    looked_at = [picture.convert("RGB") for picture in made.sample(_LOOKED_AT)]
    strip = Image.new("RGB", (made.size[0], made.size[1] * len(looked_at)), "white")
    for index, picture in enumerate(looked_at):
        strip.paste(picture, (0, made.size[1] * index))
    palette = strip.quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    # The brightest colour chosen is a mean of near whites; paper is white.
    colours = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    colours[colours.sum(axis=1, dtype=int).argmax()] = 255
    palette.putpalette(colours.tobytes())
    first, *rest = (_with_palette(picture, palette) for picture in made.pictures)
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
    """Whether our note stands in the box of a film's metadata; the film itself is not read."""
    try:
        with path.open("rb") as file:
            size, name = _box(file)
            if name != b"ftyp":
                return False
            while name != b"moov":
                file.seek(size, os.SEEK_CUR)
                size, name = _box(file)
            return _note("")[:9] in file.read(min(size, _MAX_MOOV))
    except (OSError, ValueError):
        return False


def _box(file: BinaryIO) -> tuple[int, bytes]:
    """How many bytes follow in the box that begins here, and its name. Raises ValueError where there is none."""
    head = file.read(8)
    size, name = int.from_bytes(head[:4], "big") - 8, head[4:]
    if size == 1 - 8:
        size = int.from_bytes(file.read(8), "big") - 16
    if size < 0 or len(name) < 4:
        raise ValueError("no box")
    return size, name


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
