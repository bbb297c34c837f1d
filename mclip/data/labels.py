"""Captions: from a label file, or from file names."""

from __future__ import annotations

import csv
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mclip.data.store import SPLITS
from mclip.errors import DataError, shown
from mclip.formats import SUFFIXES

COLUMNS = ("path", "start", "end", "caption", "label", "split")
# A CLIP prompt has 77 tokens; a caption of pages is a mistake in the columns.
MAX_CAPTION = 2_000
# A million captions; the largest file of BABEL has 25 MB. Rows take several times as much memory.
MAX_LABEL_BYTES = 128 * 2**20

# What tools and datasets add to file names and no one would say.
_NOISE = frozenset("poses stageii stagei c3d dataset".split())
_SWAPS = {
    "left": "right",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "lefty": "righty",
    "lefthand": "righthand",
    "lefthanded": "righthanded",
    "leftmost": "rightmost",
    "lefts": "rights",
    "clockwise": "counterclockwise",
}
_EXCHANGE = {**_SWAPS, **{right: left for left, right in _SWAPS.items()}, "anticlockwise": "clockwise"}
_TAKE = re.compile(f"(.*?(?:{'|'.join(map(re.escape, SUFFIXES))}))#(.*)", re.IGNORECASE | re.DOTALL)
_TURNING = re.compile(r"\b(?:counter|anti)[- ]clockwise\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One row of a label file.

    path        the motion's path as written
    start, end  seconds; None means the beginning and the end of the motion
    caption     what is said; label: its action class (the caption itself if the file has none)
    split       "train", "val" or "test", or None to leave it to preprocess
    line        where the row stands in the file
    """

    path: str
    start: float | None
    end: float | None
    caption: str
    label: str
    split: str | None
    line: int


def read_labels(path: Path) -> list[Label]:
    """Read a label file: .csv with a header, or .jsonl with one object per line.

    Columns: path, caption; optional: start and end in seconds, label (the action class), split (train, val, test).
    Raises DataError with the line number for unknown columns, bad numbers and missing values.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'is not a regular file' if path.exists() else 'no such label file'}")
    if path.stat().st_size > MAX_LABEL_BYTES:
        raise DataError(f"{path}: is larger than {MAX_LABEL_BYTES >> 20} MiB")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".ndjson"):
        raise DataError(f"{path}: a label file is .csv or .jsonl, not {suffix or 'without suffix'}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: is not UTF-8", "save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    rows = _csv_rows(path, text) if suffix == ".csv" else _json_rows(path, text)
    labels = [_label(path, line, row) for line, row in rows]
    if not labels:
        raise DataError(f"{path}: has no rows", f"columns: {', '.join(COLUMNS)}; path and caption are needed")
    return labels


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    line = 1
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_columns(path, 1, header)
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}:{line}: has {len(cells)} cells, the header has {len(header)}",
                        'a caption with commas stands in quotes: "sit, then stand"',
                    )
                yield line, dict(zip(header, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: is not CSV ({error})") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{line}: is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{line}: is no JSON object", 'such as {"path": "walk.bvh", "caption": "walk"}')
        _check_columns(path, line, list(row))
        yield line, row


def _check_columns(path: Path, line: int, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise DataError(f"{path}:{line}: unknown column {shown(unknown[0])}", f"columns: {', '.join(COLUMNS)}")
    for needed in ("path", "caption"):
        if needed not in names:
            raise DataError(f"{path}:{line}: has no column {needed!r}", f"columns: {', '.join(COLUMNS)}")
    if len(set(names)) < len(names):
        raise DataError(f"{path}:{line}: has a column twice")


def _label(path: Path, line: int, row: Mapping[str, Any]) -> Label:
    caption, name = _text(path, line, row, "caption"), _text(path, line, row, "path")
    if not caption or not name:
        raise DataError(f"{path}:{line}: the {'path' if caption else 'caption'} is empty")
    start, end = _seconds(path, line, row, "start"), _seconds(path, line, row, "end")
    if end is not None and end <= (start or 0.0):
        raise DataError(f"{path}:{line}: end {end:g} is not after start {start or 0.0:g}")
    split = _text(path, line, row, "split").lower()
    if split and split not in SPLITS:
        raise DataError(f"{path}:{line}: split is {shown(split)}, not {', '.join(SPLITS)}")
    label = _text(path, line, row, "label") or caption
    return Label(path=name, start=start, end=end, caption=caption, label=label, split=split or None, line=line)


def _text(path: Path, line: int, row: Mapping[str, Any], name: str) -> str:
    """One line of text, composed (NFC), inner white space as single spaces; "" if missing."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{path}:{line}: {name} is {shown(value)}, not text")
    text = " ".join(unicodedata.normalize("NFC", value).replace("\0", " ").split())
    if len(text) > MAX_CAPTION:
        raise DataError(f"{path}:{line}: {name} has {len(text)} characters, more than {MAX_CAPTION}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}:{line}: {name} holds half a character (a lone surrogate)") from None
    return text


def _seconds(path: Path, line: int, row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, (bool, list, dict)):
            raise TypeError
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}:{line}: {name} is {shown(value)}, not a number of seconds") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise DataError(f"{path}:{line}: {name} is {shown(value)}, not a time from 0 on")
    return seconds


def match_labels(labels: Iterable[Label], paths: Sequence[str]) -> tuple[list[tuple[int, Label]], list[Label]]:
    """Find the motion of each row: (index into paths, row) pairs in the rows' order, and the rows that match nothing.

    A row's path is compared with and without suffix, "\\" counts as "/", and "x.glb" stands for all takes of x.glb.
    """
    index: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        for key in _keys(path):
            index.setdefault(key, []).append(number)
    matched: list[tuple[int, Label]] = []
    missing: list[Label] = []
    for label in labels:
        found = index.get(_normal(label.path), [])
        matched += [(number, label) for number in found]
        if not found:
            missing.append(label)
    return matched, missing


def names_any(labels: Iterable[Label], files: Iterable[str]) -> bool:
    """Whether any row can be about one of these files, whatever motions they hold."""
    keys = {key for file in files for key in _keys(file)}
    written = (_normal(label.path) for label in labels)
    return any(path in keys or path.rpartition("#")[0] in keys or split_take(path)[0] in keys for path in written)


def split_take(path: str) -> tuple[str, str]:
    """The file and the take of a motion's path: "x.glb#Sit" is ("x.glb", "Sit"), "x.bvh" is ("x.bvh", "")."""
    match = _TAKE.fullmatch(path)
    return (match[1], match[2]) if match else (path, "")


def _normal(path: str) -> str:
    path = unicodedata.normalize("NFC", path.replace("\\", "/"))
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _keys(path: str) -> set[str]:
    """Every way a label file may write the path of a motion."""
    file, take = split_take(_normal(path))
    folder, slash, name = file.rpartition("/")
    bare = folder + slash + (name.rpartition(".")[0] or name)
    return {file, bare, f"{file}#{take}", f"{bare}#{take}"} if take else {file, bare}


def caption_from_name(path: str) -> str:
    """What a file name says: "Female1_B09_WalkTurnLeft90.bvh" gives "female walk turn left".

    CamelCase is split, digits, codes such as B09 and words that tools add are left out, "2" between letters reads
    "to". A take is read from its own name, a name without words from its folder; "" if there are no words at all.
    """
    file, take = split_take(unicodedata.normalize("NFC", path))
    folder, _, name = file.rpartition("/")
    for part in (take, name.rpartition(".")[0] or name, folder.rpartition("/")[2]):
        words = _words(part)
        if words:
            return " ".join(words)[:MAX_CAPTION]
    return ""


def _words(name: str) -> list[str]:
    name = re.sub(r"(?<=[^\W\d_])2(?=[^\W\d_])", " to ", name)
    # walkTurn, HTMLPage and B09Walk fall apart; T2 stays together to be recognised as a code.
    name = re.sub(r"(?<=[a-zß-öø-ÿ\d])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-ZÀ-Þ])(?=[A-ZÀ-Þ][a-zß-ÿ])", " ", name)
    tokens = (token for token in re.split(r"[^\w]+|_+", name) if token)
    words: list[str] = []
    for token in tokens:
        if re.fullmatch(r"[^\W\d_]\d+", token) or token.lower() in _NOISE:
            continue
        words += [word.lower() for word in _WORD.findall(token)]
    # A single letter is a code too ("A - Stand"), unless it is an article between words.
    return [w for i, w in enumerate(words) if len(w) > 1 or not w.isascii() or (w == "a" and 0 < i < len(words) - 1)]


def swap_left_right(text: str) -> str:
    """The caption of the mirrored motion: left and right, and the senses of turning, exchanged as whole words.

    Upper and lower case stay; a text with neither comes back unchanged. Swapping twice gives the text again, but for
    the spelling of counterclockwise.
    """
    text = _TURNING.sub(lambda match: _cased(match[0], "counterclockwise"), text)
    return _WORD.sub(lambda match: _cased(match[0], _EXCHANGE.get(match[0].lower(), match[0])), text)


def _cased(model: str, word: str) -> str:
    if model.lower() == word.lower():
        return model
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
