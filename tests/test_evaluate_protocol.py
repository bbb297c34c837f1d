"""Intervals against tables, and what a hash of the data depends on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mclip.data.dataset import Span
from mclip.data.store import MotionStore, read_store, write_embeddings
from mclip.errors import UsageError
from mclip.evaluate.protocol import MAX_SEEDS, Estimate, cut, data_sha256, estimate, over_seeds, seed_range
from mclip.runtime.prior import unit


@pytest.mark.parametrize(("count", "t"), [(2, 12.7062), (3, 4.3027), (5, 2.7764), (10, 2.2622), (31, 2.0423)])
def test_the_interval_is_students(count: int, t: float) -> None:
    """t for 97.5 % as statistical tables print it."""
    values = np.random.default_rng(count).normal(5, 2, count)
    found = estimate(values.tolist())
    assert found.mean == pytest.approx(values.mean())
    assert found.half_width == pytest.approx(t * values.std(ddof=1) / np.sqrt(count), rel=1e-4)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        found = estimate(random.normal(0, 1, 4).tolist())
        assert found.half_width is not None
        held += abs(found.mean) <= found.half_width
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert estimate([0.25]) == Estimate(0.25, None, (0.25,))
    assert estimate([0.25]).format() == "0.250"
    assert estimate([1.0, 2.0]).format(1) == "1.5 ±6.4"
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_figures_are_summed_up_by_name() -> None:
    found = over_seeds([{"a": 1.0, "b": 0.0}, {"a": 3.0, "b": 0.0}])
    assert found["a"].mean == 2.0 and found["a"].values == (1.0, 3.0)
    assert found["b"] == Estimate(0.0, 0.0, (0.0, 0.0))


def test_seeds_are_counted_from_zero() -> None:
    assert seed_range(3) == (0, 1, 2)
    for wrong in (0, -1, MAX_SEEDS + 1):
        with pytest.raises(UsageError, match="--seeds"):
            seed_range(wrong)


def test_windows_follow_one_another_and_short_rests_are_left_out() -> None:
    none = np.array([], np.int32)
    spans = [Span(100, 150, 0, none, none), Span(7, 12, 0, none, none), Span(0, 29, 0, none, none)]
    bounds, owner = cut(spans, 20, 10)
    assert bounds.tolist() == [[100, 120], [120, 140], [140, 150], [0, 20]]
    assert owner.tolist() == [0, 0, 0, 2]


def test_vectors_get_length_one() -> None:
    np.testing.assert_allclose(unit(np.array([[3.0, 4.0]], np.float32)), [[0.6, 0.8]])
    assert not unit(np.zeros((1, 2), np.float32)).any()


def test_the_datas_hash_is_about_motions_and_captions_not_about_the_file(
    tiny_store: MotionStore, tmp_path: Path
) -> None:
    plain = data_sha256(tiny_store)
    copy = Path(shutil.copy(tiny_store.file, tmp_path / "copy.h5"))
    embeddings = np.zeros((len(tiny_store.texts), 4), np.float32)
    embeddings[:, 0] = 1
    write_embeddings(copy, "some-space", embeddings)
    assert copy.read_bytes() != tiny_store.file.read_bytes()
    assert data_sha256(read_store(copy)) == data_sha256(read_store(copy, mmap=True)) == plain

    moved = tiny_store.transl.copy()
    moved[17, 1] += 1e-3
    captions = replace(tiny_store.captions, label=tiny_store.captions.label[::-1].copy())
    for other in (
        replace(tiny_store, transl=moved),
        replace(tiny_store, captions=captions),
        replace(tiny_store, split=("val", *tiny_store.split[1:])),
        replace(tiny_store, texts=(*tiny_store.texts[:-1], "another")),
    ):
        assert data_sha256(other) != plain
