"""The metrics of a pack, on recordings it was not trained on, with the protocol they were computed under.

Reconstruction: every captioned span of the split is cut into windows of the pack's default length, one after another;
a rest shorter than the pack's shortest length is left out. Each window is encoded and decoded. The error is the mean
distance of the 24 joints of the free body (MPJPE, Ionescu et al. 2014), in millimetres: `root` after moving both
pelvises to one place in every frame, `absolute` with only the first recorded frame's place and heading in common.

Recognition: a span's latent is the mean of its windows' latents. It is compared by cosine with one vector per label,
the mean embedding of all captions the store has for the label; labels are all of the store.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.console import progress
from mclip.data.dataset import Span, gather, spans_of
from mclip.data.store import SPLITS, MotionStore
from mclip.errors import DataError, UsageError
from mclip.runtime.engine import Engine
from mclip.runtime.prior import STYLE_SEPARATOR
from mclip.runtime.representation import Representation
from mclip.skeleton.smpl import forward_kinematics

TOTAL = "total"
_TOP = 5
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One source's figures, or all sources' together.

    windows, spans: how many the figures are means over; mpjpe_*: millimetres; top1, top5: shares of the spans whose
    own label is nearest, or among the five nearest; action: whose nearest label is of the same action ("walk" of
    "walk/old")
    """

    windows: int
    spans: int
    mpjpe_root: float
    mpjpe_absolute: float
    top1: float
    top5: float
    action: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores by source, TOTAL last, and how they were come by."""

    split: str
    window: int
    min_window: int
    labels: int
    scores: dict[str, Scores]

    @property
    def protocol(self) -> str:
        """What was measured, in one sentence."""
        return (
            f"split {self.split}: windows of {self.window} frames ({self.min_window} at least) one after another; "
            "MPJPE of 24 joints on the free body; recognition by cosine of a span's mean latent with the mean "
            f"embedding of each label's captions, among the store's {self.labels} labels"
        )


def evaluate(engine: Engine, store: MotionStore, split: str = "test") -> Evaluation:
    """Score a pack on a split of a store.

    Raises UsageError for no known split, DataError when the frame rates differ or the split has no captioned motion
    that is long enough.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}", f"choose one of {', '.join(SPLITS)}")
    lengths = engine.manifest.frames
    if abs(store.fps - engine.manifest.fps) > 1e-3:
        raise DataError(
            f"{store.file}: has {store.fps:g} frames per second, the pack {engine.manifest.fps:g}",
            f"make the store with: mclip preprocess DIR --fps {engine.manifest.fps:g}",
        )
    spans = spans_of(store, split, (), lengths.min)
    windows = [_windows(span, lengths.default, lengths.min) for span in spans]
    starts, stops = (np.array([w[place] for group in windows for w in group], np.int64) for place in (0, 1))
    owner = np.repeat(np.arange(len(spans)), [len(group) for group in windows])
    latents, root, absolute = _reconstruct(engine, store, starts, stops)
    ranks, action = _recognise(engine, store, spans, owner, latents)
    motion = np.searchsorted(store.offsets, [span.start for span in spans], side="right") - 1
    source = np.array([store.source[index] or "." for index in motion.tolist()])
    groups = {name: source == name for name in sorted(set(source.tolist()))} | {TOTAL: np.ones(len(spans), bool)}
    return Evaluation(
        split=split,
        window=lengths.default,
        min_window=lengths.min,
        labels=len(store.labels),
        scores={
            name: Scores(
                windows=int(chosen[owner].sum()),
                spans=int(chosen.sum()),
                mpjpe_root=_mean(root[chosen[owner]]),
                mpjpe_absolute=_mean(absolute[chosen[owner]]),
                top1=_mean(ranks[chosen] < 1),
                top5=_mean(ranks[chosen] < _TOP),
                action=_mean(action[chosen]),
            )
            for name, chosen in groups.items()
        },
    )


def _windows(span: Span, length: int, shortest: int) -> list[tuple[int, int]]:
    """Windows of a span, one after another, as start and stop in store frames."""
    cuts = [(start, min(start + length, span.stop)) for start in range(span.start, span.stop, length)]
    return [(start, stop) for start, stop in cuts if stop - start >= shortest]


def _reconstruct(
    engine: Engine, store: MotionStore, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Latents (n, D) of windows, and each window's root-aligned and absolute error (n,), millimetres."""
    latents, root, absolute = [], [], []
    with progress("evaluate", len(starts)) as bar:
        for at in range(0, len(starts), _BATCH):
            start, stop = starts[at : at + _BATCH], stops[at : at + _BATCH]
            features, mask = gather(
                store, start, stop, engine.manifest.frames.default, np.ones(len(start)), engine.kind
            )
            latent = engine.encode_motion(features, mask)
            made, real = (
                _joints(each, engine.kind) for each in (engine.decode(latent, mask), features)
            )  # (B, T, 24, 3)
            moved = made - made[:, :, :1] + real[:, :, :1]
            latents.append(latent)
            root += [_millimetres(moved[row, mask[row]], real[row, mask[row]]) for row in range(len(mask))]
            absolute += [_millimetres(made[row, mask[row]], real[row, mask[row]]) for row in range(len(mask))]
            bar.advance(len(start))
    return np.concatenate(latents), np.array(root), np.array(absolute)


def _joints(features: NDArray[np.float32], kind: Representation) -> NDArray[np.float32]:
    _, joints = forward_kinematics(*kind.decode(features))
    return joints


def _millimetres(made: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    return float(1000.0 * np.linalg.norm(made - real, axis=-1).mean())


def _recognise(
    engine: Engine, store: MotionStore, spans: list[Span], owner: NDArray[np.int64], latents: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How many labels each span's latent is nearer to than to its own, a tie counting against it, and whether the
    nearest is of the same action."""
    texts: dict[int, set[int]] = defaultdict(set)
    for label, text in zip(store.captions.label.tolist(), store.captions.text.tolist(), strict=True):
        texts[label].add(text)
    used = sorted(set(store.captions.text.tolist()))
    row = {text: place for place, text in enumerate(used)}
    embeddings = engine.encode_text([store.texts[text] for text in used])
    names = sorted(texts)
    means = _unit(np.stack([embeddings[[row[text] for text in sorted(texts[label])]].mean(axis=0) for label in names]))
    pooled = _unit(np.stack([latents[owner == index].mean(axis=0) for index in range(len(spans))]))  # (spans, D)
    cosine = pooled @ means.T  # (spans, M)
    own = np.array([names.index(span.label) for span in spans])
    ranks: NDArray[np.int64] = (cosine >= cosine[np.arange(len(spans)), own][:, None]).sum(axis=1) - 1
    actions = np.array([store.labels[label].split(STYLE_SEPARATOR)[0] for label in names])
    return ranks, actions[cosine.argmax(axis=1)] == actions[own]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
    return result


def _mean(values: NDArray[np.generic]) -> float:
    return float(np.mean(values.astype(np.float64)))
