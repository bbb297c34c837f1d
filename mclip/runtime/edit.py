"""Latent arithmetic on a motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.errors import UsageError
from mclip.motion import Motion
from mclip.runtime import windows as framing
from mclip.runtime.axis import load_axis
from mclip.runtime.bases import Base, Source, read_source
from mclip.runtime.directions import directions
from mclip.runtime.engine import Engine, shorten
from mclip.runtime.outputs import SHEET, default_stem, in_folder
from mclip.runtime.prior import Bank, unit
from mclip.runtime.residual import Change, apply

# Far beyond what any latent space can stand.
MAX_STRENGTH = 100.0
MAX_SWEEP = 20
# The cosine of an edited latent with the nearest training latent. With the mini pack, recordings it has not seen have
# 0.85 and more, edits of strength one 0.7 to 0.95.
_NEAR = 0.6
# The cosine of an edited latent with the motion's own at which none of the motion's detail is kept; from there to 1
# ever more is. A change of manner keeps all.
_OTHER_KIND = 1 / 3
# Without a prior nobody knows where training latents are: with the motion's own latent, then.
_NEAR_OWN = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """Something to add (sign 1) or to take away (sign -1)."""

    source: Source
    sign: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A file for each strength, and one for the contact sheet of a sweep."""

    paths: Sequence[Path]
    sheet: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class Arithmetic:
    """A base and the direction it is to be moved in.

    name      the terms on one line: "+ angry - old"
    vector    (D,), for latents of unit length
    manner    whether all terms are styles
    meanings  what each term was taken for
    warnings  one line for each that is a guess
    """

    base: Base
    name: str
    vector: NDArray[np.float32]
    manner: bool
    meanings: Sequence[dict[str, str]]
    warnings: Sequence[str]
    origin: dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class Edited:
    """An edited motion, and whether its latents left the region the pack was trained in."""

    motion: Motion
    outside: bool


def read_terms(
    add: Sequence[str], remove: Sequence[str], from_: str | None, to: str | None, axis: Path | None
) -> list[Term]:
    """The terms of the command line; base - from_ + to is the same as removing one and adding the other.

    Raises UsageError if nothing is added or removed, MotionError for files that cannot be read.
    """
    if (from_ is None) != (to is None):
        raise UsageError("--from and --to belong together", '--from "a person walks" --to "an old person walks"')
    added, removed = [*add, *([to] if to is not None else [])], [*remove, *([from_] if from_ is not None else [])]
    if not added and not removed and axis is None:
        raise UsageError("nothing to add or to take away", '--add "angry", --remove old.npz or --axis angry.json')
    return [Term(read_source(value), sign) for values, sign in ((added, 1), (removed, -1)) for value in values]


def plan(
    base: Source,
    terms: Sequence[Term],
    axis: Path | None,
    out: Path | None,
    strengths: Sequence[float],
    *,
    folder: bool,
) -> Plan:
    """Where the motions go: to `out`, or beside the base under a name of what is done; with `folder` into a folder."""
    words = [word for term in terms for word in (["not"] if term.sign < 0 else []) + [term.source.name]]
    stem = default_stem(base, [*words, *([axis.stem] if axis else [])])
    if not folder:
        return Plan([out or stem.with_name(f"{stem.name}.npz")], None)
    names = [f"strength_{value:g}" for value in strengths]
    return Plan(in_folder(out or stem, names), (out or stem) / SHEET)


