"""What all commands have besides their own options: --quiet and --verbose."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption


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
