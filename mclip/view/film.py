"""Moving pictures: motions side by side in a grid, each with its caption above."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from mclip.body.model import Body
from mclip.errors import UsageError
from mclip.motion import MAX_FPS, MIN_FPS, Motion
from mclip.view.lettering import lettering
from mclip.view.sheet import INK, blank, check_size, columns, shortened
from mclip.view.stage import check_view, draw_frames, set_stage

SIZE = 240
# What screens show and files need; more only if asked for.
FPS = 30.0
MAX_MOTIONS = 25
# A quarter of an hour at 30 frames per second.
MAX_FRAMES = 27_000


@dataclass(frozen=True, eq=False)
class Film:
    """Pictures of one size (pixels) at a constant rate, drawn as they are asked for.

    sample: draws about as many of them as it is told, from the beginning to the end
    """

    size: tuple[int, int]
    fps: float
    frames: int
    pictures: Iterator[Image.Image]
    sample: Callable[[int], Iterator[Image.Image]]


def film(
    motions: Sequence[tuple[str, Motion]],
    body: Body,
    *,
    size: int = SIZE,
    fps: float | None = None,
    view: str = "follow",
    transparent: bool = False,
    backend: str = "numba",
) -> Film:
    """A film of one or more motions, (caption, motion) pairs, played together; who is done stands still.

    size: height of a motion's picture in pixels; its width is what the widest needs
    fps: pictures per second; the motions' own rate, but no more than FPS, if None
    view, transparent: as in `contact_sheet`
    Raises UsageError for numbers out of range, too many motions or frames, or an unknown backend or view.
    """
    if not 1 <= len(motions) <= MAX_MOTIONS:
        raise UsageError(f"there are {len(motions)} motions, not 1 to {MAX_MOTIONS} that fit into a film")
    check_size(size)
    check_view(view)
    rate = min(FPS, max(motion.fps for _, motion in motions)) if fps is None else fps
    if not MIN_FPS <= rate <= MAX_FPS:
        raise UsageError(f"--fps {rate:g} is not between {MIN_FPS:g} and {MAX_FPS:g}")
    longest = max(motion.seconds for _, motion in motions)
    if longest * rate > MAX_FRAMES:
        raise UsageError(f"a film of {longest:.0f} s is too long", "choose a lower --fps, or cut the motion")
    shown = [motion.resample(rate) for _, motion in motions]
    stages = [set_stage(motion, body, range(len(motion)), view) for motion in shown]
    cuts = [columns(stage, size, size * 3 // 5) for stage in stages]
    width = max(cut.stop - cut.start for cut in cuts)
    cuts = [columns(stage, size, width) for stage in stages]

    text = max(round(size * 0.06), 9)
    head = text * 2
    across = math.ceil(math.sqrt(len(motions)))
    down = -(-len(motions) // across)
    # Films are coded in squares: sides that are even.
    canvas = blank((across * width + across * width % 2, down * (size + head) + down * (size + head) % 2), transparent)
    places = [(index % across * width, index // across * (size + head) + head) for index in range(len(motions))]
    draw = ImageDraw.Draw(canvas)
    for (caption, _), (x, y) in zip(motions, places, strict=True):
        caption, font = lettering(caption, text)
        draw.text((x + text // 2, y - head + text // 2), shortened(caption, font, width - text), fill=INK, font=font)

    total = max(map(len, shown))

    def pictures(step: int = 1) -> Iterator[Image.Image]:
        running = [
            draw_frames(stage.every(step), size=size, backend=backend, transparent=transparent, columns=cut)
            for stage, cut in zip(stages, cuts, strict=True)
        ]
        picture = canvas.copy()
        for _ in range(0, total, step):
            for cell, place in zip(running, places, strict=True):
                drawn = next(cell, None)
                if drawn is not None:
                    picture.paste(Image.fromarray(drawn), place)
            yield picture.copy()

    return Film(canvas.size, rate, total, pictures(), lambda count: pictures(max(total // count, 1)))
