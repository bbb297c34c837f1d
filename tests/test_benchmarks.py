"""What figures in cards rest on: intervals, unseen pairs, blind prompts."""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bootstrap import Figure, bootstrap, ratio
from benchmarks.judge import split_label
from benchmarks.table import Line, grouped, shares
from benchmarks.unseen_pairs import choose_pairs
from mclip.runtime.engine import Engine
from mclip.runtime.prior import Bank

ROOT = Path(__file__).parents[1]


def _rows(name: str) -> list[dict[str, str]]:
    with (ROOT / "benchmarks" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_interval_of_a_share_is_that_of_the_normal_approximation() -> None:
    right = np.arange(400) % 5 != 0
    figure = bootstrap([shares(right)], ratio)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert figure.value == pytest.approx(0.8)
    assert (figure.low, figure.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.005)
    assert figure.count == 400


def test_seeds_of_the_same_recordings_are_no_more_recordings() -> None:
    once = shares(np.arange(100) % 4 != 0)
    one, three = bootstrap([once], ratio), bootstrap([once, once, once], ratio)
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)
    other = shares(np.zeros(100, bool))
    assert bootstrap([once, other], ratio).low == 0.0  # both draws may be of the worse seed


def test_a_mean_weighs_recordings_by_their_windows() -> None:
    rows = grouped([0, 0, 0, 1], [1.0, 1.0, 0.0, 0.0], 2)
    assert rows.tolist() == [[2.0, 3.0], [0.0, 1.0]]
    assert ratio(rows) == 0.5


@pytest.mark.parametrize(("value", "met"), [(0.97, True), (0.969, False)])
def test_a_line_says_whether_its_target_is_met(value: float, met: bool) -> None:
    line = Line("content", Figure(value, 0.9, 1.0, 7), target=0.97)
    assert line.met is met
    assert line.cells()[3:5] == ["97.0", "met" if met else "missed"]
    assert Line("error", Figure(31.0, 30, 32, 7), "mm", most=28.0).cells()[1:5] == [
        "31 (30 to 32)",
        "7 recordings",
        "at most 28",
        "missed",
    ]


def test_all_actions_and_styles_remain_when_pairs_are_kept_out() -> None:
    actions = ["walk", "run", "dash", "bow", "walk diagonally to the left", "walk diagonally to the right"]
    labels = [f"{action}/style {index}" for action in actions for index in range(13)] + ["punch/angry", "kick"]
    unseen = choose_pairs(labels, 0)
    seen = [split_label(label) for label in labels if label not in unseen]
    assert {action for action, _ in seen} == {*actions, "punch", "kick"}
    assert {style for _, style in seen} >= {f"style {index}" for index in range(13)}
    counts = Counter(split_label(label)[0] for label in unseen)
    assert counts == dict.fromkeys(actions, 2)
    # What is mirrored in training would show the other side's pair.
    assert {label.replace("left", "right") for label in unseen} >= {label for label in unseen if "right" in label}
    assert max(Counter(split_label(label)[1] for label in unseen if "left" not in label).values()) <= 2
    assert unseen == choose_pairs(labels, 0) != choose_pairs(labels, 1)


def test_blind_prompts_are_eight_for_each_action_and_none_is_a_caption() -> None:
    bank = Engine.open("mini").prior
    assert isinstance(bank, Bank)
    captions = {text.lower() for text in bank.texts}
    rows = _rows("paraphrases-blind.csv")
    assert set(Counter(row["action"] for row in rows).values()) == {8}
    assert {row["action"] for row in rows} <= {split_label(label)[0] for label in bank.labels}
    prompts = [row["prompt"].lower() for row in rows]
    assert len(set(prompts)) == len(prompts)
    assert not set(prompts) & (captions | {row["prompt"].lower() for row in _rows("paraphrases.csv")})


def test_blind_wordings_of_styles_stand_in_no_caption() -> None:
    table = tomllib.loads((ROOT / "recipes/mini/captions.toml").read_text(encoding="utf-8"))
    said = " ".join(
        word for style in table["styles"].values() for words in style.values() for word in words
    ) + " ".join(phrase for action in table["action"] for phrase in action["phrases"])
    rows = _rows("styles-blind.csv")
    assert {style for row in rows for style in row["style"].split("|")} == set(table["styles"]) - {"normal"}
    assert not [row["wording"] for row in rows if row["wording"] in said]