def prepare(engine: Engine, base: Base, terms: Sequence[Term], axis: Path | None) -> Arithmetic:
    """Find out what the terms mean for this base, and sum them up.

    Raises UsageError for texts that cannot be read, MotionError for motions, PackError for another pack's axis.
    """
    found = directions(engine, [term.source for term in terms], base.latents)
    vector = np.zeros(engine.manifest.latent, np.float32)
    names, meanings, warnings = [], [], []
    manners = [direction.manner for direction in found]
    for term, direction in zip(terms, found, strict=True):
        vector += term.sign * direction.vector
        names.append(f"{'+' if term.sign > 0 else '-'} {shorten(term.source.name)}")
        meanings.append({"name": term.source.name, "sign": "+" if term.sign > 0 else "-", "meaning": direction.meaning})
        if direction.guess:
            warnings.append(f"warning: {shorten(term.source.name)!r} {direction.guess}; taken for {direction.meaning}")
    if axis is not None:
        name, saved, manner = load_axis(axis, engine)
        vector += saved
        names.append(name)
        manners.append(manner)
        meanings.append({"name": str(axis), "sign": "+", "meaning": f"the axis {name!r}"})
    return Arithmetic(base, " ".join(names), vector, all(manners), meanings, warnings, _origin(engine, terms, axis))


def edit(
    engine: Engine, what: Arithmetic, strength: float, weights: NDArray[np.float64], *, keep_root: bool = False
) -> Edited:
    """The base moved by `strength` times the direction; see mclip.runtime.residual for what is kept of it.

    weights: of the joints (24,), from `joint_weights`
    """
    base, windows = what.base, what.base.windows
    latents = move(base.latents, np.float32(strength) * what.vector)
    features = framing.decode(engine, latents, windows.length)
    similar = np.sum(unit(latents) * unit(base.latents), axis=-1)  # (K,)
    detail = np.clip((similar - _OTHER_KIND) / (1.0 - _OTHER_KIND), 0.0, 1.0)
    keep = windows.blend(np.repeat(detail[:, None], windows.length, axis=1))
    change = Change(base.own, framing.join(windows, features, engine.manifest.fps), keep, what.manner)
    motion = apply(base.motion, change, weights, keep_root=keep_root)
    motion = replace(motion, origin={**what.origin, "strength": strength})
    return Edited(motion, _outside(engine, latents, similar))


def move(latents: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """Latents (K, D) moved by a step (D,) and brought back to their own lengths, as in training (losses.edited)."""
    if not step.any():
        return latents
    length = np.linalg.norm(latents, axis=-1, keepdims=True)
    result: NDArray[np.float32] = unit(unit(latents) + step) * length
    return result


def _outside(engine: Engine, latents: NDArray[np.float32], similar: NDArray[np.float32]) -> bool:
    if isinstance(engine.prior, Bank):
        return float((unit(latents) @ engine.prior.latents.T).max(axis=1).mean()) < _NEAR
    return float(similar.mean()) < _NEAR_OWN


def _origin(engine: Engine, terms: Sequence[Term], axis: Path | None) -> dict[str, object]:
    return {
        "command": "edit",
        "add": [term.source.name for term in terms if term.sign > 0],
        "remove": [term.source.name for term in terms if term.sign < 0],
        **({"axis": str(axis)} if axis else {}),
        "pack": engine.manifest.name,
        "pack_sha256": engine.pack.digest,
    }


def read_strengths(strength: float, sweep: str | None) -> list[float]:
    """The strengths asked for: one, or `sweep` "FIRST:LAST:COUNT", evenly spaced. Raises UsageError."""
    if sweep is None:
        return [checked_strength(strength)]
    try:
        parts = sweep.split(":")
        first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        parts, first, last, count = [], 0.0, 0.0, 0
    step = (checked_strength(last) - checked_strength(first)) / max(count - 1, 1)
    values = [first + index * step for index in range(min(count, MAX_SWEEP))]
    # File names are made of them.
    if len(parts) != 3 or not 2 <= count <= MAX_SWEEP or len({f"{value:g}" for value in values}) < count:
        raise UsageError(
            f"--sweep {sweep} is not FIRST:LAST:COUNT with 2 to {MAX_SWEEP} different strengths", "--sweep -1:1:5"
        )
    return values


def checked_strength(strength: float) -> float:
    """The strength, if it is one. Raises UsageError."""
    if not abs(strength) <= MAX_STRENGTH:  # nor is NaN
        raise UsageError(f"the strength {strength:g} is not between -{MAX_STRENGTH:g} and {MAX_STRENGTH:g}")
    return strength
