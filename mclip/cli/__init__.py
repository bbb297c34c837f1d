"""The command line: `app`, and `main`, the one place where an MclipError becomes a message and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any, NoReturn

from mclip.cli import plain
from mclip.errors import AssetError, MclipError, UsageError

# Each command is one module of this package with a function of the same name, whose docstring begins with this line.
COMMANDS: dict[str, str] = {
    "generate": "Make motions from text, or from pictures.",
    "edit": "Change a motion by what is added and taken away.",
    "interpolate": "Make motions between motions.",
    "classify": "Say what motions show, among labels of your choice.",
    "search": "Find motions by what they show, or by an example.",
    "view": "Look at motions.",
    "convert": "Turn motion files into another format, on SMPL's skeleton.",
    "preprocess": "Read a folder of motion files into one store for training.",
    "train": "Train a model from a store and a recipe.",
    "export": "Turn a trained model into a pack, which runs without torch.",
    "evaluate": "Measure a pack on held-out recordings.",
    "doctor": "Say what works on this machine, and how to fix what does not.",
}


# Objects made before Python looks for garbage among them.
_GARBAGE = 50_000
# An error of ours stays below; those of other programs may go on for pages.
MAX_LINE = 1000


@contextlib.contextmanager
def need(extra: str) -> Iterator[None]:
    """Around imports that need an optional extra: a missing package becomes a sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "mclip":
            raise
        raise AssetError(f"this command needs the package {error.name}", f'pip install "mclip[{extra}]"') from None


_IMPORTING = "<frozen importlib._bootstrap>"
# Seconds after which an interrupt that came while a module was loaded is tried again.
_SOON = 0.05


def _interrupted(_signal: int, frame: types.FrameType | None) -> None:
    while frame is not None:
        # Compiled modules do not survive an exception while they are loaded, and some turn it into another.
        if frame.f_code.co_filename == _IMPORTING:
            later = threading.Timer(_SOON, signal.raise_signal, [signal.SIGINT])
            later.daemon = True
            later.start()
            return
        frame = frame.f_back
    # A second one is meant: end at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mclip.console import err

    err("mclip: interrupted; what was finished is kept", urgent=True)
    raise KeyboardInterrupt


def __getattr__(name: str) -> Any:
    """`app`, which loads typer, when it is asked for."""
    if name != "app":
        raise AttributeError(f"module 'mclip.cli' has no attribute {name!r}")
    return importlib.import_module("mclip.cli.command").app


def run() -> None:
    """`main`, and an end at once: taking all that was loaded apart takes Python as long as a tenth of a command."""
    try:
        main()
    except SystemExit as stop:
        # Whatever still has to be waited for, or has more to say, ends as it always does.
        threads = sum(not thread.daemon for thread in threading.enumerate())
        waits = threads > 1 or "multiprocessing" in sys.modules
        if waits or not isinstance(stop.code, int | None):
            raise
        atexit._run_exitfuncs()
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except OSError:
            raise stop from None
        os._exit(stop.code or 0)


def _call(words: list[str]) -> Any:
    """Do what a command line says, and return the exit code."""
    if call := plain.read(words, tuple(COMMANDS)):
        return call()
    from mclip.cli.command import app

    return app(standalone_mode=False)


def main() -> None:
    """Run the command line and leave with the exit code of DESIGN: see mclip.errors."""
    # One BLAS thread, whatever the environment says: start-up is a third faster, the graphs have threads of their own,
    # and numpy's products differ in their last bits with the number of threads.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # What is loaded stays: looking for garbage among it takes a tenth of a short command's time.
    gc.set_threshold(_GARBAGE)
    signal.signal(signal.SIGINT, _interrupted)
    try:
        sys.exit(_call(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)  # as typer does
    except MclipError as error:
        _fail(error.message, error.hint, error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "mclip":
            raise
        _fail(f"the package {error.name} is missing", "install mclip again", AssetError.exit_code)
    except ImportError as error:
        # Of what is there: the system gave no memory to load it, or it is of another Python.
        reason = (str(error.__cause__ or error).strip().splitlines() or ["?"])[-1]
        _fail(f"a package cannot be loaded: {reason}", "mclip doctor; it may also want memory", AssetError.exit_code)
    except OSError as error:
        # What no layer below has words for: a name longer than any file system takes, a disk that dies.
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", "", UsageError.exit_code)
    except MemoryError:
        _fail("there is not enough memory", "try fewer or shorter motions", MclipError.exit_code)
    except Exception as error:
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            _fail("the system starts no more threads", "its limits: ulimit -u, ulimit -v", MclipError.exit_code)
        # typer keeps the classes of its usage errors to itself; all of them have this method.
        if not hasattr(error, "format_message"):
            raise
        context: Any = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context else ""
        _fail(error.format_message(), hint, UsageError.exit_code)


def _fail(message: str, hint: str, code: int) -> NoReturn:
    """Say what is wrong in at most two lines, and leave."""
    from mclip.console import err, manner

    if manner.verbose:
        import traceback

        err(traceback.format_exc().rstrip(), urgent=True)
    err(f"mclip: {_line(message)}", urgent=True)
    if hint:
        err(f"  {_line(hint)}", urgent=True)
    sys.exit(code)


def _line(text: str) -> str:
    """One line for a terminal: file names and other programs' messages may hold anything."""
    line = " ".join(text.splitlines())
    line = line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..."
    # Lone surrogates are bytes of a file name; err escapes them.
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else f"\\x{ord(c):02x}" for c in line)
