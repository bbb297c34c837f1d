"""Building the prior: which windows of the training motions a text is answered with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.console import progress
from mclip.data.dataset import Span, spans_of
from mclip.data.gathering import gather
from mclip.data.labels import swap_left_right
from mclip.data.store import MotionStore
from mclip.export.reading import fit_reading, other_subjects
from mclip.recipe import DataConfig
from mclip.runtime.prior import Bank, unit
from mclip.runtime.representation import Representation, representation
from mclip.skeleton.smpl import forward_kinematics

# Entries in all, and of one label; more of a common action adds nothing new.
MAX_ENTRIES = 4000
MAX_PER_LABEL = 32
# Captions kept of a label, to show how far a text is from what was trained on. All of them teach the reading.
MAX_CAPTIONS = 32
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


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A window, its latent (D,), and the share of its movement that is explained by what is decoded from it."""

    candidate: _Candidate
    latent: NDArray[np.float32]
    kept: float


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

    Of each label only that half of the windows is taken whose movement is explained best by what is decoded from them:
    from the others something smaller or later is. The most typical come first (largest mean cosine with the label's
    others), and labels take turns until `max_entries`. Windows shorter than the model's are there only for labels that
    have no whole ones; those whose captions speak of left or right are there mirrored as well.
    Raises DataError when the split has no captioned motion.
    """
    kind = representation(data.representation)
    by_label: dict[str, list[_Candidate]] = defaultdict(list)
    for span in spans_of(store, "train", data.exclude, data.min_window):
        for label, candidate in _candidates(store, span, data.window):
            by_label[label].append(candidate)
    ranked, centres = {}, {}
    with progress("prior", len(by_label)) as bar:
        for label in sorted(by_label):
            seen = _encode(store, by_label[label], data.window, kind, encode, decode)
            ranked[label] = _rank(seen, max_per_label)
            centres[label] = _centres(store, seen)
            bar.advance()
    turns = ((place, label) for place in range(max_per_label) for label in ranked if place < len(ranked[label]))
    chosen = [(label, *ranked[label][place]) for place, label in turns][:max_entries]
    labels = sorted({label for label, _, _ in chosen})
    # All captions of a label speak for each of its motions.
    spoken = [sorted({row for candidate in by_label[label] for row in candidate.texts}) for label in labels]
    known = sorted({row for rows in spoken for row in rows})
    embeddings = unit(embed([store.texts[row] for row in known]))
    said = [embeddings[np.searchsorted(known, rows)] for rows in spoken]
    others = [other_subjects([store.texts[row] for row in rows]) for rows in spoken]
    stops = np.cumsum([0, *map(len, others)])
    of_others = unit(embed([text for texts in others for text in texts]))
    heard = [
        np.concatenate([vectors, of_others[start:stop]])
        for vectors, start, stop in zip(said, stops[:-1], stops[1:], strict=True)
    ]
    of_label = [np.array(rows)[_spread(vectors, MAX_CAPTIONS)] for rows, vectors in zip(spoken, said, strict=True)]
    sources = sorted({source for label in labels for source in centres[label]})
    kept = sorted({row for rows in of_label for row in rows.tolist()})
    return Bank(
        latents=np.stack([latent for _, _, latent in chosen]),
        frames=np.array([candidate.stop - candidate.start for _, candidate, _ in chosen], np.int32),
        names=tuple(_name(store, candidate) for _, candidate, _ in chosen),
        label=np.array([labels.index(label) for label, _, _ in chosen], np.int32),
        labels=tuple(labels),
        captions=embeddings[np.searchsorted(known, kept)],
        texts=tuple(store.texts[row] for row in kept),
        offsets=np.cumsum([0, *map(len, of_label)]).astype(np.int32),
        ids=np.searchsorted(kept, np.concatenate(of_label)).astype(np.int32),
        centres=np.stack([centre for label in labels for centre in centres[label].values()]),
        centre_label=np.repeat(np.arange(len(labels), dtype=np.int32), [len(centres[label]) for label in labels]),
        centre_source=np.array([sources.index(name) for label in labels for name in centres[label]], np.int32),
        said=np.stack([vectors.mean(axis=0) for vectors in said]),
        reading=fit_reading(tuple(labels), heard),
    )


def _spread(vectors: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """Which of unit vectors (n, D) show best how all of them are spread, `limit` at most, in rising order.

    The one nearest to the mean, then always the one farthest from those taken (farthest-point sampling).
    """
    chosen = [int((vectors @ vectors.mean(axis=0)).argmax())]
    nearest = np.full(len(vectors), -np.inf, np.float32)
    while len(chosen) < min(limit, len(vectors)):
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
        nearest[chosen] = np.inf  # also where two captions have one embedding
        chosen.append(int(nearest.argmin()))
    return np.array(sorted(chosen))


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


def _encode(
    store: MotionStore,
    candidates: list[_Candidate],
    window: int,
    kind: Representation,
    encode: Encode,
    decode: Decode,
) -> list[_Seen]:
    """The latents of candidates, and how much of their movement is decoded again."""
    seen = []
    for at in range(0, len(candidates), _BATCH):
        some = candidates[at : at + _BATCH]
        features, mask = _gather(store, some, window, kind)
        latents = encode(features, mask)
        kept = _explained(decode(latents, mask), features, mask, kind)
        seen += [_Seen(*each) for each in zip(some, latents, kept.tolist(), strict=True)]
    return seen


def _rank(seen: list[_Seen], limit: int) -> list[tuple[_Candidate, NDArray[np.float32]]]:
    """The `limit` most typical of a label's windows that are decoded well, with their latents, most typical first."""
    directions = unit(np.stack([each.latent for each in seen]))
    kept = np.array([each.kept for each in seen])
    typical = directions @ directions.mean(axis=0)  # (n,) mean cosine with all of the label
    order = np.argsort(-typical, kind="stable")
    order = order[kept[order] >= np.median(kept)][:limit]
    return [(seen[row].candidate, seen[row].latent) for row in order.tolist()]


