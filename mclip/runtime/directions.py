"""Directions in latent space: what `edit --add` and `--remove` mean.

A text is taken as one of three things, tried in this order:

    a style the prior knows   "angry": from the motion's own label to the same action in that style (see styles)
    an action it knows        "wave with the right hand": the mean latent of that label
    neither                   text("a drunk person") - text("a person"), as far as the text space can tell

Without a prior only the third is left. A motion is its mean latent. An action and a motion are *places*: added alone
they pull the motion half of the way towards them, added with another one removed they leave only the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.runtime.bases import Source, look_at
from mclip.runtime.engine import Engine
from mclip.runtime.prior import Bank, unit
from mclip.runtime.styles import Styles

# Cosines of "an X person" - "a person" with the styles of the mini pack: styles 0.4 to 0.9, actions below.
_STYLE = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A vector (D,) to add to latents of unit length, what the source was taken for, and whether that is a guess."""

    vector: NDArray[np.float32]
    meaning: str
    guess: bool = False


def directions(engine: Engine, sources: Sequence[Source], latents: NDArray[np.float32]) -> list[Direction]:
    """What each source means for a motion with these latents (K, D).

    Raises UsageError for texts that are empty or too long, MotionError for motions the pack cannot read.
    """
    prior = engine.prior
    styles = Styles.of(prior) if isinstance(prior, Bank) else None
    own = styles.label_of(unit(latents.mean(axis=0))) if styles else ""
    return [_direction(engine, source, styles, own) for source in sources]


def _direction(engine: Engine, source: Source, styles: Styles | None, own: str) -> Direction:
    if source.motion is not None:
        latents = look_at(engine, source.motion, source.name).latents
        return Direction(unit(unit(latents).mean(axis=0)), "the motion")
    text = source.name
    engine.tokenize([text])
    plain, styled, person = engine.encode_text([text, _person(text), "a person"])
    if styles is None or engine.prior is None or engine.manifest.prior is None:
        return Direction(styled - person, "what the text space makes of it")
    style, score = styles.find(styled - person, own)
    if score >= _STYLE:
        return Direction(styles.direction(style, own), f"the style {style!r} for {own!r}")
    match = engine.prior.match([text], plain[None])[0]
    if match.score >= engine.manifest.prior.confident:
        centre = styles.centres[styles.labels.index(match.label)]
        return Direction(unit(centre), f"the action {match.label!r}")
    return Direction(styled - person, "what the text space makes of it", guess=True)


def _person(text: str) -> str:
    """ "angry" becomes "an angry person"."""
    words = text.strip()
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words} person"
