"""Everything that is said about the motions of a folder: a label file, BABEL, HumanML3D, or else their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mclip.data.annotations import Annotation
from mclip.data.babel import babel_files, read_babel
from mclip.data.captions import CaptionTable, add_annotations, add_labels, add_names, note_bare
from mclip.data.coverage import choose_split, file_keys
from mclip.data.humanml3d import humanml3d_files, read_humanml3d
from mclip.data.journal import Length
from mclip.data.labels import Label, names_any, read_labels
from mclip.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """What is said about the motions of a folder.

    rows   of a label file, or None
    sets   the name of a data set of labels -> what it says of which recordings
    split  where the split comes from (mclip.data.coverage), or None for the first that there is
    files  option -> the files that were read for it
    """

    rows: Sequence[Label] | None
    sets: Mapping[str, Sequence[Annotation]]
    split: str | None
    files: Mapping[str, Sequence[Path]]

    @property
    def annotations(self) -> list[Annotation]:
        """Those of all data sets."""
        return [annotation for said in self.sets.values() for annotation in said]

    def official_split(self, keys: Sequence[str]) -> tuple[dict[int, str], tuple[str, ...]]:
        """The official split of motions and a note on it; see `choose_split`."""
        return choose_split(self.split, keys, self.sets.get("BABEL", ()))


def read_labelling(
    root: Path,
    paths: Sequence[str],
    *,
    labels: Path | None,
    babel: Path | None,
    humanml3d: Path | None,
    split: str | None,
) -> Labelling:
    """Read all that is given, and make sure that it is about these files of the folder `root`.

    Raises DataError for files of labels that cannot be used; UsageError for a split that there is not.
    """
    keys = file_keys(root, paths)
    sets: dict[str, list[Annotation]] = {}
    files: dict[str, list[Path]] = {}
    if babel:
        sets["BABEL"], files["babel"] = read_babel(babel), babel_files(babel)
        _check_fit(babel, sets["BABEL"], root, paths, keys)
    if humanml3d:
        sets["HumanML3D"], files["humanml3d"] = read_humanml3d(humanml3d), humanml3d_files(humanml3d)
        _check_fit(humanml3d, sets["HumanML3D"], root, paths, keys)
    rows = read_labels(labels) if labels else None
    if rows and not names_any(rows, paths):
        raise DataError(
            f"{labels}: none of its paths is a motion file of {root}",
            f"paths are relative to that folder, such as {paths[0]}",
        )
    labelling = Labelling(rows=rows, sets=sets, split=split, files=files)
    labelling.official_split(keys)
    return labelling


def _check_fit(folder: Path, said: Sequence[Annotation], root: Path, paths: Sequence[str], keys: Sequence[str]) -> None:
    if {annotation.key for annotation in said}.isdisjoint(keys):
        raise DataError(
            f"{folder}: none of its {len(said)} recordings is a file of {root}",
            f"looked for {said[0].path} under AMASS's old and new names; files there are such as {paths[0]}",
        )


def gather_captions(
    labelling: Labelling,
    paths: Sequence[str],
    keys: Sequence[str],
    takes: Sequence[Length],
    skipped: Sequence[str],
    fps: float,
) -> CaptionTable:
    """The captions of all motions; from their names only where nothing else was given.

    paths, keys (mclip.data.coverage), takes: of the motions; skipped: files that have none; fps: of the store.
    """
    table = CaptionTable()
    frames = [take.frames for take in takes]
    motions_of: dict[str, list[int]] = defaultdict(list)
    for motion, key in enumerate(keys):
        motions_of[key].append(motion)
    for name, said in labelling.sets.items():
        add_annotations(table, said, motions_of, takes, fps, name)
    if labelling.rows is not None:
        add_labels(table, labelling.rows, paths, frames, skipped, fps)
    elif not labelling.sets:
        add_names(table, paths, frames)
    note_bare(table, len(paths))
    return table
