"""Writes the mini pack's label file: python recipes/mini/labels.py data/mini labels.csv

Reads captions.toml and spans.csv beside this script. Every span gets PER_SPAN captions, different takes of a label
different ones, and more where the label's takes are so few that they would not show all its wordings.
"""

from __future__ import annotations

import csv
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PER_SPAN = 12
# The first phrases of an action are the short ones, which leave the word to the style.
STYLED_PHRASES = 8
_BANDAI = re.compile(r"dataset-\d_(?P<content>[a-z-]+)_(?P<style>[a-z-]+)_\d+\.bvh$")
_THIRD = {"be": "is", "have": "has", "do": "does", "go": "goes"}
_GERUND = {"be": "being", "lie": "lying", "die": "dying"}
# Verbs that double their last letter.
_DOUBLED = frozenset(
    (
        "bid bob chat chop chug cut dip drag drop flag flap flip flop get grab grip hit hop hug jab jog let lob lug "
        "nap nod pat plop prod prop put ram rub run scan scrub set shin shrug sidestep sip sit skim skip slam slip "
        "slug snap spin split squat stab step stop swap swig swim tip trot wag win"
    ).split()
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
    """The wordings of an action in no particular style: first all phrases in one form each, then in another."""
    forms = []
    for phrase in phrases:
        if phrase.startswith("="):
            forms.append([phrase[1:]])
        else:
            third = third_person(phrase)
            forms.append([phrase, f"a person {third}", gerund(phrase), f"someone {third}"])
    turns = (form[(turn + row) % len(form)] for turn in range(4) for row, form in enumerate(forms))
    return list(dict.fromkeys(turns))


def styled_captions(phrases: list[str], style: dict[str, list[str]], first: int) -> list[str]:
    """The wordings of an action in a style, from the `first` words for the style on."""
    adjectives, adverbs = style["adjectives"], style["adverbs"]
    plain = [phrase for phrase in phrases if not phrase.startswith("=")][:STYLED_PHRASES]
    captions = []
    for turn in range(max(len(adjectives), len(adverbs))):
        phrase = plain[turn % len(plain)]
        adjective = adjectives[(first + turn) % len(adjectives)]
        adverb = adverbs[(first + turn) % len(adverbs)]
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
            # Other actions begin with other words, so that together they show all words of a style.
            styled_captions(actions[action], styles[style], 5 * list(actions).index(action))
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
    takes = Counter(label for _, _, _, label, _ in found)
    seen: dict[str, int] = {}
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "start", "end", "caption", "label", "split"])
        for path, start, end, label, captions in found:
            first = seen.get(label, 0)
            count = max(PER_SPAN, -(-len(captions) // takes[label]))
            seen[label] = first + count
            for caption in dict.fromkeys(captions[(first + k) % len(captions)] for k in range(count)):
                writer.writerow([path, start, end, caption, label, "train" if path in once else ""])
    sys.stderr.write(f"{out}: {len(seen)} labels, {len(found)} spans\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
