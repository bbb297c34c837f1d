"""The command line: `app`, and `main`, the one place where an MclipError becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator

import typer

from mclip import __version__
from mclip.errors import AssetError, MclipError

app = typer.Typer(
    name="mclip",
    help="Human motion from a sentence: generate, view and convert SMPL motion, and train the model that does it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Each command is one module of this package with a function of the same name.
COMMANDS: tuple[str, ...] = ("generate", "view", "convert", "preprocess", "train", "export", "evaluate")

# Commands are imported below; they need this module's `need`.
for _name in COMMANDS:
    _module = importlib.import_module(f"mclip.cli.{_name}")
    app.command(_name)(getattr(_module, _name))


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


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _interrupted(_signal: int, _frame: object) -> None:
    from mclip.console import err

    err("mclip: interrupted; what was finished is kept")
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and leave with the exit code of DESIGN: see mclip.errors."""
    # One BLAS thread: start-up is a third faster, and the graphs have threads of their own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # typer ends with 130 on an interrupt, but says nothing.
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app()
    except MclipError as error:
        from mclip.console import err

        err(f"mclip: {error.message}")
        if error.hint:
            err(f"  {error.hint}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our stdout went away: not an error, and nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
