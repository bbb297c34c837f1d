"""What to generate and where to write it: prompt files, and output paths."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mclip.errors import UsageError
from mclip.formats import check_writable
from mclip.motion import summarize
from mclip.runtime.engine import shorten
from mclip.runtime.tasks import Prompt

# A million prompts of 60 characters.
MAX_PROMPT_BYTES = 64_000_000
_SUFFIX = ".npz"
_MAX_SLUG = 60


class Job(NamedTuple):
    """A prompt and the file its motion is written to; None until `plan` has chosen one."""

    prompt: Prompt
    path: Path | None = None


class PromptFile:
    """The prompts of a file: one a line, or JSONL objects with "text" and, if wanted, "seconds" and "out".

    Lines are parsed anew each time they are gone through: a hundred thousand need no more memory than the file.
    bad: what is wrong with the lines that are left out, by their numbers; empty lines are left out too
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        seconds: float | None = None,
        check: Callable[[Prompt], None] = lambda _: None,
    ) -> None:
        """name: of the file, for messages; seconds: of prompts that do not say.

        check: raises UsageError for a prompt that cannot be used.
        Raises UsageError for a file that is too large, or has no line that can be used.
        """
        if len(content) > MAX_PROMPT_BYTES:
            raise UsageError(f"{name}: is larger than {MAX_PROMPT_BYTES // 1_000_000} MB", "split it")
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UsageError(f"{name}: is UTF-16, not UTF-8 text", "save it as UTF-8")
        self._content, self._seconds = content.removeprefix(codecs.BOM_UTF8), seconds
        self.bad: dict[int, str] = {}
        self._length, asked = 0, set[str]()
        first: tuple[int, UsageError] | None = None
        for number, line in self._numbered():
            try:
                job = self._job(line)
                check(job.prompt)
                if job.path is not None:
                    check_writable(job.path)
                    # Some file systems do not tell upper from lower case.
                    if str(job.path).casefold() in asked:
                        raise UsageError(f'{job.path} is the "out" of a line above too')
                    asked.add(str(job.path).casefold())
                self._length += 1
            except UsageError as error:
                first = first or (number, error)
                self.bad[number] = error.message
        if first is not None and not self._length:
            line_number, cause = first
            more = f" (and {len(self.bad) - 1} more)" if len(self.bad) > 1 else ""
            raise UsageError(f"{name}:{line_number}: {cause.message}{more}", cause.hint)
        if not self._length:
            raise UsageError(f"{name}: holds no prompts", "write one prompt a line")

    def __len__(self) -> int:
        """The number of prompts."""
        return self._length

    def __iter__(self) -> Iterator[Job]:
        """The prompts that can be used, in the file's order; `out` is a path below the output folder."""
        return (self._job(line) for number, line in self._numbered() if number not in self.bad)

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        return ((number, line) for number, line in enumerate(io.BytesIO(self._content), 1) if line.strip())

    def _job(self, line: bytes) -> Job:
        try:
            job = _read_line(line.decode())
        except UnicodeDecodeError as error:
            raise UsageError(f"is not UTF-8 text ({error.reason} at byte {error.start})") from None
        if job.prompt.seconds is not None:
            return job
        return job._replace(prompt=job.prompt._replace(seconds=self._seconds))


def plan(jobs: Sequence[Job] | PromptFile, out: Path | None, *, folder: bool) -> Iterator[tuple[Prompt, Path]]:
    """The file of every job.

    folder: whether `out` is a folder (the working directory if None), in which files are named after their prompts;
    else it is the one job's file, or a folder if one of that name exists.
    Raises UsageError where the folder cannot be one.
    """
    if not folder and len(jobs) == 1 and out is not None and not out.is_dir():
        yield next(iter(jobs)).prompt, out
        return
    if folder and out is not None and (out.is_file() or (out.suffix and not out.is_dir())):
        free = out.with_suffix("")
        raise UsageError(f"{out}: several motions need a folder", f"-o {f'{free}-motions' if free.is_file() else free}")
    base = out or Path()
    # Some file systems do not tell upper from lower case.
    taken = {str(job.path).casefold() for job in jobs if job.path is not None}
    last: dict[str, int] = {}  # of the numbers after each name
    for job in jobs:
        picture = job.prompt.picture
        path = job.path or _free_name(picture.stem if picture else job.prompt.text, taken, last)
        yield job.prompt, base / path


def number(path: Path, variations: int) -> list[Path]:
    """The files of a motion's variations: "couch.npz" alone, or "couch-1.npz", "couch-2.npz" and so on."""
    if variations == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{place}{path.suffix}") for place in range(1, variations + 1)]


def check_outputs(paths: Iterable[Path], *, force: bool, command: str = "generate") -> None:
    """Raise UsageError for a path of no known format, or, without `force`, a file that `command` did not make."""
    for path in paths:
        check_writable(path)
        if path.is_dir():
            raise UsageError(f"{path}: is a folder", "choose another name with -o")
        if not force and path.exists() and not _is_made_by(command, path):
            raise UsageError(f"{path}: is already there, and mclip {command} did not make it", "--force overwrites it")


def _is_made_by(command: str, path: Path) -> bool:
    summary = summarize(path) if path.suffix.lower() == _SUFFIX else None
    return summary is not None and summary.origin.get("command") == command


def _read_line(line: str) -> Job:
    if not line.lstrip().startswith("{"):
        return Job(Prompt(line.strip()))
    try:
        table = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not readable JSON ({error})") from None
    if unknown := sorted(set(table) - {"text", "seconds", "out"}):
        raise UsageError(f'unknown key {unknown[0]!r}: a line has "text", and may have "seconds" and "out"')
    text, seconds, out = table.get("text"), table.get("seconds"), table.get("out")
    if not isinstance(text, str):
        raise UsageError('has no "text", such as {"text": "a person waves"}')
    if seconds is not None and (not isinstance(seconds, (int, float)) or isinstance(seconds, bool)):
        raise UsageError(f"seconds is {seconds!r}, not a number")
    try:
        length = None if seconds is None else float(seconds)
    except OverflowError:
        raise UsageError("seconds is too large") from None
    return Job(Prompt(text, length), _below(out))


def _below(out: Any) -> Path | None:
    """A relative path that stays below the output folder."""
    if out is None:
        return None
    path = PurePosixPath(out) if isinstance(out, str) and out.isprintable() else None
    if path is None or not path.name or path.is_absolute() or ".." in path.parts or Path(path).is_absolute():
        raise UsageError(f"out is {out!r}, not a path below the output folder")
    return Path(path)


def _free_name(text: str, taken: set[str], last: dict[str, int]) -> Path:
    """A file name after the text that is not taken; it is then."""
    slug = slugify(text)
    number = last.get(slug, 0)
    while True:
        number += 1
        name = f"{slug}{_SUFFIX}" if number == 1 else f"{slug}-{number}{_SUFFIX}"
        if name.casefold() not in taken:
            break
    last[slug] = number
    taken.add(name.casefold())
    return Path(name)


def slugify(text: str) -> str:
    """A text as a file name without suffix: "A man, walking" becomes "a-man-walking"."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    slug = ""
    for word in words:
        if len(slug) + 1 + len(word) > _MAX_SLUG:
            break
        slug = f"{slug}-{word}" if slug else word
    return slug or "".join(words)[:_MAX_SLUG] or "motion"


def low_confidence(text: str, caption: str, score: float) -> str:
    """The warning for a prompt unlike all captions."""
    return f"warning: {shorten(text)!r} is unlike what was trained on; nearest is {shorten(caption)!r} ({score:.2f})"
