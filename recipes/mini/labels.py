"""Writes the mini pack's label file: python recipes/mini/labels.py data/mini labels.csv

Reads captions.toml beside this script. Every span gets up to PER_SPAN captions, different takes of a label different
ones, so that a label as a whole shows all its wordings.
"""

from __future__ import annotations

import csv
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PER_SPAN = 12
_BANDAI = re.compile(r"dataset-\d_(?P<content>[a-z-]+)_(?P<style>[a-z-]+)_\d+\.bvh$")
_THIRD = {"be": "is", "have": "has", "do": "does", "go": "goes"}
_GERUND = {"be": "being", "lie": "lying", "die": "dying"}
# One-syllable verbs that double their last letter.
_DOUBLED = frozenset("run sit jog skip hop get put stop spin swim stab squat nod win cut grab chop drop hit jab trot pat set".split())


def third_person(phrase: str) -> str:
    """"walk forward" -> "walks forward"."""
    verb, _, rest = phrase.partition(" ")
    comma = "," if verb.endswith(",") else ""
    verb = verb.removesuffix(",")
    if verb in _THIRD:
        form = _THIRD[verb]
    elif verb.endswith(("s", "sh", "ch", "x", "z")):
        form = verb + "es"
    elif verb.endswith("y") and verb[-2] not in "aeou":
        form = verb[:-1] + "ies"
    else:
        form = verb + "s"
    return f"{form}{comma} {rest}".strip()


def gerund(phrase: str) -> str:
    """"walk forward" -> "walking forward"."""
    verb, _, rest = phrase.partition(" ")
    comma = "," if verb.endswith(",") else ""
    verb = verb.removesuffix(",")
    if verb in _GERUND:
        form = _GERUND[verb]
    elif verb in _DOUBLED:
        form = verb + verb[-1] + "ing"
    elif verb.endswith("e") and not verb.endswith("ee"):
        form = verb[:-1] + "ing"
    else:
        form = verb + "ing"
    return f"{form}{comma} {rest}".strip()


def plain_captions(phrases: list[str]) -> list[str]:
    """The wordings of an action in no particular style."""
    captions = []
    for phrase in phrases:
        if phrase.startswith("="):
            captions.append(phrase[1:])
        else:
            third = third_person(phrase)
            captions += [phrase, f"a person {third}", gerund(phrase), f"someone {third}"]
    return captions


def styled_captions(phrases: list[str], style: dict[str, list[str]]) -> list[str]:
    """The wordings of an action in a style."""
    captions = []
    for index, phrase in enumerate(phrase for phrase in phrases if not phrase.startswith("=")):
        for offset in range(2):
            adjective = style["adjectives"][(index + offset) % len(style["adjectives"])]
            adverb = style["adverbs"][(index + offset) % len(style["adverbs"])]
            article = "an" if adjective[0] in "aeiou" else "a"
            third = third_person(phrase)
            captions += [
                f"{article} {adjective} person {third}",
                f"{phrase} {adverb}",
                f"a person {third} {adverb}",
                f"{adjective} {gerund(phrase)}",
            ]
    return list(dict.fromkeys(captions))


def spans(table: dict[str, Any], root: Path) -> Iterator[tuple[str, str, str, str, list[str]]]:
    """(path, start, end, label, all captions) of every action's files."""
    bandai: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((root / "bandai-namco").rglob("*.bvh")):
        match = _BANDAI.search(path.name)
        if match:
            bandai.setdefault(match["content"], []).append((path.relative_to(root).as_posix(), match["style"]))
    for action in table["action"]:
        label, phrases = action["label"], action["phrases"]
        for pattern in action["files"]:
            glob, _, seconds = pattern.partition("@")
            start, _, end = seconds.partition("-")
            if glob.startswith("bandai:"):
                for path, style in bandai.get(glob.removeprefix("bandai:"), ()):
                    if style == "normal":
                        captions = plain_captions(phrases)
                    else:
                        captions = styled_captions(phrases, table["styles"][style])
                    yield path, start, end, f"{label}/{style}", captions
                continue
            found = sorted(root.glob(glob))
            if not found:
                sys.stderr.write(f"{label}: nothing matches {glob}\n")
            for file in found:
                yield file.relative_to(root).as_posix(), start, end, label, plain_captions(phrases)


def main(root: Path, out: Path) -> None:
    """Write the label file."""
    table = tomllib.loads((Path(__file__).parent / "captions.toml").read_text(encoding="utf-8"))
    seen: dict[str, int] = {}
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "start", "end", "caption", "label"])
        for path, start, end, label, captions in spans(table, root):
            first = seen.get(label, 0)
            seen[label] = first + PER_SPAN
            for caption in dict.fromkeys(captions[(first + k) % len(captions)] for k in range(PER_SPAN)):
                writer.writerow([path, start, end, caption, label])
    sys.stderr.write(f"{out}: {len(seen)} labels\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
