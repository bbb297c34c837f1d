"""All metrics of a pack, on recordings it was not trained on.

Every captioned span of the split is cut into windows of the pack's default length, one after another; a rest shorter
than the pack's shortest length is left out. Each window is encoded and decoded (mclip.evaluate.reconstruction).
A span's latent is the mean of its windows' latents. It is compared by cosine with one vector per label, the mean
embedding of all captions the store has for the label; labels are all of the store. Captions longer than the pack reads
are cut, as training cuts them.

What else depends on chance is measured once for each seed, which draws
    one caption of every span     for retrieval, and as a prompt to generate a motion from, as `mclip generate` does
    the batches of 32             in retrieval
    one window in each piece      in the recognition of a list of classes
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mclip.body.model import load_body
from mclip.console import progress
from mclip.data.dataset import Span, spans_of
from mclip.data.gathering import gather
from mclip.data.store import SPLITS, MotionStore
from mclip.errors import DataError, UsageError, choices
from mclip.evaluate.generation import (
    Movement,
    Quality,
    energy_ratios,
    energy_summary,
    movement,
    quality,
)
from mclip.evaluate.protocol import Estimate, check, cut, data_sha256, over_seeds
from mclip.evaluate.recognition import PIECE, ClassScores, Named, class_scores, count_frames, draw_windows, names_of
from mclip.evaluate.reconstruction import Errors, positions, window_errors
from mclip.evaluate.retrieval import ranks_of, retrieve
from mclip.geometry import axis_angle_to_matrix
from mclip.names import STYLE_SEPARATOR
from mclip.runtime.engine import Engine
from mclip.runtime.prior import unit
from mclip.runtime.representation import SMPL24, representation
from mclip.runtime.tasks import Prompt, generate
from mclip.skeleton.smpl import forward_kinematics

TOTAL = "total"
_TOP = 5
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores(Errors):
    """One source's figures, or all sources' together: the means of its windows' errors, and recognition by labels.

    windows, spans: how many the figures are means over; top1, top5: shares of the spans whose own label is nearest, or
    among the five nearest; action: whose nearest label is of the same action ("walk" of "walk/old")
    """

    windows: int
    spans: int
    top1: float
    top5: float
    action: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Mean relative joint speed of one label's motions, m/s: recorded, and generated over all seeds."""

    real: float
    generated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How generated motions move beside recorded ones, by mclip.evaluate.generation.

    real: the split's windows; generated: the same figures over seeds; energy: by label; energy_ratio: generated to
    recorded speed, `median` over labels that do not stand still and the share `within` 0.75 and 1.25
    """

    real: Quality
    generated: dict[str, Estimate]
    energy: dict[str, Energy]
    energy_ratio: dict[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures, and how they were come by.

    scores         by source, TOTAL last
    recognition    ClassScores over seeds, by name; None without a list of classes
    retrieval      Recall over seeds, by protocol, direction and name, see mclip.evaluate.retrieval
    data_sha256    of the store's motions and captions, see `data_sha256`
    """

    split: str
    representation: str
    window: int
    min_window: int
    labels: int
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    data_sha256: str
    scores: dict[str, Scores]
    recognition: dict[str, Estimate] | None
    retrieval: dict[str, dict[str, dict[str, Estimate]]]
    generation: Generation

    @property
    def protocol(self) -> str:
        """What was measured, a line for each part."""
        lines = [
            f"split {self.split}, {self.representation}: windows of {self.window} frames ({self.min_window} at least) "
            "one after another; MPJPE of 24 joints on the free body, vertices of its skin; recognition by cosine of a "
            "span's mean latent with the mean embedding of each label's captions, among the store's "
            f"{self.labels} labels",
            "retrieval: cosine of a span's mean latent with one of its captions, drawn by seed; any caption the data "
            "give to a motion is right, ties count as wrong",
            "generation: a motion of the default length for each of these captions, beside the windows of the split"
            + ("" if representation(self.representation).path else "; its body stays in place, so that its feet slide"),
        ]
        if self.classes:
            lines.insert(
                1,
                f"classes: {len(self.classes)} bare names; a window of {self.window} frames drawn by seed in each "
                "piece of 5/3 of that; any: a hit on one of the window's classes counts, strict: on its main class, "
                "balanced: strict, averaged by class",
            )
        seeds = ", ".join(map(str, self.seeds))
        interval = ", mean and 95 % interval (Student's t)" if len(self.seeds) > 1 else ""
        return "\n".join([*lines, f"seeds {seeds}{interval}; data sha256 {self.data_sha256}"])


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Windows after a round trip: span (n,), latents (n, D), and each one's errors and movement."""

    owner: NDArray[np.int64]
    latents: NDArray[np.float32]
    errors: list[Errors]
    movements: list[Movement]


