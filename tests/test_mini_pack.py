"""The shipped pack does what it is told. `tests/kinematics.py` says what that means; nobody looks at pictures here.

How far its predicates can be trusted, on 472 two-second windows of the recordings the pack is made from, each the
beginning of a labelled span: they hold on all windows of jump (13), sit (5), lie (2), crawl (4), kick (5) and cartwheel
(4), on 97 % of walk (80), 94 % of run (80; elderly runs are slow), 85 % of wave and 80 % of raise both hands (80 each;
the rest are of one style that keeps its hands below the shoulders), 87 % of bow (15), 83 % of punch (24) and 95 % of
turn left (80). Of the windows of any other of the twelve actions they hold on 4 % at most, but 7 % of run counts as
walk, 8 % of punch as bow, and turning left is walking or running as well.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mclip.evaluate.generation import movement
from mclip.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from mclip.motion import Motion
from mclip.runtime.bases import Source, from_text
from mclip.runtime.directions import directions
from mclip.runtime.engine import Engine
from mclip.runtime.prior import Bank
from mclip.runtime.tasks import Prompt, generate
from mclip.skeleton.smpl import REST_JOINTS, forward_kinematics
from tests.kinematics import (
    DOES,
    REAL_SPEED,
    RUN_TO_WALK,
    STANDING,
    ground_speed,
    relative_joint_speed,
    sits,
    smoothness,
)

ROOT = Path(__file__).parent.parent
# Some of about 150 prompts whose content words no caption has: those the pack understands. How much it understands of
# prompts that nobody chose is for benchmarks/paraphrases.py to say.
PARAPHRASES = (
    ("walk", "ramble", "meander"),
    ("run", "jogathon", "triathlon"),
    ("jump", "springboard", "leapfrog"),
    ("sit down on a chair", "chesterfield", "cushions"),
    ("lie down", "bunk", "duvet"),
    ("wave with the right hand", "flutter the right hand", "waggle the right hand"),
    ("raise both hands", "upraise both hands", "both hands aloft"),
    ("bow", "curtsey", "curtseying"),
    ("kick", "footballer", "dropkicks"),
    ("punch", "pummel", "fisticuffs"),
    ("turn left", "deviate left", "deviating left"),
)
# Words that say nothing about the action, and those that name a side, for which there are no others.
COMMON_WORDS = frozenset("a an before down into on onto the upon with left right both hand hands".split())
# Turning left on the way is walking, or running, too.
ALSO = {("turn left", "walk"), ("turn left", "run")}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open()


@pytest.fixture(scope="module")
def motions(engine: Engine) -> dict[str, Motion]:
    """The motion of every prompt of this module."""
    texts = [*DOES, "couch", *(text for _, *pair in PARAPHRASES for text in pair)]
    return {made.prompt.text: made.motion for made in generate(engine, [Prompt(text) for text in texts])}


@pytest.mark.parametrize("prompt", DOES)
def test_does_what_the_prompt_says_and_nothing_else(motions: dict[str, Motion], prompt: str) -> None:
    done = {action for action, does in DOES.items() if does(motions[prompt])}
    assert prompt in done
    assert {other for other in done - {prompt} if (prompt, other) not in ALSO} == set()


def test_runs_faster_than_it_walks(motions: dict[str, Motion]) -> None:
    assert ground_speed(motions["run"]) >= RUN_TO_WALK * ground_speed(motions["walk"])


@pytest.mark.parametrize("prompt", REAL_SPEED)
def test_moves_legs_and_arms_as_people_do(motions: dict[str, Motion], prompt: str) -> None:
    assert relative_joint_speed(motions[prompt]) >= REAL_SPEED[prompt] / 2


@pytest.mark.parametrize("prompt", DOES)
def test_moves_smoothly(motions: dict[str, Motion], prompt: str) -> None:
    """0.74 to 0.98 in the recordings of these actions; a frozen body that shakes has 0.2."""
    assert smoothness(motions[prompt]) > 0.6


def test_couch_is_sitting_down(motions: dict[str, Motion]) -> None:
    assert sits(motions["couch"])


@pytest.mark.parametrize(("action", "one", "other"), PARAPHRASES)
def test_paraphrases_do_the_same(motions: dict[str, Motion], action: str, one: str, other: str) -> None:
    assert DOES[action](motions[one])
    assert DOES[action](motions[other])


def test_paraphrases_use_words_no_caption_has(engine: Engine) -> None:
    assert isinstance(engine.prior, Bank)
    table = tomllib.loads((ROOT / "recipes/mini/captions.toml").read_text(encoding="utf-8"))
    phrases = [phrase for action in table["action"] for phrase in action["phrases"]]
    known = {_stem(word) for text in [*engine.prior.texts, *phrases] for word in _words(text)}
    used = {word for _, *pair in PARAPHRASES for text in pair for word in _words(text)}
    assert {word for word in used - COMMON_WORDS if _stem(word) in known} == set()


# Two of ten punches, which recordings show as the predicate wants, reach a little less far when they are decoded.
SHORT = pytest.mark.xfail(strict=True, reason="one of four punches falls short of the predicate's reach")


@pytest.mark.parametrize("prompt", ["walk", "jump", pytest.param("punch", marks=SHORT), "raise both hands"])
def test_variations_differ_and_do_the_same(engine: Engine, prompt: str) -> None:
    made = [item.motion for item in generate(engine, [Prompt(prompt)], variations=4, seed=1)]
    assert all(DOES[prompt](motion) for motion in made)
    for index, one in enumerate(made):
        for other in made[:index]:
            frames = min(len(one), len(other))
            assert np.abs(one.pose[:frames] - other.pose[:frames]).max() > 0.1


@pytest.mark.parametrize(
    ("text", "meaning", "guess"),
    [
        ("angry", "the style 'angry'", ""),
        ("sorrowful", "the style 'sad'", ""),
        ("self-important", "the style 'proud'", ""),
        ("an old person walks", "the style 'elderly'", ""),
        ("chest out", "the style 'proud'", "is only like a style"),
        ("like a winner", "the action 'victory'", "is nearest to"),
        ("dance", "the action 'dance'", ""),
        ("punch", "the action 'punch'", "is nearest to"),
        ("banana", "what the text space makes of it", "is no style or action"),
        ("quarterly report", "what the text space makes of it", "is no style or action"),
    ],
)
def test_words_to_add_are_taken_for_what_they_say(engine: Engine, text: str, meaning: str, guess: str) -> None:
    latents = from_text(engine, "walk")[1][None]
    (direction,) = directions(engine, [Source(text, None)], latents)
    assert direction.meaning.startswith(meaning)
    assert direction.guess.startswith(guess) and bool(direction.guess) == bool(guess)


# 0.05 to 0.09 m/s as they are decoded.
@pytest.mark.parametrize("prompt", ["raise both hands", "wave with the right hand", "bow"])
def test_feet_of_who_stands_do_not_slide(motions: dict[str, Motion], prompt: str) -> None:
    motion = motions[prompt]
    _, positions = forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)
    found = movement(positions, motion.fps)
    assert found.contacts > len(motion)
    assert found.slid / found.contacts < 0.03


def test_predicates_refuse_a_body_that_stands_or_glides() -> None:
    """Legs frozen in one pose at the speed of a walk: what averaging over phases looks like."""
    pose = np.zeros((60, 24, 3), np.float32)
    pose[:, 0, 0] = np.pi / 2  # SMPL's rest pose is Y up
    transl = np.zeros((60, 3), np.float32)
    transl[:, 2] = STANDING - REST_JOINTS[0, 2]
    stands = Motion(pose=pose, transl=transl, fps=30.0)
    for speed in (0.0, 1.2, 3.0):
        gliding = transl.copy()
        gliding[:, 1] = -speed * np.arange(60) / 30.0
        assert [action for action, does in DOES.items() if does(replace(stands, transl=gliding))] == []


def test_predicates_tell_left_from_right_and_a_turn_from_a_glance() -> None:
    for degrees, expected in ((90.0, True), (30.0, False), (-90.0, False)):
        motion = _turning_walk(np.radians(degrees))
        assert DOES["turn left"](motion) is expected


def _turning_walk(angle: float) -> Motion:
    """A standing body moved forward at 1 m/s that turns by an angle."""
    frames = 60
    turn = np.zeros((frames, 3))
    turn[:, 2] = np.linspace(0.0, angle, frames)
    upright = axis_angle_to_matrix(np.array([np.pi / 2, 0.0, 0.0]))
    pose = np.zeros((frames, 24, 3), np.float32)
    pose[:, 0] = matrix_to_axis_angle(axis_angle_to_matrix(turn) @ upright)
    transl = np.zeros((frames, 3), np.float32)
    transl[:, 1], transl[:, 2] = -np.arange(frames) / 30.0, STANDING
    return Motion(pose=pose, transl=transl, fps=30.0)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _stem(word: str) -> str:
    """Roughly without its ending: "waving", "waves" and "wave" are one word."""
    for ending in ("ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) >= len(ending) + 3:
            word = word.removesuffix(ending)
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.rstrip("e")
