"""The README is run: its commands are those of the program and of CI, and its files exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def console_blocks() -> list[list[str]]:
    return [
        [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        for block in re.findall(r"```console\n(.*?)```", README, re.S)
    ]


def test_every_command_of_the_readme_exists_and_none_is_missing() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", README, re.M))
    text = subprocess.run([sys.executable, "-m", "mclip", "--help"], capture_output=True, text=True, check=True).stdout
    offered = set(re.findall(r"^  (\w+)  ", text.split("Commands:")[1], re.M))
    assert listed == offered


def test_ci_installs_and_checks_what_the_readme_says() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    setup = next(block for block in console_blocks() if "pytest" in block)
    for command in re.split(r" && |\n", "\n".join(setup)):
        words = [word for word in command.split() if word.startswith((".[", "torch", "gt-", "pytest"))]
        assert all(word.strip('"') in script for word in words), command
    for check in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "pytest"):
        assert f"`{check}`" in README and re.search(rf"^{re.escape(check)}", script, re.M)


def test_files_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:mclip|recipes|tests|\.ci)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name


def test_the_front_page_example_runs(tmp_path: Path) -> None:
    commands = [line for line in console_blocks()[0] if line.startswith("mclip ")]
    assert commands[0].startswith('mclip generate "couch"')
    for command in commands:
        arguments = [word.strip('"') for word in command.split()[1:]]
        subprocess.run([sys.executable, "-m", "mclip", *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert {path.name for path in tmp_path.iterdir()} == {"sit.npz", "sit.png"}
