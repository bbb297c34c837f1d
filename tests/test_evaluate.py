"""The metrics, on packs whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.data.store import MotionStore
from mclip.errors import DataError, UsageError
from mclip.evaluate import TOTAL, evaluate
from mclip.pack import Pack
from mclip.runtime.engine import Engine
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
