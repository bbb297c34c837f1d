from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.errors import DataError
from mclip.view.library import spread
from mclip.view.page import is_page
from mclip.view.run import POINTS, read_curves, run_page
from tests.browser import opened, swaying, touch, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from mclip.data.store import MotionStore
    from mclip.nn.model import MotionClip
    from mclip.pack import Pack
    from tests.commands import Run


def curves(folder: Path, rows: int = 5) -> Path:
    lines = ["step,total,text", *(f"{50 * k},{1 / k},{0.5 - 0.01 * k}" for k in range(1, rows + 1))]
    folder.mkdir(exist_ok=True)
    (folder / "curves.csv").write_text("\n".join(lines) + "\n")
    return folder


def swaying_library(folder: Path) -> Path:
    """Five motions of different lengths."""
    library = folder / "library"
    library.mkdir()
    for k in range(5):
        swaying(60 + 30 * k, seed=k).save(library / f"sway-{k}.npz")
    return library


def places(tab: Page) -> NDArray[np.float64]:
    """Where the dots are: pixels (N, 2) of the window, as drawn (to a tenth), in the order of the motions."""
    boxes = [tab.locator(f"#dot-{k}").bounding_box() for k in range(tab.locator("#map circle").count())]
    return np.array([(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes if box])


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


def test_a_folder_becomes_a_map_that_plays_what_is_pointed_at(
    browser: Browser, run: Run, tiny_pack: Pack, tmp_path: Path
) -> None:
    library = swaying_library(tmp_path)
    (library / "broken.npz").write_bytes(b"no zip")
    done = run("view", str(library), "-o", str(tmp_path / "map.html"), "--pack", str(tiny_pack.path), "--json")
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


@pytest.fixture
def drawn_map(tiny_pack: Pack, tmp_path: Path) -> Path:
    """The page of a library's map."""
    from mclip.runtime.engine import Engine
    from mclip.runtime.search import open_library
    from mclip.view.library import library_page

    folder, path = swaying_library(tmp_path), tmp_path / "map.html"
    engine = Engine.open(str(tiny_pack.path))
    library, _ = open_library(engine, [folder])
    path.write_text(library_page(engine, folder, library))
    return path


def test_a_wheel_comes_closer_to_what_it_points_at(browser: Browser, drawn_map: Path) -> None:
    with opened(browser, drawn_map, (900, 600)) as page:
        tab = page.page
        before = places(tab)
        pointer = before[2].round()  # as wheels tell it
        tab.mouse.move(*pointer)
        until(page, "mclip.chosen === 2")
        size = tab.locator("#dot-2").bounding_box()
        for _ in range(3):
            tab.mouse.wheel(0, -150)
        until(page, "mclip.zoom > 1.9")
        zoom = tab.evaluate("mclip.zoom")
        # What is pointed at stays, the rest goes away from it as the zoom says, and dots stay dots.
        np.testing.assert_allclose(places(tab), pointer + (before - pointer) * zoom, atol=0.1 * zoom)
        after = tab.locator("#dot-2").bounding_box()
        assert size and after
        assert (after["width"], after["height"]) == pytest.approx((size["width"], size["height"]), abs=0.01)
        assert tab.evaluate("mclip.chosen") == 2
        # It ends at the whole map, however far the wheel is turned.
        for _ in range(5):
            tab.mouse.wheel(0, 2000)
        until(page, "mclip.zoom === 1")
        np.testing.assert_allclose(places(tab), before, atol=0.1)
        for _ in range(30):
            tab.mouse.wheel(0, -2000)
        until(page, "mclip.zoom === 40")
        np.testing.assert_allclose(places(tab)[2], pointer + (before[2] - pointer) * 40, atol=4)
        tab.mouse.dblclick(*pointer)
        until(page, "mclip.zoom === 1")
        assert page.said == []


def test_a_drag_moves_the_map_as_far_as_its_edges_and_dots_still_play(browser: Browser, drawn_map: Path) -> None:
    with opened(browser, drawn_map, (900, 600)) as page:
        tab = page.page
        box = tab.locator("#map").bounding_box()
        assert box
        middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
        whole = places(tab)
        tab.mouse.move(*middle)
        tab.mouse.down()
        tab.mouse.move(*(middle + 40))
        tab.mouse.up()
        np.testing.assert_allclose(places(tab), whole, atol=0.1)  # nowhere to go
        tab.mouse.move(*middle)
        for _ in range(3):
            tab.mouse.wheel(0, -200)
        until(page, "mclip.zoom > 2.4")
        before = places(tab)
        tab.mouse.down()
        chosen = tab.evaluate("mclip.chosen")
        tab.mouse.move(*(middle + np.array([30, -20])))
        tab.mouse.move(*(middle + np.array([60, -40])))
        np.testing.assert_allclose(places(tab), before + np.array([60, -40]), atol=0.1)
        assert tab.evaluate("mclip.chosen") == chosen
        tab.mouse.move(*(middle + 2000))
        tab.mouse.up()
        # The corner of the map is the corner of what is in sight, and not beyond.
        zoom, corner = tab.evaluate("mclip.zoom"), np.array([box["x"], box["y"]])
        np.testing.assert_allclose(places(tab), corner + (whole - corner) * zoom, atol=0.1 * zoom)
        seen = np.argmin(np.abs(places(tab) - middle).max(axis=1))
        tab.mouse.move(*places(tab)[seen])
        until(page, f"mclip.chosen === {seen}")
        tab.evaluate("mclip.play()")
        until(page, "mclip.time > 0.1")
        assert page.said == []


def test_keys_zoom_move_and_show_the_whole_map_again(browser: Browser, drawn_map: Path) -> None:
    with opened(browser, drawn_map, (900, 600)) as page:
        tab = page.page
        box = tab.locator("#map").bounding_box()
        assert box
        whole = places(tab)
        tab.locator("#map").focus()
        for key in ("+", "=", "+", "+", "+"):
            tab.keyboard.press(key)
        assert tab.evaluate("mclip.zoom") == pytest.approx(1.4**5)
        # Around the chosen dot.
        chosen = whole[tab.evaluate("mclip.chosen")]
        closer = places(tab)
        np.testing.assert_allclose(closer, chosen + (whole - chosen) * 1.4**5, atol=0.1 * 1.4**5)
        across, down = 0.15 * box["width"], 0.15 * box["height"]
        for key, by in (("Right", (-across, 0)), ("Down", (0, -down)), ("Left", (across, 0)), ("Up", (0, down))):
            before = places(tab)
            tab.keyboard.press(f"Shift+Arrow{key}")
            np.testing.assert_allclose(places(tab), before + np.array(by), atol=0.1)
        np.testing.assert_allclose(places(tab), closer, atol=0.1)
        tab.keyboard.press("-")
        assert tab.evaluate("mclip.zoom") == pytest.approx(1.4**4)
        tab.keyboard.press("0")
        np.testing.assert_allclose(places(tab), whole, atol=0.1)
        # The map follows from dot to dot, wherever they are.
        for _ in range(8):
            tab.keyboard.press("+")
        for _ in range(5):
            tab.keyboard.press("ArrowRight")
            x, y = places(tab)[tab.evaluate("mclip.chosen")]
            assert box["x"] <= x <= box["x"] + box["width"] and box["y"] <= y <= box["y"] + box["height"]
        # Who writes a name means no key.
        before = places(tab)
        tab.locator("#find").press_sequentially("-0+")
        np.testing.assert_allclose(places(tab), before, atol=0.1)
        assert page.said == []


def test_fingers_pinch_and_drag_the_map(browser: Browser, drawn_map: Path) -> None:
    with opened(browser, drawn_map, (390, 844), phone=True) as page:
        tab = page.page
        box = tab.locator("#map").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        whole = places(tab)
        session = tab.context.new_cdp_session(tab)
        for apart, kind in [(30, "Start"), (45, "Move"), (60, "Move"), (90, "Move")]:
            touch(session, kind, (x - apart, y), (x + apart, y))
        touch(session, "End")
        until(page, "mclip.zoom > 2.9")
        assert tab.evaluate("mclip.zoom") == pytest.approx(3, rel=0.01)
        np.testing.assert_allclose(places(tab), (x, y) + (whole - (x, y)) * 3, atol=2)
        before = places(tab)
        for step, kind in [(0, "Start"), (20, "Move"), (40, "Move")]:
            touch(session, kind, (x + step, y))
        touch(session, "End")
        np.testing.assert_allclose(places(tab), before + np.array([40, 0]), atol=2)
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert page.said == []


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
        # The name is there before the motions are, and they come with a clock of their own.
        until(page, "(mclip.play(), mclip.time > 0.1)")
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert page.said == []


def test_a_run_without_samples_says_why_where_they_would_be(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text(run_page(curves(tmp_path / "run"), [], "there is no checkpoint yet"))
    with opened(browser, path) as page:
        assert page.page.locator("#detail").inner_text() == "no samples: there is no checkpoint yet"
        assert not page.page.locator("#stage").is_visible()
        assert page.page.locator("figure").count() == 2
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
