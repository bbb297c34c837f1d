"""What every command has: --quiet, --verbose, help with examples, hints at what was meant, and training's log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mclip import console
from mclip.cli import COMMANDS
from mclip.pack import Pack
from tests.commands import Run, runner
from tests.fakes import swinging


@pytest.fixture
def run(
    tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    for place in range(5):
        swinging("head", 0, place, frames=2).save(tmp_path / "clips" / f"short_{place}.npz")
    swinging("head", 0, 0).save(tmp_path / "clips" / "nod.npz")
    yield runner(monkeypatch, capsys)
    console.manner.quiet = console.manner.verbose = False


def test_a_quiet_command_says_its_result_and_nothing_else(run: Run) -> None:
    arguments = ("classify", "clips", "--labels", "nods,waves")
    loud, quiet = run(*arguments), run(*arguments, "--quiet")
    assert "skipped" in loud.err
    assert quiet.err == ""
    assert quiet.out == loud.out
    failed = run("classify", "missing", "--quiet")
    assert failed.code == 4
    assert failed.err.startswith("mclip: missing")


def test_a_verbose_command_names_every_file_it_skipped(run: Run) -> None:
    arguments = ("classify", "clips", "--labels", "nods,waves")
    assert "short_4" not in run(*arguments).err
    told = run(*arguments, "--verbose").err
    assert all(f"short_{place}.npz" in told for place in range(5))


def test_a_verbose_command_says_where_an_error_arose(run: Run) -> None:
    plain, told = run("classify", "missing"), run("classify", "missing", "--verbose")
    assert "Traceback" not in plain.err
    assert "Traceback" in told.err
    assert told.err.endswith(plain.err)
    assert told.code == plain.code == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_fits_a_terminal(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run(command, "--help").out
    assert re.search(rf"Example: mclip {command} ", text)
    assert "--quiet" in text and "--verbose" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["genrate", "couch"], "'generate'"),
        (["generate", "couch", "--secnds", "3"], "--seconds"),
        (["convert", "a.npz", "b.npz", "--layot", "smpl"], "--layout"),
        (["view", "a.npz", "-o", "a.webp", "--camera", "turntabel"], "did you mean turntable?"),
        (["edit", "clips/nod.npz", "--add", "nods", "--only", "left_knie"], "did you mean left_knee?"),
        (["convert", "clips/nod.npz", "b.npz", "--layout", "smpl-x"], "did you mean smplx?"),
        (["classify", "clips", "--labels", "babel60"], "did you mean babel-60?"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(run: Run, arguments: list[str], meant: str) -> None:
    done = run(*arguments)
    assert done.code in (2, 4)
    assert meant in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    environment = {**os.environ, "_MCLIP_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "mclip gen"}
    environment |= {"COMP_WORDS": "mclip gen", "COMP_CWORD": "1", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    program = "import sys; sys.argv = ['mclip']\nfrom mclip.cli import app\napp(prog_name='mclip')"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "generate" in done.stdout
    assert "train" not in done.stdout


def test_a_log_has_when_it_began_what_was_said_and_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.jsonl"
    with console.logged(path, "train", {"recipe": Path("a.toml")}):
        console.err("before the folder is there")
        path.parent.mkdir()
        console.begin_log()
        console.err("after")
    with pytest.raises(ValueError, match="too large"), console.logged(path, "train", {}):
        console.begin_log()
        raise ValueError("too large")
    console.err("nobody keeps this")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["start", "message", "message", "end", "start", "end"]
    assert lines[0]["recipe"] == "a.toml"
    assert [line["text"] for line in lines[1:3]] == ["before the folder is there", "after"]
    assert "error" not in lines[3]
    assert (lines[5]["error"], lines[5]["text"]) == ("ValueError", "too large")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line["time"]) for line in lines)


def test_a_command_that_never_began_leaves_no_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with pytest.raises(ValueError), console.logged(path, "train", {}):
        raise ValueError
    assert not list(tmp_path.iterdir())
