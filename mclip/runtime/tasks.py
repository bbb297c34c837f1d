"""What a pack is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mclip.errors import UsageError
from mclip.geometry import matrix_to_rot6d
from mclip.motion import MAX_FPS, MIN_FPS, Motion
from mclip.runtime.engine import CHUNK, Engine
from mclip.runtime.feet import stand
from mclip.runtime.ground import floor_under, hover_of
from mclip.runtime.prior import Match
from mclip.runtime.representation import SMPL24, Representation, world_to_motions
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import forward_kinematics

# More of one text than anybody looks at.
MAX_VARIATIONS = 1000
# Texts embedded at once: among so many there are enough of one length that few need padding.
BLOCK = 256
# The decoder's error in height, metres; who is farther off the ground flies or hangs.
_GROUNDED = 0.2


class Prompt(NamedTuple):
    """What a motion should show, and for how long; None is as long as the pack knows, see `generate`.

    picture: what it should show, as a file, instead of a text
    """

    text: str
    seconds: float | None = None
    picture: Path | None = None


class Generated(NamedTuple):
    """A motion and the training motion it was decoded from; None for packs without a prior."""

    prompt: Prompt
    motion: Motion
    match: Match | None


def generate(
    engine: Engine,
    prompts: Sequence[Prompt],
    *,
    fps: float | None = None,
    truncate: bool = False,
    variations: int = 1,
    seed: int = 0,
) -> Iterator[Generated]:
    """Motions for texts and pictures, in their order, as they are made; `variations` of each, one after another.

    Each begins at the origin, faces -Y, stands on the ground, and says in `origin` how it was made. Without `seconds` a
    motion is as long as the pack's default, or as the training motion it comes from where that is shorter.
    fps: frames per second of the results, resampled from the pack's. truncate: read what the pack can of overlong
    texts. seed: chooses the second variation and those after it, for each prompt on its own.
    Raises UsageError, before anything is made, for empty or overlong texts, lengths the pack was not trained for,
    absurd frame rates, and variations from a pack without a prior; DataError for what is no picture, PackError for
    pictures a pack cannot read.
    """
    if not 1 <= variations <= MAX_VARIATIONS:
        raise UsageError(f"--variations {variations} is not between 1 and {MAX_VARIATIONS}")
    # While the graphs start, the other half of the work: the prior and the tokenizer.
    engine.start(*(["text_encoder"] if any(not prompt.picture for prompt in prompts) else []), "motion_decoder")
    if engine.prior is None and variations > 1:
        raise UsageError(
            f"the pack {engine.manifest.name} has one motion for each text",
            "variations need a pack with a prior: mclip export --store adds one",
        )
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise UsageError(f"--fps {fps:g} is not between {MIN_FPS:g} and {MAX_FPS:g}")
    frames = [frames_of(engine, prompt.seconds) for prompt in prompts]
    tokens = iter(engine.tokenize([prompt.text for prompt in prompts if prompt.picture is None], truncate=truncate))
    inputs = [_pixels(engine, prompt.picture) if prompt.picture else next(tokens) for prompt in prompts]
    drawn = _draw(engine, prompts, frames, inputs, variations, seed)
    return (
        item for block in iter(lambda: list(islice(drawn, BLOCK)), []) for item in _decode_block(engine, block, fps)
    )


def check(engine: Engine, prompt: Prompt, *, truncate: bool = False) -> None:
    """Raise what `generate` would raise for this prompt."""
    frames_of(engine, prompt.seconds)
    if prompt.picture is None:
        engine.tokenize([prompt.text], truncate=truncate)


def _pixels(engine: Engine, picture: Path) -> NDArray[np.uint8]:
    size = engine.image_size
    from mclip.runtime.pictures import read_picture  # PIL, which texts do not need

    return read_picture(picture, size)


def _embed(engine: Engine, inputs: Sequence[list[int] | NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Embeddings (B, D) of token ids and pixels."""
    result = np.empty((len(inputs), engine.manifest.latent), np.float32)
    texts = [row for row, item in enumerate(inputs) if isinstance(item, list)]
    result[texts] = engine.encode_tokens([item for item in inputs if isinstance(item, list)])
    if pixels := [item for item in inputs if not isinstance(item, list)]:
        result[[row for row in range(len(inputs)) if row not in texts]] = engine.encode_images(np.stack(pixels))
    return result


class _Draw(NamedTuple):
    """A motion to decode: the latent (D,), how long it is to be, and what is said of it."""

    prompt: Prompt
    frames: int
    latent: NDArray[np.float32]
    match: Match | None
    origin: dict[str, object]


