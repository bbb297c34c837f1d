"""What is loaded when: help is light, and making a motion needs no training package."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mclip.cli import COMMANDS
from mclip.pack import Pack

SCRIPT = """
import json, sys
from mclip.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
finally:
    sys.stderr.write("\\n" + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules a command has loaded when it ends."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


HEAVY = {"numpy", "torch", "onnxruntime", "onnx", "h5py", "rich", "numba", "PIL", "pydantic", "tokenizers", "scipy"}


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments, "--help") & HEAVY == set()


def test_the_list_of_commands_says_what_their_docstrings_say() -> None:
    for name, text in COMMANDS.items():
        command = getattr(importlib.import_module(f"mclip.cli.{name}"), name)
        assert command.__doc__.partition("\n")[0] == text


def test_a_command_loads_no_other_commands_module() -> None:
    script = "import sys; from mclip.cli import app; app(['view', '--help'], standalone_mode=False); "
    script += "assert {n for n in sys.modules if n.startswith('mclip.cli.')} == "
    script += "{'mclip.cli.command', 'mclip.cli.plain', 'mclip.cli.view'}"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_python_dash_m_shows_the_commands_and_loads_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mclip", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "generate" in done.stdout
    # Lines are "import time: self | cumulative | module"; nothing else is on stderr.
    lines = done.stderr.splitlines()
    assert all(line.startswith("import time:") for line in lines)
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in lines}
    assert "typer" in modules
    assert modules & HEAVY == set()


def test_generate_loads_only_what_the_base_install_has(tiny_pack: Pack, tmp_path: Path) -> None:
    modules = loaded_by("generate", "nods", "--pack", str(tiny_pack.path), "-o", str(tmp_path / "nod.npz"))
    assert {"numpy", "onnxruntime", "tokenizers"} <= modules
    assert modules & {"torch", "onnx", "h5py", "smplx", "safetensors", "scipy", "numba", "rich", "PIL"} == set()


def test_a_plain_command_line_is_read_without_typer(tiny_pack: Pack, tmp_path: Path) -> None:
    words = ("generate", "nods", "--pack", str(tiny_pack.path), "-o", str(tmp_path / "nod.npz"), "--json")
    assert "typer" not in loaded_by(*words)


def test_onnxruntime_reports_nothing_and_keeps_no_identifier(tmp_path: Path) -> None:
    # It does neither where it finds itself in a test or in continuous integration.
    hidden = ("CI", "PYTEST", "GITHUB", "ORT_", "XDG_", "TF_BUILD", "BUILD", "JENKINS", "TRAVIS", "GITLAB")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    script = "import mclip.runtime.session, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    subprocess.run([sys.executable, "-c", script], check=True, env={**environment, "HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_the_commands_exit_code_and_all_that_was_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mclip"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].strip().startswith("doctor")
    done = subprocess.run([*command, "convert", "none.npz"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 4 and "none.npz: no such file" in done.stderr
    with open("/dev/full", "w") as full:
        done = subprocess.run([*command, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2


def test_a_motion_is_made_with_no_training_package_installed(tiny_pack: Pack, tmp_path: Path) -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'h5py', 'smplx', 'safetensors']));"
    command = [sys.executable, "-c", blocked + "from mclip.cli import main; main()", "generate", "nods"]
    environment = {**os.environ, "MCLIP_PACK": str(tiny_pack.path)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "nods.npz").exists()
