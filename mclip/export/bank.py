"""Building the prior: which windows of the training motions a text is answered with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.console import progress
from mclip.data.dataset import Span, gather, spans_of
from mclip.data.labels import swap_left_right
from mclip.data.store import MotionStore
from mclip.recipe import DataConfig
from mclip.runtime.prior import Bank, unit
from mclip.runtime.representation import Representation, representation
from mclip.skeleton.smpl import forward_kinematics

# Entries in all, and of one label; more of a common action adds nothing new.
MAX_ENTRIES = 4000
MAX_PER_LABEL = 32
# Windows tried in one span: its beginning, then evenly on.
MAX_PER_SPAN = 3
_BATCH = 64
# Frames averaged where movement is measured: a decoder's tremor is none.
_CALM = 5

Encode = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]
"""features (B, T, 25, 6), mask (B, T) -> latents (B, D)"""
Decode = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]
"""latents (B, D), mask (B, T) -> features (B, T, 25, 6)"""
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""texts -> embeddings (N, D)"""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A window of a span, as it is or mirrored; texts are rows of the store's texts."""

    start: int
    stop: int
    mirrored: bool
    texts: tuple[int, ...]


def build_bank(
    store: MotionStore,
    data: DataConfig,
    encode: Encode,
    decode: Decode,
    embed: Embed,
    *,
    max_entries: int = MAX_ENTRIES,
    max_per_label: int = MAX_PER_LABEL,
) -> Bank:
    """The bank of a store's training split.

    Of each label only that half of the windows is taken which the decoder keeps most of the movement of: what is
    decoded from the others stands still. The most typical come first (largest mean cosine with the label's others), and
    labels take turns until `max_entries`. Windows shorter than the model's are there only for labels that have no whole
    ones; those whose captions speak of left or right are there mirrored as well.
    Raises DataError when the split has no captioned motion.
    """
    kind = representation(data.representation)
    by_label: dict[str, list[_Candidate]] = defaultdict(list)
    for span in spans_of(store, "train", data.exclude, data.min_window):
        for label, candidate in _candidates(store, span, data.window):
            by_label[label].append(candidate)
    ranked = {}
    with progress("prior", len(by_label)) as bar:
        for label in sorted(by_label):
            ranked[label] = _rank(store, by_label[label], data.window, kind, encode, decode, max_per_label)
            bar.advance()
    turns = ((place, label) for place in range(max_per_label) for label in ranked if place < len(ranked[label]))
    chosen = [(label, *ranked[label][place]) for place, label in turns][:max_entries]
    labels = sorted({label for label, _, _ in chosen})
    # All captions of a label speak for each of its motions.
    of_label = [sorted({row for candidate in by_label[label] for row in candidate.texts}) for label in labels]
    rows = sorted({row for captions in of_label for row in captions})
    place_of = {row: place for place, row in enumerate(rows)}
    texts = tuple(store.texts[row] for row in rows)
    return Bank(
        latents=np.stack([latent for _, _, latent in chosen]),
        frames=np.array([candidate.stop - candidate.start for _, candidate, _ in chosen], np.int32),
        names=tuple(_name(store, candidate) for _, candidate, _ in chosen),
        label=np.array([labels.index(label) for label, _, _ in chosen], np.int32),
        labels=tuple(labels),
        captions=unit(embed(texts)),
        texts=texts,
        offsets=np.cumsum([0, *map(len, of_label)]).astype(np.int32),
        ids=np.array([place_of[row] for captions in of_label for row in captions], np.int32),
    )


def _candidates(store: MotionStore, span: Span, window: int) -> list[tuple[str, _Candidate]]:
    """Windows of a span with their labels."""
    last = max(span.start, span.stop - window)
    count = min(MAX_PER_SPAN, 1 + (last - span.start) // window)
    starts = [round(start) for start in np.linspace(span.start, last, count)]
    label, swapped = store.labels[span.label], swap_left_right(store.labels[span.label])
    found = []
    for start in starts:
        stop = min(start + window, span.stop)
        found.append((label, _Candidate(start, stop, False, _unique(span.texts))))
        if not np.array_equal(span.texts, span.mirrored):
            found.append((swapped, _Candidate(start, stop, True, _unique(span.mirrored))))
    return found


def _longest(candidates: list[_Candidate]) -> list[_Candidate]:
    longest = max(candidate.stop - candidate.start for candidate in candidates)
    return [candidate for candidate in candidates if candidate.stop - candidate.start == longest]


def _unique(rows: NDArray[np.int32]) -> tuple[int, ...]:
    return tuple(sorted(set(rows.tolist())))


def _rank(
    store: MotionStore,
    candidates: list[_Candidate],
    window: int,
    kind: Representation,
    encode: Encode,
    decode: Decode,
    limit: int,
) -> list[tuple[_Candidate, NDArray[np.float32]]]:
    """The `limit` most typical of the candidates that are decoded well, with their latents, most typical first."""
    encoded, kept = [], []
    for at in range(0, len(candidates), _BATCH):
        features, mask = _gather(store, candidates[at : at + _BATCH], window, kind)
        encoded.append(encode(features, mask))
        kept.append(_movement(decode(encoded[-1], mask), mask, kind) / _movement(features, mask, kind))
    latents, movement = np.concatenate(encoded), np.concatenate(kept)  # (n, D), (n,)
    directions = unit(latents)
    typical = directions @ directions.mean(axis=0)  # (n,) mean cosine with all of the label
    order = np.argsort(-typical, kind="stable")
    order = order[movement[order] >= np.median(movement)][:limit]
    return [(candidates[row], latents[row]) for row in order.tolist()]


def _movement(features: NDArray[np.float32], mask: NDArray[np.bool_], kind: Representation) -> NDArray[np.float64]:
    """How far the joints of windows travel relative to the pelvis (B,), tremor apart: metres in all."""
    _, joints = forward_kinematics(*kind.decode(features))  # (B, T, 24, 3)
    pose = joints - joints[:, :, :1]
    calm = sum(pose[:, lag : pose.shape[1] - _CALM + 1 + lag] for lag in range(_CALM)) / _CALM
    steps = np.linalg.norm(np.diff(calm, axis=1), axis=-1).sum(axis=-1) * mask[:, _CALM:]
    result: NDArray[np.float64] = np.maximum(steps.sum(axis=1, dtype=np.float64), 1e-6)
    return result


def _gather(
    store: MotionStore, candidates: list[_Candidate], window: int, kind: Representation
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    start, stop = (np.array([getattr(c, name) for c in candidates], np.int64) for name in ("start", "stop"))
    features, mask = gather(store, start, stop, window, np.ones(len(candidates)), kind)
    mirrored = np.array([candidate.mirrored for candidate in candidates])
    features[mirrored] = kind.mirror(features[mirrored])
    return features, mask


def _name(store: MotionStore, candidate: _Candidate) -> str:
    motion = int(np.searchsorted(store.offsets, candidate.start, side="right")) - 1
    first = int(store.offsets[motion])
    name = f"{store.path[motion]}#{candidate.start - first}-{candidate.stop - first}"
    return f"{name} mirrored" if candidate.mirrored else name
