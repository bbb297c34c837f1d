"""What a pack is good at, measured on held-out recordings: python -m benchmarks.quality STORE [PACK] [--pairs FILE]

Run from the repository root; STORE is what `mclip preprocess` made (recipes/mini/README.md), PACK a pack's name or
folder, the mini pack if left out, FILE the last line that benchmarks/unseen_pairs.py printed. The pack is one training;
three seeds are those of the judges and of what is drawn: captions. Figures are means over all seeds and all recordings,
prompts or classes, with 95 % intervals from a bootstrap over both (benchmarks/bootstrap.py). Targets and the figures of
the feasibility study stand beside them. A table in Markdown, then one JSON object.

The judge (benchmarks/judge.py) is trained on the training split's recordings, once for each seed, and kept in ~/.cache;
its own accuracy on held-out recordings stands first and bounds what follows. It names actions and styles of all that
the store has, also where a row is about fewer; "among the classes" means among the actions of Bandai-Namco's two sets.

By names: as `mclip classify` does, the labels' names being all that is known of them. By captions: cosine with the mean
embedding of each label's captions, as in `mclip evaluate`.

paraphrases-blind.csv and styles-blind.csv were written on 22 November 2026, before any result for them was seen, by
somebody who had read captions.toml; none was taken out for failing. Eight prompts for each class and three wordings for
each style; none is, or is part of, a caption. "|" stands between styles that the two sets have two names for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.bootstrap import Figure
from benchmarks.held_out import HeldOut
from benchmarks.judge import cached_judge
from benchmarks.made import edited, from_captions, from_paraphrases, moved
from benchmarks.recordings import judge_itself, recognised, reconstructed, retrieved
from benchmarks.table import Line, markdown
from mclip import console
from mclip.data.store import read_store
from mclip.evaluate.generation import ENERGY
from mclip.evaluate.protocol import data_sha256
from mclip.runtime.engine import Engine

SEEDS = (0, 1, 2)


def main(store_file: Path, pack: str | None, pairs: Path | None, seeds: tuple[int, ...] = SEEDS) -> None:
    store, engine = read_store(store_file), Engine.open(pack)
    digest = data_sha256(store)
    folder = Path.home() / ".cache" / "mclip-benchmarks" / digest[:12]
    judges = [cached_judge(store, folder, seed) for seed in seeds]
    held = HeldOut.of(engine, store)
    lines: list[Line] = []
    for part in (
        judge_itself(held, judges),
        recognised(held, judges),
        _unseen_pairs(pairs),
        from_captions(engine, judges, seeds),
        from_paraphrases(engine, judges),
        edited(held, judges),
        retrieved(held, seeds),
        reconstructed(held),
    ):
        for line in part:
            console.err(": ".join(line.cells()[:2]))
            lines.append(line)
    more, speeds = moved(held, seeds)
    lines += more
    print(markdown(lines))
    wrong = sorted((ratio, name) for name, ratio in speeds.items() if not ENERGY[0] <= ratio <= ENERGY[1])
    print("\nToo slow or too fast: " + ", ".join(f"{name} {ratio:.2f}" for ratio, name in wrong) + "\n")
    result = {
        "pack": engine.manifest.name,
        "pack_sha256": engine.pack.digest,
        "data_sha256": digest,
        "seeds": seeds,
        "figures": {line.what: asdict(line.figure) | {"met": line.met} for line in lines},
    }
    print(json.dumps(result))


def _unseen_pairs(file: Path | None) -> Iterator[Line]:
    """What benchmarks/unseen_pairs.py found, which trains a pack of its own."""
    if file is not None:
        found = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
        for name, target, study in (("content", 0.9, "91"), ("style", 0.65, "64")):
            what = f"unseen pairs of set 1: {name} of {found['classes'][name]}"
            yield Line(what, Figure(**found[name]), target=target, study=study)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pack", nargs="?")
    parser.add_argument("--pairs", type=Path)
    arguments = parser.parse_args()
    main(arguments.store, arguments.pack, arguments.pairs)
