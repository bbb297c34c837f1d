"""Contact sheets: a motion as a row of pictures from left to right, with the time below each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mclip.body.model import Body
from mclip.errors import UsageError
from mclip.motion import Motion
from mclip.view.stage import draw_stage, set_stage

FRAMES, SIZE = 8, 320
# Pictures in one row; more would be too small on a screen.
PER_ROW = 8
# At the largest size, 640 pictures' pixels are 800 MB.
MAX_FRAMES = 64
MIN_SIZE, MAX_SIZE = 32, 1024
_INK, _FAINT = (38, 46, 60), (120, 130, 145)


def contact_sheet(
    motions: Sequence[tuple[str, Motion]],
    body: Body,
    *,
    frames: int = FRAMES,
    size: int = SIZE,
    backend: str = "numba",
) -> Image.Image:
    """A picture of one or more motions, each with its caption above: (caption, motion) pairs.

    frames: pictures per motion, evenly spaced from the first frame to the last; fewer when the motion has fewer
    size: height of a picture in pixels; its width is what the body needs
    Raises UsageError for numbers out of range or an unknown backend.
    """
    if not motions:
        raise UsageError("there is no motion to show")
    if not 1 <= frames <= MAX_FRAMES:
        raise UsageError(f"{frames} pictures were asked for, not between 1 and {MAX_FRAMES}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"the picture size is {size}, not between {MIN_SIZE} and {MAX_SIZE} pixels")
    strips = [_strip(caption, motion, body, frames, size, backend) for caption, motion in motions]
    sheet = Image.new("RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _strip(caption: str, motion: Motion, body: Body, frames: int, size: int, backend: str) -> Image.Image:
    chosen = np.unique(np.linspace(0, len(motion) - 1, frames).round().astype(int)).tolist()
    pictures, used = draw_stage(set_stage(motion, body, chosen), size=size, backend=backend)
    left, right = _columns(used, size)
    width = right - left

    text = max(round(size * 0.05), 9)
    title, small = ImageFont.load_default(text * 1.5), ImageFont.load_default(text)
    border, head, foot = text, text * 5, text * 2
    columns = min(len(chosen), PER_ROW)
    rows = -(-len(chosen) // columns)
    details = _details(motion)
    room = max(columns * width, round(small.getlength(details)))
    strip = Image.new("RGB", (room + 2 * border, head + rows * (size + foot) + border), "white")
    draw = ImageDraw.Draw(strip)
    draw.text((border, text), _shortened(caption, title, room), fill=_INK, font=title)
    draw.text((border, text * 3), details, fill=_FAINT, font=small)
    for index, frame in enumerate(chosen):
        x, y = border + index % columns * width, head + index // columns * (size + foot)
        strip.paste(Image.fromarray(np.ascontiguousarray(pictures[index][:, left:right])), (x, y))
        draw.text((x + width / 2, y + size + text * 0.4), f"{frame / motion.fps:.2f} s", _FAINT, small, anchor="ma")
    return strip


def _columns(used: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], size: int) -> tuple[int, int]:
    """The columns [left, right) that any picture needs, with a little air, the same for all of them."""
    taken = np.nonzero(used.any(axis=(0, 1)))[0]
    air = size // 16
    least = size // 3
    left, right = max(int(taken.min()) - air, 0), min(int(taken.max()) + 1 + air, size)
    missing = max(least - (right - left), 0)
    return max(left - missing // 2, 0), min(right + missing - missing // 2, size)


def _details(motion: Motion) -> str:
    ground = motion.transl[:, :2]
    travelled = float(np.linalg.norm(ground[-1] - ground[0]))
    return f"{motion.seconds:.1f} s, {len(motion)} frames at {motion.fps:g} fps, ends {travelled:.1f} m from its start"


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """One line of `text` that fits, with an ellipsis where it was cut."""
    line = " ".join(text.split())
    if font.getlength(line) <= room:
        return line
    while line and font.getlength(line + "...") > room:
        line = line[: -max(len(line) // 20, 1)]
    return line.rstrip() + "..."
