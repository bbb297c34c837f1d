"""Motions, and stores of them, made for benchmarks: bodies that swing their joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mclip.data.preprocess import preprocess
from mclip.data.store import MotionStore, read_store
from mclip.motion import Motion

FRAMES, FPS = 120, 30.0


def write_motions(folder: Path, count: int, first: int = 0) -> None:
    """`count` files of four seconds each, the same for the same numbers, in folders of a hundred."""
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        at = np.arange(FRAMES)[:, None, None] / FPS
        swing = np.sin(2 * np.pi * (random.uniform(0.2, 2, (24, 3)) * at + random.random((24, 3))))
        pose = (random.uniform(0, 0.4, (24, 3)) * swing).astype(np.float32)
        pose[:, 0] += np.array([np.pi / 2, 0, 0], np.float32)
        transl = np.stack([at[:, 0, 0] * random.normal(), 0 * at[:, 0, 0], 1.2 + 0 * at[:, 0, 0]], axis=1)
        motion = Motion(pose=pose, transl=transl.astype(np.float32), fps=FPS)
        motion.save(folder / f"{number // 100:04}" / f"swing_{number % 20}_{number}.npz")


def make_store(folder: Path, count: int) -> MotionStore:
    """A store of `count` motions, memory-mapped."""
    write_motions(folder / "motions", count)
    preprocess(folder / "motions", folder / "store.h5", drawing=None, workers=1)
    return read_store(folder / "store.h5", mmap=True)
