"""How often a pack does what prompts in unseen words mean: python -m benchmarks.paraphrases [PACK]

Run from the repository root; PACK is a pack's name or folder, the mini pack if left out. paraphrases.csv holds prompts
of somebody who had not seen the captions, with the action each means; none was taken out for failing. Where
tests/kinematics.py has a predicate for the action, the motion decides. For the others the label of what the prior chose
does: it has to be the action or a kind of it ("climb down" for "climb"); "|" stands between actions that are as good.
The last line is one JSON object with shares.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

from mclip.runtime.engine import Engine
from mclip.runtime.tasks import Generated, Prompt, generate
from tests.kinematics import DOES

PROMPTS = Path(__file__).with_suffix(".csv")


def is_right(made: Generated, action: str) -> bool:
    """Whether the motion, or else the chosen label, is the action."""
    if action in DOES:
        return DOES[action](made.motion)
    return made.match is not None and made.match.label.startswith(tuple(action.split("|")))


def main(pack: str | None) -> None:
    with PROMPTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    engine = Engine.open(pack)
    right: dict[str, list[bool]] = defaultdict(list)
    for row, made in zip(rows, generate(engine, [Prompt(row["prompt"]) for row in rows]), strict=True):
        verdict = is_right(made, row["action"])
        right["motion" if row["action"] in DOES else "label"].append(verdict)
        match = (
            f"{made.match.score:.2f} {made.match.caption!r} [{made.match.label}] ({made.match.name})"
            if made.match
            else ""
        )
        print(f"{'right' if verdict else 'WRONG'}  {row['prompt']!r} means {row['action']!r}: {match}")
    every = [verdict for verdicts in right.values() for verdict in verdicts]
    shares = {kind: round(sum(verdicts) / len(verdicts), 3) for kind, verdicts in {**right, "all": every}.items()}
    print(json.dumps({"pack": engine.manifest.name, "prompts": len(rows), "right": shares}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
