"""What it costs to hash a whole pack before its first result: python -m benchmarks.trust [--pack PACK] [--quick]

Both sides open the pack and make one motion of a text, as `mclip generate` does. `whole` hashes all files, as mclip
does; `used` those that this needs, and no others. They take turns, and have to make the same motion. The last line is
one JSON object: medians of [time, processor time] in ms, and the ratio of processor times.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import machine, milliseconds
from mclip.runtime.engine import Engine
from mclip.runtime.tasks import Prompt, generate


def make(pack: str, whole: bool) -> NDArray[np.float32]:
    """The pose of a motion from a pack that is opened for it; whole: as mclip does it."""
    engine = Engine.open(pack, "cpu", quick=True)
    engine._verified = not whole
    return next(generate(engine, [Prompt("couch")])).motion.pose


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    np.testing.assert_array_equal(make(given.pack, True), make(given.pack, False))
    sides = {"used": lambda: make(given.pack, False), "whole": lambda: make(given.pack, True)}
    found = milliseconds(sides, 3 if given.quick else 25)
    for name, (wall, processor) in found.items():
        print(f"{name:6} {wall:8.1f} ms  {processor:8.1f} ms of processor time")
    ratio = round(found["whole"][1] / found["used"][1], 3)
    ms = {name: [round(value, 1) for value in values] for name, values in found.items()}
    print(json.dumps({"ms": ms, "ratio": ratio} | machine()))


if __name__ == "__main__":
    main()
