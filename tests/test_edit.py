"""Latent arithmetic: what terms mean, how far latents move, and what is kept in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.errors import DataError, MotionError, PackError, UsageError
from mclip.geometry import angle_between, axis_angle_to_matrix
from mclip.pack import Pack
from mclip.runtime.axis import load_axis, save_axis
from mclip.runtime.bases import Source, read_source, to_base
from mclip.runtime.directions import _person, directions
from mclip.runtime.edit import Term, edit, move, prepare, read_strengths, read_terms
from mclip.runtime.engine import Engine
from mclip.runtime.prior import Bank, unit
from mclip.runtime.residual import joint_weights
from mclip.runtime.styles import Styles, is_opposite
from tests.fakes import make_bank, swinging

ALL = joint_weights(None)


@pytest.fixture(scope="module")
def engine(tiny_pack: Pack) -> Engine:
    return Engine(tiny_pack)


def source(frames: int = 50, fps: float = 30.0, name: str = "nod.npz") -> Source:
    return Source(name, replace(swinging("head", 0, seed=3, frames=frames), fps=fps))


@pytest.mark.parametrize(("frames", "fps"), [(50, 30.0), (20, 30.0), (10, 30.0), (90, 60.0), (40, 24.0)])
def test_strength_zero_gives_the_motion_back(engine: Engine, frames: int, fps: float) -> None:
    given = source(frames, fps)
    what = prepare(engine, to_base(engine, given), read_terms(["bends"], [], None, None, None), None)
    done = edit(engine, what, 0.0, ALL)
    assert given.motion is not None
    assert (len(done.motion), done.motion.fps) == (frames, fps)
    turned = angle_between(
        axis_angle_to_matrix(done.motion.pose.astype(np.float64)),
        axis_angle_to_matrix(given.motion.pose.astype(np.float64)),
    )
    assert turned.max() < 1e-5
    assert np.abs(done.motion.transl - given.motion.transl).max() < 1e-5


def test_the_stronger_the_farther(engine: Engine) -> None:
    base = to_base(engine, source())
    what = prepare(engine, base, read_terms(["bends"], [], None, None, None), None)
    away = []
    for strength in (0.25, 0.5, 1.0):
        pose = edit(engine, what, strength, ALL).motion.pose.astype(np.float64)
        own = base.motion.pose.astype(np.float64)
        away.append(float(angle_between(axis_angle_to_matrix(pose), axis_angle_to_matrix(own)).mean()))
    assert 0 < away[0] < away[1] < away[2]


def test_what_is_added_and_removed_again_is_nothing(engine: Engine, tmp_path: Path) -> None:
    swinging("head", 0, seed=4).save(tmp_path / "other.npz")
    name = str(tmp_path / "other.npz")
    for add, remove in (([name], [name]), (["bends"], ["bends"])):
        what = prepare(engine, to_base(engine, source()), read_terms(add, remove, None, None, None), None)
        assert np.abs(what.vector).max() < 1e-6
    both = read_terms([], [], "nods", "bends", None)
    assert [(term.source.name, term.sign) for term in both] == [("bends", 1), ("nods", -1)]


def test_motions_recombine_as_in_the_paper(engine: Engine, tmp_path: Path) -> None:
    """base - standing + waving, by hand and by the command's functions."""
    for name, seed in (("standing", 6), ("waving", 7)):
        swinging("left_shoulder", 2, seed=seed, frames=20).save(tmp_path / f"{name}.npz")
    base = to_base(engine, source(20))
    terms = read_terms([str(tmp_path / "waving.npz")], [str(tmp_path / "standing.npz")], None, None, None)
    what = prepare(engine, base, terms, None)
    standing, waving = (to_base(engine, read_source(str(tmp_path / f"{name}.npz"))) for name in ("standing", "waving"))
    by_hand = unit(waving.latents[0]) - unit(standing.latents[0])
    assert np.allclose(what.vector, by_hand, atol=1e-5)


def test_moving_a_latent_keeps_its_length() -> None:
    latents = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32) * np.float32(7)
    step = np.random.default_rng(1).normal(size=24).astype(np.float32)
    moved = move(latents, step)
    lengths = np.linalg.norm(latents, axis=1)
    assert np.allclose(np.linalg.norm(moved, axis=1), lengths, rtol=1e-5)
    # A second witness: the training loss's own formula, on unit vectors.
    import torch

    from mclip.nn.losses import edited

    units = torch.from_numpy(latents / lengths[:, None])
    wanted = edited(units, torch.zeros(1, 24), torch.from_numpy(step)[None]).numpy()
    assert np.allclose(moved / lengths[:, None], wanted, atol=1e-6)
    assert move(latents, 0 * step) is latents


def bank(rows: dict[str, list[float]]) -> Bank:
    """One motion and one caption for each label; latents as given, captions the same, shortened to a half."""
    latents = np.array(list(rows.values()), np.float32)
    count = len(rows)
    return make_bank(
        latents=latents,
        frames=np.full(count, 20, np.int32),
        names=tuple(rows),
        label=np.arange(count, dtype=np.int32),
        labels=tuple(rows),
        captions=latents * np.float32(0.5),
        texts=tuple(rows),
        spoken=[[row] for row in range(count)],
    )


