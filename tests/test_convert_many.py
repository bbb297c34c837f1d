"""`mclip convert` of many files and of folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mclip.formats import load
from mclip.motion import load_npz
from tests.commands import Run, runner
from tests.test_formats_style import moving

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    moving().save(tmp_path / "a.npz")
    return runner(monkeypatch, capsys)


def test_a_folder_is_converted_past_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    source = load_npz(tmp_path / "a.npz")
    for name in ("in/a.npz", "in/deep/b.npz"):
        source.save(tmp_path / name)
    for name in ("in/bad.bvh", "in/deep/b.amc"):
        (tmp_path / name).write_text("no motion")
    done = run("convert", "in", "a.npz", "-o", "out", "--to", "bvh", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert [each["path"] for each in result["files"]] == ["out/a.bvh", "out/deep/b.bvh"]
    assert [each["path"] for each in result["skipped"]] == ["in/bad.bvh", "in/deep/b.amc", "a.npz"]
    assert "in/a.npz" in result["skipped"][2]["reason"]
    assert "skipped: " in done.err
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.bvh", "b.bvh"]
    np.testing.assert_allclose(load(tmp_path / "out/deep/b.bvh").transl, source.transl, atol=1e-4)
    assert run("convert", "in", "-o", "out2", "--strict").code == 4
    assert sorted(path.name for path in (tmp_path / "out2").rglob("*.*")) == ["a.npz", "b.npz"]
    assert run("convert", "a.npz", "-o", "c.glb").out.startswith("c.glb: ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a.npz", "b.npz", "c.npz"], 2),
        (["in", "-o", "out.npz"], 2),
        (["in"], 2),
        (["a.npz", "-o", "out", "--to", "fbx"], 2),
        (["a.npz", "-o", "out", "--to", "bvh", "--layout", "smplx"], 2),
        (["a.npz", "-o", "note.txt", "--to", "npz"], 2),
        (["a.npz", "missing.npz", "-o", "out"], 4),
        (["bad.bvh", "-o", "out"], 4),
    ],
)
def test_what_is_wrong_for_all_files_is_said_before_any_is_written(
    run: Run, tmp_path: Path, arguments: list[str], code: int
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "note.txt").write_text("mine")
    (tmp_path / "bad.bvh").write_text("no motion")
    done = run("convert", *arguments)
    assert done.code == code, done.err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.npz").exists()


def test_one_file_needs_no_folder(run: Run, tmp_path: Path) -> None:
    assert run("convert", "a.npz", "--to", "glb").out.startswith("a.glb: ")
    (tmp_path / "there").mkdir()
    assert run("convert", "a.npz", "there").out.startswith("there/a.npz: ")
    assert run("convert", "a.npz", "there", "--to", "bvh").out.startswith("there/a.bvh: ")


def test_each_animation_of_a_file_becomes_one(run: Run, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "kaykit" / "knight.glb", tmp_path)
    done = run("convert", "knight.glb", "-o", "out", "--to", "npz", "--json")
    assert [each["path"] for each in json.loads(done.out)["files"]] == [
        "out/knight-idle.npz",
        "out/knight-sit-chair-down.npz",
    ]
    sit = load(GOLDEN / "kaykit" / "knight.glb", take="Sit_Chair_Down")
    np.testing.assert_allclose(load_npz(tmp_path / "out/knight-sit-chair-down.npz").pose, sit.pose, atol=1e-6)
    assert run("convert", "knight.glb", "-o", "one", "--take", "Idle").out.startswith("one/knight.npz: ")


def test_what_motions_do_not_hold_is_said_once(run: Run, tmp_path: Path) -> None:
    arrays = dict(np.load(tmp_path / "a.npz"))
    arrays["poses"][:, 3 * 30] = 0.5
    (tmp_path / "in").mkdir()
    for name in ("f.npz", "in/a.npz", "in/b.npz"):
        np.savez(tmp_path / name, **arrays)
    told = "without fingers: mclip moves SMPL's 24 joints and keeps 10 betas"
    assert run("convert", "f.npz", "g.npz").err == f"g.npz: {told}\n"
    assert run("convert", "in", "-o", "out").err.endswith(f"2 files {told}\n")
    assert run("convert", "a.npz", "h.npz").err == ""
