"""Writes the mini pack's label file: python recipes/mini/labels.py data/mini labels.csv

Reads captions.toml and spans.csv beside this script. Every span gets up to PER_SPAN captions, different takes of a
label different ones, so that a label as a whole shows all its wordings.
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
_DOUBLED = frozenset(
    "run sit jog skip hop get put stop spin swim stab squat nod win cut grab chop drop hit jab trot pat set".split()
)


def third_person(phrase: str) -> str:
    """ "walk forward" -> "walks forward"."""
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
    """ "walk forward" -> "walking forward"."""
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
    actions: dict[str, list[str]] = {action["label"]: action["phrases"] for action in table["action"]}
    styles: dict[str, dict[str, list[str]]] = table["styles"]

    def captions(label: str) -> list[str]:
        action, _, style = label.partition("/")
        return (
            styled_captions(actions[action], styles[style])
            if style not in ("", "normal")
            else plain_captions(actions[action])
        )

    # One level at a time: the sources may be links, which ** does not follow.
    files = [file for source in sorted(root.iterdir()) for file in sorted(source.rglob("*")) if file.is_file()]
    paths = {file.name: file.relative_to(root).as_posix() for file in files}
    spanned = set()
    with (Path(__file__).parent / "spans.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            spanned.add(row["file"])
            if row["file"] in paths:
                yield paths[row["file"]], row["start"], row["end"], row["label"], captions(row["label"])
            else:
                sys.stderr.write(f"{row['label']}: no file {row['file']}\n")

    for action in table["action"]:
        for pattern in action.get("files", ()):
            glob, _, seconds = pattern.partition("@")
            start, _, end = seconds.partition("-")
            if glob.startswith("bandai:"):
                for name, path in paths.items():
                    take = _BANDAI.search(name)
                    if take and take["content"] == glob.removeprefix("bandai:") and name not in spanned:
                        label = f"{action['label']}/{take['style']}"
                        yield path, start, end, label, captions(label)
                continue
            found = sorted(root.glob(glob))
            if not found:
                sys.stderr.write(f"{action['label']}: nothing matches {glob}\n")
            for match in found:
                yield match.relative_to(root).as_posix(), start, end, action["label"], captions(action["label"])


def main(root: Path, out: Path) -> None:
    """Write the label file."""
    table = tomllib.loads((Path(__file__).parent / "captions.toml").read_text(encoding="utf-8"))
    found = list(spans(table, root))
    paths: dict[str, set[str]] = {}
    for path, _, _, label, _ in found:
        paths.setdefault(label, set()).add(path)
    # An action seen once is learnt, not held out. (A style of an action seen once may be held out: an unseen pair.)
    once = {next(iter(files)) for label, files in paths.items() if len(files) == 1 and "/" not in label}
    seen: dict[str, int] = {}
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "start", "end", "caption", "label", "split"])
        for path, start, end, label, captions in found:
            first = seen.get(label, 0)
            seen[label] = first + PER_SPAN
            for caption in dict.fromkeys(captions[(first + k) % len(captions)] for k in range(PER_SPAN)):
                writer.writerow([path, start, end, caption, label, "train" if path in once else ""])
    sys.stderr.write(f"{out}: {len(seen)} labels, {len(found)} spans\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
