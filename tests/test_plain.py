"""Plain command lines mean what typer takes them for."""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

import pytest

from mclip.cli import COMMANDS, plain
from mclip.cli.command import app
from mclip.console import manner

PLAIN = [
    ["generate", "couch"],
    ["generate", "an old man", "kick", "-o", "out dir", "--variations", "4", "--seed=7", "--json"],
    ["generate", "--file", "-", "--fps", "1e1", "--strict", "--force", "--quiet"],
    ["generate", "--image", "a.png", "--image", "b.png", "--seconds", " 2 ", "--device", "cpu"],
    ["generate", "couch", "--out=a=b.npz", "--verbose"],
    [
        "edit",
        "walk.npz",
        "--add",
        "old",
        "--add",
        "tired",
        "--from",
        "a",
        "--to",
        "b",
        "--keep-root",
        "--strength",
        ".5",
    ],
    ["interpolate", "--steps", "7", "walk", "run", "--blend", "--path", "linear"],
    ["search", "someone waves", "library/", "--top", "1_0", "--like", "a.npz", "--dedupe"],
    ["view", "a.npz", "b.bvh", "--frames", "3", "-o", "x.png", "--body", "b.npz"],
    ["convert", "a.bvh"],
    ["convert", "--up", "y", "a.bvh", "b.npz", "--scale", "inf"],
    ["evaluate", "mini", "--seeds", "3", "--data", "a.h5"],
]
OTHER = [
    [],
    ["--help"],
    ["generat", "couch"],
    ["generate", "--help"],
    ["generate", "couch", "--sed", "1"],
    ["generate", "couch", "-ofile.npz"],
    ["generate", "couch", "--seed", "one"],
    ["generate", "couch", "--seed", "-1"],
    ["generate", "couch", "--seed", "1", "--seed", "2"],
    ["generate", "couch", "--seed"],
    ["generate", "couch", "--json=yes"],
    ["generate", "--", "-couch"],
    ["generate", ""],
    ["edit"],
    ["edit", "a.npz", "b.npz"],
    ["evaluate", "mini"],
]


@pytest.mark.parametrize("words", PLAIN)
def test_a_plain_line_gives_the_values_typer_gives(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"mclip.cli.{words[0]}")
    function = getattr(module, words[0])
    given: list[dict[str, Any]] = []

    @functools.wraps(function)
    def record(**values: Any) -> None:
        given.append(values)

    monkeypatch.setattr(module, words[0], record)
    app(words, standalone_mode=False)
    manner.quiet = manner.verbose = False
    call = plain.read(words, tuple(COMMANDS))
    assert call is not None
    call()
    defaults = {name: item.default for name, item in inspect.signature(function).parameters.items()}
    theirs, ours = given[0], {**defaults, **given[1]}
    # An argument that may be left out is None for us and an empty list for typer.
    assert {name: value or None for name, value in ours.items()} == {
        name: value or None for name, value in theirs.items()
    }
    assert {name: type(value) for name, value in ours.items() if value} == {
        name: type(value) for name, value in theirs.items() if value
    }
    assert (manner.quiet, manner.verbose) == ("--quiet" in words, "--verbose" in words)
    manner.quiet = manner.verbose = False


@pytest.mark.parametrize("words", OTHER)
def test_what_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert plain.read(words, tuple(COMMANDS)) is None


def test_a_shell_that_asks_for_completion_is_answered_by_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MCLIP_COMPLETE", "complete_bash")
    assert plain.read(["generate", "couch"], tuple(COMMANDS)) is None
