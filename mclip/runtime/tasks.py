"""What a pack is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mclip.errors import UsageError
from mclip.motion import MAX_FPS, MIN_FPS, Motion
from mclip.runtime.engine import CHUNK, Engine
from mclip.runtime.ground import floor_of, lowest
from mclip.runtime.prior import Match
from mclip.runtime.representation import Representation, features_to_motion, motion_to_features, world_to_motion

# The decoder's error in height, metres; who is farther off the ground flies or hangs.
_GROUNDED = 0.2


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a motion should show, and for how long; None is as long as the pack knows, see `generate`."""

    text: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """A motion and the training motion it was decoded from; None for packs without a prior."""

    prompt: Prompt
    motion: Motion
    match: Match | None


def generate(engine: Engine, prompts: Sequence[Prompt], *, fps: float | None = None) -> Iterator[Generated]:
    """Motions for texts, in their order, as they are made.

    Each begins at the origin, faces -Y, stands on the ground, and says in `origin` how it was made. Without `seconds` a
    motion is as long as the pack's default, or as the training motion it comes from where that is shorter.
    fps: frames per second of the results, resampled from the pack's.
    Raises UsageError, before anything is made, for empty or overlong texts, lengths the pack was not trained for, and
    absurd frame rates.
    """
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise UsageError(f"--fps {fps:g} is not between {MIN_FPS:g} and {MAX_FPS:g}")
    frames = [frames_of(engine, prompt.seconds) for prompt in prompts]
    tokens = engine.tokenize([prompt.text for prompt in prompts])
    return _generate(engine, prompts, frames, tokens, fps)


def _generate(
    engine: Engine, prompts: Sequence[Prompt], frames: list[int | None], tokens: list[list[int]], fps: float | None
) -> Iterator[Generated]:
    for start in range(0, len(prompts), CHUNK):
        chunk = slice(start, start + CHUNK)
        embeddings = engine.encode_tokens(tokens[chunk])
        texts = [prompt.text for prompt in prompts[chunk]]
        matches: Sequence[Match | None] = [None] * len(texts)
        if engine.prior:
            matches = engine.prior.match(texts, embeddings)
        latents = np.stack([m.latent if m else e for m, e in zip(matches, embeddings, strict=True)])
        lengths = np.array(
            [_length(engine, wanted, match) for wanted, match in zip(frames[chunk], matches, strict=True)]
        )
        mask = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
        features = engine.decode(latents, mask)
        for prompt, match, length, row in zip(prompts[chunk], matches, lengths, features, strict=True):
            motion = to_motion(row[:length], engine.manifest.fps, engine.kind)
            motion = replace(motion, origin=_origin(engine, prompt, match))
            yield Generated(prompt, motion.resample(fps) if fps else motion, match)


def _length(engine: Engine, wanted: int | None, match: Match | None) -> int:
    lengths = engine.manifest.frames
    if wanted is not None:
        return wanted
    # Beyond its training motion's end a latent says nothing.
    return max(lengths.min, min(lengths.default, match.frames)) if match else lengths.default


def frames_of(engine: Engine, seconds: float | None) -> int | None:
    """How many frames that is; raises UsageError for lengths the pack was not trained for."""
    lengths, fps = engine.manifest.frames, engine.manifest.fps
    if seconds is None:
        return None
    frames = round(seconds * fps) if 0 < seconds < 1e6 else 0
    if not lengths.min <= frames <= lengths.max:
        raise UsageError(
            f"--seconds {seconds:g} is outside what the pack {engine.manifest.name} was trained for",
            f"choose from {lengths.min / fps:.3g} to {lengths.max / fps:.3g} seconds",
        )
    return frames


def to_motion(features: NDArray[np.float32], fps: float, kind: Representation) -> Motion:
    """The motion of decoded features (T, 25, 6), at the origin, facing -Y, and set on the ground if near it.

    Where features know no path, the body stays in place and touches the ground in every frame: who sits down sinks.
    """
    motion = world_to_motion(kind.decode_generated(features.astype(np.float64)), fps)
    # The decoder comes close to a start at the origin facing -Y; a round trip makes it exact.
    motion = features_to_motion(motion_to_features(motion), fps)
    transl = motion.transl.copy()
    if not kind.path:
        transl[:, 2] -= lowest(motion)
    elif (floor := floor_of(motion)) < _GROUNDED:
        transl[:, 2] -= floor
    return replace(motion, transl=transl)


def _origin(engine: Engine, prompt: Prompt, match: Match | None) -> dict[str, object]:
    origin: dict[str, object] = {
        "command": "generate",
        "prompt": prompt.text,
        "pack": engine.manifest.name,
        "pack_sha256": engine.pack.digest,
    }
    if match:
        origin |= {
            "confidence": round(match.score, 4),
            "nearest": match.caption,
            "label": match.label,
            "source": match.name,
        }
    return origin
