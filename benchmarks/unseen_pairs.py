"""Pairs of action and style a model never saw: python -m benchmarks.unseen_pairs STORE OUT [--steps 1500]

Run from the repository root. Of Bandai-Namco's set 1, which has nearly every action in fifteen styles, once each, two
styles of every action are kept out of training, no style more than twice, drawn by seed; what a pair looks like
mirrored goes with it. All actions and styles remain in other pairs. A model of the mini recipe's architecture is then
trained from scratch for so many steps on the rest, in OUT (1,500: a quarter of an hour on two cores; can be interrupted
and started again), and names the recordings of the unseen pairs: the nearest of set 1's labels, by cosine with the mean
embedding of the captions each has. The last line is one JSON object, which benchmarks/quality.py --pairs takes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.bootstrap import bootstrap, ratio
from benchmarks.held_out import set_of
from benchmarks.judge import SHORTEST, WINDOW, split_label
from benchmarks.recordings import captions_of, labels_of
from benchmarks.table import shares
from mclip.data.dataset import spans_of
from mclip.data.gathering import gather
from mclip.data.labels import swap_left_right
from mclip.data.store import SPLITS, MotionStore, read_store
from mclip.evaluate.protocol import cut
from mclip.files import atomic_path
from mclip.recipe import Recipe, load_recipe
from mclip.runtime.prior import unit
from mclip.runtime.representation import representation
from mclip.train.checkpoint import load_model
from mclip.train.embeddings import text_embeddings
from mclip.train.loop import train

RECIPE = Path("recipes/mini/recipe.toml")
_PER_ACTION, _PER_STYLE = 2, 2
# Actions in fewer styles have none to spare.
_STYLES = 8


def main(store_file: Path, out: Path, steps: int, seed: int) -> None:
    store = read_store(store_file)
    unseen = choose(store, seed)
    split_file = out / f"unseen-pairs-{seed}.h5"
    out.mkdir(parents=True, exist_ok=True)
    if not split_file.is_file():
        _keep_out(store, unseen, split_file)
    recipe = load_recipe(RECIPE)
    recipe = replace(
        recipe,
        name="unseen-pairs",
        data=replace(recipe.data, store=str(split_file)),
        optim=replace(recipe.optim, steps=steps, warmup=min(recipe.optim.warmup, steps // 5)),
    )
    train(recipe, out / f"run-{seed}-{steps}")
    print(json.dumps({"steps": steps, "seed": seed} | _named(out / f"run-{seed}-{steps}", recipe, unseen)))


def choose(store: MotionStore, seed: int) -> set[str]:
    """The labels of set 1 to keep out."""
    return choose_pairs([store.labels[label] for label in labels_of(store, "set 1")], seed)


def choose_pairs(labels: Sequence[str], seed: int) -> set[str]:
    """Labels "action/style" to keep out, with their mirror images: see the module docstring."""
    styles_of: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        action, style = split_label(label)
        if style:
            # "To the left" and "to the right" are one action, named by the first in the alphabet.
            styles_of[min(action, swap_left_right(action))].add(style)
    random = np.random.default_rng(seed)
    used: dict[str, int] = defaultdict(int)
    chosen = set()
    for action in sorted(action for action, styles in styles_of.items() if len(styles) >= _STYLES):
        order = random.permutation(sorted(styles_of[action])).tolist()
        free = [style for style in order if used[style] < _PER_STYLE]
        for style in free[:_PER_ACTION]:
            used[style] += 1
            chosen |= {f"{name}/{style}" for name in {action, swap_left_right(action)}} & set(labels)
    return chosen


def _keep_out(store: MotionStore, unseen: set[str], file: Path) -> None:
    """Copy the store, with the recordings of the unseen pairs as its test split and nothing else in it."""
    split = ["val" if each == "test" else each for each in store.split]
    for motion, label in zip(store.captions.motion.tolist(), store.captions.label.tolist(), strict=True):
        if store.labels[label] in unseen:
            split[motion] = "test" if set_of(store.path[motion]) == "set 1" else "val"
    with atomic_path(file) as temporary:
        shutil.copyfile(store.file, temporary)
        with h5py.File(temporary, "r+") as content:
            content["split"][...] = np.array([SPLITS.index(each) for each in split], np.uint8)


@torch.no_grad()
def _named(run: Path, recipe: Recipe, unseen: set[str]) -> dict[str, object]:
    """How often content and style of the unseen pairs' recordings are named right."""
    store, (model, _) = read_store(Path(recipe.data.store)), load_model(run)
    embeddings = text_embeddings(store, recipe)
    labels = labels_of(store, "set 1")
    pairs = [split_label(store.labels[label]) for label in labels]
    means = unit(np.stack([embeddings[captions_of(store, label)].mean(axis=0) for label in labels]))
    spans = [span for span in spans_of(store, "test", (), SHORTEST) if store.labels[span.label] in unseen]
    bounds, owner = cut(spans, WINDOW, SHORTEST)
    kind = representation(recipe.data.representation)
    start, stop = bounds.T
    features, mask = gather(store, start, stop, WINDOW, np.ones(len(bounds)), kind)
    latents = model.encode(torch.from_numpy(features), torch.from_numpy(mask)).numpy()
    pooled = unit(np.stack([latents[owner == row].mean(axis=0) for row in range(len(spans))]))
    found = [pairs[row] for row in (pooled @ means.T).argmax(axis=1).tolist()]
    wanted = [split_label(store.labels[span.label]) for span in spans]
    result: dict[str, object] = {
        name: asdict(bootstrap([shares(a[side] == b[side] for a, b in zip(found, wanted, strict=True))], ratio))
        for side, name in enumerate(("content", "style"))
    }
    classes = {name: len({pair[side] for pair in pairs} - {None}) for side, name in enumerate(("content", "style"))}
    return result | {"classes": classes, "pairs": sorted(unseen)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.store, arguments.out, arguments.steps, arguments.seed)
