"""The metrics, on packs whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.data.dataset import spans_of
from mclip.data.store import MotionStore
from mclip.errors import DataError, PackError, UsageError
from mclip.evaluate import TOTAL, evaluate
from mclip.evaluate.generation import movement, quality
from mclip.evaluate.protocol import Estimate
from mclip.evaluate.recognition import Named
from mclip.evaluate.reconstruction import positions
from mclip.pack import Pack
from mclip.runtime.engine import Engine
from mclip.runtime.representation import LEGACY, Representation, steady
from tests.commands import Run, runner
from tests.fakes import ACTIONS


class Perfect(Engine):
    """Decodes what it encoded, moved by `offset` metres, and encodes every motion as its label's text."""

    offset = (0.0, 0.0, 0.0)
    shift = 0

    def encode_motion(self, features: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        self.features = features
        texts = self.encode_text([caption for captions, _, _ in ACTIONS.values() for caption in captions])
        means = texts.reshape(len(ACTIONS), 2, -1).mean(axis=1)
        # The joint that moves most tells the action.
        joints = [15, 16, 3]
        moved = [np.argmax([row[keep][:, joint].std(axis=0).sum() for joint in joints]) for row, keep in
                 zip(features, mask, strict=True)]  # fmt: skip
        return np.asarray(means[(np.array(moved) + self.shift) % len(ACTIONS)])

    def decode(self, latents: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        made = self.features[: len(latents), : mask.shape[1]].copy()
        made[..., 24, :3] += np.array(self.offset, np.float32)
        return made


def test_a_perfect_model_has_no_error_and_knows_every_motion(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    result = evaluate(Perfect(tiny_pack, "cpu"), tiny_store)
    assert list(result.scores) == ["made", TOTAL]
    total = result.scores[TOTAL]
    # Three test motions of 50 frames: windows of 20, 20 and 10.
    assert (total.spans, total.windows) == (3, 9)
    assert max(total.mpjpe_root, total.mpjpe_absolute) < 1e-4
    assert (total.top1, total.top5) == (1.0, 1.0)
    assert "split test" in result.protocol and "3 labels" in result.protocol


def test_a_displaced_body_counts_in_the_absolute_error_alone(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    engine = Perfect(tiny_pack, "cpu")
    engine.offset = (0.03, 0.0, 0.04)
    total = evaluate(engine, tiny_store).scores[TOTAL]
    assert total.mpjpe_absolute == pytest.approx(50.0, abs=1e-2)
    assert total.mpjpe_root == pytest.approx(0.0, abs=1e-2)


def test_a_model_that_mistakes_everything_scores_nothing_at_rank_one(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    engine = Perfect(tiny_pack, "cpu")
    engine.shift = 1
    total = evaluate(engine, tiny_store).scores[TOTAL]
    assert (total.top1, total.top5) == (0.0, 1.0)


def test_a_real_pack_is_measured(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    total = evaluate(Engine(tiny_pack, "cpu"), tiny_store).scores[TOTAL]
    assert 0 < total.mpjpe_root < total.mpjpe_absolute < 10_000
    assert 0 <= total.top1 <= total.top5 <= 1
    assert total.top1 <= total.action <= 1


def test_what_cannot_be_measured_says_why(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    engine = Engine(tiny_pack, "cpu")
    with pytest.raises(UsageError, match="no split 'tset'"):
        evaluate(engine, tiny_store, "tset")
    with pytest.raises(DataError, match="split 'val'"):
        evaluate(engine, tiny_store, "val")
    with pytest.raises(DataError, match="60 frames per second, the pack 30"):
        evaluate(engine, replace(tiny_store, fps=60.0))
    with pytest.raises(DataError, match="no window of 20 frames with one of the 2 classes"):
        evaluate(engine, tiny_store, classes=("dance", "sleep"))


def test_captions_of_any_length_are_read_as_training_reads_them(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    engine = Engine(tiny_pack, "cpu")
    limit = engine.manifest.max_tokens
    assert limit is not None
    cut, *rest = (f"{text}{' nods' * limit}" for text in tiny_store.texts)
    longer = replace(tiny_store, texts=(f"{cut} and more", *rest))
    result, same = evaluate(engine, longer), evaluate(engine, replace(tiny_store, texts=(cut, *rest)))
    assert (result.scores, result.retrieval) == (same.scores, same.retrieval)


def test_a_caption_that_says_nothing_is_named_with_its_store(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    empty = replace(tiny_store, texts=(" ", *tiny_store.texts[1:]))
    with pytest.raises(DataError, match=r"\.h5: the text '' is empty"):
        evaluate(Engine(tiny_pack, "cpu"), empty)


class Legacy(Perfect):
    """Decodes what it encoded, in the original's representation."""

    @property
    def kind(self) -> Representation:
        return LEGACY


def test_the_originals_representation_is_measured_as_well(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    engine = Legacy(tiny_pack, "cpu")
    result, ours = evaluate(engine, tiny_store), evaluate(Perfect(tiny_pack, "cpu"), tiny_store)
    total = result.scores[TOTAL]
    assert max(total.mpjpe_root, total.mpjpe_absolute, total.vertex_absolute, total.velocity) < 1e-3
    assert total.top1 == 1.0
    # What is recorded is measured in the world, whatever the pack can say of it.
    assert result.generation.real == ours.generation.real
    assert "stays in place" in result.protocol and "stays in place" not in ours.protocol


def test_a_pack_without_text_says_what_is_missing(
    tiny_pack: Pack, tiny_store: MotionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Engine, texts: object, *, truncate: bool) -> list[list[int]]:
        raise PackError("this pack has no text encoder")

    monkeypatch.setattr(Engine, "tokenize", refuse)
    with pytest.raises(PackError, match="no text encoder"):
        evaluate(Engine(tiny_pack, "cpu"), tiny_store)


def test_a_perfect_model_retrieves_and_names_everything(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    classes = ("a person nods", "waves with the left hand", "bends")  # in the words of the captions
    named = [
        Named(span.start, span.stop, classes[list(ACTIONS).index(tiny_store.labels[span.label])])
        for span in spans_of(tiny_store, "test")
    ]
    result = evaluate(Perfect(tiny_pack, "cpu"), tiny_store, seeds=(3, 4), classes=classes, named=named)
    assert set(result.retrieval) == {"all", "distinct"}  # three spans make no batch of 32
    for ways in result.retrieval.values():
        for found in ways.values():
            assert found["r1"] == Estimate(1.0, 0.0, (1.0, 1.0))
            assert found["median_rank"].mean == 1.0
    assert result.recognition is not None
    assert result.recognition["windows"].values == (3.0, 3.0)
    assert result.recognition["any_top1"].mean == result.recognition["balanced_top1"].mean == 1.0
    assert result.classes == classes and result.seeds == (3, 4)
    assert "seeds 3, 4, mean and 95 % interval" in result.protocol
    assert "classes: 3 bare names" in result.protocol


def test_what_does_not_depend_on_chance_is_the_same_for_every_seed(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    engine = Engine(tiny_pack, "cpu")
    one, two = (evaluate(engine, tiny_store, seeds=seeds, classes=tuple(ACTIONS)) for seeds in ((1,), (1, 2)))
    assert (one.scores, one.generation.real, one.data_sha256) == (two.scores, two.generation.real, two.data_sha256)
    # And the first seed draws the same, whatever comes after it.
    firsts = [
        {name: found.values[0] for name, found in group.items()}
        for result in (one, two)
        for group in (
            result.recognition or {},
            result.generation.generated,
            *(found for ways in result.retrieval.values() for found in ways.values()),
        )
    ]
    assert firsts[: len(firsts) // 2] == firsts[len(firsts) // 2 :]


class Parrot(Perfect):
    """Decodes the first window of the split from any text."""

    def decode(self, latents: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        return np.repeat(self.features[:1], len(latents), axis=0)


def test_generated_motions_are_measured_as_recorded_ones_are(tiny_pack: Pack, tiny_store: MotionStore) -> None:
    engine = Parrot(tiny_pack, "cpu")
    result = evaluate(engine, tiny_store, seeds=(0, 1))
    expected = asdict(quality([movement(positions(steady(engine.features[0])), 30.0)] * 3))
    assert set(result.generation.generated) == set(expected)
    for name, found in result.generation.generated.items():
        assert found.values == pytest.approx((expected[name],) * 2, rel=1e-2, abs=1e-3), name
    energy = result.generation.energy
    assert set(energy) == set(tiny_store.labels)
    ratios = [each.generated / each.real for each in energy.values()]
    assert result.generation.energy_ratio["median"].mean == pytest.approx(float(np.median(ratios)))


@pytest.fixture
def folder(tiny_pack: Pack, tiny_store: MotionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links to the store and the pack in it."""
    (tmp_path / "store.h5").symlink_to(tiny_store.file)
    (tmp_path / "pack").symlink_to(tiny_pack.path)
    (tmp_path / "actions.txt").write_text("\n".join(ACTIONS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mclip(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a JSON value."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, (int, float)):
        yield value


def test_the_command_prints_and_keeps_the_same_result(mclip: Run, tiny_pack: Pack, tiny_store: MotionStore) -> None:
    line = ("evaluate", "pack", "--data", "store.h5", "--seeds", "2", "--labels", "actions.txt", "-o", "result.json")
    done = mclip(*line, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert json.loads(Path("result.json").read_text(encoding="utf-8")) == report
    assert report["command"] == "evaluate"
    assert (report["pack"], report["sha256"]) == ("tiny", Engine(tiny_pack).pack.digest)
    assert (report["split"], report["seeds"], report["classes"]) == ("test", [0, 1], list(ACTIONS))
    assert report["data_sha256"] in report["protocol"]
    again = evaluate(Engine(tiny_pack, "cpu"), tiny_store, seeds=(0, 1), classes=tuple(ACTIONS))
    assert json.loads(json.dumps(asdict(again))).items() <= report.items()
    assert all(np.isfinite(number) for number in numbers(report))
    # A result of ours may be replaced; as a table it says the same.
    table = mclip(*line)
    assert table.code == 0, table.err
    total = report["scores"]["total"]
    assert f"{total['vertex_root']:.1f} mm root" in table.out
    assert "text to motion" in table.out and "skating m/s" in table.out and "balanced" in table.out
    assert report["protocol"] in table.out and report["sha256"] in table.out


def test_babels_classes_are_recognised_by_name(mclip: Run) -> None:
    done = mclip("evaluate", "pack", "--data", "store.h5", "--labels", "babel-60", "--split", "test", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert len(report["classes"]) == 60
    # Of the store's labels "bend" alone is one of them.
    assert report["recognition"]["windows"]["mean"] == report["recognition"]["classes"]["mean"] == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--seeds", "0"], 2, "between 1 and 100"),
        (["--seeds", "101"], 2, "between 1 and 100"),
        (["-o", "result.txt"], 2, "written as .json"),
        (["-o", "mine.json"], 2, "--force"),
        (["-o", "folder.json"], 2, "is a folder"),
        (["-o", "mine.json/x.json", "--force"], 2, "cannot write there"),
        (["--labels", "absent.txt"], 4, "babel-60, babel-120"),
        (["--labels", "mine.json"], 2, "nothing to choose from"),
        (["--labels", "babel-60"], 4, "split 'val'"),
        (["--labels", "dances.txt"], 4, "one of the 2 classes"),
    ],
)
def test_wrong_options_are_explained(mclip: Run, folder: Path, options: list[str], code: int, said: str) -> None:
    (folder / "mine.json").write_text("[]")
    (folder / "dances.txt").write_text("waltz\ntango\n")
    (folder / "folder.json").mkdir()
    before = sorted(folder.iterdir())
    done = mclip("evaluate", "pack", "--data", "store.h5", *options)
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err and len(done.err.splitlines()) <= 3
    assert sorted(folder.iterdir()) == before
    assert (folder / "mine.json").read_text() == "[]"


def test_the_shipped_pack_is_measured(tiny_store: MotionStore) -> None:
    result = evaluate(Engine.open("mini", "cpu"), tiny_store)
    total = result.scores[TOTAL]
    assert total.spans == 3
    assert 0 < total.mpjpe_root <= total.mpjpe_absolute * 1.5 < 3000
    assert 0 < total.vertex_root < 1000 and 0 < total.rotation < 90
    generation = result.generation
    assert generation.generated["motions"].mean == 3
    assert 0 < generation.generated["speed"].mean < 3
    # The "recordings" stand, and shake by white noise.
    assert generation.real.contact_ratio > 0.9
    assert generation.real.jitter > 2 * generation.generated["jitter"].mean
