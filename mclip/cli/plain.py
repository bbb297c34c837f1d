"""The short way into a command: typer takes a tenth of a second to load, and most command lines are plain.

A line of a command's name, words, and options written out is read here, by the command's own signature. Whatever else
it may be (help, a mistake, an option this does not know) is left to typer, whose answer is the same for plain lines.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

_SHARED = ("quiet", "verbose")
_COMPLETION = "_MCLIP_COMPLETE"


class _Given(NamedTuple):
    """What a command's signature says of one parameter. names: of an option; none for an argument."""

    names: tuple[str, ...]
    kind: Any
    many: bool
    required: bool


def read(words: Sequence[str], commands: Sequence[str]) -> Callable[[], None] | None:
    """The call that a command line asks for; None if it is not plain."""
    if not words or words[0] not in commands or {"-h", "--help"} & {*words}:
        return None
    if os.name == "nt" or _COMPLETION in os.environ:
        return None
    function = getattr(importlib.import_module(f"mclip.cli.{words[0]}"), words[0])
    parameters = _parameters(function)
    manner = dict.fromkeys(_SHARED, False)
    values = None if parameters is None else _values(words[1:], parameters, manner)
    if values is None:
        return None
    from mclip.console import manner as shown

    for name, value in manner.items():
        setattr(shown, name, value)
    return partial(function, **values)


def _parameters(function: Callable[..., None]) -> dict[str, _Given] | None:
    """What a command takes; None if there is more to it than names and types."""
    # Signatures are text until they are evaluated: here with a typer that only keeps the names of options.
    typer = types.SimpleNamespace(Option=partial(_names, None), Argument=partial(_names, ()))
    scope = {**vars(sys.modules[function.__module__]), "typer": typer}
    found = {}
    annotations = get_type_hints(function, scope, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = annotations[name]
        if get_origin(annotation) is not Annotated:
            return None
        kind, names = get_args(annotation)
        kinds = [item for item in get_args(kind) or (kind,) if item is not types.NoneType]
        many = get_origin(kind) is list or get_origin(kinds[0]) is list
        kind = (get_args(kinds[0]) or kinds)[0]
        if names is False or not isinstance(names, tuple | None) or kind not in (str, int, float, bool, Path):
            return None
        required = parameter.default is inspect.Parameter.empty
        found[name] = _Given((f"--{name.replace('_', '-')}",) if names is None else names, kind, many, required)
    return found


def _names(default: tuple[str, ...] | None, *names: str, help: str, **more: object) -> tuple[str, ...] | bool | None:
    """The names of an option, None where it is called like its parameter; False if more is known of it than names."""
    plain = set(more) <= {"metavar"} and all(name.startswith("-") and "/" not in name for name in names)
    return (names or default) if plain else False


def _values(words: Sequence[str], parameters: dict[str, _Given], manner: dict[str, bool]) -> dict[str, Any] | None:
    """The values of the parameters that a line names; None if it is not plain."""
    options = {option: name for name, given in parameters.items() for option in given.names}
    values: dict[str, Any] = {}
    loose: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            loose.append(word)
            continue
        if word[2:] in manner and word.startswith("--"):
            manner[word[2:]] = True
            continue
        option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        name = options.get(option)
        if name is None or (name in values and not parameters[name].many):
            return None
        if parameters[name].kind is bool:
            if equals:
                return None
            values[name] = True
            continue
        if not equals:
            value = rest.pop(0) if rest else ""
        if not _take(values, name, parameters[name], value):
            return None
    arguments = [name for name, given in parameters.items() if not given.names]
    for name in arguments:
        taken, loose = (loose, []) if parameters[name].many else (loose[:1], loose[1:])
        if not all(_take(values, name, parameters[name], word) for word in taken):
            return None
    missing = any(given.required and name not in values for name, given in parameters.items())
    return None if loose or missing else values


def _take(values: dict[str, Any], name: str, given: _Given, word: str) -> bool:
    """Add a word to a parameter's values, as its type; False if typer is to judge it."""
    if not word or (word.startswith("-") and word != "-"):
        return False
    try:
        value = given.kind(word)
    except ValueError:
        return False
    if given.many:
        values.setdefault(name, []).append(value)
    else:
        values[name] = value
    return True
