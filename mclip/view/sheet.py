"""Contact sheets: a motion as a row of pictures from left to right, with the time below each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mclip.body.model import Body
from mclip.errors import UsageError
from mclip.motion import Motion
from mclip.view.lettering import Font, lettering
from mclip.view.stage import Stage, draw_frames, set_stage

FRAMES, SIZE = 8, 320
# Pictures in one row; more would be too small on a screen.
PER_ROW = 8
# At the largest size, 640 pictures' pixels are 800 MB.
MAX_FRAMES = 64
MIN_SIZE, MAX_SIZE = 32, 1024
INK, FAINT = (38, 46, 60), (120, 130, 145)


def contact_sheet(
    motions: Sequence[tuple[str, Motion]],
    body: Body,
    *,
    frames: int = FRAMES,
    size: int = SIZE,
    view: str = "follow",
    transparent: bool = False,
    backend: str = "numba",
) -> Image.Image:
    """A picture of one or more motions, each with its caption above: (caption, motion) pairs.

    frames: pictures per motion, evenly spaced from the first frame to the last; fewer when the motion has fewer
    size: height of a picture in pixels; its width is what the body needs
    view: where the camera stands, one of mclip.view.stage.VIEWS; transparent: no floor and no white
    Raises UsageError for numbers out of range or an unknown backend or view.
    """
    if not motions:
        raise UsageError("there is no motion to show")
    if not 1 <= frames <= MAX_FRAMES:
        raise UsageError(f"{frames} pictures were asked for, not between 1 and {MAX_FRAMES}")
    check_size(size)
    strips = [_strip(caption, motion, body, frames, size, view, transparent, backend) for caption, motion in motions]
    sheet = blank((max(strip.width for strip in strips), sum(strip.height for strip in strips)), transparent)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def check_size(size: int) -> None:
    """Raise UsageError for pictures too small to see or too large to draw."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"the picture size is {size}, not between {MIN_SIZE} and {MAX_SIZE} pixels")


def blank(size: tuple[int, int], transparent: bool) -> Image.Image:
    """A picture with nothing in it: white, or nothing at all."""
    return Image.new("RGBA", size, (0, 0, 0, 0)) if transparent else Image.new("RGB", size, "white")


def columns(stage: Stage, size: int, least: int) -> slice:
    """The columns of a picture that the body and its shadow need, with a little air; `least` of them at least."""
    air = size // 16
    left, right = int(stage.span[0] * size) - air, int(np.ceil(stage.span[1] * size)) + air
    width = min(max(right - left, least), size)
    start = min(max((left + right - width) // 2, 0), size - width)
    return slice(start, start + width)


def shortened(text: str, font: Font, room: int) -> str:
    """One line of `text` that fits, with an ellipsis where it was cut."""
    line = " ".join(text.split())
    if font.getlength(line) <= room:
        return line
    while line and font.getlength(line + "...") > room:
        line = line[: -max(len(line) // 20, 1)]
    return line.rstrip() + "..."


def _strip(
    caption: str, motion: Motion, body: Body, frames: int, size: int, view: str, transparent: bool, backend: str
) -> Image.Image:
    chosen = np.unique(np.linspace(0, len(motion) - 1, frames).round().astype(int)).tolist()
    stage = set_stage(motion, body, chosen, view)
    cut = columns(stage, size, size // 3)
    width = cut.stop - cut.start

    text = max(round(size * 0.05), 9)
    caption, title = lettering(caption, text * 1.5)
    small = ImageFont.load_default(text)
    border, head, foot = text, text * 5, text * 2
    per_row = min(len(chosen), PER_ROW)
    rows = -(-len(chosen) // per_row)
    details = _details(motion)
    room = max(per_row * width, round(small.getlength(details)))
    strip = blank((room + 2 * border, head + rows * (size + foot) + border), transparent)
    draw = ImageDraw.Draw(strip)
    draw.text((border, text), shortened(caption, title, room), fill=INK, font=title)
    draw.text((border, text * 3), details, fill=FAINT, font=small)
    pictures = draw_frames(stage, size=size, backend=backend, transparent=transparent, columns=cut)
    for index, (frame, picture) in enumerate(zip(chosen, pictures, strict=True)):
        x, y = border + index % per_row * width, head + index // per_row * (size + foot)
        strip.paste(Image.fromarray(picture), (x, y))
        draw.text((x + width / 2, y + size + text * 0.4), f"{frame / motion.fps:.2f} s", FAINT, small, anchor="ma")
    return strip


def _details(motion: Motion) -> str:
    ground = motion.transl[:, :2]
    travelled = float(np.linalg.norm(ground[-1] - ground[0]))
    return f"{motion.seconds:.1f} s, {len(motion)} frames at {motion.fps:g} fps, ends {travelled:.1f} m from its start"
