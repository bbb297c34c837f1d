"""Paths through latent space between two or more motions or texts.

A recording longer than the pack's window is represented by its most typical one, the window whose latent is nearest to
the mean of all. What is on the path is decoded, the ends too: they are what the pack makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mclip.errors import UsageError
from mclip.geometry import Array
from mclip.motion import Motion
from mclip.runtime import windows as framing
from mclip.runtime.bases import Source, encode_source, from_text
from mclip.runtime.directions import unit
from mclip.runtime.engine import CHUNK, Engine, shorten
from mclip.runtime.tasks import frames_of, to_motion

PATHS = ("slerp", "linear")
EASINGS = ("linear", "smooth")
MAX_ENDS, MAX_STEPS = 10, 50
# Latents decoded for a motion that moves along the path; between two of them their rotations are mixed.
_BLENDED = 32


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """An end of the path: its latent (D,), and how many frames it says something about."""

    name: str
    latent: NDArray[np.float32]
    frames: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A motion on the path, and where it ends there: `at` is 0 at the first end, 1 at the second, and so on."""

    motion: Motion
    at: float
    caption: str


def to_end(engine: Engine, source: Source) -> End:
    """What the pack sees in a source. Raises MotionError and UsageError as `to_base` does."""
    if source.motion is None:
        motion, latent = from_text(engine, source.name)
        return End(source.name, latent, len(motion))
    latents, windows = encode_source(engine, source.motion, source.name)
    typical = int(np.argmax(unit(latents) @ unit(latents).mean(axis=0)))
    return End(source.name, latents[typical], windows.length)


def along(latents: NDArray[np.float32], at: Array, path: str = "slerp") -> NDArray[np.float32]:
    """Latents (N, D) at places `at` (N,), 0 to E - 1, on the path through latents (E, D).

    path: "slerp", on the great circle, with lengths in between, or "linear", straight through
    """
    low = np.clip(np.floor(at), 0, len(latents) - 2).astype(np.int64)
    first, second = latents[low].astype(np.float64), latents[low + 1].astype(np.float64)
    t = (at - low)[:, None]
    start, stop = 1.0 - t, t
    if path == "slerp":
        lengths = [np.linalg.norm(each, axis=-1, keepdims=True) for each in (first, second)]
        first, second = (each / np.maximum(length, 1e-9) for each, length in zip((first, second), lengths, strict=True))
        angle = np.arccos(np.clip(np.sum(first * second, axis=-1, keepdims=True), -1.0, 1.0))
        sine = np.sin(angle)
        round_ = sine > 1e-6  # ends in one direction, or in opposite ones: there is no great circle to follow
        safe, length = np.where(round_, sine, 1.0), start * lengths[0] + stop * lengths[1]
        start = length * np.where(round_, np.sin((1.0 - t) * angle) / safe, 1.0 - t)
        stop = length * np.where(round_, np.sin(t * angle) / safe, t)
    result: NDArray[np.float32] = (start * first + stop * second).astype(np.float32)
    return result


def ease(at: Array, easing: str = "linear") -> NDArray[np.float64]:
    """Places (N,) on the path, slowed down near every end if `easing` is "smooth" and not "linear"."""
    whole = np.floor(at)
    t = at - whole
    return np.asarray(whole + t * t * (3.0 - 2.0 * t) if easing == "smooth" else at, np.float64)


def check_options(ends: int, steps: int, path: str, easing: str) -> None:
    """Raise UsageError for too few or too many ends or steps, and for paths and easings there are none of."""
    if not 2 <= ends <= MAX_ENDS:
        raise UsageError(f"a path needs 2 to {MAX_ENDS} ends, not {ends}", 'mclip interpolate a.npz "a person kicks"')
    if not ends <= steps <= MAX_STEPS:
        raise UsageError(f"--steps {steps} is not between {ends}, the number of ends, and {MAX_STEPS}")
    for name, value, known in (("path", path, PATHS), ("easing", easing, EASINGS)):
        if value not in known:
            raise UsageError(f"there is no {name} {value!r}", f"choose one of {', '.join(known)}")


def steps_between(
    engine: Engine, ends: Sequence[End], steps: int, *, path: str, easing: str, seconds: float | None = None
) -> list[Step]:
    """Motions at even places on the path, the ends included; as long as the ends unless `seconds` is given."""
    wanted = frames_of(engine, seconds)
    at = ease(np.linspace(0, len(ends) - 1, steps), easing)
    latents = along(np.stack([end.latent for end in ends]), at, path)
    lengths = np.interp(at, np.arange(len(ends)), [end.frames for end in ends]).round().astype(np.int64)
    if wanted is not None:
        lengths[:] = wanted
    features = engine.decode(latents, np.arange(lengths.max()) < lengths[:, None])
    return [
        _step(engine, ends, row[:length], float(place), _caption(ends, float(place)))
        for row, length, place in zip(features, lengths, at, strict=True)
    ]


def blend(engine: Engine, ends: Sequence[End], *, path: str, easing: str, seconds: float | None = None) -> Step:
    """One motion that starts as the first end and moves along the path to the last as it goes.

    Frame t is frame t of the latent that belongs to its time, so the limbs stay in step. The root's steps over the
    ground are taken in the same way and summed up. It lasts `seconds`, or the pack's usual length.
    """
    frames = frames_of(engine, seconds) or engine.manifest.frames.default
    count = min(_BLENDED, frames)
    at = np.linspace(0, len(ends) - 1, count)
    latents = along(np.stack([end.latent for end in ends]), ease(at, easing), path)
    place = np.linspace(0, count - 1, frames)
    features = np.zeros((frames, *framing.decode(engine, latents[:1], frames).shape[2:]), np.float32)
    velocity = np.zeros((frames, 2))
    for start in range(0, count, CHUNK):
        rows = np.arange(start, min(start + CHUNK, count))
        decoded = framing.decode(engine, latents[rows], frames)  # (C, T, 25, 6)
        weight = np.maximum(0.0, 1.0 - np.abs(place - rows[:, None]))  # (C, T), of two neighbours' they add up to one
        features += np.einsum("ct,ctrf->trf", weight, decoded).astype(np.float32)
        velocity[1:] += np.einsum("ct,ctx->tx", weight[:, 1:], np.diff(decoded[:, :, 24, :2], axis=1))
    features[:, 24, :2] = np.cumsum(velocity, axis=0)
    return _step(engine, ends, features, float(len(ends) - 1), " to ".join(shorten(end.name) for end in ends))


def _step(engine: Engine, ends: Sequence[End], features: NDArray[np.float32], at: float, caption: str) -> Step:
    origin: dict[str, object] = {
        "command": "interpolate",
        "ends": [end.name for end in ends],
        "at": at,
        "pack": engine.manifest.name,
        "pack_sha256": engine.pack.digest,
    }
    return Step(replace(to_motion(features, engine.manifest.fps), origin=origin), at, caption)


def _caption(ends: Sequence[End], at: float) -> str:
    low = min(int(at), len(ends) - 2)
    share = at - low
    parts = [(1.0 - share, ends[low].name), (share, ends[low + 1].name)]
    return " + ".join(f"{part:.0%} {shorten(name)}" for part, name in parts if part > 1e-9)
