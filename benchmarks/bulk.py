"""Many prompts to as many files, against a script of torch: python -m benchmarks.bulk [PROMPTS] [--run RUN]

PROMPTS (1,000) short sentences, each with a file. "torch" is one process that embeds all of them with MiniLM in
batches of 64, finds each one's motion in the pack's bank, decodes in batches of 64 and writes the files, one after
another; "mclip" is `mclip generate --file` within this process. The two take turns, a tenth of the prompts at a time,
and processor time is compared, the writing of files included. With RUN, the mini pack's own run directory, torch has
the pack's weights, and what both make must agree; else it has random ones, which take the same time.

Then memory: the peak of `mclip generate --file` in a process of its own, for PROMPTS / 10 and PROMPTS prompts. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mclip.formats import save
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import load_npz
from mclip.nn.model import MotionClip
from mclip.nn.teachers import Teacher, load_teacher
from mclip.recipe import load_recipe
from mclip.runtime import bulk
from mclip.runtime.engine import Engine
from mclip.runtime.representation import steady
from mclip.runtime.tasks import Prompt, to_motion
from mclip.skeleton.smpl import REST_JOINTS, forward_kinematics
from mclip.train.checkpoint import load_model

_BATCH = 64
_TURNS = 10
_WHO = ("a person", "someone", "an old man", "a tired woman", "a child")
_DOES = ("walks", "kicks", "jumps", "waves", "sits down", "dances", "turns around", "bends over", "runs", "crawls")
_HOW = ("slowly", "with the left hand", "happily", "and stops", "in a circle", "like a robot", "backwards", "twice")
# Metres; int8 weights move joints by millimetres.
_TOLERANCE = 0.05


def prompts(count: int) -> list[str]:
    """Sentences of different lengths."""
    chance = random.Random(0)
    return [
        f"{chance.choice(_WHO)} {chance.choice(_DOES)} {' '.join(chance.sample(_HOW, chance.randint(0, 3)))} {number}"
        for number in range(count)
    ]


def through_torch(engine: Engine, teacher: Teacher, model: MotionClip, texts: list[str], folder: Path) -> None:
    """What a script would do."""
    prior = engine.prior
    assert prior is not None
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        embeddings = teacher.embed(batch)
        found = [prior.vary(text, embedding, 1, 0)[0] for text, embedding in zip(batch, embeddings, strict=True)]
        frames = engine.manifest.frames
        lengths = np.array([max(frames.min, min(frames.default, match.frames)) for match in found])
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
        with torch.no_grad():
            features = model.decode(torch.from_numpy(np.stack([match.latent for match in found])), mask).numpy()
        for number, (row, length) in enumerate(zip(features, lengths.tolist(), strict=True), start):
            save(folder / f"{number}.npz", to_motion(steady(row[:length]), engine.manifest.fps, engine.kind))


def through_mclip(engine: Engine, texts: list[str], folder: Path) -> None:
    planned = [(Prompt(text), folder / f"{number}.npz") for number, text in enumerate(texts)]
    assert len(list(bulk.make(engine, planned, bulk.Settings(), save))) == len(texts)


def distance(one: Path, other: Path) -> float:
    """How far joints are apart in the mean, metres."""
    places = []
    for path in (one, other):
        motion = load_npz(path)
        places.append(forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl, REST_JOINTS)[1])
    return float(np.linalg.norm(places[0] - places[1], axis=-1).mean())


def peak_memory(count: int, folder: Path) -> float:
    """MB resident at most while the command makes `count` motions."""
    file = folder / f"{count}.txt"
    file.write_text("\n".join(prompts(count)))
    code = (
        "import sys; from mclip.cli import app\n"
        f"app(['generate', '--file', {str(file)!r}, '-o', {str(folder / f'{count}')!r}], standalone_mode=False)\n"
        # Linux's own count: getrusage's begins with what the parent had.
        "lines = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(int(lines['VmHWM'].split()[0]) / 1024, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stderr.splitlines()[-1])


def main(count: int, run: Path | None) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    engine = Engine.open("mini", "cpu")
    recipe = load_recipe(Path(__file__).parent.parent / "recipes" / "mini" / "recipe.toml")
    model = load_model(run)[0] if run else MotionClip(recipe.model).eval()
    teacher = load_teacher(recipe.text_space)
    texts = prompts(count)
    seconds = {"torch": [0.0, 0.0], "mclip": [0.0, 0.0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        through_mclip(engine, texts[:_TURNS], folder / "warm")
        through_torch(engine, teacher, model, texts[:_TURNS], folder / "warm")
        for turn in range(_TURNS):
            part = texts[turn::_TURNS]
            for side in seconds:
                started = time.perf_counter(), time.process_time()
                if side == "torch":
                    through_torch(engine, teacher, model, part, folder / side / str(turn))
                else:
                    through_mclip(engine, part, folder / side / str(turn))
                seconds[side][0] += time.perf_counter() - started[0]
                seconds[side][1] += time.process_time() - started[1]
        error = None
        if run:
            files = [path.relative_to(folder / "mclip") for path in (folder / "mclip").rglob("*.npz")]
            error = float(np.median([distance(folder / "mclip" / file, folder / "torch" / file) for file in files]))
            assert error < _TOLERANCE, f"joints are {error:.3f} m apart"
        memory = {str(n): round(peak_memory(n, folder), 1) for n in (max(1, count // 10), count)}
    for side, (wall, processor) in seconds.items():
        print(f"{side:6} {wall:8.2f} s  {processor:8.2f} s of processor time  {count / wall:8.1f} files/s")
    ratio = {"wall": seconds["torch"][0] / seconds["mclip"][0], "processor": seconds["torch"][1] / seconds["mclip"][1]}
    print(f"ratio {ratio['wall']:.2f} (processor time {ratio['processor']:.2f}), memory {memory} MB")
    print(json.dumps({"prompts": count, "seconds": seconds, "ratio": ratio, "peak_mb": memory, "error_m": error}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prompts", nargs="?", type=int, default=1000)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    main(arguments.prompts, arguments.run)
