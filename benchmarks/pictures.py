"""How long the page, the .glb and the .webp of a motion of 120 frames take, written to disk.

    python benchmarks/pictures.py [--quick]

The film is drawn on threads: the same pictures drawn one after another are the other side of the ratio. What is
compiled and read once in a process (numba's code from its cache, the body) is not counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

import mclip
from mclip.body.model import load_body
from mclip.motion import Motion
from mclip.view import stage
from mclip.view.film import film
from mclip.view.preview import write_preview

FRAMES = 120


def walk() -> Motion:
    """Somebody who swings arms and legs and moves ahead two metres."""
    time_s = np.arange(FRAMES, dtype=np.float32) / 30
    pose = np.zeros((FRAMES, 24, 3), np.float32)
    pose[:, 0, 0] = np.pi / 2
    for joint, axis, swing in ((1, 0, 0.5), (2, 0, -0.5), (16, 2, -0.4), (17, 2, -0.4), (4, 0, 0.3), (5, 0, 0.3)):
        pose[:, joint, axis] = swing * np.sin(2 * np.pi * time_s)
    transl = np.stack([0 * time_s, -0.5 * time_s, 0 * time_s + 1.2], axis=1).astype(np.float32)
    return Motion(pose=pose, transl=transl, fps=30.0, origin={"prompt": "a person walks"})


def main(rounds: int) -> None:
    motion, body = walk(), load_body()
    captioned = [("a person walks", motion)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs: dict[str, Callable[[], object]] = {
            "html": lambda: mclip.show(motion).save(folder / "walk.html"),
            "glb": lambda: mclip.save(folder / "walk.glb", motion),
            "webp": lambda: write_preview(folder / "walk.webp", captioned, body),
            "film": lambda: list(film(captioned, body).pictures),
            "film, one thread": lambda: one_by_one(captioned),
        }
        same = zip(film(captioned, body).pictures, one_by_one(captioned), strict=True)
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in same)
        times: dict[str, list[float]] = {key: [] for key in jobs}
        work: dict[str, list[float]] = {key: [] for key in jobs}
        for turn in range(rounds + 1):
            for key, job in jobs.items():
                start, busy = time.perf_counter(), time.process_time()
                job()
                if turn:  # the first is not counted
                    times[key].append(time.perf_counter() - start)
                    work[key].append(time.process_time() - busy)
        with Image.open(folder / "walk.webp") as written:
            assert getattr(written, "n_frames", 0) == FRAMES
        assert mclip.load(folder / "walk.glb").pose.shape == (FRAMES, 24, 3)
        bytes_of = {path.suffix[1:]: path.stat().st_size for path in folder.iterdir()}
    seconds = {key: round(float(np.median(values)), 3) for key, values in times.items()}
    cpu = {key: round(float(np.median(values)), 3) for key, values in work.items()}
    total = sum(seconds[key] for key in ("html", "glb", "webp"))
    for key, value in seconds.items():
        print(f"{key:18} {value:8.3f} s, {cpu[key]:6.3f} s of processors")
    ratio = seconds["film, one thread"] / seconds["film"]
    print(f"page, glb and webp {total:8.3f} s; threads draw {ratio:.2f} times as fast")
    figures = {"seconds": seconds, "cpu": cpu, "total": round(total, 3), "threads": round(ratio, 2), "bytes": bytes_of}
    print(json.dumps({"frames": FRAMES, **figures}))


def one_by_one(captioned: list[tuple[str, Motion]]) -> list[Image.Image]:
    """The film's pictures, drawn on a single thread."""
    with mock.patch.object(stage, "_THREADS", 1):
        return list(film(captioned, load_body()).pictures)


if __name__ == "__main__":
    main(1 if "--quick" in sys.argv else 9)