def evaluate(
    engine: Engine,
    store: MotionStore,
    split: str = "test",
    *,
    seeds: Sequence[int] = (0,),
    classes: Sequence[str] = (),
    named: Sequence[Named] | None = None,
) -> Evaluation:
    """Score a pack on a split of a store.

    classes: also recognise windows among these names, said of frames by `named` (the store's categories if None)
    seeds: different ones, at least one
    Raises UsageError for no known split, PackError for a pack without text, DataError when the frame rates differ, when
    a caption says nothing to the pack, and when the split has no captioned motion that is long enough or no window with
    one of the classes.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}", choices(split, SPLITS))
    check(engine, store)
    lengths = engine.manifest.frames
    spans = spans_of(store, split, (), lengths.min)
    texts = _embed(engine, store)  # before the long part: a pack without text ends here
    recognition = _classes(engine, store, split, seeds, classes, named) if classes else None
    windows = _round_trip(engine, store, spans)
    pooled = unit(np.stack([windows.latents[windows.owner == index].mean(axis=0) for index in range(len(spans))]))
    drawn = [_draw(spans, seed) for seed in seeds]
    return Evaluation(
        split=split,
        representation=engine.kind.name,
        window=lengths.default,
        min_window=lengths.min,
        labels=len(np.unique(store.captions.label)),
        classes=tuple(classes),
        seeds=tuple(seeds),
        data_sha256=data_sha256(store),
        scores=_scores(store, spans, windows, pooled, texts),
        recognition=recognition,
        retrieval=_retrieval(spans, pooled, texts, seeds, drawn),
        generation=_generation(engine, store, spans, windows, drawn),
    )


def _round_trip(engine: Engine, store: MotionStore, spans: list[Span]) -> _Windows:
    """Encode and decode the windows of all spans."""
    lengths, fps, body = engine.manifest.frames, engine.manifest.fps, load_body()
    bounds, owner = cut(spans, lengths.default, lengths.min)
    latents, errors, movements = [], [], []
    with progress("evaluate", len(bounds)) as bar:
        for at in range(0, len(bounds), _BATCH):
            start, stop = bounds[at : at + _BATCH].T
            features, mask = gather(store, start, stop, lengths.default, np.ones(len(start)), engine.kind)
            # Other representations lose how recordings move over the ground.
            recorded, _ = gather(store, start, stop, lengths.default, np.ones(len(start)), SMPL24)
            latent = engine.encode_motion(features, mask)
            made = engine.decode(latent, mask)
            latents.append(latent)
            for row, kept in enumerate(mask):
                errors.append(window_errors(made[row, kept], features[row, kept], fps, body, engine.kind))
                movements.append(movement(positions(recorded[row, kept]), fps))
                bar.advance()
    return _Windows(owner, np.concatenate(latents), errors, movements)


def _embed(engine: Engine, store: MotionStore) -> NDArray[np.float32]:
    """Embeddings (K, D) of the store's texts; of those that are no caption, zeros."""
    result = np.zeros((len(store.texts), engine.manifest.latent), np.float32)
    used = np.unique(store.captions.text)
    try:
        tokens = engine.tokenize([store.texts[text] for text in used.tolist()], truncate=True)
    except UsageError as error:
        raise DataError(f"{store.file}: {error.message}", "make it again with: mclip preprocess DIR") from None
    order = sorted(range(len(used)), key=lambda row: len(tokens[row]))  # equal lengths are read together
    with progress("read captions", len(used)) as bar:
        for at in range(0, len(order), _BATCH):
            rows = order[at : at + _BATCH]
            result[used[rows]] = engine.encode_tokens([tokens[row] for row in rows])
            bar.advance(len(rows))
    return result


def _scores(
    store: MotionStore,
    spans: list[Span],
    windows: _Windows,
    pooled: NDArray[np.float32],
    texts: NDArray[np.float32],
) -> dict[str, Scores]:
    """Errors and recognition by labels for each source, and for all."""
    ranks, action = _recognise(store, spans, pooled, texts)
    errors = np.array([astuple(each) for each in windows.errors])  # (n, 7)
    motion = np.searchsorted(store.offsets, [span.start for span in spans], side="right") - 1
    source = np.array([store.source[index] or "." for index in motion.tolist()])
    groups = {name: source == name for name in sorted(set(source.tolist()))} | {TOTAL: np.ones(len(spans), bool)}
    names = [field.name for field in fields(Errors)]
    return {
        name: Scores(
            **dict(zip(names, errors[chosen[windows.owner]].mean(axis=0).tolist(), strict=True)),
            windows=int(chosen[windows.owner].sum()),
            spans=int(chosen.sum()),
            top1=float((ranks[chosen] <= 1).mean()),
            top5=float((ranks[chosen] <= _TOP).mean()),
            action=float(action[chosen].mean()),
        )
        for name, chosen in groups.items()
    }