def _draw(
    engine: Engine,
    prompts: Sequence[Prompt],
    frames: list[int | None],
    inputs: Sequence[list[int] | NDArray[np.uint8]],
    variations: int,
    seed: int,
) -> Iterator[_Draw]:
    for start in range(0, len(prompts), BLOCK):
        chunk = slice(start, start + BLOCK)
        embeddings = _embed(engine, inputs[chunk])
        # The first of each are found together, which takes a tenth of the time.
        texts = [prompt.text for prompt in prompts[chunk]]
        first = engine.prior.match(texts, embeddings) if engine.prior and variations == 1 else [None] * len(texts)
        for prompt, wanted, embedding, best in zip(prompts[chunk], frames[chunk], embeddings, first, strict=True):
            if engine.prior is None:
                yield _Draw(prompt, _length(engine, wanted, None), embedding, None, _origin(engine, prompt, None))
                continue
            matches = [best] if best else engine.prior.vary(prompt.text, embedding, variations, seed)
            for number, match in enumerate(matches, 1):
                origin = _origin(engine, prompt, match)
                if variations > 1:
                    origin |= {"variation": number, "seed": seed}
                yield _Draw(prompt, _length(engine, wanted, match), match.latent, match, origin)


def _decode_block(engine: Engine, draws: list[_Draw], fps: float | None) -> Iterator[Generated]:
    """Their motions, in their order; those of one length are decoded together."""
    made: dict[int, Generated] = {}
    order = sorted(range(len(draws)), key=lambda row: draws[row].frames)
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        made |= zip(rows, _decode(engine, [draws[row] for row in rows], fps), strict=True)
    return (made[row] for row in range(len(draws)))


def _decode(engine: Engine, draws: list[_Draw], fps: float | None) -> Iterator[Generated]:
    made = decode(engine, np.stack([draw.latent for draw in draws]), [draw.frames for draw in draws])
    for draw, motion in zip(draws, made, strict=True):
        motion = replace(motion, origin=draw.origin)
        yield Generated(draw.prompt, motion.resample(fps) if fps else motion, draw.match)


def decode(engine: Engine, latents: NDArray[np.float32], frames: Sequence[int]) -> list[Motion]:
    """The motions of latents (N, D), each of so many frames, see `to_motion`; neighbours of one length together."""
    motions: list[Motion] = []
    for _, shown in groupby(engine.decode_shown(latents, frames), len):
        motions += to_motions(np.stack(list(shown)), engine.manifest.fps, engine.kind)
    return motions


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
    """The motion of decoded features (T, 25, 6), at the origin, facing -Y.

    Who is near the ground is set on it, with feet that stay where they stand.
    Where features know no path, the body stays in place and touches the ground in every frame: who sits down sinks.
    """
    return to_motions(features[None], fps, kind)[0]


def to_motions(features: NDArray[np.float32], fps: float, kind: Representation) -> list[Motion]:
    """`to_motion` of several of one length (B, T, 25, 6)."""
    rotations, transl = kind.decode_generated(features.astype(np.float64))
    # The decoder comes close to a start at the origin facing -Y; a round trip makes it exact.
    exact = SMPL24.encode(matrix_to_rot6d(rotations), transl).astype(np.float64)
    rotations, transl = SMPL24.decode(exact)
    world, joints = forward_kinematics(rotations, transl)
    for row, height in enumerate(lowest_point(joints)):
        if not kind.path:
            transl[row, :, 2] -= height
        elif (floor := floor_under(height)) < _GROUNDED:
            hovers = floor + hover_of(height - floor, fps)
            transl[row, :, 2] -= hovers
            joints[row, ..., 2] -= hovers[:, None]
            rotations[row] = stand(rotations[row], world[row], joints[row], fps)
    return world_to_motions((rotations, transl), fps)


def _origin(engine: Engine, prompt: Prompt, match: Match | None) -> dict[str, object]:
    origin: dict[str, object] = {
        "command": "generate",
        "prompt": prompt.picture.name if prompt.picture else prompt.text,
        "pack": engine.manifest.name,
        "pack_sha256": engine.pack.digest,
    }
    if prompt.seconds is not None:
        origin["seconds"] = prompt.seconds
    if match:
        origin |= {
            "confidence": round(match.score, 4),
            "nearest": match.caption,
            "label": match.label,
            "source": match.name,
        }
    return origin
