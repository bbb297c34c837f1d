"""The compiled form of gathering windows against its definition in numpy, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.data import gathering
from mclip.data.dataset import WindowSampler
from mclip.data.gathering import gather, gather_numpy
from mclip.data.pieces import PieceSampler
from mclip.data.preprocess import preprocess
from mclip.data.store import MotionStore, read_store
from mclip.motion import Motion
from mclip.recipe import DataConfig
from mclip.runtime.representation import LEGACY, SMPL24, Representation

LENGTHS = (90, 1, 43)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three motions that turn, walk off and move every joint."""
    folder = tmp_path_factory.mktemp("gathering")
    for number, frames in enumerate(LENGTHS):
        random = np.random.default_rng(number)
        pose = np.cumsum(random.normal(0, 0.05, (frames, 24, 3)), axis=0) + random.normal(0, 0.5, (24, 3))
        transl = np.cumsum(random.normal(0, 0.02, (frames, 3)), axis=0)
        name = folder / "made" / f"turn left_{number}.npz"
        Motion(pose=pose.astype(np.float32), transl=transl.astype(np.float32), fps=30).save(name)
    preprocess(folder / "made", folder / "store.h5", drawing=None, workers=1, val=0, test=0)
    return folder / "store.h5"


def windows(store: MotionStore, speed: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends, anywhere in the motions, of as many windows as there are speeds."""
    random = np.random.default_rng(1)
    motion = random.integers(len(store), size=len(speed))
    length = np.diff(store.offsets)[motion]
    return store.offsets[motion] + (random.random(len(speed)) * length).astype(np.int64), store.offsets[motion + 1]


def same_bits(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Unlike ==, this tells 0 from -0."""
    return np.array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("mirrored", [0.0, 0.5])
@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("speeds", [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (0.85, 1.2)])
def test_compiled_windows_are_those_of_numpy(
    path: Path, mapped: bool, mirrored: float, length: int, speeds: tuple[float, float]
) -> None:
    store, random = read_store(path, mmap=mapped), np.random.default_rng(2)
    speed = random.uniform(*speeds, 64)
    speed[:8] = 1.0
    mirror = random.random(64) < mirrored
    found, mask = gather(store, *windows(store, speed), length, speed, SMPL24, mirror)
    expected, expected_mask = gather_numpy(store, *windows(store, speed), length, speed, SMPL24, mirror)
    assert same_bits(found, expected)
    assert np.array_equal(mask, expected_mask)
    assert length == 1 or 0 < mask.mean() < 1


@pytest.mark.parametrize("kind", [SMPL24, LEGACY])
def test_without_numba_windows_are_the_same(path: Path, kind: Representation, monkeypatch: pytest.MonkeyPatch) -> None:
    store, speed = read_store(path), np.full(16, 1.1)
    mirror = np.arange(16) % 2 == 0
    found, _ = gather(store, *windows(store, speed), 30, speed, kind, mirror)
    monkeypatch.setattr(gathering, "_kernel", lambda: None)
    assert same_bits(gather(store, *windows(store, speed), 30, speed, kind, mirror)[0], found)
    assert found.any()


def test_a_batch_is_drawn_as_if_row_by_row(path: Path) -> None:
    store = read_store(path)
    config = DataConfig(store=str(path), window=20, min_window=1, mirror=0.0)
    sampler = WindowSampler(store, config, np.eye(len(store.texts), dtype=np.float32), seed=5)
    batch = sampler.batch(3, 32, 0)
    random = np.random.default_rng([5, 3])
    labels = random.choice([span.label for span in sampler.spans[:1]], 32, p=[1.0])
    spans = [sampler.spans[random.choice(len(sampler.spans))] for _ in labels]
    slack = np.maximum([span.stop - span.start - 20 for span in spans], 0)
    starts = [
        span.start + int(part * (room + 1)) for span, room, part in zip(spans, slack, random.random(32), strict=True)
    ]
    one_by_one = [
        gather(store, np.array([start]), np.array([span.stop]), 20, np.ones(1), SMPL24)[0][0]
        for start, span in zip(starts, spans, strict=True)
    ]
    assert same_bits(batch.features, np.stack(one_by_one))


def test_pieces_are_drawn_as_if_row_by_row(path: Path) -> None:
    store = read_store(path)
    config = DataConfig(store=str(path), piece=30, window=20, min_window=20, mirror=0.0)
    sampler = PieceSampler(store, config, seed=5)
    batch = sampler.batch(0, 24)
    pieces = [0, 30, 60, int(store.offsets[2])]
    order = np.concatenate([np.random.default_rng([5, epoch, 1]).permutation(4) for epoch in range(6)])
    random = np.random.default_rng([5, 0])
    starts = np.array([pieces[piece] + random.choice(10) for piece in order])
    expected, _ = gather(store, starts, starts + 20, 20, np.ones(24), SMPL24)
    assert len(sampler) == 4
    assert same_bits(batch.features, expected)
