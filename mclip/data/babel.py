"""BABEL's labels (v1.0) for AMASS's recordings. https://babel.is.tue.mpg.de

A folder with `train.json`, `val.json` and, if they are there, `test.json` (its labels are withheld), `extra_train.json`
and `extra_val.json`. Each is an object of recordings by number:

    feat_p      "KIT/KIT/3/walking_slow08_poses.npz": archive, folder and file of AMASS's first release
    dur         seconds
    seq_ann     {"labels": [...]} or null: labels of the whole recording
    frame_ann   {"labels": [...]} or null: labels with times
    seq_anns, frame_anns   in the extra files: lists of those, one for each annotator

and each label has `raw_label`, `proc_label`, `act_cat` (a list, or null) and, if it is a frame label, `start_t` and
`end_t` in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mclip.data.amass import recording_key
from mclip.data.annotations import Annotation, Segment, one_line, read_json
from mclip.errors import DataError

# The dense files, which MUST be there, and their split; then those that may be.
_DENSE = {"train": "train", "val": "val"}
_MORE = {"test": "test", "extra_train": "train", "extra_val": "val"}
# A day; AMASS's longest recording is a few minutes.
_MAX_SECONDS = 86_400
_HINT = "the folder is the unpacked BABEL v1.0 release: train.json, val.json, test.json, extra_*.json"


def read_babel(folder: Path) -> list[Annotation]:
    """All recordings of a BABEL release: their frame labels, or their sequence labels where there are none.

    A recording of an extra file that a dense file has as well keeps its dense labels alone.
    Raises DataError, naming file, entry and field, for files that are missing, cut short or of another layout.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}", _HINT)
    annotations: list[Annotation] = []
    labelled: set[str] = set()
    for name, split in (_DENSE | _MORE).items():
        path = folder / f"{name}.json"
        if name in _DENSE or path.exists():
            found = _read_file(path, split)
            annotations += [a for a in found if not name.startswith("extra") or a.key not in labelled]
            labelled |= {annotation.key for annotation in found if annotation.segments}
    return annotations


def babel_files(folder: Path) -> list[Path]:
    """The files of a release that `read_babel` reads."""
    return [path for name in (*_DENSE, *_MORE) if (path := folder / f"{name}.json").exists()]


def _read_file(path: Path, split: str) -> list[Annotation]:
    entries = _typed(read_json(path, _HINT), dict, f"{path}", "recordings by number")
    if not entries:
        raise DataError(f"{path}: has no recordings", _HINT)
    annotations = []
    for number, entry in entries.items():
        where = f"{path}: recording {number}"
        _typed(entry, dict, where, "a JSON object")
        name = _typed(_field(entry, "feat_p", where), str, f"{where}: feat_p", "a path such as KIT/KIT/3/x_poses.npz")
        if "/" not in name:
            raise DataError(f"{where}: feat_p is {name!r}, not a path such as KIT/KIT/3/x_poses.npz", _HINT)
        seconds = _number(_field(entry, "dur", where), f"{where}: dur")
        if seconds <= 0:
            raise DataError(f"{where}: dur is {seconds:g}, not above 0", _HINT)
        segments = tuple(_segments(entry, where))
        annotations.append(
            Annotation(path=name, key=recording_key(name), split=split, seconds=seconds, segments=segments)
        )
    return annotations


def _segments(entry: Mapping[str, Any], where: str) -> Iterator[Segment]:
    """The frame labels of all annotators, else their sequence labels."""
    layer = 0
    for kind in ("frame", "seq"):
        for place, annotator in _annotators(entry, kind, where):
            labels = _typed(_field(annotator, "labels", place), list, f"{place}.labels", "a list")
            for number, label in enumerate(labels):
                # All sequence labels are true of all frames; of frame labels the later one holds a frame.
                layer += kind == "seq"
                segment = _segment(label, f"{place}.labels[{number}]", timed=kind == "frame", layer=layer)
                if segment is not None:
                    yield segment
            layer += 1
        if layer:
            return


def _annotators(entry: Mapping[str, Any], kind: str, where: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
    found: list[tuple[str, Any]] = []
    if entry.get(f"{kind}_ann") is not None:
        found.append((f"{where}: {kind}_ann", entry[f"{kind}_ann"]))
    if entry.get(f"{kind}_anns") is not None:
        several = _typed(entry[f"{kind}_anns"], list, f"{where}: {kind}_anns", "a list")
        found += [
            (f"{where}: {kind}_anns[{number}]", value) for number, value in enumerate(several) if value is not None
        ]
    return [(place, _typed(value, dict, place, "a JSON object")) for place, value in found if _labelled(value)]


def _labelled(value: Any) -> bool:
    """False where labels are withheld, as in test.json, or there are none."""
    return not isinstance(value, dict) or "labels" not in value or value["labels"] not in (None, [])


def _segment(label: Any, where: str, *, timed: bool, layer: int) -> Segment | None:
    """A label, or None if it has no words."""
    _typed(label, dict, where, "a JSON object")
    raw, processed = _words(label, "raw_label", where), _words(label, "proc_label", where)
    names = _field(label, "act_cat", where)
    categories = [] if names is None else _typed(names, list, f"{where}.act_cat", "a list of classes, or null")
    categories = [_line(name, f"{where}.act_cat", "a list of classes, or null") for name in categories]
    categories = list(dict.fromkeys(name for name in categories if name))
    start = _number(_field(label, "start_t", where), f"{where}.start_t") if timed else None
    end = _number(_field(label, "end_t", where), f"{where}.end_t") if timed else None
    caption = raw or processed or " and ".join(categories)
    if not caption:
        return None
    return Segment(
        start=start,
        end=end,
        caption=caption,
        processed=processed,
        label=categories[0] if categories else processed or caption,
        categories=tuple(categories),
        layer=layer,
    )


def _words(label: Mapping[str, Any], name: str, where: str) -> str:
    value = _field(label, name, where)
    return "" if value is None else _line(value, f"{where}.{name}", "text")


def _line(value: Any, where: str, what: str) -> str:
    line = one_line(_typed(value, str, where, what))
    try:
        line.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where} holds half a character (a lone surrogate)", _HINT) from None
    return line


def _field(entry: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in entry:
        raise DataError(f"{where}: has no {name}", _HINT)
    return entry[name]


def _typed(value: Any, kind: type, where: str, what: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(f"{where} is {_shown(value)}, not {what}", _HINT)
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MAX_SECONDS:
        raise DataError(f"{where} is {_shown(value)}, not a number of seconds", _HINT)
    return float(value)


def _shown(value: Any) -> str:
    """A value for a message: itself if it is short, else its JSON kind."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return "null" if value is None else repr(value)[:60]
