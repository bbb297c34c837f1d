"""Held-out recordings: named, found by their captions and reconstructed by a pack; named by a judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.bootstrap import Rows, bootstrap, ratio
from benchmarks.held_out import HeldOut, set_of, verdicts
from benchmarks.judge import Judge, split_label
from benchmarks.table import Line, shares
from mclip.data.store import MotionStore
from mclip.evaluate.retrieval import ranks
from mclip.runtime.classify import pool, temperature, window_scores
from mclip.runtime.engine import Engine
from mclip.runtime.labels import locate_labels
from mclip.runtime.prior import unit

SMALL = ("accad", "cmu", "deepmimic", "kaykit", "mesh2motion")


def judge_itself(held: HeldOut, judges: Sequence[Judge]) -> Iterator[Line]:
    """How often the judge is right about recordings, among all actions and all styles."""
    found = [verdicts(judge, held.features, held.mask, held.owner) for judge in judges]
    for name, sets in {"set 2": ("set 2",), "set 1": ("set 1",), "ACCAD and small sets": SMALL}.items():
        rows = held.of_sets(*sets)
        right = [shares(each.is_action(row, held.actions[row]) for row in rows) for each in found]
        yield Line(f"the judge itself, {name}: action of all", bootstrap(right, ratio))
        if styled := [(row, style) for row in rows if (style := held.styles[row])]:
            right = [shares(each.is_style(row, style) for row, style in styled) for each in found]
            yield Line(f"the judge itself, {name}: style of all", bootstrap(right, ratio), of="recordings")


def recognised(held: HeldOut, judges: Sequence[Judge]) -> Iterator[Line]:
    """Content and style through text, and the judge among the same classes."""
    rows = held.of_sets("set 2")
    said = captions_of_actions(held.store)
    classes = {action for action in said if action in actions_of(held.store, "set 1", "set 2")}
    chosen = np.isin(np.arange(len(held.spans)), rows)
    wanted = [held.actions[span] for span in held.owner.tolist()]

    ours: dict[str, Rows] = {}
    for way, nearest in (
        ("names", _by_names(held, sorted(classes))),
        ("captions", _by_captions(held, {action: said[action] for action in sorted(classes)})),
    ):
        windows, spans = nearest
        right = np.array([found == action for found, action in zip(windows, wanted, strict=True)], np.float64)
        ours[f"windows, by {way}"] = held.per_span(right)[chosen]
        ours[f"recordings, by {way}"] = shares(spans[row] == held.actions[row] for row in rows)
    for what, found in ours.items():
        target, study = (0.99, "99.7") if what.startswith("windows") else (0.98, "95.8")
        name = f"content of {len(classes)}, set 2, {what}"
        yield Line(name, bootstrap([found], ratio), target=target, study=study)

    theirs: dict[str, list[Rows]] = defaultdict(list)
    for judge in judges:
        each = verdicts(judge, held.features, held.mask, np.arange(len(held.owner)))
        right = np.array([each.is_action(row, action, classes) for row, action in enumerate(wanted)], np.float64)
        theirs["windows"].append(held.per_span(right)[chosen])
        each = verdicts(judge, held.features, held.mask, held.owner)
        theirs["recordings"].append(shares(each.is_action(row, held.actions[row], classes) for row in rows))
    for what, judged in theirs.items():
        yield Line(f"the same by the judge, {what}", bootstrap(judged, ratio), study="98")
    for what, found in ours.items():
        judged = theirs[what.partition(",")[0]]
        less = [np.stack([found[:, 0] - other[:, 0], other[:, 1]], axis=-1) for other in judged]
        yield Line(f"ours less the judge, {what}, points", bootstrap(less, ratio), target=-0.01)

    # Set 2's labels are pairs of one of its actions and one of its styles.
    labels = labels_of(held.store, "set 2")
    styled = {split_label(held.store.labels[label])[1]: None for label in labels}
    nearest_pair = _by_captions(held, {held.store.labels[label]: captions_of(held.store, label) for label in labels})[1]
    right_styles = shares(split_label(nearest_pair[row])[1] == held.styles[row] for row in rows)
    what = f"style of {len(styled)}, set 2, recordings, by captions"
    yield Line(what, bootstrap([right_styles], ratio), target=0.99, study="100")

    small = held.of_sets(*SMALL)
    for way, spans in (("names", _by_names(held, list(said))[1]), ("captions", _by_captions(held, said)[1])):
        right_small = shares(spans[row] == held.actions[row] for row in small)
        what = f"ACCAD and small sets, action of {len(said)}, by {way}"
        yield Line(what, bootstrap([right_small], ratio), target=0.7, study="53")


def retrieved(held: HeldOut, seeds: Sequence[int]) -> Iterator[Line]:
    """Recordings by one of their captions, drawn by seed; each distinct caption once."""
    embedded = _embed(held.engine, held.store, sorted({int(text) for span in held.spans for text in span.texts}))
    there: list[Rows] = []
    back: list[Rows] = []
    for texts in drawn_captions(held, seeds):
        used = np.unique(texts)
        right = np.stack([np.isin(used, span.texts) for span in held.spans])
        captions = np.stack([embedded[text] for text in used.tolist()])
        there.append(ranks(captions, held.pooled, right.T)[:, None].astype(np.float64))
        back.append(ranks(held.pooled, captions, right)[:, None].astype(np.float64))
    for what, found, of in (("recording by caption", there, "captions"), ("caption by recording", back, "recordings")):
        yield Line(f"median rank, {what}, distinct captions", bootstrap(found, _median), "", of, most=1.0)


def reconstructed(held: HeldOut) -> Iterator[Line]:
    """Joint errors of windows that were encoded and decoded."""
    errors = held.per_span(held.errors)
    for name, sets, most, study in (
        ("set 2", "set 2", 28.0, "36"),
        ("set 1", "set 1", 60.0, "79"),
        ("ACCAD", "accad", 55.0, "68"),
    ):
        figure = bootstrap([errors[held.of_sets(sets)]], ratio)
        yield Line(f"pelvis-aligned MPJPE, mm, {name}", figure, "mm", most=most, study=study)


def drawn_captions(held: HeldOut, seeds: Sequence[int]) -> list[list[int]]:
    """For each seed a caption of every span, as rows of the store's texts; those that `mclip evaluate` draws."""
    drawn = []
    for seed in seeds:
        random = np.random.default_rng([seed, 1])
        drawn.append([int(span.texts[random.integers(len(span.texts))]) for span in held.spans])
    return drawn


