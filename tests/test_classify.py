"""mclip classify: labels and how they are said, scores, timelines, and the command from the outside."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mclip.errors import DataError, MotionError
from mclip.formats import load, save
from mclip.pack import Pack
from mclip.runtime.babel import BABEL_60, BABEL_120
from mclip.runtime.classify import TEMPERATURE, UNKNOWN, Classifier, check_length, pool, temperature, window_scores
from mclip.runtime.engine import Engine
from mclip.runtime.labels import _SAID, locate_labels, prompts_of, read_labels
from tests.commands import Run, runner
from tests.fakes import swinging

GOLDEN = Path(__file__).parent / "golden"
TWO = "nods, bends"


@pytest.fixture(scope="module")
def engine(tiny_pack: Pack) -> Engine:
    return Engine(tiny_pack, "cpu")


@pytest.fixture
def mclip(tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in a folder with clips/ (one .npz, one .bvh, one broken), with the tiny pack."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    Path("clips/deep").mkdir(parents=True)
    swinging("head", 0, 1).save(Path("clips/nod.npz"))
    save(Path("clips/deep/bend.bvh"), swinging("spine1", 0, 2))
    Path("clips/torn.bvh").write_text("HIERARCHY")
    return runner(monkeypatch, capsys)


# Labels


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("walk", ["walk", "a person walks", "a person is walking"]),
        ("sit down", ["sit down", "a person sits down", "a person is sitting down"]),
        ("catch", ["catch", "a person catches", "a person is catching"]),
        ("carry a box", ["carry a box", "a person carries a box", "a person is carrying a box"]),
        ("lie", ["lie", "a person lies", "a person is lying"]),
        ("dance", ["dance", "a person dances", "a person is dancing"]),
        ("throw", ["throw", "a person throws", "a person is throwing"]),
        ("play", ["play", "a person plays", "a person is playing"]),
        ("lean", ["lean", "a person leans", "a person is leaning"]),
        ("waving", ["waving", "a person is waving"]),
        ("a tired person walks", ["a tired person walks"]),
        ("走る", None),
    ],
)
def test_a_label_is_said_as_people_say_it(label: str, said: list[str] | None) -> None:
    assert prompts_of(label) == said if said else label in prompts_of(label)


def test_the_written_wordings_are_of_labels_there_are() -> None:
    assert set(_SAID) <= set(BABEL_120)
    assert (len(BABEL_60), len(BABEL_120), BABEL_120[:60]) == (60, 120, BABEL_60)


def test_a_labels_vector_is_the_mean_of_its_sentences(engine: Engine) -> None:
    vectors = locate_labels(engine, ["bends", "a person nods"])
    one = engine.locate(prompts_of("bends")).mean(axis=0)
    np.testing.assert_allclose(vectors[0], one / np.linalg.norm(one), atol=1e-6)
    np.testing.assert_allclose(vectors[1], engine.locate(["a person nods"])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "\ufeffwalk\r\n\r\n  run fast \r\n"),
        ("labels.csv", 'walk\n"run fast"\n'),
        ("labels.csv", "id,Label\n1,walk\n2,run fast\n"),
        ("labels.json", '["walk", " run fast"]'),
    ],
)
def test_label_files_of_three_kinds(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_labels(str(tmp_path / name)) == ["walk", "run fast"]


def test_labels_from_a_list_and_by_name() -> None:
    assert read_labels(" walk,run fast") == ["walk", "run fast"]
    assert read_labels(None) == read_labels("BABEL-60") == list(BABEL_60)
    assert len(read_labels("babel-120")) == 120


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("one.txt", "walk\n", "one label"),
        ("none.txt", "\n\n", "no labels"),
        ("twice.txt", "walk\nrun\n\nWalk\n", "'Walk' stands twice, line 1 and line 4"),
        ("twice.csv", "label\nwalk\nwalk \n", "stands twice, line 2 and line 3"),
        ("twice.json", '["walk", "run", "run"]', "stands twice, item 2 and item 3"),
        ("empty.json", '["walk", ""]', "item 2 is empty"),
        ("table.csv", "a,b\nwalk,run\n", "no column 'label'"),
        ("short.csv", "id,label\n1,walk\n2\n", "line 3 is empty"),
        ("torn.csv", 'label\n"walk\n', "not CSV"),
        ("torn.json", '["walk"', "not readable JSON"),
        ("object.json", '{"walk": 1}', "not a list of texts"),
        ("numbers.json", "[1, 2]", "not a list of texts"),
        ("bytes.txt", b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_label_files_that_are_refused(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said) as raised:
        read_labels(str(tmp_path / name))
    assert raised.value.message.startswith(str(tmp_path / name))


# Scores


def test_scores_are_softmax_probabilities() -> None:
    latents = np.array([[3.0, 0.0], [0.0, 0.5]], np.float32)  # length is no matter
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    odds = np.exp(np.array([1.0, 0.0, -1.0]) / 0.5)
    expected = odds / odds.sum()
    np.testing.assert_allclose(window_scores(latents, vectors, 0.5)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(pool(window_scores(latents[:1], vectors, 0.5)), expected, rtol=1e-6)


def test_half_a_recording_that_does_nothing_does_not_outvote_the_other_half() -> None:
    idle, waves = np.array([0.4, 0.05, 0.55]), np.array([0.02, 0.96, 0.02])
    windows = np.stack([idle, idle, idle, waves, waves, waves])
    assert pool(windows).argmax() == 1
    assert pool(windows).sum() == pytest.approx(1.0)
    # One odd window in ten is none.
    assert pool(np.stack([*[idle] * 9, waves])).argmax() == 2


def test_the_temperature_is_that_of_training(engine: Engine) -> None:
    manifest = engine.manifest
    for loss, expected in (
        ({"contrast": 0.1, "temperature": 0.2}, 0.2),
        ({"contrast": 0.0, "temperature": 0.2}, TEMPERATURE),
        ({"contrast": 0.1, "temperature": "?"}, TEMPERATURE),
        ("?", TEMPERATURE),
    ):
        assert temperature(replace(manifest, recipe={"loss": loss})) == expected


def test_a_timeline_covers_the_motion_once_and_merges_equal_neighbours(engine: Engine) -> None:
    motion = swinging("head", 0, 1, frames=117)
    classifier = Classifier(engine, ["nods", "bends", "waves with the left hand"])
    answer = classifier.classify(motion)
    assert sum(score for _, score in answer.labels) == pytest.approx(1.0)
    assert [score for _, score in answer.labels] == sorted((score for _, score in answer.labels), reverse=True)
    parts = answer.timeline
    assert parts[0].start == 0.0
    assert parts[-1].end == pytest.approx(117 / 30)
    assert all(a.end == pytest.approx(b.start) and a.label != b.label for a, b in pairwise(parts))
    # The mean score of each part, frame by frame: the witness.
    (encoded,) = engine.encode_motions([motion], hop=5)
    scores = window_scores(encoded.latents, locate_labels(engine, classifier.labels), temperature(engine.manifest))
    frames = np.stack([scores[(encoded.start <= t) & (encoded.stop > t)].mean(axis=0) for t in range(117)])
    for part in parts:
        inside = frames[round(part.start * 30) : round(part.end * 30)]
        assert {classifier.labels[row] for row in inside.argmax(axis=1)} == {part.label}
        assert part.score == pytest.approx(inside[:, classifier.labels.index(part.label)].mean(), abs=1e-6)


def test_what_scores_below_the_threshold_is_unknown(engine: Engine) -> None:
    motion = swinging("head", 0, 1)
    (best, score), _ = Classifier(engine, ["nods", "bends"]).classify(motion).labels
    assert Classifier(engine, ["nods", "bends"], score - 1e-4).classify(motion).answer == best
    above = Classifier(engine, ["nods", "bends"], 0.9999).classify(motion)
    assert above.answer == UNKNOWN
    assert {part.label for part in above.timeline} == {UNKNOWN}
    assert above.labels[0][0] == best


def test_what_is_too_short_for_the_pack_is_refused(engine: Engine) -> None:
    with pytest.raises(MotionError, match=r"lasts 0.17 s, the pack tiny needs 0.33 s"):
        check_length(engine.manifest, swinging("head", 0, 1, frames=5))
    check_length(engine.manifest, swinging("head", 0, 1, frames=20).resample(15))


# The command


def test_json_is_as_designed(mclip: Run) -> None:
    done = mclip("classify", "clips", "--top", "5", "--json", "--labels", TWO)
    result = json.loads(done.out)
    assert (done.code, set(result)) == (0, {"clips", "skipped"})
    assert [set(clip) for clip in result["clips"]] == [{"path", "labels"}] * 2
    assert [Path(clip["path"]).as_posix() for clip in result["clips"]] == ["clips/deep/bend.bvh", "clips/nod.npz"]
    for clip in result["clips"]:
        assert {label["name"] for label in clip["labels"]} == {"nods", "bends"}
        assert sum(label["score"] for label in clip["labels"]) == pytest.approx(1.0, abs=1e-5)
    assert result["skipped"] == [{"path": str(Path("clips/torn.bvh")), "reason": "has no MOTION section"}]
    assert "skipped: has no MOTION section" in done.err


def test_plain_lines_csv_and_threshold(mclip: Run) -> None:
    lines = mclip("classify", "clips", "--labels", TWO).out.splitlines()
    assert [Path(line.split()[0]).name for line in lines] == ["bend.bvh", "nod.npz"]
    rows = list(csv.DictReader(io.StringIO(mclip("classify", "clips", "--top", "2", "--labels", TWO, "--csv").out)))
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2"]
    assert float(rows[0]["score"]) >= float(rows[1]["score"])
    done = mclip("classify", "clips/nod.npz", "--labels", TWO, "--threshold", "0.9999", "--json", "--timeline")
    (clip,) = json.loads(done.out)["clips"]
    assert clip["answer"] == "unknown"
    assert [(part["start"], part["label"]) for part in clip["timeline"]] == [(0.0, "unknown")]
    rows = list(csv.DictReader(io.StringIO(mclip("classify", "clips", "--labels", TWO, "--csv", "--timeline").out)))
    assert {row["label"] for row in rows} <= {"nods", "bends"}


def test_files_read_in_processes_give_the_same_answer(mclip: Run) -> None:
    shutil.copy("clips/nod.npz", "clips/again.npz")
    arguments = ("classify", "clips", "--labels", TWO, "--json")
    assert json.loads(mclip(*arguments, "--workers", "2").out) == json.loads(mclip(*arguments).out)


def test_skipped_files_are_an_error_only_when_strict(mclip: Run) -> None:
    assert mclip("classify", "clips", "--labels", TWO, "--strict").code == 4
    assert mclip("classify", "clips/nod.npz", "--labels", TWO, "--strict").code == 0


def test_animations_of_one_file_are_told_apart(mclip: Run) -> None:
    done = mclip("classify", str(GOLDEN / "kaykit" / "knight.glb"), "--labels", TWO, "--json")
    assert [clip["path"].rpartition("#")[2] for clip in json.loads(done.out)["clips"]] == ["Idle", "Sit_Chair_Down"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 4, "nowhere: no such file or folder"),
        (["empty"], 4, "holds no motion files"),
        (["clips/torn.bvh"], 4, "has no MOTION section"),
        (["labels.txt"], 4, "not a motion file"),
        (["short.npz"], 4, "needs 0.33 s"),
        (["clips", "--labels", "labels.txt"], 4, "one label"),
        (["clips", "--labels", "twice.csv"], 4, "twice.csv: 'Walk' stands twice, line 2 and line 4"),
        (["clips", "--labels", ""], 2, "--labels is empty"),
        (["clips", "--labels", "  "], 2, "--labels is empty"),
        (["clips", "--labels", "absent.txt"], 4, "absent.txt: cannot be read"),
        (["clips", "--labels", "walk,walk"], 2, "stands twice"),
        (["clips", "--labels", "walk,"], 2, "label 2 is empty"),
        (["clips", "--labels", "nods, " + "bends " * 30], 2, "30 tokens"),
        (["clips", "--threshold", "1.5"], 2, "not between 0 and 1"),
        (["clips", "--top", "0"], 2, "must be 1 or more"),
        (["clips", "--workers", "0"], 2, "must be 1 or more"),
        (["clips", "--json", "--csv"], 2, "exclude each other"),
        (["clips", "--pack", "nowhere"], 6, "no such pack"),
        ([], 2, "Missing argument"),
    ],
)
def test_mistakes_get_their_exit_code(mclip: Run, arguments: list[str], code: int, said: str) -> None:
    Path("empty").mkdir()
    Path("labels.txt").write_text("walk\n")
    Path("twice.csv").write_text("label\nwalk\nrun\nWalk \n")
    swinging("head", 0, 1, frames=4).save(Path("short.npz"))
    # The tiny pack reads texts of twelve tokens.
    labels = [] if "--labels" in arguments else ["--labels", TWO]
    done = mclip("classify", *arguments, *labels)
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert 1 <= len(done.err.splitlines()) <= 3


def test_the_shipped_pack_knows_walking_sitting_and_kicking() -> None:
    classifier = Classifier(Engine.open("mini", "cpu"), BABEL_60)
    for file, expected in (
        ("bvh/bandai_walk.bvh", ["walk"]),
        ("bvh/accad_male1_walk.bvh", ["walk"]),
        ("kaykit/Sit_Chair_Down.npz", ["sit"]),
        # BABEL-60 has both; whoever kicks does martial arts.
        ("kaykit/Unarmed_Melee_Attack_Kick.npz", ["martial art", "kick"]),
    ):
        answer = classifier.classify(load(GOLDEN / file))
        assert answer.answer == expected[0], file
        assert [label for label, _ in answer.labels[: len(expected)]] == expected, file
