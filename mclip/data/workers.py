"""Source files into journal entries, in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from mclip.console import progress
from mclip.data.images import Drawing
from mclip.data.journal import Entry, digest, read_entry, write_entry
from mclip.data.sources import read_takes, reason_of
from mclip.errors import DataError, MclipError
from mclip.files import sha256


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


def _initialize() -> None:
    """Make a worker end with its parent, even when that is killed."""
    # Ctrl-C reaches every process of the terminal; the parent alone answers, and lets the files under way be finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def work(job: Job) -> Entry:
    """Find or make the entry of one file. Never raises because of the file."""
    source = job.root / job.path
    try:
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
    return write_entry(file, job.path, content, takes=takes, reason=reason)


def run_jobs(jobs: Sequence[Job], workers: int) -> list[Entry]:
    """All entries, in any order. A worker that dies costs the file it was reading."""
    entries: list[Entry] = []
    waiting = deque(jobs)
    with progress("preprocess", len(jobs)) as bar:

        def finish(entry: Entry) -> None:
            entries.append(entry)
            bar.advance(note=entry.path.rpartition("/")[2])

        while waiting:
            suspects = _pool_run(waiting, min(workers, len(waiting)), finish)
            for job in suspects:
                # Alone in a fresh process it is clear whose fault it is.
                if _pool_run(deque([job]), 1, finish):
                    finish(Entry(path=job.path, sha256="", reason="reading it ended the worker process"))
    return entries


def _pool_run(waiting: deque[Job], workers: int, finish: Callable[[Entry], None]) -> list[Job]:
    """Work on `waiting` until it is empty or a worker dies; returns the jobs that were under way then."""
    context = multiprocessing.get_context("spawn")
    running: dict[Future[Entry], Job] = {}
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_initialize)
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                running[pool.submit(work, waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                entry = future.result()
                del running[future]
                finish(entry)
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(cancel_futures=True)
    return []