STYLES = Styles.of(
    bank(
        {
            "walk/normal": [1, 0, 0, 0],
            "walk/old": [1, 1, 0, 0],
            "run/normal": [0, 0, 1, 0],
            "run/angry": [0, 0, 1, 3],
            "run/old": [0, 2, 1, 0],
            "kick": [9, 9, 9, 9],
        }
    )
)


def vector(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_a_style_leads_from_the_own_label_to_the_same_action_in_it() -> None:
    assert np.allclose(STYLES.direction("old", "walk/normal"), [0, 1, 0, 0])
    assert np.allclose(STYLES.direction("old", "run/angry"), [0, 2, 0, -3])


def test_taking_away_the_own_style_leads_to_the_others() -> None:
    assert np.allclose(STYLES.direction("old", "walk/old"), STYLES.direction("old", "walk/normal"))
    assert np.linalg.norm(STYLES.direction("angry", "run/angry")) > 1


def test_a_style_the_action_lacks_is_borrowed_from_those_that_are_like_it() -> None:
    assert np.allclose(STYLES.direction("angry", "walk/normal"), [0, 0, 0, 3])
    # "kick" has no style of its own to start from: all others are taken, one step long 1 and one 2.5. Its cosines with
    # "walk" and "run" are 0.671 and 0.853.
    run = 1 / (1 + np.exp((0.67082 - 0.85280) / 0.1))
    both = np.array([0, 1 - run + 2 * run, 0, -1.5 * run])
    wanted = (1 - run + 2.5 * run) * both / np.linalg.norm(both)
    assert np.allclose(STYLES.direction("old", "kick"), wanted, atol=1e-3)


def test_half_of_a_direction_is_what_the_captions_say() -> None:
    styles = replace(STYLES, captions=np.roll(STYLES.captions, 1, axis=1))
    assert np.allclose(styles.direction("old", "walk/normal"), [0, 0.5**0.5, 0.5**0.5, 0])


@pytest.mark.parametrize(
    ("text", "style", "opposite"),
    [
        ("confident", "not-confident", True),
        ("Not confident", "not-confident", False),
        ("insecure", "not-confident", False),
        ("not angry", "angry", True),
        ("furious", "angry", False),
    ],
)
def test_a_denial_turns_a_style_round(text: str, style: str, *, opposite: bool) -> None:
    assert is_opposite(text, style) == opposite


def test_a_wording_finds_its_style() -> None:
    heard = vector(-1, -1, -1)  # no style, angry, old: the reading cannot tell
    assert STYLES.find(vector(0, 1, 0, -0.2), heard, "walk/normal")[0] == "old"
    style, score = STYLES.find(vector(0, -0.1, 0, 2), heard, "walk/normal")
    assert style == "angry" and score > 0.9
    assert STYLES.find(vector(1, 0, 0, 0), heard, "walk/normal")[1] < 0.1
    assert Styles.of(bank({"kick": [1, 0], "walk": [0, 1]})).find(vector(1, 0), vector(0), "kick") == ("", -np.inf)


def test_between_two_styles_the_reading_decides() -> None:
    between = vector(0, 1, 0, 1.3)
    found = {heard: STYLES.find(between, vector(*heard), "kick")[0] for heard in ((-9, 0, -8), (-9, -8, 0))}
    assert list(found.values()) == ["angry", "old"]


ROWS = {
    "walk/normal": [1.0, 0, 0, 0],
    "walk/old": [1.0, 1, 0, 0],
}


def test_styles_are_compared_within_one_source_if_one_shows_both() -> None:
    # Other people walk normally elsewhere, which is no part of what "old" means.
    both = replace(
        bank(ROWS),
        centres=np.array([[1, 0, 0, 0], [1, 0, 9, 0], [1, 1, 0, 0]], np.float32),
        centre_label=np.array([0, 0, 1], np.int32),
        centre_source=np.array([0, 1, 0], np.int32),
    )
    direction = Styles.of(both).direction("old", "walk/normal")
    assert np.allclose(direction / np.linalg.norm(direction), [0, 1, 0, 0], atol=1e-6)


def test_styles_that_were_recorded_apart_are_compared_all_the_same() -> None:
    apart = Styles.of(replace(bank(ROWS), centre_source=np.array([0, 1], np.int32)))
    assert apart.find(vector(0, 1, 0, 0), vector(-1, -1), "walk/normal")[0] == "old"
    assert np.allclose(apart.direction("old", "walk/normal"), [0, 1, 0, 0], atol=1e-6)


def test_a_latent_finds_its_label() -> None:
    assert STYLES.label_of(vector(0.9, 0.8, 0, 0)) == "walk/old"
    assert STYLES.label_of(vector(2, 0, 0, 0)) == "walk/normal"


def test_a_known_action_is_its_centre_and_words_like_it_are_a_guess(engine: Engine) -> None:
    prior = engine.prior
    assert isinstance(prior, Bank)
    latents = to_base(engine, source()).latents
    known, near = directions(engine, [Source(text, None) for text in ("bends", "slowly")], latents)
    assert not known.guess and known.meaning == "the action 'bend'"
    centre = prior.latents[[prior.labels[label] == "bend" for label in prior.label]].mean(axis=0)
    assert float(known.vector @ centre / np.linalg.norm(centre)) == pytest.approx(1.0, abs=1e-5)
    assert near.meaning == "the action 'bend'" and near.guess == "is nearest to 'a person bends slowly' (0.62)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("angry", "an angry person"), ("tired", "a tired person"), ("an old", "an old person"), ("a", "an a person")],
)
def test_an_article_is_not_doubled(text: str, sentence: str) -> None:
    assert _person(text) == sentence


