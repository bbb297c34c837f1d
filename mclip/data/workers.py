"""Source files into journal entries, in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mclip.console import progress
from mclip.data.images import Drawing
from mclip.data.journal import Entry, digest, read_entry, write_entry
from mclip.data.sources import read_takes
from mclip.errors import DataError, MclipError
from mclip.files import sha256
from mclip.formats.folder import CHANGED, reason_of, stamp
from mclip.formats.pool import run_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything a worker needs to turn a file into an entry."""

    root: Path
    path: str
    journal: Path
    fps: float
    rig: Path | None
    drawing: Drawing | None
    key: str

    def absolute(self) -> Job:
        """The same for a worker with another working directory."""
        drawing = self.drawing
        if drawing is not None and drawing.body is not None:
            drawing = replace(drawing, body=drawing.body.absolute())
        return replace(
            self,
            root=self.root.absolute(),
            journal=self.journal.absolute(),
            rig=self.rig.absolute() if self.rig else None,
            drawing=drawing,
        )


def work(job: Job) -> Entry:
    """Find or make the entry of one file. Never raises because of the file."""
    source = job.root / job.path
    try:
        before = stamp(source)
        content = sha256(source)
    except OSError as error:
        return Entry(path=job.path, sha256="", reason=reason_of(error, source))
    file = job.journal / digest(job.key, job.path, content)
    entry = read_entry(file)
    if entry is not None:
        return entry
    try:
        takes = read_takes(source, fps=job.fps, rig=job.rig, drawing=job.drawing)
        reason = "" if takes else "holds no motion"
    except DataError as error:
        takes, reason = [], reason_of(error, source)
    except MclipError:
        # Not this file's fault: all would fail in the same way.
        raise
    except Exception as error:
        # Costs this file, not the run; not kept, for another run may have more memory, or a better reader.
        return Entry(path=job.path, sha256=content, reason=reason_of(error, source))
    if _stamp(source) != before:
        # Neither the content before nor the one after: not kept, for the next run to read it whole.
        return Entry(path=job.path, sha256="", reason=CHANGED)
    return write_entry(file, job.path, content, takes=takes, reason=reason)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return stamp(path)
    except OSError:
        return ()


def run_jobs(jobs: Sequence[Job], workers: int, dask: str | None = None) -> list[Entry]:
    """All entries, in any order. A worker that dies costs the file it was reading, if anything.

    dask: the address of the cluster that does the work, instead of processes of this machine.
    """
    entries: list[Entry] = []
    with progress("preprocess", len(jobs)) as bar:
        for job, entry in run_all(work, jobs, workers, dask):
            entries.append(entry or Entry(path=job.path, sha256="", reason="reading it ended the worker process"))
            bar.advance(note=job.path.rpartition("/")[2])
    return entries
