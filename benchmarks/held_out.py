"""The held-out recordings of a store, as a pack and a judge see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge import SHORTEST, WINDOW, Judge, split_label
from benchmarks.table import grouped
from mclip.data.dataset import Span, spans_of
from mclip.data.gathering import gather
from mclip.data.store import MotionStore
from mclip.evaluate.generation import Movement, movement
from mclip.evaluate.protocol import cut
from mclip.evaluate.reconstruction import mean_distance, positions
from mclip.motion import Motion
from mclip.runtime.encoded import Encoded
from mclip.runtime.engine import Engine
from mclip.runtime.prior import unit
from mclip.runtime.representation import SMPL24, motion_to_features

_SETS = re.compile(r"/dataset-([12])_[^/]+$")
_BATCH = 64
# As `mclip classify` cuts windows: a quarter of one apart.
_HOP = WINDOW // 4


def set_of(path: str) -> str:
    """ "set 1" or "set 2" for a recording of Bandai-Namco, otherwise the first folder."""
    found = _SETS.search(path)
    return f"set {found[1]}" if found else path.partition("/")[0]


@dataclass(frozen=True)
class HeldOut:
    """The captioned spans of the test split, cut into windows of WINDOW frames, one after another.

    owner     (n,) the span of each window
    features  (n, T, 25, 6) smpl24, mask (n, T)
    sets      of each span, `set_of`; actions and styles: what its label says
    """

    engine: Engine
    store: MotionStore
    spans: list[Span]
    owner: NDArray[np.int64]
    bounds: NDArray[np.int64]
    features: NDArray[np.float32]
    mask: NDArray[np.bool_]
    sets: NDArray[np.str_]
    actions: list[str]
    styles: list[str | None]

    @classmethod
    def of(cls, engine: Engine, store: MotionStore) -> HeldOut:
        """Those of a store."""
        spans = spans_of(store, "test", (), SHORTEST)
        bounds, owner = cut(spans, WINDOW, SHORTEST)
        start, stop = bounds.T
        features, mask = gather(store, start, stop, WINDOW, np.ones(len(bounds)), SMPL24)
        labels = [split_label(store.labels[span.label]) for span in spans]
        return cls(
            engine=engine,
            store=store,
            spans=spans,
            owner=owner,
            bounds=bounds,
            features=features,
            mask=mask,
            sets=np.array([set_of(store.path[_motion_of(store, span)]) for span in spans]),
            actions=[action for action, _ in labels],
            styles=[style for _, style in labels],
        )

    def motion(self, span: int) -> Motion:
        """What was recorded."""
        index = _motion_of(self.store, self.spans[span])
        first = int(self.store.offsets[index])
        return self.store.motion(index).slice(self.spans[span].start - first, self.spans[span].stop - first)

    @cached_property
    def encoded(self) -> list[Encoded]:
        """The windows of each span as `mclip classify` cuts them."""
        return self.engine.encode_motions([self.motion(span) for span in range(len(self.spans))], _HOP)

    @cached_property
    def latents(self) -> NDArray[np.float32]:
        """Those of the windows (n, D)."""
        parts = []
        for start, stop in _batches(self.bounds):
            features, mask = gather(self.store, start, stop, WINDOW, np.ones(len(start)), self.engine.kind)
            parts.append(self.engine.encode_motion(features, mask))
        return np.concatenate(parts)

    @cached_property
    def pooled(self) -> NDArray[np.float32]:
        """The mean latent of each span (spans, D), unit length."""
        return unit(np.stack([self.latents[self.owner == span].mean(axis=0) for span in range(len(self.spans))]))

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """Mean distance of the joints of each window (n,) and its reconstruction, pelvis-aligned, mm."""
        made = np.concatenate(
            [
                self.engine.decode(self.latents[at : at + _BATCH], self.mask[at : at + _BATCH])
                for at in range(0, len(self.mask), _BATCH)
            ]
        )
        found = []
        for made_row, row, bounds in zip(made, self.mask, self.bounds, strict=True):
            real, _ = gather(self.store, bounds[:1], bounds[1:], WINDOW, np.ones(1), self.engine.kind)
            joints, recorded = positions(made_row[row], self.engine.kind), positions(real[0, row], self.engine.kind)
            found.append(mean_distance(joints - joints[:, :1], recorded - recorded[:, :1]))
        return np.array(found)

    @cached_property
    def movements(self) -> list[Movement]:
        """How each window moves."""
        return [
            movement(positions(row[kept]), self.store.fps) for row, kept in zip(self.features, self.mask, strict=True)
        ]

    def of_sets(self, *sets: str) -> list[int]:
        """The spans of some sets."""
        return np.flatnonzero(np.isin(self.sets, sets)).tolist()

    def per_span(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows (sum, count) of the windows' values (n,) for each span."""
        return grouped(self.owner.tolist(), values, len(self.spans))


def windows_of(motion: Motion) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features (k, WINDOW, 25, 6) and mask (k, WINDOW) of a motion's windows, a rest shorter than SHORTEST left out."""
    starts = [at for at in range(0, len(motion), WINDOW) if at == 0 or len(motion) - at >= SHORTEST]
    features, mask = np.zeros((len(starts), WINDOW, 25, 6), np.float32), np.zeros((len(starts), WINDOW), np.bool_)
    for row, start in enumerate(starts):
        window = motion_to_features(motion.slice(start, min(start + WINDOW, len(motion))))
        features[row, : len(window)], mask[row, : len(window)] = window, True
    return features, mask


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What a judge says of motions: log-probabilities of actions (N, A) and of styles (N, S)."""

    judge: Judge
    action: NDArray[np.float32]
    style: NDArray[np.float32]

    def is_action(self, row: int, wanted: str, among: set[str] | None = None) -> bool:
        """Whether an action, or one of several with "|" between, is the likeliest; of all, or among some."""
        return _likeliest(self.action[row], self.judge.actions, among) in wanted.split("|")

    def is_style(self, row: int, wanted: str) -> bool:
        """The same of a style."""
        return _likeliest(self.style[row], self.judge.styles, None) in wanted.split("|")


def verdicts(
    judge: Judge, features: NDArray[np.float32], mask: NDArray[np.bool_], owner: NDArray[np.int64]
) -> Verdicts:
    """Judge motions by their windows' mean log-probability; owner (n,): the motion each window is of."""
    count = np.bincount(owner)[:, None].astype(np.float32)
    pooled = []
    for scores in judge.judge(features, mask):
        total = np.zeros((len(count), scores.shape[1]), np.float32)
        np.add.at(total, owner, scores)
        pooled.append(total / count)
    return Verdicts(judge, *pooled)


def _likeliest(scores: NDArray[np.float32], names: list[str], among: set[str] | None) -> str:
    allowed = [among is None or name in among for name in names]
    return names[int(np.where(allowed, scores, -np.inf).argmax())]


def _motion_of(store: MotionStore, span: Span) -> int:
    return int(np.searchsorted(store.offsets, span.start, side="right")) - 1


def _batches(bounds: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [bounds[at : at + _BATCH].T for at in range(0, len(bounds), _BATCH)]