def test_an_axis_comes_back_as_it_was(engine: Engine, tmp_path: Path) -> None:
    direction = np.random.default_rng(0).normal(size=24).astype(np.float32)
    save_axis(tmp_path / "a.json", engine, "+ angry", direction, manner=True)
    name, loaded, manner = load_axis(tmp_path / "a.json", engine)
    assert manner
    assert name == "+ angry" and np.array_equal(loaded, direction)
    what = prepare(engine, to_base(engine, source()), [], tmp_path / "a.json")
    assert np.array_equal(what.vector, direction)


@pytest.mark.parametrize(
    ("key", "value", "error", "said"),
    [
        ("pack_sha256", "0" * 64, PackError, "belongs to the pack 'tiny'"),
        ("vector", [0.0] * 23, DataError, "24 finite numbers"),
        ("vector", [0.0] * 23 + ["x"], DataError, "24 finite numbers"),
        ("vector", [0.0] * 23 + [1e300], DataError, "24 finite numbers"),
        ("vector", [0.0] * 23 + [True], DataError, "24 finite numbers"),
        ("vector", {}, DataError, "24 finite numbers"),
        ("kind", "something", DataError, "is not an axis"),
        ("surprise", 1, DataError, "is not an axis"),
        ("format", 1, DataError, "this mclip reads 2"),
    ],
)
def test_a_wrong_axis_is_refused(
    engine: Engine, tmp_path: Path, key: str, value: object, error: type[Exception], said: str
) -> None:
    path = tmp_path / "a.json"
    save_axis(path, engine, "+ angry", np.ones(24, np.float32), manner=False)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    with pytest.raises(error, match=said):
        load_axis(path, engine)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"{" + b" " * 3_000_000])
def test_a_file_that_is_no_axis_is_refused(engine: Engine, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError):
        load_axis(tmp_path / "a.json", engine)


def test_far_strengths_are_told_and_near_ones_are_not(engine: Engine) -> None:
    base = to_base(engine, source())
    prior = engine.prior
    assert isinstance(prior, Bank)
    # To where a training motion is, and to where none can be.
    there = replace(prepare(engine, base, [Term(Source("bends", None), 1)], None), vector=prior.latents[0] * 50)
    nowhere = replace(there, vector=-prior.latents.mean(axis=0) * 50)
    assert not edit(engine, there, 1.0, ALL).outside
    similar = float((unit(-prior.latents.mean(axis=0)) @ prior.latents.T).max())
    assert edit(engine, nowhere, 1.0, ALL).outside == (similar < 0.6)


@pytest.mark.parametrize(
    ("sweep", "wanted"), [(None, [0.5]), ("-1:1:5", [-1, -0.5, 0, 0.5, 1]), ("0:2:2", [0, 2]), ("1:0:3", [1, 0.5, 0])]
)
def test_strengths_are_read(sweep: str | None, wanted: list[float]) -> None:
    assert list(read_strengths(0.5, sweep)) == wanted


@pytest.mark.parametrize(
    "sweep", ["", "1", "1:2", "0:1:1", "0:1:21", "0:1:x", "a:1:3", "0:1:3:4", "nan:1:3", "0:inf:3", "1:1:3"]
)
def test_a_sweep_that_is_none_is_told(sweep: str) -> None:
    with pytest.raises(UsageError):
        read_strengths(1.0, sweep)


def test_a_name_is_a_file_if_it_looks_like_one_else_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "angry").mkdir()
    (tmp_path / "old").write_text("a note")
    assert read_source("angry").motion is None
    assert read_source("old").motion is None
    assert read_source("walk. then run").motion is None
    assert read_source("x" * 5000).motion is None
    with pytest.raises(MotionError, match="no such file"):
        read_source("walk.npz")
    (tmp_path / "walk.txt").write_text("a note")
    with pytest.raises(MotionError, match="not a motion file"):
        read_source("walk.txt")


def test_motions_the_pack_cannot_read_are_told(engine: Engine) -> None:
    with pytest.raises(MotionError, match=r"nod.npz: the motion lasts 0.3"):
        to_base(engine, source(9))
    with pytest.raises(MotionError, match="more than 108000"):
        to_base(engine, source(108_001))