def labels_of(store: MotionStore, *sets: str) -> list[int]:
    """The labels of some sets' recordings."""
    captions = zip(store.captions.motion.tolist(), store.captions.label.tolist(), strict=True)
    return sorted({label for motion, label in captions if set_of(store.path[motion]) in sets})


def actions_of(store: MotionStore, *sets: str) -> set[str]:
    """The actions of some sets' recordings."""
    return {split_label(store.labels[label])[0] for label in labels_of(store, *sets)}


def captions_of(store: MotionStore, label: int) -> list[int]:
    """Rows of the store's texts that are captions of a label."""
    return sorted(set(map(int, store.captions.text[store.captions.label == label])))


def captions_of_actions(store: MotionStore) -> dict[str, list[int]]:
    """The same of each action, in all its styles."""
    said: dict[str, set[int]] = defaultdict(set)
    for label in np.unique(store.captions.label).tolist():
        said[split_label(store.labels[label])[0]].update(captions_of(store, label))
    return {action: sorted(said[action]) for action in sorted(said)}


def _by_names(held: HeldOut, names: list[str]) -> tuple[list[str], list[str]]:
    """The nearest name of each window and of each span, as `mclip classify` finds it."""
    vectors = locate_labels(held.engine, names)
    windows = (held.latents @ vectors.T).argmax(axis=1)
    degrees = temperature(held.engine.manifest)
    spans = [pool(window_scores(encoded.latents, vectors, degrees)).argmax() for encoded in held.encoded]
    return [names[row] for row in windows.tolist()], [names[int(row)] for row in spans]


def _by_captions(held: HeldOut, said: dict[str, list[int]]) -> tuple[list[str], list[str]]:
    """The name of each window and of each span to whose captions' mean embedding it is nearest."""
    names = list(said)
    embedded = _embed(held.engine, held.store, sorted({row for rows in said.values() for row in rows}))
    means = unit(np.stack([np.mean([embedded[row] for row in rows], axis=0) for rows in said.values()]))
    windows, spans = ((latents @ means.T).argmax(axis=1).tolist() for latents in (held.latents, held.pooled))
    return [names[row] for row in windows], [names[row] for row in spans]


def _embed(engine: Engine, store: MotionStore, rows: list[int]) -> dict[int, NDArray[np.float32]]:
    """Embeddings (D,) of some of the store's texts."""
    return dict(zip(rows, engine.encode_text([store.texts[row] for row in rows]), strict=True))


def _median(rows: Rows) -> float:
    return float(np.median(rows))