def _recognise(
    store: MotionStore, spans: list[Span], pooled: NDArray[np.float32], texts: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The rank of each span's own label for its latent (spans, D), and whether the nearest is of the same action."""
    said: dict[int, set[int]] = defaultdict(set)
    for label, text in zip(store.captions.label.tolist(), store.captions.text.tolist(), strict=True):
        said[label].add(text)
    names = sorted(said)
    means = unit(np.stack([texts[sorted(said[label])].mean(axis=0) for label in names]))
    cosine = pooled @ means.T  # (spans, M)
    own = np.array([names.index(span.label) for span in spans])
    actions = np.array([store.labels[label].split(STYLE_SEPARATOR)[0] for label in names])
    return ranks_of(cosine, np.arange(len(names)) == own[:, None]), actions[cosine.argmax(axis=1)] == actions[own]


def _classes(
    engine: Engine,
    store: MotionStore,
    split: str,
    seeds: Sequence[int],
    classes: Sequence[str],
    named: Sequence[Named] | None,
) -> dict[str, Estimate]:
    """Recognition of windows among a list of classes, over seeds."""
    if named is None:
        named = names_of(store, split)
    length = engine.manifest.frames.default
    vectors = unit(engine.encode_text(classes))
    found: list[ClassScores] = []
    with progress("recognise", len(seeds)) as bar:
        for seed in seeds:
            windows = draw_windows(store, split, length, np.random.default_rng([seed, 0]))
            frames = count_frames(windows, named, classes)
            shown = frames.any(axis=1)
            if not shown.any():
                raise DataError(
                    f"{store.file}: split {split!r} has no window of {length} frames with one of the "
                    f"{len(classes)} classes",
                    f"check labels and split; motions of less than {round(length * PIECE)} frames give no window",
                )
            latents = np.concatenate(
                [
                    engine.encode_motion(
                        *gather(store, rows[:, 0], rows[:, 1], length, np.ones(len(rows)), engine.kind)
                    )
                    for rows in np.split(windows[shown], range(_BATCH, int(shown.sum()), _BATCH))
                ]
            )
            found.append(class_scores(unit(latents) @ vectors.T, frames[shown]))
            bar.advance()
    return over_seeds([asdict(each) for each in found])


def _draw(spans: list[Span], seed: int) -> NDArray[np.int64]:
    """One caption for every span, an index into the store's texts."""
    random = np.random.default_rng([seed, 1])
    return np.array([span.texts[random.integers(len(span.texts))] for span in spans], np.int64)


def _retrieval(
    spans: list[Span],
    pooled: NDArray[np.float32],
    texts: NDArray[np.float32],
    seeds: Sequence[int],
    drawn: list[NDArray[np.int64]],
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Recall over seeds by protocol and direction."""
    found = []
    for seed, pairs in zip(seeds, drawn, strict=True):
        used, captions = np.unique(pairs, return_inverse=True)
        right = np.stack([np.isin(used, span.texts) for span in spans])
        found.append(retrieve(pooled, texts[used], captions, right, np.random.default_rng([seed, 2])))
    return {
        protocol: {way: over_seeds([asdict(each[protocol][way]) for each in found]) for way in ways}
        for protocol, ways in found[0].items()
    }


def _generation(
    engine: Engine, store: MotionStore, spans: list[Span], windows: _Windows, drawn: list[NDArray[np.int64]]
) -> Generation:
    """Generate a motion for every drawn caption, and compare how they and the windows move."""
    texts = sorted({store.texts[text] for each in drawn for text in each.tolist()})
    made: dict[str, Movement] = {}
    with progress("generate", len(texts)) as bar:
        for item in generate(engine, [Prompt(text) for text in texts], truncate=True):
            _, joints = forward_kinematics(axis_angle_to_matrix(item.motion.pose), item.motion.transl)
            made[item.prompt.text] = movement(joints, item.motion.fps)
            bar.advance()
    label = [store.labels[span.label] for span in spans]
    by_seed = [[made[store.texts[text]] for text in each.tolist()] for each in drawn]
    real = [(label[owner], each.speed) for owner, each in zip(windows.owner.tolist(), windows.movements, strict=True)]
    ratios = [
        energy_ratios(real, [(name, each.speed) for name, each in zip(label, row, strict=True)]) for row in by_seed
    ]
    return Generation(
        real=quality(windows.movements),
        generated=over_seeds([asdict(quality(row)) for row in by_seed]),
        energy={
            name: Energy(real=speeds[0], generated=float(np.mean([each[name][1] for each in ratios])))
            for name, speeds in ratios[0].items()
        },
        energy_ratio=over_seeds([energy_summary(each) for each in ratios]),
    )
