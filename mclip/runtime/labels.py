"""Action labels: which there are, and how they are said to a text encoder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import DataError, UsageError, meant
from mclip.runtime.babel import BABEL_60, BABEL_120
from mclip.runtime.engine import Engine, shorten

NAMED: Mapping[str, tuple[str, ...]] = {"babel-60": BABEL_60, "babel-120": BABEL_120}
# BABEL, the largest set of action names there is, has 260.
MAX_LABELS = 10_000
MAX_LABEL_BYTES = 4_000_000
_COLUMN = "label"
_VOWELS = frozenset("aeiou")
# Names that no rule turns into a sentence, as a person would say them.
_SAID: Mapping[str, tuple[str, ...]] = {
    "hand movements": ("a person moves the hands",),
    "interact with/use object": ("a person uses an object", "a person does something with the hands"),
    "arm movements": ("a person moves the arms",),
    "t pose": ("a person stands with the arms stretched out to the sides",),
    "a pose": ("a person stands with the arms lowered away from the body",),
    "poses": ("a person holds a pose",),
    "step": ("a person takes a step",),
    "backwards movement": ("a person moves backwards", "a person walks backwards"),
    "forward movement": ("a person moves forward", "a person walks forward"),
    "circular movement": ("a person moves in a circle",),
    "sideways movement": ("a person moves sideways", "a person steps to the side"),
    "move up/down incline": ("a person walks up a slope", "a person walks down a slope"),
    "raising body part": ("a person raises an arm", "a person lifts a leg"),
    "lowering body part": ("a person lowers an arm", "a person lowers a leg"),
    "touching body part": ("a person touches the own body",),
    "touching face": ("a person touches the face",),
    "take/pick something up": ("a person takes something", "a person picks something up"),
    "leg movements": ("a person moves the legs",),
    "foot movements": ("a person moves the feet",),
    "head movements": ("a person moves the head",),
    "waist movements": ("a person moves the hips",),
    "knee movement": ("a person moves the knees",),
    "swing body part": ("a person swings an arm", "a person swings a leg"),
    "action with ball": ("a person plays with a ball",),
    "gesture": ("a person gestures with the hands",),
    "sports move": ("a person makes a move of a sport",),
    "exercise/training": ("a person exercises",),
    "play sport": ("a person plays a sport",),
    "crossing limbs": ("a person crosses the arms", "a person crosses the legs"),
    "perform": ("a person performs on a stage",),
    "martial art": ("a person practises a martial art",),
}


def read_labels(value: str | None) -> list[str]:
    """The labels that --labels names: a set of NAMED (None: BABEL-60), a file, or a list with commas.

    A file holds one label a line; or it is .csv, with labels in the column "label", or the only one; or .json, a list.
    Raises UsageError or, for files, DataError when there are fewer than two, one stands twice, or one is empty.
    """
    if value is None or value.lower() in NAMED:
        return list(NAMED[value.lower() if value else "babel-60"])
    if not value.strip():
        raise UsageError("--labels is empty", '--labels "walk, run, sit down", a file, or babel-60')
    path = Path(value)
    if "," in value and not _exists(path):
        labels = [part.strip() for part in value.split(",")]
        if problem := _problem([(label, f"label {place}") for place, label in enumerate(labels, 1)]):
            raise UsageError(f"--labels: {problem}", '--labels "walk, run, sit down"')
        return labels
    rows = _read_file(path)
    if problem := _problem(rows):
        raise DataError(f"{path}: {problem}", "a label file has two labels or more, one a line, each once")
    return [label for label, _ in rows]


def check_labels(labels: Sequence[str]) -> list[str]:
    """The labels, stripped. Raises UsageError where `read_labels` would."""
    stripped = [label.strip() for label in labels]
    if problem := _problem([(label, f"label {place}") for place, label in enumerate(stripped, 1)]):
        raise UsageError(f"labels: {problem}", "two or more, each once")
    return stripped


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a list longer than any file's name
        return False


def _problem(rows: Sequence[tuple[str, str]]) -> str:
    """What is wrong with labels and the places where they stand, or ""."""
    if len(rows) > MAX_LABELS:
        return f"has more than {MAX_LABELS} labels"
    seen: dict[str, str] = {}
    for label, place in rows:
        if not label:
            return f"{place} is empty"
        if any("\ud800" <= letter <= "\udfff" for letter in label):
            return f"{place} holds half a character"
        key = " ".join(label.casefold().split())
        if key in seen:
            return f"{shorten(label)!r} stands twice, {seen[key]} and {place}"
        seen[key] = place
    return "" if len(rows) > 1 else f"has {'one label' if rows else 'no labels'}; there is nothing to choose from"


def _read_file(path: Path) -> list[tuple[str, str]]:
    """Labels of a file and where they stand."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LABEL_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror})",
            f"{meant(str(path), NAMED)}a file, a list with commas, or {' or '.join(NAMED)}",
        ) from None
    if len(content) > MAX_LABEL_BYTES:
        raise DataError(f"{path}: is larger than {MAX_LABEL_BYTES // 1_000_000} MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    if path.suffix.lower() == ".json":
        return _from_json(path, text)
    if path.suffix.lower() == ".csv":
        return _from_csv(path, text)
    return [(line.strip(), f"line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _from_json(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{path}: is not a list of texts", 'such as ["walk", "run"]')
    return [(label.strip(), f"item {place}") for place, label in enumerate(value, 1)]


def _from_csv(path: Path, text: str) -> list[tuple[str, str]]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        rows = [(cells, f"line {reader.line_num}") for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: is not CSV ({error})") from None
    header = [cell.strip().lower() for cell in rows[0][0]] if rows else []
    if _COLUMN in header:
        column, rows = header.index(_COLUMN), rows[1:]
    elif all(len(cells) == 1 for cells, _ in rows):
        column = 0
    else:
        raise DataError(f"{path}: has no column {_COLUMN!r}", "name the column of the labels in the first line")
    return [(cells[column].strip() if len(cells) > column else "", place) for cells, place in rows]


def prompts_of(label: str) -> list[str]:
    """The sentences a label is said in: for "sit down", also "a person sits down" and "a person is sitting down"."""
    said = _SAID.get(label.lower())
    if said:
        return [label, *said]
    words = label.split()
    first, rest = words[0], words[1:]
    if first.lower() in ("a", "an", "the", "someone", "somebody") or not first.isalpha():
        return [label]
    if first.endswith("ing") and len(first) > 5:
        return [label, f"a person is {label}"]
    return [label, " ".join(["a person", _third(first), *rest]), " ".join(["a person is", _gerund(first), *rest])]


def locate_labels(engine: Engine, labels: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors (N, D), one of each label: the mean over its sentences, see `Engine.locate`."""
    prompts = [prompts_of(label) for label in labels]
    vectors = engine.locate([prompt for group in prompts for prompt in group])
    starts = np.cumsum([0, *map(len, prompts)])[:-1]
    means = np.add.reduceat(vectors, starts, axis=0)
    result: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return result


def _third(verb: str) -> str:
    """he walks, he catches, he carries"""
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return f"{verb}es"
    if verb.endswith("y") and verb[-2:-1] not in _VOWELS:
        return f"{verb[:-1]}ies"
    return f"{verb}s"


def _gerund(verb: str) -> str:
    """walking, dancing, sitting, lying"""
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return f"{verb[:-1]}ing"
    vowels = sum(letter in _VOWELS for letter in verb)
    if vowels == 1 and len(verb) > 2 and verb[-2] in _VOWELS and verb[-1] not in _VOWELS | set("wxy"):
        return f"{verb}{verb[-1]}ing"
    return f"{verb}ing"
