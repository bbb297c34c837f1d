"""The command line: `app`, and `main`, the one place where an MclipError becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from mclip import __version__
from mclip.cli.command import Command
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
}


class _Commands(TyperGroup):
    """Commands whose modules are loaded when they are called: typer takes long to read the options of all of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # typer lists and suggests these names.
        self.commands = dict.fromkeys(COMMANDS, TyperCommand(None))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = typer.Typer(add_completion=False, rich_markup_mode=None)
        command.command(cmd_name, cls=Command, context_settings=_SETTINGS)(
            getattr(importlib.import_module(f"mclip.cli.{cmd_name}"), cmd_name)
        )
        return get_command(command)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="mclip",
    cls=_Commands,
    help="Human motion from a sentence: generate, view and convert SMPL motion, and train the model that does it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)

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


def _version(value: bool) -> None:
    if value:
        typer.echo(f"mclip {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _interrupted(_signal: int, _frame: object) -> None:
    from mclip.console import err

    # A second one is meant: end at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    err("mclip: interrupted; what was finished is kept", urgent=True)
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and leave with the exit code of DESIGN: see mclip.errors."""
    # One BLAS thread: start-up is a third faster, and the graphs have threads of their own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # typer ends with 130 on an interrupt, but says nothing.
    signal.signal(signal.SIGINT, _interrupted)
    try:
        sys.exit(app(standalone_mode=False))
    except MclipError as error:
        _fail(error.message, error.hint, error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "mclip":
            raise
        _fail(f"the package {error.name} is missing", "install mclip again", AssetError.exit_code)
    except OSError as error:
        # What no layer below has words for: a name longer than any file system takes, a disk that dies.
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", "", UsageError.exit_code)
    except MemoryError:
        _fail("there is not enough memory", "try fewer or shorter motions", MclipError.exit_code)
    except Exception as error:
        # typer keeps the classes of its usage errors to itself; all of them have this method.
        if not hasattr(error, "format_message"):
            raise
        context: typer.Context | None = getattr(error, "ctx", None)
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
