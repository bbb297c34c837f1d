"""mclip in Python: the same results as the commands, and nothing loaded before it is asked for."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mclip
from mclip.errors import MotionError, PackError, UsageError
from mclip.pack import Pack
from tests.commands import Run, runner
from tests.fakes import swinging


@pytest.fixture(scope="module")
def engine(tiny_pack: Pack) -> mclip.Engine:
    return mclip.open_pack(tiny_pack.path)


@pytest.fixture
def run(
    tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    swinging("left_shoulder", 2, 0).save(tmp_path / "wave.npz")
    yield runner(monkeypatch, capsys)


def test_importing_mclip_loads_nothing() -> None:
    program = "import sys, mclip; print('numpy' in sys.modules); mclip.Motion; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        mclip.walk  # noqa: B018
    assert {"open_pack", "show"} <= set(dir(mclip))


def test_generating_is_what_the_command_does(engine: mclip.Engine, run: Run) -> None:
    assert run("generate", "nods", "-o", "nod.npz", "--seconds", "0.5").code == 0
    motion, saved = engine.generate("nods", seconds=0.5), mclip.load("nod.npz")
    # A command starts its engine quickly, which shows in the last bits.
    np.testing.assert_allclose(motion.pose, saved.pose, rtol=0, atol=1e-5)
    np.testing.assert_allclose(motion.transl, saved.transl, rtol=0, atol=1e-5)
    assert engine.generate("nods", fps=10.0).fps == 10.0
    assert run("generate", "nods", "-o", "many.npz", "--variations", "3", "--seed", "5").code == 0
    for place, variation in enumerate(engine.variations("nods", 3, seed=5), 1):
        np.testing.assert_allclose(variation.pose, mclip.load(f"many-{place}.npz").pose, rtol=0, atol=1e-5)


def test_editing_is_what_the_command_does(engine: mclip.Engine, run: Run) -> None:
    assert run("edit", "wave.npz", "--add", "bends", "--remove", "nods", "--strength", "0.5", "-o", "out.npz").code == 0
    wave = mclip.load("wave.npz")
    made = engine.edit(wave, add="bends", remove=["nods"], strength=0.5)
    np.testing.assert_allclose(made.pose, mclip.load("out.npz").pose, rtol=0, atol=2e-5)
    np.testing.assert_allclose(engine.edit(wave, add="bends", strength=0.0).pose, wave.pose, atol=1e-5)
    legs = engine.edit(wave, add="bends", only="upper")
    np.testing.assert_allclose(legs.pose[:, [1, 2, 4, 5]], wave.pose[:, [1, 2, 4, 5]], atol=1e-5)


def test_interpolating_is_what_the_command_does(engine: mclip.Engine, run: Run) -> None:
    assert run("interpolate", "wave.npz", "nods", "--steps", "3", "-o", "steps").code == 0
    made = engine.interpolate(mclip.load("wave.npz"), "nods", steps=3)
    assert len(made) == 3
    for place, motion in enumerate(made, 1):
        np.testing.assert_allclose(motion.pose, mclip.load(f"steps/step_{place:02}.npz").pose, atol=1e-5)
    (joined,) = engine.interpolate("nods", "bends", steps=3, blend=True)
    assert len(joined) > len(made[0])


def test_classifying_is_what_the_command_does(engine: mclip.Engine, run: Run) -> None:
    labels = ["nods", "waves", "bends"]
    answer = engine.classify(mclip.load("wave.npz"), labels)
    done = run("classify", "wave.npz", "--labels", ",".join(labels), "--top", "3", "--json")
    assert [name for name, _ in answer.labels] == re.findall(r'"name": "(\w+)"', done.out)
    assert sum(score for _, score in answer.labels) == pytest.approx(1.0)
    assert engine.classify(mclip.load("wave.npz"), labels, threshold=0.999).answer == "unknown"


def test_searching_is_what_the_command_does(engine: mclip.Engine, run: Run, tmp_path: Path) -> None:
    for place, joint in enumerate(("head", "spine1", "left_shoulder")):
        swinging(joint, 0, place).save(tmp_path / "library" / f"{joint}.npz")
    library = engine.library(tmp_path / "library")
    assert len(library) == 3
    hits = engine.search("nods", library)
    assert [Path(hit.path).name for hit in hits] == re.findall(r"(\w+\.npz)", run("search", "nods", "library").out)
    same = engine.search(swinging("spine1", 0, 1), library, top=1)
    assert Path(same[0].path).name == "spine1.npz"
    assert same[0].score == pytest.approx(1.0, abs=1e-4)
    assert engine.search("nods", tmp_path / "library") == engine.search("nods", str(tmp_path / "library")) == hits


def test_texts_and_motions_become_latents_and_latents_motions(engine: mclip.Engine) -> None:
    width = engine.runtime.manifest.latent
    assert engine.encode("nods").shape == (width,)
    latents = engine.encode(swinging("head", 0, 0))
    assert latents.shape[1] == width and len(latents) > 1
    assert len(engine.decode(latents)) == len(latents)
    (motion,) = engine.decode(latents[0], seconds=0.5)
    assert len(motion) == round(0.5 * engine.fps)
    for bad in (latents[:, :3], np.full(width, np.nan), latents[None]):
        with pytest.raises(UsageError, match="latents"):
            engine.decode(bad)


def test_files_of_every_kind_are_saved_and_loaded(tmp_path: Path) -> None:
    motion = swinging("head", 0, 0)
    for name in ("a.npz", "a.bvh", "a.glb"):
        mclip.save(tmp_path / name, motion)
        np.testing.assert_allclose(mclip.load(str(tmp_path / name)).transl, motion.transl, atol=1e-4)
    motion.save(str(tmp_path / "c.npz"))
    np.testing.assert_array_equal(mclip.load(tmp_path / "c.npz").pose, motion.pose)
    mclip.save(tmp_path / "b.bvh", motion, up="z", scale=1.0)
    mclip.save(tmp_path / "a.csv", motion)
    with pytest.raises(UsageError):
        mclip.save(tmp_path / "a.fbx", motion)


def test_a_motion_is_a_line_at_a_prompt() -> None:
    motion = swinging("head", 0, 0)
    assert repr(motion) == f"<mclip.Motion, {len(motion)} frames at {motion.fps:g} fps>"
    for key in ("text", "prompt", "source"):
        assert repr(replace(motion, origin={key: "a nod"})).startswith("<mclip.Motion 'a nod', ")


def test_a_motion_shows_itself_as_a_page(tmp_path: Path) -> None:
    motion = swinging("head", 0, 0)
    page = motion.show()
    assert isinstance(page, mclip.Page)
    assert page.html.lower().startswith("<!doctype html>")
    frame = page._repr_html_()
    inner = re.fullmatch(r'<iframe srcdoc="([^"]*)" [^>]*></iframe>', frame, re.S)
    assert inner and html.unescape(inner[1]) == page.html
    page.save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page.html
    both = mclip.show(motion, motion, names=["before", "after"])
    assert "before" in both.html and "after" in both.html
    with pytest.raises(UsageError, match="names"):
        mclip.show(motion, names=["a", "b"])


def test_what_is_wrong_is_said_as_by_the_commands(engine: mclip.Engine, tmp_path: Path) -> None:
    with pytest.raises(PackError):
        mclip.open_pack(tmp_path / "none")
    with pytest.raises(UsageError, match="empty"):
        engine.generate(" ")
    with pytest.raises(UsageError, match="nothing to add"):
        engine.edit("nods")
    with pytest.raises(UsageError, match="strength"):
        engine.edit("nods", add="bends", strength=float("nan"))
    with pytest.raises(UsageError, match="2 to"):
        engine.interpolate("nods")
    with pytest.raises(UsageError, match="labels"):
        engine.classify(swinging("head", 0, 0), ["one"])
    with pytest.raises(MotionError):
        engine.classify(swinging("head", 0, 0).slice(0, 2), ["nods", "bends"])
