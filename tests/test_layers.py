from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_imports_point_one_way() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed")
    result = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_top_level_module_has_a_layer() -> None:
    # `exhaustive` in the contract checks this too; here it fails with the module's name even without the tool.
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    modules = {
        path.stem for path in (ROOT / "mclip").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert not {
        name
        for name in modules - {"__init__", "__main__", "packs"}
        if f'"{name}"' not in contract and name not in contract
    }
