"""What the user sees: results on stdout, everything else on stderr, progress in between."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

# A log file wants a line now and then, not a bar.
PLAIN_INTERVAL_S = 10.0


def out(text: str) -> None:
    """Print one line of the result to stdout."""
    sys.stdout.write(text + "\n")


def err(text: str) -> None:
    """Print one line that is not the result to stderr."""
    sys.stderr.write(text + "\n")


def emit(result: dict[str, Any], *, as_json: bool, text: str) -> None:
    """Print the result: one JSON object with `as_json`, else `text`."""
    out(json.dumps(result, ensure_ascii=False) if as_json else text)


class Progress(Protocol):
    """What `progress` yields."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` is shown beside the bar."""


class _Bar:
    """A rich progress bar with rate and time left."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bar.update(self._task, advance=steps, note=note)


class _Lines:
    """A plain line every PLAIN_INTERVAL_S seconds."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._done, self._first = title, total, done, done
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            rate = (self._done - self._first) / (now - self._start)
            left = (self._total - self._done) / rate if rate > 0 else float("inf")
            line = f"{self._title} {self._done}/{self._total}  {rate:.3g}/s  {duration(left)} left"
            err(f"{line}  {note}" if note else line)


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    if seconds == float("inf"):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, else a plain line every ten seconds.

    total: how many steps there are; done: how many of them an earlier run finished.
    """
    if not sys.stderr.isatty():
        yield _Lines(title, total, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar, bar.add_task(title, total=total, completed=done, note=""))
