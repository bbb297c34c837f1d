"""Work on many files at once: in processes of their own here, or on a cluster (mclip.formats.cluster)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Generic, TypeVar

from mclip.errors import UsageError

Job = TypeVar("Job")
Result = TypeVar("Result")


def check_workers(workers: int | None, dask: str | None) -> None:
    """Raise UsageError for --workers and --dask that nothing can be done with."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers is {workers}, and must be 1 or more")
    if workers is not None and dask is not None:
        raise UsageError("--workers are processes of this machine, --dask has workers of its own", "give one of them")


def run_all(
    work: Callable[[Job], Result], jobs: Iterable[Job], workers: int, dask: str | None = None
) -> Iterator[tuple[Job, Result | None]]:
    """`run_pool` with processes of this machine, or `run_cluster` with the Dask cluster at an address."""
    if dask is None:
        return run_pool(work, jobs, workers)
    from mclip.formats.cluster import run_cluster

    return run_cluster(work, jobs, dask)


def run_pool(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Result | None]]:
    """Each job with what `work`, a function of a module, makes of it, in any order; few jobs are taken ahead of time.

    A job that ends its process has None. What `work` raises is raised here, after the jobs under way were finished.
    """
    waiting = iter(jobs)
    while True:
        pool = _Pool(work, waiting, workers)
        yield from pool.results()
        if not pool.suspects:
            return
        for job in pool.suspects:
            # Alone in a fresh process it is clear whose fault it is.
            again = _Pool(work, iter([job]), 1)
            yield from again.results()
            if again.suspects:
                yield job, None


class _Pool(Generic[Job, Result]):
    """Processes that work on `waiting` until it is empty or one of them dies; suspects: what was under way then."""

    def __init__(self, work: Callable[[Job], Result], waiting: Iterator[Job], workers: int) -> None:
        self._work, self._waiting, self._workers = work, waiting, workers
        self.suspects: list[Job] = []

    def results(self) -> Iterator[tuple[Job, Result]]:
        running: dict[Future[Result], Job] = {}
        refused: list[Job] = []
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._workers, mp_context=context, initializer=_initialize)
        try:
            while True:
                for job in islice(self._waiting, 2 * self._workers - len(running)):
                    refused = [job]  # if a process has died since
                    running[pool.submit(self._work, job)] = job
                    refused = []
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool:
            self.suspects = [*running.values(), *refused]
        finally:
            pool.shutdown(cancel_futures=True)


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
