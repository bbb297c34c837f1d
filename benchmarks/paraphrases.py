"""How often a pack does what prompts in unseen words mean: python -m benchmarks.paraphrases [PACK]

Run from the repository root; PACK is a pack's name or folder, the mini pack if left out. paraphrases.csv holds prompts
of somebody who had not seen the captions, with the action each means; none was taken out for failing. Where
tests/kinematics.py has a predicate for the action, the motion decides. For the others the caption that the prior chose
does: it has to be one that recipes/mini/captions.toml gives to the action, or to a kind of it ("climb down" for
"climb"); "|" stands between actions that are as good.
The last line is one JSON object with shares.
"""

from __future__ import annotations

import csv
import json
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

from mclip.data.labels import swap_left_right
from mclip.runtime.engine import Engine
from mclip.runtime.tasks import Generated, Prompt, generate
from recipes.mini.labels import plain_captions, styled_captions
from tests.kinematics import DOES

HERE = Path(__file__).parent
CAPTIONS = HERE.parent / "recipes" / "mini" / "captions.toml"


def actions_of_captions() -> dict[str, set[str]]:
    """The actions that each caption of the mini recipe may stand for."""
    table = tomllib.loads(CAPTIONS.read_text(encoding="utf-8"))
    found: dict[str, set[str]] = defaultdict(set)
    for action in table["action"]:
        captions = plain_captions(action["phrases"])
        for style in table["styles"].values():
            captions += styled_captions(action["phrases"], style)
        for caption in captions:
            found[caption].add(action["label"])
            found[swap_left_right(caption)].add(swap_left_right(action["label"]))
    return found


def is_right(made: Generated, action: str, actions: dict[str, set[str]]) -> bool:
    """Whether the motion, or else the chosen caption, is the action."""
    if action in DOES:
        return DOES[action](made.motion)
    chosen = actions.get(made.match.caption, set()) if made.match else set()
    return any(label.startswith(tuple(action.split("|"))) for label in chosen)


def main(pack: str | None) -> None:
    with (HERE / "paraphrases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    actions, engine = actions_of_captions(), Engine.open(pack)
    right: dict[str, list[bool]] = defaultdict(list)
    for row, made in zip(rows, generate(engine, [Prompt(row["prompt"]) for row in rows]), strict=True):
        verdict = is_right(made, row["action"], actions)
        right["motion" if row["action"] in DOES else "caption"].append(verdict)
        match = f"{made.match.score:.2f} {made.match.caption!r} ({made.match.name})" if made.match else ""
        print(f"{'right' if verdict else 'WRONG'}  {row['prompt']!r} means {row['action']!r}: {match}")
    every = [verdict for verdicts in right.values() for verdict in verdicts]
    shares = {kind: round(sum(verdicts) / len(verdicts), 3) for kind, verdicts in {**right, "all": every}.items()}
    print(json.dumps({"pack": engine.manifest.name, "prompts": len(rows), "right": shares}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
