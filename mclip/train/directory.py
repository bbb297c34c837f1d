"""A run directory: whose it is, which one process at a time trains in it, and its curves."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mclip.errors import DataError, UsageError
from mclip.files import cannot_write, new_folder, open_regular, sweep, write_text
from mclip.locks import locked
from mclip.recipe import Recipe
from mclip.train.checkpoint import latest_checkpoint, recorded, sweep_checkpoints

# As many as mclip view draws (mclip.view.run).
MAX_CURVES_BYTES = 64 * 2**20
CURVES, RECIPE, CAPTIONS = "curves.csv", "recipe.json", ".captions.safetensors"
_LOCK = ".lock"
_STEP = re.compile(r"[0-9]{1,18}")
_ANEW = "choose another directory with -o, or delete this one to train anew"


def check_run(run: Path, recipe: Recipe) -> Path | None:
    """The newest checkpoint of a run directory; UsageError if it is, or holds, anything but a run of this recipe."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run}: is a file, not a run directory", "choose another with -o")
    checkpoint = latest_checkpoint(run)
    if checkpoint is not None and recorded(checkpoint)[0] != recipe:
        raise UsageError(f"{run}: holds a run of another recipe", _ANEW)
    foreign = run.is_dir() and any(not path.name.startswith(".") for path in run.iterdir())
    if checkpoint is None and foreign and not (run / CURVES).is_file():
        raise UsageError(f"{run}: is a folder with other things in it", "choose another directory with -o")
    return checkpoint


def check_store(checkpoint: Path, store: Path, digest: str) -> None:
    """Raise UsageError if a checkpoint was trained on another content than that of the store of this digest."""
    if recorded(checkpoint)[1] not in ("", digest):
        raise UsageError(
            f"{checkpoint}: was trained on {store} before that changed; what goes on from it would be neither's run",
            f"put the old store back, or {_ANEW}",
        )


@contextmanager
def owned(run: Path) -> Iterator[None]:
    """A block in which no other process trains in a run directory, which is made.

    Raises UsageError while another process does, or when the directory cannot be written.
    """
    hint = "wait for it, or choose another directory with -o"
    with ExitStack() as stack:
        try:
            stack.enter_context(new_folder(run))
            stack.enter_context(locked(run / _LOCK, f"{run}: another mclip train is writing it", hint))
        except OSError as error:
            raise cannot_write(run, error) from None
        sweep_checkpoints(run)
        for name in (CURVES, RECIPE, CAPTIONS):
            sweep(run / name)
        yield


class Curves:
    """Means of the unweighted terms of the loss, one CSV line per interval.

    Lines past the checkpoint resumed from are dropped.
    """

    def __init__(self, path: Path, step: int, terms: tuple[str, ...], interval: Mapping[str, Any]) -> None:
        """interval: what `interval` said when the checkpoint of `step` was written."""
        self._path, self._sums, self._count = path, dict.fromkeys(("total", *terms), 0.0), 0
        if interval:
            self._sums |= {name: float(value) for name, value in interval["sums"].items() if name in self._sums}
            self._count = int(interval["count"])
        lines = _lines(path) if step else []
        kept = [line for line in lines[1:] if self._is_known(line, step)]
        write_text(path, ",".join(("step", *self._sums)) + "\n" + "".join(kept))

    def _is_known(self, line: str, step: int) -> bool:
        # A full disk may have cut the last line.
        cells = line.split(",")
        whole = line.endswith("\n") and len(cells) == len(self._sums) + 1
        return whole and _STEP.fullmatch(cells[0]) is not None and int(cells[0]) <= step

    @property
    def interval(self) -> dict[str, Any]:
        """What was added since the last line."""
        return {"count": self._count, "sums": dict(self._sums)}

    def add(self, terms: Mapping[str, float]) -> None:
        for name, value in terms.items():
            self._sums[name] += value
        self._count += 1

    def write(self, step: int) -> dict[str, float]:
        means = {name: value / self._count for name, value in self._sums.items()}
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([step, *(f"{value:.6g}" for value in means.values())])
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._sums, self._count = dict.fromkeys(self._sums, 0.0), 0
        return means


def _lines(path: Path) -> list[str]:
    """The lines of a run's curves, none if there is no such file. Raises DataError."""
    hint = "move it elsewhere to go on without what it says"
    try:
        with open_regular(path) as file:
            content = file.read(MAX_CURVES_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})", hint) from None
    if len(content) > MAX_CURVES_BYTES:
        raise DataError(f"{path}: larger than {MAX_CURVES_BYTES >> 20} MiB", hint)
    return content.decode(errors="replace").splitlines(keepends=True)
