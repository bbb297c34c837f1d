"""Where `edit` and `interpolate` write when they make several motions, and what their files are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mclip.errors import UsageError
from mclip.formats import SUFFIXES, WRITABLE
from mclip.runtime.bases import Source
from mclip.runtime.prompts import slugify

SHEET = "sheet.png"
# A name made of many terms ends here.
_MAX_NAME = 80


def default_stem(first: Source, words: Sequence[str]) -> Path:
    """A path without suffix, named after a source and what is done to it; beside the source if that is a file."""
    folder = Path(first.name).parent if first.motion is not None else Path()
    names = [_slug(first.name), *(_slug(word) for word in words)]
    return folder / "-".join(names)[:_MAX_NAME].rstrip("-")


def in_folder(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of these names, without suffix, in a folder. Raises UsageError where a folder cannot be."""
    if folder.is_file() or (folder.suffix.lower() in (*SUFFIXES, *WRITABLE, ".png") and not folder.is_dir()):
        free = folder.with_suffix("")
        raise UsageError(
            f"{folder}: several motions need a folder", f"-o {f'{free}-motions' if free.is_file() else free}"
        )
    return [folder / f"{name}.npz" for name in names]


def not_inputs(paths: Sequence[Path], sources: Sequence[Source]) -> None:
    """Raise UsageError if writing one of `paths` would replace one of the motions that were read."""
    for source in sources:
        if source.motion is not None:
            for path in paths:
                if path.exists() and path.samefile(source.name):
                    raise UsageError(f"{path}: the output would replace the input", "choose another name with -o")


def _slug(name: str) -> str:
    """A text or the name of a motion file, as part of a file name."""
    path = Path(name)
    return slugify(path.stem if path.suffix.lower() in SUFFIXES else name)
