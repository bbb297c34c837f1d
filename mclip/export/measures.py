"""What reduced weights cost on recorded motion, and what they gain on this processor."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from mclip.data.gathering import gather
from mclip.data.pieces import pieces
from mclip.data.store import MotionStore
from mclip.export.graphs import Exportable, to_onnx
from mclip.export.precision import to_fp16, to_int8
from mclip.nn.model import MotionClip
from mclip.pack import JointError
from mclip.recipe import DataConfig
from mclip.runtime.engine import CHUNK, Engine
from mclip.runtime.representation import representation
from mclip.runtime.session import Session
from mclip.skeleton.smpl import forward_kinematics

# Windows that recorded motion is measured on, spread over all there are.
MAX_WINDOWS = 256
_BATCH = 64
# The first split that has windows; what the model was trained on comes last.
_HELD_OUT = ("test", "val", "train")
# Medians of so many runs differ by a tenth and less on a busy machine.
_ROUNDS = 15


def joint_error(model: MotionClip, engine: Engine, store: MotionStore, data: DataConfig) -> JointError | None:
    """How far joints that a pack makes of recorded windows are from those the torch model makes, in fp32.

    Windows are encoded and decoded, by either alone, and the places of the 24 joints in the world compared. None for a
    store without a window that is long enough.
    """
    kind = representation(data.representation)
    for split in _HELD_OUT:
        bounds = _windows(store, split, data)
        if len(bounds):
            break
    else:
        return None
    apart: list[NDArray[np.float64]] = []
    for at in range(0, len(bounds), _BATCH):
        start, stop = bounds[at : at + _BATCH].T
        features, mask = gather(store, start, stop, data.window, np.ones(len(start)), kind)
        valid = torch.from_numpy(mask)
        with torch.inference_mode():
            exact = model.decode(model.encode(torch.from_numpy(features), valid), valid).numpy()
        made = engine.decode(engine.encode_motion(features, mask), mask)
        joints = [forward_kinematics(*kind.decode(each.astype(np.float64)))[1] for each in (made, exact)]
        apart.append(np.linalg.norm(joints[0] - joints[1], axis=-1)[mask])  # (frames, 24) metres
    distance = 1000 * np.concatenate(apart)
    mean, largest = round(float(distance.mean()), 4), round(float(distance.max()), 4)
    return JointError(mean_mm=mean, max_mm=largest, split=split, windows=len(bounds))


def _windows(store: MotionStore, split: str, data: DataConfig) -> NDArray[np.int64]:
    """First frames of windows of a split, and those after the last, in the store (n, 2)."""
    found = [
        window
        for motion in range(len(store))
        if store.split[motion] == split and store.source[motion] not in data.exclude
        for window in pieces(int(store.offsets[motion]), int(store.offsets[motion + 1]), data.window, data.min_window)
    ]
    rows = np.unique(np.linspace(0, len(found) - 1, min(MAX_WINDOWS, len(found))).round().astype(np.int64))
    return np.array(found, np.int64).reshape(-1, 2)[rows]


def int8_gain(decoder: Exportable, frames: int) -> float:
    """How many times as fast the motion decoder runs here with int8 products as with weights stored in fp16.

    In the batches that the engine runs, of so many frames; medians of runs that take turns.
    """
    graph, random = to_onnx(decoder), np.random.default_rng(0)
    inputs = decoder.draw(CHUNK, frames, random)[0], np.ones((CHUNK, frames), np.bool_)
    sessions = [Session(reduce(graph).SerializeToString(), decoder.file, "cpu") for reduce in (to_fp16, to_int8)]
    seconds = np.empty((_ROUNDS + 1, len(sessions)))
    for turn in range(_ROUNDS + 1):
        for side, session in enumerate(sessions):
            started = time.perf_counter()
            session.run(*inputs)
            seconds[turn, side] = time.perf_counter() - started
    fp16, int8 = np.median(seconds[1:], axis=0)  # the first run of each is slower
    return float(fp16 / int8)
