"""mclip commands in a process that is watched, with its workers: MCLIP_AUDIT=EVENTS python tests/audited.py COMMANDS

COMMANDS: a JSON list of argument lists. EVENTS, lines of JSON: what Python's audit hooks (PEP 578) were told of
unpickling, made code, other programs, the network and changes of files, each with the source files of those who called,
innermost first; and the exit code of each command.

Nothing of mclip, nor of what it stands on, is imported before the hook is in place.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Events by the first part of their name; https://docs.python.org/3/library/audit_events.html
_WATCHED = frozenset(
    "pickle exec compile subprocess pty socket urllib http ftplib smtplib webbrowser shutil open tempfile".split()
)
_WATCHED_OS = frozenset(
    "system exec posix_spawn spawn fork forkpty startfile rename remove mkdir rmdir link symlink truncate chmod chown "
    "utime".split()
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(path: str) -> Callable[[str, list[Any], list[str]], None]:
    """From now on append what this process does to the file `path`; the function that adds a line of one's own."""
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str, values: list[Any], files: list[str]) -> None:
        os.write(out, json.dumps({"event": event, "values": values, "files": files}).encode() + b"\n")

    def hook(event: str, values: tuple[Any, ...]) -> None:
        first, _, rest = event.partition(".")
        if first not in _WATCHED and (first != "os" or rest not in _WATCHED_OS):
            return
        if event == "open" and not (isinstance(values[2], int) and values[2] & _WRITING):
            return
        files = _callers()
        # Importing a module is making code, from files that are installed.
        if event in ("compile", "exec") and files and files[0].startswith("<frozen importlib"):
            return
        note(event, [_plain(value) for value in values], files)

    sys.addaudithook(hook)
    return note


def _callers() -> list[str]:
    frame, files = sys._getframe(2), []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back  # type: ignore[assignment]
    return files


def _plain(value: Any) -> Any:
    """What JSON can hold: of code, all names and constants."""
    if isinstance(value, bytes | bytearray):
        return os.fsdecode(bytes(value))
    if hasattr(value, "co_consts"):
        return f"{value.co_filename} {value.co_name} {value.co_names} {value.co_consts}"
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, str | int | float | None) else repr(value)


def run(commands: list[list[str]], note: Callable[[str, list[Any], list[str]], None]) -> None:
    """Run mclip once for each list of arguments."""
    from mclip.cli import main

    for arguments in commands:
        if arguments[0] == "train":
            # A CLIP of a few megabytes, see tests.clips.
            from mclip.nn import clip
            from tests.clips import SMALL_SHAPES

            clip.SHAPES = SMALL_SHAPES
        sys.argv = ["mclip", *arguments]
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        note("exit", [arguments[0], code], [])


if __name__ == "__main__":
    noted = watch(os.environ["MCLIP_AUDIT"])
    sys.path.insert(0, str(ROOT))
    run(json.loads(sys.argv[1]), noted)
elif __name__ == "__mp_main__":
    # A worker begins with its parent's main module.
    watch(os.environ["MCLIP_AUDIT"])
