"""Motions that a pack made or edited: what they show to the judge, and how they move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.bootstrap import Rows, bootstrap, ratio
from benchmarks.held_out import HeldOut, Verdicts, verdicts, windows_of
from benchmarks.judge import Judge, split_label
from benchmarks.recordings import drawn_captions, labels_of
from benchmarks.table import Line, grouped, read_rows, shares
from mclip import console
from mclip.data.store import MotionStore
from mclip.evaluate.generation import ENERGY, STILL, Movement, movement
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.runtime.bases import Source, to_base
from mclip.runtime.edit import Term, edit, prepare
from mclip.runtime.engine import Engine
from mclip.runtime.prior import Bank
from mclip.runtime.residual import joint_weights
from mclip.runtime.tasks import Generated, Prompt, generate
from mclip.skeleton.smpl import forward_kinematics

_PER_LABEL = 4
_EDITED = ("walk", "run", "wave with the right hand", "wave with the left hand", "wave with both hands", "wave goodbye")
_PLAIN = "normal"


def from_captions(engine: Engine, judges: Sequence[Judge], seeds: Sequence[int]) -> Iterator[Line]:
    """Motions of up to four training captions of every label, drawn by seed."""
    bank = engine.prior
    assert isinstance(bank, Bank), "the pack has no bank, whose captions are needed"
    labels = [split_label(label) for label in bank.labels]
    styled = [bool(style) for _, style in labels]
    actions: list[Rows] = []
    styles: list[Rows] = []
    for seed, judge in zip(seeds, judges, strict=True):
        random = np.random.default_rng(seed)
        texts: list[str] = []
        owner: list[int] = []
        for row in range(len(labels)):
            captions = random.permutation(bank.ids[bank.offsets[row] : bank.offsets[row + 1]])[:_PER_LABEL]
            texts += [bank.texts[caption] for caption in captions]
            owner += [row] * len(captions)
        found = _judged(judge, [each.motion for each in _generate(engine, texts)])
        right = (found.is_action(row, labels[label][0]) for row, label in enumerate(owner))
        actions.append(grouped(owner, right, len(labels)))
        right = (found.is_style(row, labels[label][1] or "") for row, label in enumerate(owner))
        styles.append(grouped(owner, right, len(labels))[styled])
    for what, rows, target, study in (("content", actions, 0.97, "92; 94"), ("style", styles, 0.88, "75; 82")):
        yield Line(f"of training captions: {what}", bootstrap(rows, ratio), of="labels", target=target, study=study)


def from_paraphrases(engine: Engine, judges: Sequence[Judge]) -> Iterator[Line]:
    """Motions of prompts in unseen words."""
    prompts = read_rows("paraphrases-blind.csv")
    made = _generate(engine, [row["prompt"] for row in prompts])
    rows = []
    for judge in judges:
        found = _judged(judge, [each.motion for each in made])
        rows.append(shares(found.is_action(row, prompt["action"]) for row, prompt in enumerate(prompts)))
    yield Line("of unseen paraphrases: content", bootstrap(rows, ratio), of="prompts", target=0.88, study="62; 83")
    chosen = [split_label(each.match.label)[0] if each.match else "" for each in made]
    right = shares(action == row["action"] for action, row in zip(chosen, prompts, strict=True))
    yield Line("of unseen paraphrases: label that was matched", bootstrap([right], ratio), of="prompts")


def edited(held: HeldOut, judges: Sequence[Judge]) -> Iterator[Line]:
    """Normal walks, runs and waves, given each style that their action was recorded in, in unseen words."""
    bases = [
        span
        for span, (action, style) in enumerate(zip(held.actions, held.styles, strict=True))
        if action in _EDITED and style == _PLAIN
    ]
    known = _styles_of(held.store)
    wordings = [(row["wording"], row["style"]) for row in read_rows("styles-blind.csv")]
    weights = joint_weights(None)
    motions: list[Motion] = []
    owner: list[int] = []
    wanted: list[str] = []
    with console.progress("edit", len(bases)) as bar:
        for place, span in enumerate(bases):
            base = to_base(held.engine, Source(f"recording {span}", held.motion(span)))
            for wording, style in wordings:
                if known[held.actions[span]] & set(style.split("|")):
                    change = prepare(held.engine, base, [Term(Source(wording, None), 1)], None)
                    motions.append(edit(held.engine, change, 1.0, weights).motion)
                    owner.append(place)
                    wanted.append(style)
            bar.advance()
    found = [_judged(judge, motions) for judge in judges]
    styles = [[each.is_style(row, style) for row, style in enumerate(wanted)] for each in found]
    kept = [[each.is_action(row, held.actions[bases[place]]) for row, place in enumerate(owner)] for each in found]
    second = {split_label(held.store.labels[label])[1] for label in labels_of(held.store, "set 2")}
    everything = list(range(len(wanted)))
    some = [row for row in everything if second & set(wanted[row].split("|"))]
    for among, rows in (("all styles", everything), ("styles of set 2", some)):
        for what, right, target, study in (("style", styles, 0.8, "75"), ("content kept", kept, 0.92, "94")):
            places = [owner[row] for row in rows]
            of_bases = [grouped(places, (each[row] for row in rows), len(bases)) for each in right]
            name = f"edits by unseen wordings, {among}: {what}"
            if among == "all styles":
                yield Line(name, bootstrap(of_bases, ratio), target=target, study=study)
            else:
                yield Line(name, bootstrap(of_bases, ratio))


def moved(held: HeldOut, seeds: Sequence[int]) -> tuple[list[Line], dict[str, float]]:
    """How motions of the recordings' captions move beside the recordings.

    Also the ratio of joint speed for each action that moves.
    """
    spans = len(held.spans)
    recorded = np.zeros((spans, 2))
    for span, each in zip(held.owner.tolist(), held.movements, strict=True):
        recorded[span] += each.slid, each.contacts
    real = _speeds([held.actions[span] for span in held.owner.tolist()], held.movements)
    names = [name for name, speed in real.items() if speed >= STILL]
    drawn = drawn_captions(held, seeds)
    texts = sorted({text for each in drawn for text in each})
    generated = _generate(held.engine, [held.store.texts[text] for text in texts])
    made = {text: _movement(each.motion) for text, each in zip(texts, generated, strict=True)}
    speeds: list[Rows] = []
    skating: list[Rows] = []
    for each_drawn in drawn:
        movements = [made[text] for text in each_drawn]
        own = _speeds(held.actions, movements)
        speeds.append(np.array([(own[name], real[name]) for name in names]))
        skating.append(np.concatenate([[(one.slid, one.contacts) for one in movements], recorded], axis=1))
    lines = [
        Line("joint speed of made by recorded, median of actions", bootstrap(speeds, _median_ratio), "", "actions"),
        Line("actions with joint speed 0.75 to 1.25 of recorded", bootstrap(speeds, _within), of="actions", target=1.0),
        Line("foot skating of made by recorded", bootstrap(skating, _skating), "", most=1.3),
    ]
    means = np.mean([rows[:, 0] / rows[:, 1] for rows in speeds], axis=0)
    return lines, dict(zip(names, means.tolist(), strict=True))


def _generate(engine: Engine, texts: Sequence[str]) -> list[Generated]:
    made = []
    with console.progress("generate", len(texts)) as bar:
        for each in generate(engine, [Prompt(text) for text in texts]):
            made.append(each)
            bar.advance()
    return made


def _judged(judge: Judge, motions: Sequence[Motion]) -> Verdicts:
    """What the judge says of motions, by the mean over their windows."""
    windows = [windows_of(motion) for motion in motions]
    owner = np.repeat(np.arange(len(motions)), [len(mask) for _, mask in windows])
    features, mask = (np.concatenate([each[side] for each in windows]) for side in (0, 1))
    return verdicts(judge, features, mask, owner)


def _styles_of(store: MotionStore) -> dict[str, set[str | None]]:
    """The styles that each action was recorded in for training."""
    found: dict[str, set[str | None]] = defaultdict(set)
    for motion, label in zip(store.captions.motion.tolist(), store.captions.label.tolist(), strict=True):
        if store.split[motion] == "train":
            action, style = split_label(store.labels[label])
            found[action].add(style)
    return found


def _speeds(actions: Sequence[str], movements: Sequence[Movement]) -> dict[str, float]:
    """Mean joint speed of each action, m/s."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for action, each in zip(actions, movements, strict=True):
        speeds[action].append(each.speed)
    return {action: float(np.mean(speeds[action])) for action in sorted(speeds)}


def _movement(motion: Motion) -> Movement:
    _, joints = forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)
    return movement(joints, motion.fps)


def _median_ratio(rows: Rows) -> float:
    return float(np.median(rows[:, 0] / rows[:, 1]))


def _within(rows: Rows) -> float:
    ratios = rows[:, 0] / rows[:, 1]
    return float(((ratios >= ENERGY[0]) & (ratios <= ENERGY[1])).mean())


def _skating(rows: Rows) -> float:
    """Metres slid in each contact, made by recorded."""
    slid, contacts, real_slid, real_contacts = rows.sum(axis=0)
    return float((slid / max(1, contacts)) / (real_slid / max(1, real_contacts)))
