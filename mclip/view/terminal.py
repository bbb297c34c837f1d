"""Motions played in the terminal itself: pictures of half blocks, two pixels to a character."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style

from mclip.body.model import Body
from mclip.errors import UsageError
from mclip.motion import Motion
from mclip.render.camera import Camera
from mclip.view.stage import draw_frames, set_stage

# Pictures a second that a terminal keeps up with.
RATE = 15.0
# Frames that camera and floor are found from; all of a long motion would not fit into memory.
_SAMPLES = 24
# A larger picture takes longer to draw than a frame lasts; below the smallest nobody can be made out.
_LARGEST, _SMALLEST = 160, 24
# A figure in the middle of white makes thousands of different pairs at most.
_STYLES = 16384


def play_in_terminal(motion: Motion, body: Body, *, caption: str) -> None:
    """Play a motion again and again, until Ctrl-C. Raises UsageError where there is no colour terminal on stdout."""
    console = Console()
    if not console.is_terminal or console.color_system is None:
        raise UsageError("--terminal needs a terminal with colours", "leave it out for a page, or name a file with -o")
    size = min(console.width, 2 * (console.height - 2), _LARGEST) // 2 * 2
    if size < _SMALLEST:
        raise UsageError(f"the terminal has {console.width} x {console.height} characters, too few for a picture")
    frames = _Frames(motion, body, size)
    with (
        _plain_interrupt(),
        suppress(KeyboardInterrupt),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        start = time.monotonic()
        while True:
            began = time.monotonic()
            frame = int((began - start) * motion.fps) % len(motion)
            words = f"{caption}  {frame / motion.fps:.2f} s  {frame} / {len(motion) - 1}  Ctrl-C ends"
            live.update(HalfBlocks(frames.draw(frame), words), refresh=True)
            time.sleep(max(1.0 / RATE - (time.monotonic() - began), 0.0))


class HalfBlocks:
    """A picture (H, W, 3), H even, as H / 2 lines of W characters, and a line of words below; rich prints it."""

    def __init__(self, picture: NDArray[np.uint8], words: str) -> None:
        self._picture, self._words = picture, words

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        pairs = self._picture.reshape(len(self._picture) // 2, 2, -1, 3).swapaxes(1, 2).reshape(-1, 6)
        width = self._picture.shape[1]
        for line in pairs.reshape(-1, width, 6).tolist():
            yield from (Segment("▀", _style(*pair)) for pair in line)
            yield Segment.line()
        shown = "".join(letter if letter.isprintable() else " " for letter in self._words)
        yield Segment(shown[: options.max_width])


class _Frames:
    """Draws the frames of a motion, each seen by the same camera, which follows over the ground."""

    def __init__(self, motion: Motion, body: Body, size: int) -> None:
        self._motion, self._size = motion, size
        chosen = np.unique(np.linspace(0, len(motion) - 1, _SAMPLES).round().astype(int)).tolist()
        self._stage = set_stage(motion, body, chosen)

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """The picture (size, size, 3) of a frame."""
        stage, one = self._stage, slice(frame, frame + 1)
        camera = stage.cameras[0]
        moved = np.array([*(stage.path[frame] - stage.path[stage.frames[0]]), 0.0])
        here = replace(
            stage,
            motion=self._motion.slice(frame, frame + 1),
            cameras=[Camera(camera.eye + moved, camera.axes)],
            frames=[frame],
            centres=stage.path[one],
        )
        (picture,) = draw_frames(here, size=self._size)
        return picture[..., :3]


@lru_cache(maxsize=_STYLES)
def _style(r: int, g: int, b: int, r2: int, g2: int, b2: int) -> Style:
    return Style(color=Color.from_rgb(r, g, b), bgcolor=Color.from_rgb(r2, g2, b2))


@contextmanager
def _plain_interrupt() -> Iterator[None]:
    """Ctrl-C is how one leaves here: it is no interruption to be told of."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
