"""What the benchmarks share: timing two sides in turns, and saying where it was."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "numba", "pyrender")


def milliseconds(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """The median time and processor time of each side, after one round that is not counted; sides take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            start = time.perf_counter(), time.process_time()
            run()
            if turn:
                times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    medians = {name: 1000.0 * np.median(each, axis=0) for name, each in times.items()}
    return {name: (float(wall), float(processor)) for name, (wall, processor) in medians.items()}


def machine() -> dict[str, str]:
    """The processor, Python and the packages that matter here."""
    return {"processor": _processor(), "python": platform.python_version()} | {
        name: found for name in _PACKAGES if (found := _version(name))
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