def _centres(store: MotionStore, seen: list[_Seen]) -> dict[str, NDArray[np.float32]]:
    """The mean latent (D,) of a label's windows from each folder of recordings."""
    folders: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for each in seen:
        folders[store.path[_motion_of(store, each.candidate)].rpartition("/")[0]].append(each.latent)
    return {folder: np.mean(folders[folder], axis=0, dtype=np.float32) for folder in sorted(folders)}


def _motion_of(store: MotionStore, candidate: _Candidate) -> int:
    """The row of the motion that a window is of."""
    return int(np.searchsorted(store.offsets, candidate.start, side="right")) - 1


def _explained(
    decoded: NDArray[np.float32], features: NDArray[np.float32], mask: NDArray[np.bool_], kind: Representation
) -> NDArray[np.float64]:
    """The share of the movement of windows that decoded ones explain (B,), 1 for all: the variance over time of the
    joints relative to the pelvis, less that of the error, tremor apart."""
    pose, shown = (_calm(each, kind) for each in (features, decoded))
    frames = mask[:, _CALM - 1 :, None, None]
    count = np.maximum(frames.sum(axis=1, keepdims=True), 1)
    around = pose - (pose * frames).sum(axis=1, keepdims=True) / count
    lost, own = (((each * frames) ** 2).sum(axis=(1, 2, 3)) for each in (pose - shown, around))
    result: NDArray[np.float64] = 1.0 - lost / np.maximum(own, 1e-9)
    return result


def _calm(features: NDArray[np.float32], kind: Representation) -> NDArray[np.float64]:
    """Joints relative to the pelvis (B, T - _CALM + 1, 24, 3), averaged over _CALM frames."""
    _, joints = forward_kinematics(*kind.decode(features))  # (B, T, 24, 3)
    pose = (joints - joints[:, :, :1]).astype(np.float64)
    calm = np.stack([pose[:, lag : pose.shape[1] - _CALM + 1 + lag] for lag in range(_CALM)]).mean(axis=0)
    result: NDArray[np.float64] = calm
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
    motion = _motion_of(store, candidate)
    first = int(store.offsets[motion])
    name = f"{store.path[motion]}#{candidate.start - first}-{candidate.stop - first}"
    return f"{name} mirrored" if candidate.mirrored else name
