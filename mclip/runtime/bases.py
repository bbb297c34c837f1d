"""What is edited and interpolated: motions of the user's and texts, as latents."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.formats import SUFFIXES, load
from mclip.motion import Motion
from mclip.runtime import windows as framing
from mclip.runtime.engine import Engine
from mclip.runtime.ground import floor_of
from mclip.runtime.tasks import Prompt, generate
from mclip.runtime.windows import Windows

# An hour at 30 frames per second. Rotations of that many frames, in a dozen arrays, are about a gigabyte.
MAX_EDIT_FRAMES = 108_000


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What the user named: a motion file that was read, or a text (motion is None)."""

    name: str
    motion: Motion | None


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A recording as the pack sees it: windows, their features (K, W, 25, 6) and latents (K, D)."""

    windows: Windows
    features: NDArray[np.float32]
    latents: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A motion and what the pack sees in it.

    motion   as it is, at its own frame rate
    latents  (K, D) of its windows
    windows  where they lie, at the pack's frame rate
    own      what the decoder makes of the latents, joined
    """

    motion: Motion
    latents: NDArray[np.float32]
    windows: Windows
    own: Motion


def read_source(value: str, *, rig: Path | None = None, take: str | None = None) -> Source:
    """A motion file, if the value has the suffix of one or is a file with any suffix; else a text.

    Raises MotionError when the file cannot be read, and for a folder that is written as one: "clips" may be a text.
    """
    suffix = os.path.splitext(value)[1].lower()
    if suffix in SUFFIXES or (suffix and os.path.isfile(value)):
        return Source(value, load(Path(value), rig=rig, take=take))
    if os.path.isdir(value) and os.path.basename(value) != value:
        raise MotionError(f"{value}: is a folder", f"name a motion file, or a text: it reads {', '.join(SUFFIXES)}")
    return Source(value, None)


def start_for(engine: Engine, sources: Iterable[Source]) -> None:
    """Begin to start the graphs that sources need, side by side."""
    engine.start("motion_decoder", *{"text_encoder" if item.motion is None else "motion_encoder" for item in sources})


def to_base(engine: Engine, source: Source) -> Base:
    """What the pack sees in a source; a text becomes the motion `generate` makes of it.

    Raises MotionError for motions the pack cannot read (too short) or this module does not want to (too long), and
    UsageError for texts that are empty or too long.
    """
    motion = source.motion
    if motion is None:
        motion, latent = from_text(engine, source.name)
        latents, windows = latent[None], _cut(engine, motion, source.name)[0]
    else:
        seen = look_at(engine, motion, source.name)
        latents, windows = seen.latents, seen.windows
    own = framing.join(windows, framing.decode(engine, latents, windows.length), engine.manifest.fps)
    return Base(motion, latents, windows, own)


def from_text(engine: Engine, text: str) -> tuple[Motion, NDArray[np.float32]]:
    """The motion `generate` makes of a text, and the latent (D,) it is decoded from."""
    made = next(generate(engine, [Prompt(text)]))
    return made.motion, made.match.latent if made.match else engine.encode_text([text])[0]


def look_at(engine: Engine, motion: Motion, name: str) -> Seen:
    """Cut a motion into windows and encode them; name is for messages. Raises MotionError as `to_base`."""
    windows, features = _cut(engine, motion, name)
    return Seen(windows, features, framing.encode(engine, features))


def _cut(engine: Engine, motion: Motion, name: str) -> tuple[Windows, NDArray[np.float32]]:
    fps = engine.manifest.fps
    if max(len(motion), motion.seconds * fps) > MAX_EDIT_FRAMES:
        raise MotionError(
            f"{name}: has {len(motion)} frames, more than {MAX_EDIT_FRAMES} can be edited", "cut it into pieces"
        )
    sampled = motion.resample(fps)
    # The pack was trained on motions that stand on the ground.
    transl = sampled.transl - np.array([0, 0, floor_of(sampled)], np.float32)
    try:
        return framing.cut(replace(sampled, transl=transl), engine.manifest.frames)
    except MotionError as error:
        raise MotionError(f"{name}: {error.message}", error.hint) from None
