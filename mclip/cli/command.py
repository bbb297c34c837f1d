"""The command line as typer sees it: `app`, and what all commands have besides their own options."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from mclip import __version__
from mclip.cli import COMMANDS


class Command(TyperCommand):
    """A command with --quiet and --verbose."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own options, and those of all commands."""
        return [*super().get_params(ctx), *_SHARED]


def _set_manner(_context: object, option: Any, value: bool) -> bool:
    # Commands may run one after another in a process: each starts anew.
    from mclip.console import manner

    setattr(manner, option.name, value)
    return value


_SHARED = [
    TyperOption(
        param_decls=[f"--{name}"], is_flag=True, default=False, expose_value=False, callback=_set_manner, help=text
    )
    for name, text in (
        ("quiet", "Say nothing but results and errors."),
        ("verbose", "Name every file skipped, and say where in mclip an error arose."),
    )
]


_SETTINGS = {"help_option_names": ["-h", "--help"]}


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
        module = importlib.import_module(f"mclip.cli.{cmd_name}")
        # Its annotations name typer, which the module does without until they are evaluated: here.
        vars(module).setdefault("typer", typer)
        command.command(cmd_name, cls=Command, context_settings=_SETTINGS)(getattr(module, cmd_name))
        return get_command(command)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    name="mclip",
    cls=_Commands,
    help="Human motion from a sentence: generate, view and convert SMPL motion, and train the model that does it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)


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
