from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mclip.errors import DataError
from mclip.view.library import spread
from mclip.view.page import is_page
from mclip.view.run import POINTS, read_curves, run_page
from tests.browser import chromium, opened, swaying, until
from tests.commands import Run, runner

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from mclip.data.store import MotionStore
    from mclip.nn.model import MotionClip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def curves(folder: Path, rows: int = 5) -> Path:
    lines = ["step,total,text", *(f"{50 * k},{1 / k},{0.5 - 0.01 * k}" for k in range(1, rows + 1))]
    folder.mkdir(exist_ok=True)
    (folder / "curves.csv").write_text("\n".join(lines) + "\n")
    return folder


# ---- the map ----


def test_the_map_keeps_what_differs_most() -> None:
    random = np.random.default_rng(0)
    hidden = random.uniform(-1, 1, (50, 2)) * [3.0, 1.0]
    directions = np.linalg.qr(random.normal(size=(16, 2)))[0].T
    vectors = (hidden @ directions + 0.001 * random.normal(size=(50, 16))).astype(np.float32)
    places = spread(vectors)
    assert places.min() == 0
    assert places.max() == 1
    for axis in range(2):
        assert abs(np.corrcoef(places[:, axis], hidden[:, axis])[0, 1]) > 0.95
    np.testing.assert_array_equal(spread(vectors[:1]), [[0.5, 0.5]])
    np.testing.assert_array_equal(spread(np.ones((3, 4), np.float32)), np.full((3, 2), 0.5))


def test_a_folder_becomes_a_map_that_plays_what_is_pointed_at(browser: Browser, run: Run, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for k in range(5):
        swaying(60 + 30 * k, seed=k).save(library / f"sway-{k}.npz")
    (library / "broken.npz").write_bytes(b"no zip")
    done = run("view", str(library), "-o", str(tmp_path / "map.html"), "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["motions"] == 5
    assert [Path(each["path"]).name for each in result["skipped"]] == ["broken.npz"]
    with opened(browser, tmp_path / "map.html", (900, 600)) as page:
        tab = page.page
        assert tab.title() == "library"
        assert tab.locator("#map circle").count() == 5
        until(page, "mclip.chosen === 0")
        box = tab.locator("#map").bounding_box()
        assert box
        for dot in (3, 1):
            x, y = tab.evaluate(f"mclip.places[{dot}]")
            tab.mouse.move(box["x"] + x, box["y"] + y)
            until(page, f"mclip.chosen === {dot}")
            assert tab.locator("#name").inner_text() == f"sway-{dot}.npz"
        tab.evaluate("mclip.play()")
        until(page, "mclip.time > 0.1")
        tab.locator("#find").fill("sway-4")
        assert tab.locator("#map circle.faint").count() == 4
        tab.locator("#map").focus()
        tab.keyboard.press("ArrowRight")
        until(page, "mclip.chosen === 4")
        assert page.said == []
        assert len(page.asked) == 1


# ---- the run ----


def test_a_run_becomes_its_curves_even_without_samples(browser: Browser, run: Run, tmp_path: Path) -> None:
    folder = curves(tmp_path / "paper")
    done = run("view", str(folder), "-o", str(tmp_path / "run.html"), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["samples"] == 0
    assert "no samples" in done.err
    with opened(browser, tmp_path / "run.html", (900, 600)) as page:
        tab = page.page
        assert tab.locator("figcaption strong").all_inner_texts() == ["total", "text"]
        assert tab.locator("figcaption span").all_inner_texts() == ["0.2", "0.45"]
        box = tab.locator("figure svg").first.bounding_box()
        assert box
        tab.mouse.move(box["x"] + 60, box["y"] + 60)
        assert tab.locator("figcaption span").first.inner_text() == "1 at 50"
        assert page.said == []


def test_samples_are_played_beside_what_was_recorded(browser: Browser, tmp_path: Path) -> None:
    pairs = [(f"sample {k}", swaying(30, seed=k), swaying(30, seed=k + 1)) for k in range(3)]
    path = tmp_path / "run.html"
    path.write_text(run_page(curves(tmp_path / "run"), pairs))
    with opened(browser, path, (390, 844), phone=True) as page:
        tab = page.page
        assert tab.locator("#name").inner_text() == "sample 0"
        tab.get_by_role("button", name="sample 2").tap()
        until(page, "document.getElementById('name').textContent === 'sample 2'")
        tab.evaluate("mclip.play()")
        until(page, "mclip.time > 0.1")
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert page.said == []


def test_long_curves_are_thinned_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    folder = curves(tmp_path / "run", 5000)
    with (folder / "curves.csv").open("a") as file:
        file.write("250050,nan,inf\n")
    names, values = read_curves(folder / "curves.csv")
    assert names == ["step", "total", "text"]
    assert values.shape == (5001, 3)
    page = run_page(folder, [])
    data = json.loads(page.split('type="application/json">')[1].split("</script>")[0])
    for curve in data["curves"]:
        assert len(curve["points"]) == POINTS
        assert all(math.isfinite(value) for point in curve["points"] for value in point)


@pytest.mark.parametrize("content", ["", "step,total\n1,x\n", "step,total\n1,2,3\n", "step\n1\n2,3\n", "\0"])
def test_damaged_curves_are_data_errors(tmp_path: Path, content: str) -> None:
    (tmp_path / "curves.csv").write_text(content)
    with pytest.raises(DataError):
        run_page(tmp_path, [])


def test_curves_without_a_step_yet_are_empty(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("step,total,rotation\n")
    names, values = read_curves(tmp_path / "curves.csv")
    assert (names, values.shape) == (["step", "total", "rotation"], (0, 3))


@pytest.mark.parametrize("option", ["--terminal", "--camera=side", "--frames=4", "--transparent"])
def test_options_of_motions_are_refused_for_folders(run: Run, tmp_path: Path, option: str) -> None:
    done = run("view", str(tmp_path), option)
    assert done.code == 2 and "for motions, not for folders" in done.err


def test_samples_are_windows_of_the_store_and_what_the_checkpoint_makes_of_them(
    tiny_model: MotionClip, tiny_store: MotionStore, tmp_path: Path
) -> None:
    import torch

    from mclip.train.checkpoint import save_checkpoint
    from mclip.train.samples import samples
    from tests.fakes import tiny_recipe

    recipe = tiny_recipe()
    recipe = replace(recipe, data=replace(recipe.data, store=str(tiny_store.file)))
    optimizer = torch.optim.AdamW(tiny_model.parameters())
    for parameter in tiny_model.parameters():
        state = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter)}
        optimizer.state[parameter] = {**state, "exp_avg_sq": torch.zeros_like(parameter)}
    save_checkpoint(tmp_path, tiny_model, optimizer, 10, recipe, {})
    made = samples(tmp_path, 3)
    assert len(made) == 3
    for sample in made:
        assert sample.caption in tiny_store.labels
        assert len(sample.recorded) == len(sample.decoded) <= recipe.data.window
        assert sample.recorded.fps == tiny_store.fps
        assert not np.allclose(sample.recorded.pose, sample.decoded.pose)


@pytest.mark.parametrize("arguments", [["."], [".", "-o", "map.png"], [".", "."]])
def test_a_folder_without_motions_or_for_a_picture_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("view", *arguments)
    assert result.code in (2, 4)
    assert "Traceback" not in result.err
    assert not any(is_page(file) for file in tmp_path.iterdir())
