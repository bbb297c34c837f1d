"""Paths through latent space between two or more motions or texts.

A recording longer than the pack's window is represented by its most typical one, the window whose latent is nearest to
the mean of all. What the decoder misses of a recording is put back on near that end, less and less on the way to the
next (see mclip.runtime.residual): the path starts and ends with the motions themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mclip.errors import UsageError, choices
from mclip.geometry import Array
from mclip.motion import Motion
from mclip.runtime import windows as framing
from mclip.runtime.bases import Source, from_text, look_at
from mclip.runtime.engine import Engine, shorten
from mclip.runtime.prior import unit
from mclip.runtime.representation import SMPL24, features_to_motion, motion_to_features
from mclip.runtime.residual import Change, apply, joint_weights
from mclip.runtime.tasks import frames_of, to_motion

PATHS = ("slerp", "linear")
EASINGS = ("linear", "smooth")
MAX_ENDS, MAX_STEPS = 10, 50


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """An end of the path.

    latent     (D,)
    frames     how many frames it says something about
    recording  its motion at the pack's frame rate, at the origin, facing -Y; None for texts
    """

    name: str
    latent: NDArray[np.float32]
    frames: int
    recording: Motion | None


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
        return End(source.name, latent, len(motion), None)
    seen = look_at(engine, source.motion, source.name)
    latents = unit(seen.latents)
    typical = int(np.argmax(latents @ latents.mean(axis=0)))
    recording = features_to_motion(seen.features[typical], engine.manifest.fps)
    return End(source.name, seen.latents[typical], seen.windows.length, recording)


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
            raise UsageError(f"there is no {name} {value!r}", choices(value, known))


def steps_between(
    engine: Engine, ends: Sequence[End], steps: int, *, path: str, easing: str, seconds: float | None = None
) -> list[Step]:
    """Motions at even places on the path, the ends included.

    All last `seconds`, or else as long as the shortest of the ends.
    Raises UsageError for lengths the pack was not trained for, or longer than a recording.
    """
    at = ease(np.linspace(0, len(ends) - 1, steps), easing)
    latents = along(np.stack([end.latent for end in ends]), at, path)
    features = framing.decode(engine, latents, _frames(engine, ends, seconds))
    return [_step(engine, ends, row, float(place)) for row, place in zip(features, at, strict=True)]


def blend(steps: Sequence[Step]) -> Step:
    """One motion that moves along the path: each step flows into the next, where their poses fit best.

    All steps need the same length.
    """
    features = np.stack([motion_to_features(step.motion) for step in steps])
    first, last = steps[0].motion, steps[-1]
    motion = framing.join(framing.chain(features), features, first.fps)
    return Step(replace(motion, origin=first.origin), last.at, f"{steps[0].caption} to {last.caption}")


def _frames(engine: Engine, ends: Sequence[End], seconds: float | None) -> int:
    """How long all motions on the path are."""
    wanted = frames_of(engine, seconds)
    if wanted is None:
        return min(end.frames for end in ends)
    for end in ends:
        if end.recording is not None and end.frames < wanted:
            raise UsageError(
                f"--seconds {seconds:g} is more than the {end.frames / engine.manifest.fps:.3g} s of {end.name}",
                "choose a shorter length",
            )
    return wanted


def _step(engine: Engine, ends: Sequence[End], features: NDArray[np.float32], at: float) -> Step:
    """The motion of features (T, 25, 6) decoded at a place on the path, with the detail of the ends beside it."""
    fps, frames = engine.manifest.fps, len(features)
    motion = to_motion(features, fps, SMPL24)
    for index, end in enumerate(ends):
        near = max(0.0, 1.0 - abs(at - index))
        if end.recording is not None and near > 0:
            own = to_motion(framing.decode(engine, end.latent[None], frames)[0], fps, SMPL24)
            change = Change(own, motion, np.full(frames, near))
            motion = apply(end.recording.slice(0, frames), change, joint_weights(None))
    origin: dict[str, object] = {
        "command": "interpolate",
        "ends": [end.name for end in ends],
        "at": round(at, 4),
        "pack": engine.manifest.name,
        "pack_sha256": engine.pack.digest,
    }
    return Step(replace(motion, origin=origin), at, _caption(ends, at))


def _caption(ends: Sequence[End], at: float) -> str:
    low = min(int(at), len(ends) - 2)
    share = at - low
    parts = [(1.0 - share, ends[low].name), (share, ends[low + 1].name)]
    return " + ".join(f"{part:.0%} {shorten(name)}" for part, name in parts if part > 1e-9)
