"""What the user sees: results on stdout, everything else on stderr, progress in between."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

from mclip import __version__
from mclip.errors import UsageError
from mclip.files import open_own

# Reasons and paths shown of each kind; --json has them all.
_SHOWN_REASONS, _SHOWN_PATHS = 10, 3
# Bytes of results kept in memory until they are printed.
_IN_MEMORY = 1_000_000
# A log file wants a line now and then, not a bar.
PLAIN_INTERVAL_S = 10.0


def out(text: str, end: str = "\n") -> None:
    """Print a line of the result, or a part of one, to stdout. Raises UsageError when it takes nothing more."""
    if sys.stdout is None:  # closed before we began
        return
    try:
        sys.stdout.write(_encodable(text, sys.stdout) + end)
        # Now, while what goes wrong can still be told.
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away: not an error, and nothing more to say to it.
        _discard_stdout()
    except OSError as error:
        _discard_stdout()
        raise UsageError(f"stdout: cannot write there ({error.strerror or error})", "what was made is kept") from None


@dataclass(slots=True)
class _Manner:
    """How much is said, and where it is kept: set once, for the command that runs."""

    quiet: bool = False
    verbose: bool = False
    log: Path | None = None
    begun: bool = False  # whether the log's folder is the command's own
    waiting: list[str] = field(default_factory=list)  # for that


manner = _Manner()


def err(text: str, *, urgent: bool = False) -> None:
    """Print one line that is not the result to stderr; a quiet command prints urgent ones only, its errors."""
    record("message", {"text": text})
    if sys.stderr is None or (manner.quiet and not urgent):
        return
    # Nobody is left to tell.
    with suppress(OSError):
        sys.stderr.write(_encodable(text, sys.stderr) + "\n")


def record(event: str, values: Mapping[str, object]) -> None:
    """Add a line to the command's log, if it keeps one: the time, the event, and what is known of it."""
    if manner.log is None:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manner.waiting.append(json.dumps({"time": now, "event": event, **values}, default=str) + "\n")
    if manner.begun:
        begin_log()


def begin_log() -> None:
    """Write the command's log from now on, if it keeps one: its folder is there, and the command may write into it."""
    manner.begun = True
    # A log is no reason to fail.
    if manner.log is not None:
        with suppress(OSError), open_own(manner.log) as file:
            file.write("".join(manner.waiting).encode())
            manner.waiting.clear()


@contextmanager
def logged(path: Path, command: str, values: Mapping[str, object]) -> Iterator[None]:
    """Keep a log of a long command: a JSON line when it starts, for whatever is said meanwhile, and when it ends.

    Nothing is written before `begin_log`: a command that refuses a folder leaves it as it is.
    """
    manner.log, manner.begun = path, False
    record("start", {"command": command, "version": __version__, **values})
    start = time.monotonic()
    try:
        yield
    except BaseException as error:
        seconds = round(time.monotonic() - start, 1)
        record("end", {"seconds": seconds, "error": type(error).__name__, "text": str(error)})
        raise
    else:
        record("end", {"seconds": round(time.monotonic() - start, 1)})
    finally:
        manner.log = None
        manner.waiting.clear()


def emit(result: dict[str, Any], *, as_json: bool, text: str) -> None:
    """Print the result: one JSON object with `as_json`, else `text`."""
    out(_json(result) if as_json else text)


def _json(value: Any) -> str:
    """JSON that stdout can show."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    readable = line.encode(encoding, "replace").decode(encoding) == line
    return line if readable else json.dumps(value, allow_nan=False)


class Results:
    """Any number of results that are printed together, in a temporary file until then."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", errors="surrogatepass")

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, result: dict[str, Any], text: str) -> None:
        """One more: an object with `as_json`, else its text."""
        self._file.write((_json(result) if self._as_json else text) + "\n")

    def emit(self, name: str, rest: dict[str, Any]) -> None:
        """Print them: one JSON object that has them as list `name`, then `rest`; or their texts."""
        self._file.seek(0)
        lines = (line.removesuffix("\n") for line in self._file)
        if not self._as_json:
            for line in lines:
                out(line)
            return
        out(f'{{"{name}": [', end="")
        for number, line in enumerate(lines):
            out(f", {line}" if number else line, end="")
        out(f"], {_json(rest)[1:]}")


def _encodable(text: str, stream: TextIO) -> str:
    """The text, with what the stream cannot show (half of a broken file name, a letter of another alphabet) escaped."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _discard_stdout() -> None:
    """Let what is still in stdout's buffer go nowhere when Python ends, instead of failing once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def skipped_lines(skipped: Sequence[tuple[str, str]]) -> list[str]:
    """Lines about files that were skipped, (path, reason) each, grouped by reason; those that differ in numbers only
    are one."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, reason in skipped:
        groups[re.sub(r"\d+(\.\d+)?", "0", reason)].append((path, reason))
    ordered = sorted(groups.values(), key=len, reverse=True)
    if manner.verbose:
        return [f"skipped: {reason}: {path}" for group in ordered for path, reason in group]
    lines = []
    for group in ordered[:_SHOWN_REASONS]:
        more = f", ... ({len(group)})" if len(group) > _SHOWN_PATHS else ""
        lines.append(f"skipped: {group[0][1]}: {', '.join(path for path, _ in group[:_SHOWN_PATHS])}{more}")
    if len(ordered) > _SHOWN_REASONS:
        lines.append(
            f"skipped: {sum(map(len, ordered[_SHOWN_REASONS:]))} more for other reasons; --json lists them all"
        )
    return lines


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text: a rich table on a terminal, else aligned columns, one row a line."""
    # Names of files may hold anything, line breaks included.
    cells = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in rows]
    if sys.stdout is None or not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join(line.rstrip() for line in lines)
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*header)
    for row in cells:
        drawn.add_row(*map(Text, row))  # Text: file names are no markup
    console = Console(file=sys.stdout)
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().rstrip("\n")


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV with a header, without the last line's end."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue().removesuffix("\n")


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
    if sys.stderr is None or not sys.stderr.isatty() or manner.quiet:
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
