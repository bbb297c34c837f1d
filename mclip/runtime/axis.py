"""Directions kept for later: `edit --save-axis angry.json`, `edit --axis angry.json`.

A JSON object with exactly these keys:

    kind         "mclip axis"
    format       2
    name         what was added and removed, as one line
    pack         name of the pack
    pack_sha256  which pack exactly; another one's latents mean other things
    manner       true if it changes no more than a style
    vector       D finite numbers
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import DataError, PackError, UsageError, shown
from mclip.files import write_text
from mclip.runtime.engine import Engine, shorten

_KIND, _FORMAT = "mclip axis", 2
_KEYS = ("kind", "format", "name", "pack", "pack_sha256", "manner", "vector")
# The widest latent a pack may have, at 25 characters a number.
_MAX_BYTES = 2_000_000


def save_axis(path: Path, engine: Engine, name: str, vector: NDArray[np.float32], *, manner: bool) -> None:
    """Write a direction (D,) of the engine's pack, atomically; see `Direction` for `manner`."""
    manifest = engine.manifest
    values = [_KIND, _FORMAT, name, manifest.name, engine.pack.digest, manner, vector.astype(np.float64).tolist()]
    write_text(path, json.dumps(dict(zip(_KEYS, values, strict=True)), ensure_ascii=False, allow_nan=False) + "\n")


def load_axis(path: Path, engine: Engine) -> tuple[str, NDArray[np.float32], bool]:
    """Name, direction (D,) and whether it is one of manner, from a file.

    Raises DataError if it is no axis, PackError if it is another pack's.
    """
    table = _read(path)
    if table["pack_sha256"] != engine.pack.digest:
        raise PackError(
            f"{path}: belongs to the pack {shorten(shown(table['pack']))} "
            f"({shown(table['pack_sha256'], 13)}), not to {engine.manifest.name!r} ({engine.pack.digest[:12]})",
            "choose its pack with --pack, or make the axis again with --save-axis",
        )
    vector = table["vector"]
    if (
        not isinstance(vector, list)
        or len(vector) != engine.manifest.latent
        or not all(type(value) in (int, float) and abs(value) < 1e6 for value in vector)
    ):
        raise DataError(f"{path}: vector is not {engine.manifest.latent} finite numbers", "make it with --save-axis")
    name = table["name"] if isinstance(table["name"], str) else shown(table["name"])
    return name, np.array(vector, np.float32), table["manner"] is True


def check_axis_output(path: Path, *, force: bool) -> None:
    """Raise UsageError for a path an axis should not be written to: not .json, or a file that is none of ours."""
    if path.suffix.lower() != ".json":
        raise UsageError(f"{path}: an axis is a .json file", f"--save-axis {path.stem}.json")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", "name a file with --save-axis")
    if path.exists() and not force:
        try:
            _read(path)
        except DataError:
            raise UsageError(f"{path}: is already there, and is no axis", "--force overwrites it") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: is larger than any axis", "make it with mclip edit --save-axis")
    try:
        table = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict) or table.get("kind") != _KIND or "format" not in table:
        raise DataError(f"{path}: is not an axis", "mclip edit --save-axis makes one")
    if table["format"] != _FORMAT:
        hint = "make it again with mclip edit --save-axis"
        raise DataError(f"{path}: has format {shown(table['format'])}, this mclip reads {_FORMAT}", hint)
    if set(table) != set(_KEYS):
        raise DataError(f"{path}: is not an axis", "mclip edit --save-axis makes one")
    return table
