"""Which recordings are for training, validation and testing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from mclip.data.labels import split_take
from mclip.data.sources import source_of
from mclip.data.store import SPLITS
from mclip.errors import DataError

# Fractional parts of multiples of the golden ratio: any n of them in a row are spread evenly over [0, 1).
_GOLDEN = (5**0.5 - 1) / 2


def assign_splits(
    paths: Sequence[str],
    sha256: Sequence[str],
    classes: Mapping[int, str],
    given: Mapping[int, str],
    *,
    official: Mapping[int, str],
    val: float,
    test: float,
    seed: int,
) -> list[str]:
    """The split of each motion.

    All motions of a recording go together: takes of one file, files that differ in suffix only, and copies. Recordings
    of one source and action class are dealt out evenly, in an order that depends on their paths and the seed alone, so
    that a new recording moves none of another class.
    paths, sha256: of the motions' files; classes: motion -> its action class, where known; given: motion -> the split
    the user wants for its recording; official: motion -> the split its data set has, where the user wants none; val and
    test: parts of 1. Where copies have different official splits, all are in the one that is trained on least.
    Raises DataError when one recording is given two splits.
    """
    recording = recordings(paths, sha256)
    class_of = {recording[motion]: name for motion, name in reversed(list(classes.items()))}
    strata: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for number in sorted(set(recording)):
        file, _ = split_take(paths[number])
        stratum = strata.setdefault((source_of(file), class_of.get(number, "")), [])
        stratum.append((_unit_hash(seed, file), number))
    chosen: dict[int, str] = {}
    for key, members in strata.items():
        start = _unit_hash(seed, *key)
        for rank, (_, number) in enumerate(sorted(members)):
            at = (start + rank * _GOLDEN) % 1.0
            chosen[number] = "test" if at < test else "val" if at < test + val else "train"
    if "train" not in chosen.values():
        # A few recordings may all fall outside by chance; training needs one.
        chosen = dict.fromkeys(chosen, "train")
    for motion, split in sorted(official.items(), key=lambda item: SPLITS.index(item[1])):
        chosen[recording[motion]] = split
    wanted: dict[int, str] = {}
    for motion, split in given.items():
        if wanted.setdefault(recording[motion], split) != split:
            raise DataError(
                f"{paths[motion]}: the label file puts it into {split}, and the same recording into "
                f"{wanted[recording[motion]]}",
                "takes of one file, copies, and files that differ in suffix only are one recording",
            )
    chosen |= wanted
    return [chosen[number] for number in recording]


def recordings(paths: Sequence[str], sha256: Sequence[str]) -> list[int]:
    """A number per motion, equal for motions of the same recording: that of its first motion."""
    parent = list(range(len(paths)))

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    first: dict[tuple[str, str], int] = {}
    for number, path in enumerate(paths):
        file, _ = split_take(path)
        folder, slash, name = file.rpartition("/")
        for key in (("path", folder + slash + (name.rpartition(".")[0] or name)), ("sha256", sha256[number])):
            one, other = sorted((root(first.setdefault(key, number)), root(number)))
            parent[other] = one
    return [root(number) for number in range(len(parent))]


def _unit_hash(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone."""
    content = json.dumps(parts, ensure_ascii=True).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:6]) / 2.0**48
