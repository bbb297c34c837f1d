"""Pictures a second, pose in and frame out, ours against a plain pyrender loop: python -m benchmarks.render [--quick]

Both sides take the poses of one motion that the mini pack makes and give 224 x 224 pictures, 4 samples a pixel, each
with a camera fitted to its frame. The loop is what one writes first: skin, fit, build a scene, draw. Before they are
timed the silhouettes have to agree. Everything runs on one core (OMP_NUM_THREADS=1 for the GL library's sake). On a
busy machine the ratio of processor times says more. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa draws in the calling thread

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import machine, milliseconds
from mclip.body.model import Body, load_body
from mclip.body.skinning import pose_vertices
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.render.camera import portrait
from mclip.render.frames import clip_frames, render_layers
from mclip.runtime.engine import Engine
from mclip.runtime.tasks import Prompt, generate
from mclip.skeleton.smpl import forward_kinematics

SIZE = 224
# Least intersection over union of the two sides' silhouettes.
AGREE = 0.98


def plain_loop(body: Body, motion: Motion, frames: Sequence[int]) -> NDArray[np.uint8]:
    """Pictures (N, SIZE, SIZE, 4) by pyrender, frame by frame, nothing kept from one to the next but the GL context."""
    pictures = []
    for frame in frames:
        part = motion.slice(frame, frame + 1)
        vertices = pose_vertices(body, part)
        _, joints = forward_kinematics(axis_angle_to_matrix(part.pose), part.transl)
        camera = portrait(vertices[0], joints[0])
        pictures.append(render_layers(vertices, body.faces, [camera], size=SIZE, backend="pyrender")[0])
    return np.stack(pictures)


def overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((first & second).sum() / (first | second).sum())


def main(frames: int, rounds: int) -> None:
    engine = Engine.open("mini", "cpu")
    motion = next(generate(engine, [Prompt("a person kicks")])).motion
    body, chosen = load_body(), [number % len(motion) for number in range(frames)]
    ours = (clip_frames(body, motion, chosen) != 255).any(axis=-1)
    theirs = plain_loop(body, motion, chosen)[..., 3] > 0
    agreement = min(overlap(a, b) for a, b in zip(ours, theirs, strict=True))
    assert agreement >= AGREE, agreement
    sides = {
        "mclip": lambda: clip_frames(body, motion, chosen),
        "pyrender": lambda: plain_loop(body, motion, chosen),
    }
    times = milliseconds(sides, rounds)
    rate = {name: [round(1000.0 * frames / value, 1) for value in pair] for name, pair in times.items()}
    ratio = [round(rate["mclip"][i] / rate["pyrender"][i], 2) for i in range(2)]
    for name, (wall, processor) in rate.items():
        print(f"{name:10} {wall:9.1f} frames a second, {processor:9.1f} a second of processor time")
    print(json.dumps({"frames_per_s": rate, "ratio": ratio, "silhouette_iou": round(agreement, 5)} | machine()))


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    main(20 if quick else 120, 1 if quick else 7)
