"""What a pack's motions show, to a judge that knows real recordings only: python -m benchmarks.quality STORE [PACK]

Run from the repository root; STORE is what `mclip preprocess` made (recipes/mini/README.md), PACK a pack's name or
folder, the mini pack if left out. The judge (benchmarks/judge.py) is trained on the store's training split first and
kept in ~/.cache; its own accuracy on held-out recordings is printed before anything is judged with it, and bounds what
follows.

Motions are made of up to four training captions of every label, drawn by seed, and the judge names their action and,
for labels with one, their style. A label the judge has not learnt (too few recordings) counts all the same. The last
line is one JSON object with shares. Other figures of a pack are `mclip evaluate`'s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.judge import WINDOW, accuracy, cached_judge, split_label
from mclip.data.store import read_store
from mclip.runtime.engine import Engine
from mclip.runtime.prior import Bank
from mclip.runtime.representation import motion_to_features
from mclip.runtime.tasks import Prompt, generate

_PER_LABEL = 4
SETS = {
    "all": "",
    "Bandai-Namco 2": "bandai-namco/dataset/Bandai-Namco-Research-Motiondataset-2",
    "ACCAD": "accad",
}


def main(store_file: Path, pack: str | None, seed: int = 0) -> None:
    store = read_store(store_file)
    judge = cached_judge(store, Path.home() / ".cache" / "mclip-benchmarks" / store.file.stem, seed)
    figures: dict[str, dict[str, float]] = {}
    for name, under in SETS.items():
        found = accuracy(judge, store, under=under)
        shown = f"action {found.action:.3f} of {found.spans}, style {found.style:.3f} of {found.styled}"
        print(f"judge on held-out {name}: {shown}")
        figures[f"judge, {name}"] = {"action": round(found.action, 3)}
        if found.styled:
            figures[f"judge, {name}"]["style"] = round(found.style, 3)

    engine = Engine.open(pack)
    bank = engine.prior
    assert isinstance(bank, Bank), "the pack has no bank, whose captions are needed"
    random = np.random.default_rng(seed)
    texts: list[tuple[str, str]] = []
    for row, label in enumerate(bank.labels):
        captions = bank.ids[bank.offsets[row] : bank.offsets[row + 1]]
        texts += [(label, bank.texts[caption]) for caption in random.permutation(captions)[:_PER_LABEL]]
    features = np.zeros((len(texts), WINDOW, 25, 6), np.float32)
    mask = np.zeros((len(texts), WINDOW), np.bool_)
    for row, made in enumerate(generate(engine, [Prompt(text) for _, text in texts])):
        window = motion_to_features(made.motion)[:WINDOW]
        features[row, : len(window)], mask[row, : len(window)] = window, True
    action, style = judge.judge(features, mask)
    pairs = [split_label(label) for label, _ in texts]
    right = [judge.actions[place] == wanted for place, (wanted, _) in zip(action.argmax(1), pairs, strict=True)]
    styled = [
        judge.styles[place] == manner for place, (_, manner) in zip(style.argmax(1), pairs, strict=True) if manner
    ]
    done = {"action": round(float(np.mean(right)), 3), "style": round(float(np.mean(styled)), 3)}
    figures["made of training captions"] = done
    print(f"made of training captions: action {done['action']} of {len(right)}, style {done['style']} of {len(styled)}")
    print(json.dumps({"pack": engine.manifest.name, "seed": seed, "right": figures}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
