"""What of AMASS and its labels came together: found, labelled, unlabelled, missing, skipped, by data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mclip.data.amass import amass_split, dataset_of, recording_key
from mclip.data.annotations import Annotation
from mclip.data.store import SPLITS, MotionStore
from mclip.errors import UsageError

# Where a split may come from (`choose_split`).
SPLIT_SOURCES = ("babel", "amass", "seed")
OTHER = "(other)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of one data set: files found; of these with and without labels, and skipped; and labelled recordings missing."""

    found: int = 0
    labelled: int = 0
    unlabelled: int = 0
    missing: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Counts by data set, "(other)" for files and recordings that are none of AMASS's, and the paths behind them.

    missing     labelled recordings without a file, as their data set writes them
    unlabelled  files without labels
    """

    datasets: Mapping[str, Counts]
    missing: tuple[str, ...]
    unlabelled: tuple[str, ...]

    def table(self) -> list[str]:
        """The counts as lines of text, with a header and the sums."""
        names = [field.name for field in fields(Counts)]
        rows = [(name, [getattr(counts, column) for column in names]) for name, counts in self.datasets.items()]
        rows.append(("all", [sum(column) for column in zip(*(values for _, values in rows), strict=True)]))
        wide = max(len("data set"), *(len(name) for name, _ in rows))
        lines = ["  ".join([f"{'data set':<{wide}}", *(f"{name:>10}" for name in names)])]
        return lines + ["  ".join([f"{name:<{wide}}", *(f"{value:>10}" for value in row)]) for name, row in rows]


def file_keys(root: Path, paths: Sequence[str]) -> list[str]:
    """The recordings (mclip.data.amass) that the files of a folder are; `root` may be a data set's folder itself."""
    name = root.resolve().name
    # AMASS is .npz: captions and times of its recordings are not those of a .bvh of the same name.
    return [recording_key(f"{name}/{path}") if path.lower().endswith(".npz") else path for path in paths]


def cover(store: MotionStore, root: Path, annotations: Sequence[Annotation]) -> Coverage:
    """What came together in a store made from the folder `root` and these labels."""
    skipped = [path for path, _, _ in store.skipped]
    keys, skipped_keys = file_keys(root, store.path), file_keys(root, skipped)
    with_captions = set(store.captions.motion.tolist())
    here = {*keys, *skipped_keys}
    missing = {a.key: a.path for a in annotations if a.key not in here and a.segments}
    bare = [number for number in range(len(store)) if number not in with_captions]
    of = {
        "found": [*keys, *skipped_keys],
        "labelled": [keys[number] for number in sorted(with_captions)],
        "unlabelled": [keys[number] for number in bare],
        "missing": list(missing),
        "skipped": skipped_keys,
    }
    counts = {column: Counter(dataset_of(key) or OTHER for key in found) for column, found in of.items()}
    names = sorted(set().union(*counts.values()), key=lambda name: (name == OTHER, name.lower()))
    return Coverage(
        datasets={name: Counts(**{column: count[name] for column, count in counts.items()}) for name in names},
        missing=tuple(sorted(missing.values())),
        unlabelled=tuple(store.path[number] for number in bare),
    )


def choose_split(
    source: str | None, keys: Sequence[str], babel: Sequence[Annotation]
) -> tuple[dict[int, str], tuple[str, ...]]:
    """The official split of motions, and a note on where it comes from.

    source: "babel", "amass", "seed" (none: dealt out by chance), or None for the first of them that there is. AMASS's
    counts as there when the files are of more than one of its parts, training among them. With BABEL's, recordings that
    BABEL does not know are split as AMASS's. Raises UsageError for a source that is not there.
    """
    if source not in (None, *SPLIT_SOURCES):
        raise UsageError(f"--split {source!r} is not {', '.join(SPLIT_SOURCES)}")
    amass = amass_split(keys)
    known = {a.key: a.split for a in sorted(babel, key=lambda a: SPLITS.index(a.split or "train"))}
    of_babel = {number: split for number, key in enumerate(keys) if (split := known.get(key))}
    if source == "babel" and not of_babel:
        raise UsageError("--split babel needs --babel", "or use --split amass")
    if source == "amass" and not amass:
        raise UsageError(
            "--split amass: no file lies in a folder named as a data set of AMASS",
            "such as KIT/3/walking_slow08_poses.npz",
        )
    several = len(set(amass.values())) > 1 and "train" in amass.values()
    chosen = source or ("babel" if of_babel else "amass" if several else "seed")
    if chosen == "babel":
        rest = len(amass.keys() - of_babel.keys())
        also = f"; {rest} that BABEL does not know are split as AMASS splits its data sets" if rest else ""
        return amass | of_babel, (f"the split of {len(of_babel)} motions is BABEL's{also}",)
    if chosen == "amass":
        return amass, (f"the split of {len(amass)} motions is AMASS's, by data set",)
    return {}, ()
