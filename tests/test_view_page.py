from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mclip.body.model import load_body
from mclip.body.skinning import pose_vertices
from mclip.errors import UsageError
from mclip.motion import Motion
from mclip.render.camera import fit, look
from mclip.render.frames import render_layers
from mclip.view.page import (
    MAX_MOTIONS,
    Shown,
    about,
    caption,
    default_page,
    is_page,
    motion_page,
    names_of,
    write_page,
)
from tests.browser import Opened, drawn, opened, swaying, touch, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.commands import Run


def page_of(folder: Path, *motions: Motion, names: str = "abcdefgh") -> Path:
    path = folder / "page.html"
    path.write_text(motion_page([Shown(name, motion) for name, motion in zip(names, motions, strict=False)]))
    return path


def picture(page: Opened) -> NDArray[np.int32]:
    """The picture (H, W, 3) alone, without the controls."""
    page.page.evaluate("document.body.classList.add('bare')")
    drawn(page)
    return np.asarray(Image.open(io.BytesIO(page.page.screenshot())).convert("RGB"), np.int32)


def differing(one: NDArray[np.int32], other: NDArray[np.int32]) -> float:
    """How much of two pictures differs by more than rounding."""
    return float((np.abs(one - other) > 8).any(axis=-1).mean())


# ---- the file ----


def test_one_motion_fits_into_500_kB_and_each_further_one_into_100_kB() -> None:
    sizes = [
        len(motion_page([Shown(str(k), swaying(240, seed=k)) for k in range(count)]).encode()) for count in (1, 2, 5)
    ]
    assert sizes[0] < 500_000
    assert sizes[1] - sizes[0] < 100_000
    assert (sizes[2] - sizes[0]) / 4 < 100_000


def test_a_page_refers_to_nothing_outside_and_allows_nothing_but_its_own_script_and_style() -> None:
    page = re.sub(r'<script id="data".*?</script>', "", motion_page([Shown("a", swaying(3))]))
    assert not re.findall(r"(?:https?:|//[a-z])[^\s]*", page)
    assert not re.findall(r"\b(?:src|href|url|import|fetch|XMLHttpRequest|eval)\s*[=(]", page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/]{43}='; script-src 'sha256-[\w+/]{43}='", policy[1]
    )


def test_text_cannot_leave_its_place() -> None:
    evil = '</script></title><img src=x onerror="alert(1)"><!--'
    motion = swaying(2)
    shown = Shown(evil, Motion(pose=motion.pose, transl=motion.transl, fps=30.0, origin={"prompt": evil, "x": [evil]}))
    page = motion_page([shown], title="")
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "<!--" not in page


def test_the_caption_is_the_prompt_and_what_is_known_is_told() -> None:
    motion = swaying(30)
    origin = {"prompt": "couch", "pack_sha256": "0123456789abcdef", "confidence": 0.5}
    shown = Shown("couch-2", Motion(pose=motion.pose, transl=motion.transl, fps=30.0, origin=origin), "couch-2.npz")
    assert caption(shown) == "couch"
    assert caption(Shown("walk", motion)) == "walk"
    told = dict(about(shown))
    assert told["file"] == "couch-2.npz"
    assert told["length"] == "1.00 s, 30 frames at 30 fps"
    assert told["pack sha256"] == "0123456789ab"
    assert told["confidence"] == "0.5"


def test_names_tell_files_apart() -> None:
    assert names_of([Path("a/walk.npz"), Path("a/run.npz")]) == ["walk", "run"]
    assert names_of([Path("a/walk.npz"), Path("b/walk.npz")]) == ["a/walk", "b/walk"]
    assert names_of([Path("walk.npz"), Path("walk.bvh")]) == ["walk.npz", "walk.bvh"]
    assert default_page([Path("a/walk.npz")]) == Path("a/walk.html")
    assert default_page([Path("a/walk.npz"), Path("b.npz")]) == Path("a/walk-and-1.html")


@pytest.mark.parametrize("count", [0, MAX_MOTIONS + 1])
def test_too_few_or_too_many_motions_are_usage_errors(count: int) -> None:
    with pytest.raises(UsageError):
        motion_page([Shown("a", swaying(1))] * count)


def test_a_page_can_be_written_again_but_not_over_a_foreign_file(tmp_path: Path) -> None:
    path, page = tmp_path / "a.html", motion_page([Shown("a", swaying(1))])
    write_page(path, page)
    write_page(path, page)
    assert is_page(path)
    path.write_text("<!doctype html><p>mine")
    with pytest.raises(UsageError, match="not made by mclip"):
        write_page(path, page)
    write_page(path, page, force=True)
    assert is_page(path)


# ---- in a browser ----


def test_it_opens_from_disk_without_an_error_or_a_request(browser: Browser, tmp_path: Path) -> None:
    path = page_of(tmp_path, swaying(20))
    with opened(browser, path) as page:
        drawn(page)
        assert page.said == []
        assert page.asked == [path.resolve().as_uri()]
        assert page.page.title() == "a"
        assert page.page.locator("#facts").inner_text() == "0.7 s · 20 frames · 30 fps"


@pytest.mark.parametrize(("seed", "frame"), [(0, 0), (1, 17), (2, 39)])
def test_it_shows_the_pose_that_our_renderer_shows(browser: Browser, tmp_path: Path, seed: int, frame: int) -> None:
    motion, body, size = swaying(40, seed=seed), load_body(), 320
    vertices = pose_vertices(body, motion.slice(frame, frame + 1))
    camera = fit(vertices[0], look(0.4 + seed, 0.15))
    ours = render_layers(vertices, body.faces, [camera], size=size)[0, ..., 3] > 127
    with opened(browser, page_of(tmp_path, motion), (size, size)) as page:
        view = {"eye": camera.eye.tolist(), "target": (camera.eye - 3 * camera.axes[2]).tolist()}
        page.page.evaluate(
            "([view, frame]) => {mclip.seek(frame); mclip.show({ground: false, shadow: false, path: false});"
            " mclip.setView(view)}",
            [view, frame],
        )
        shown = picture(page)
        theirs = (np.abs(shown - shown[0, 0]) > 8).any(axis=-1)
        assert page.page.evaluate("mclip.frame") == frame
        assert page.said == []
    assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.95
    # Another frame is another silhouette: the comparison can fail.
    other = pose_vertices(body, motion.slice(20, 21))
    moved = render_layers(other, body.faces, [camera], size=size)[0, ..., 3] > 127
    assert (moved & theirs).sum() / (moved | theirs).sum() < 0.9


def test_it_plays_pauses_and_scrubs_by_mouse_and_keys(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, swaying(60))) as page:
        tab = page.page
        assert not tab.evaluate("mclip.playing")
        before = picture(page)
        tab.keyboard.press("h")
        tab.get_by_role("button", name="Play").click()
        until(page, "mclip.frame > 3")
        assert tab.evaluate("mclip.playing")
        tab.get_by_role("button", name="Pause").click()
        assert not tab.evaluate("mclip.playing")
        stopped = tab.evaluate("mclip.frame")
        drawn(page)
        assert tab.evaluate("mclip.frame") == stopped
        assert (picture(page) != before).any()
        tab.keyboard.press("h")
        tab.locator("#scrub").fill("42")
        assert tab.evaluate("mclip.frame") == 42
        drawn(page)
        assert tab.locator("#now").inner_text().split() == ["1.40", "s", "42", "/", "59"]
        for key, frame in [
            ("ArrowRight", 43),
            ("Shift+ArrowLeft", 33),
            ("End", 59),
            ("ArrowRight", 59),
            ("Home", 0),
            ("ArrowLeft", 0),
        ]:
            tab.keyboard.press(key)
            assert tab.evaluate("mclip.frame") == frame, key
        tab.keyboard.press("ArrowUp")
        assert tab.locator("#speed").input_value() == "1.5"
        tab.evaluate("document.activeElement.blur()")
        tab.keyboard.press("Space")
        assert tab.evaluate("mclip.playing")
        assert page.said == []


def test_the_last_frame_is_followed_by_the_first_or_by_nothing(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, swaying(8))) as page:
        tab = page.page
        tab.keyboard.press("l")
        tab.evaluate("mclip.play()")
        until(page, "!mclip.playing")
        assert tab.evaluate("mclip.frame") == 7
        tab.keyboard.press("l")
        tab.evaluate("mclip.play()")
        until(page, "mclip.frame > 2")
        until(page, "mclip.frame < 2")
        assert tab.evaluate("mclip.playing")


def test_what_is_shown_can_be_switched(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, swaying(30)), (480, 400)) as page:
        tab = page.page
        tab.evaluate("mclip.seek(10)")
        everything = picture(page)
        switches = tab.locator("#options [role=switch]")
        names = switches.all_inner_texts()
        assert len(names) == 7
        for key in "gstba":
            tab.keyboard.press(key)
            assert differing(picture(page), everything) > 0.0005, key
            tab.keyboard.press(key)
            assert differing(picture(page), everything) < 0.0005, key
        tab.keyboard.press("Escape")
        tab.get_by_role("button", name="What is shown").click()
        switch = tab.get_by_role("switch", name="Skeleton")
        assert switch.get_attribute("aria-checked") == "false"
        switch.click()
        assert switch.get_attribute("aria-checked") == "true"
        assert page.said == []


def test_dragging_turns_and_wheels_zoom_and_r_goes_back(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, swaying(30))) as page:
        tab = page.page
        picture(page)
        tab.keyboard.press("r")  # fitted to the picture without controls
        first = picture(page)
        for act in ("drag", "pan", "wheel"):
            tab.mouse.move(200, 150)
            if act == "wheel":
                tab.mouse.wheel(0, -400)
            else:
                if act == "pan":
                    tab.keyboard.down("Shift")
                tab.mouse.down()
                tab.mouse.move(260, 180)
                tab.mouse.up()
                tab.keyboard.up("Shift")
            assert differing(picture(page), first) > 0.02, act
            tab.keyboard.press("r")
            assert differing(picture(page), first) < 0.001, act


def test_dark_and_light_follow_the_system_and_the_button(browser: Browser, tmp_path: Path) -> None:
    path = page_of(tmp_path, swaying(3))
    with opened(browser, path, dark=True) as page:
        assert picture(page)[0, 0].max() < 60
        page.page.keyboard.press("d")
        assert picture(page)[0, 0].min() > 200
    with opened(browser, path) as page:
        assert picture(page)[0, 0].min() > 200


def test_five_motions_stand_apart_with_their_names_and_play_in_step(browser: Browser, tmp_path: Path) -> None:
    # Of different lengths and rates: the longest is counted, the others wait at their end.
    motions = [swaying(n, fps, seed=k) for k, (n, fps) in enumerate([(30, 30), (60, 30), (20, 20), (100, 50), (1, 30)])]
    with opened(browser, page_of(tmp_path, *motions), (700, 400)) as page:
        tab = page.page
        assert tab.locator("#legend button").all_inner_texts() == list("abcde")
        assert tab.locator("#scrub").get_attribute("max") == "99"
        tab.keyboard.press("End")
        drawn(page)
        places = [box["x"] for tag in tab.locator("#tags span").all() if (box := tag.bounding_box())]
        assert len(places) == 5
        assert places == sorted(places)
        assert all(0 < place < 700 for place in places)
        everyone = picture(page)
        tab.keyboard.press("3")
        assert tab.locator("#legend button").nth(2).get_attribute("aria-pressed") == "false"
        assert 0.001 < differing(picture(page), everyone) < 0.2
        tab.keyboard.press("o")
        drawn(page)
        assert not tab.locator("#tags span").first.is_visible()
        assert differing(picture(page), everyone) > 0.02
        assert page.said == []
        assert len(page.asked) == 1


def test_a_phone_shows_everything_and_is_steered_by_fingers(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, *[swaying(30, seed=k) for k in range(3)]), (390, 844), phone=True) as page:
        tab = page.page
        for name in ("#title", "#bar", "#play", "#scrub", "#speed", "#now", "#theme", "#help-button", "#legend"):
            box = tab.locator(name).bounding_box()
            assert box, name
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844, name
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        # What fingers press is large enough for them.
        for button in tab.locator("#transport button, #tools button:visible").all():
            box = button.bounding_box()
            assert box and min(box["width"], box["height"]) >= 40
        tab.locator("#play").tap()
        until(page, "mclip.frame > 1")
        tab.locator("#play").tap()
        tab.evaluate("mclip.seek(5)")
        before = picture(page)
        session = tab.context.new_cdp_session(tab)
        for x, y, kind in [(200, 400, "Start"), (260, 420, "Move"), (320, 440, "Move")]:
            touch(session, kind, (x, y))
        touch(session, "End")
        turned = picture(page)
        assert differing(turned, before) > 0.02
        for apart, kind in [(40, "Start"), (60, "Move"), (120, "Move")]:
            touch(session, kind, (195 - apart, 400), (195 + apart, 400))
        touch(session, "End")
        assert differing(picture(page), turned) > 0.02
        assert page.said == []


def test_ten_thousand_frames_are_played_to_the_end(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, swaying(10_000, 120.0)), (400, 300)) as page:
        page.page.evaluate("mclip.seek(9995); mclip.play()")
        until(page, "mclip.frame < 9000")
        page.page.keyboard.press("End")
        drawn(page)
        assert page.page.locator("#now").inner_text().split() == ["83.33", "s", "9999", "/", "9999"]
        assert page.said == []


def test_a_single_frame_is_a_still_picture(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, swaying(1))) as page:
        tab = page.page
        assert tab.locator("#play").is_disabled()
        assert tab.locator("#scrub").is_disabled()
        tab.keyboard.press("Space")
        tab.keyboard.press("ArrowRight")
        drawn(page)
        assert tab.evaluate("mclip.frame") == 0
        assert tab.locator("#facts").inner_text() == "0.0 s · 1 frame · 30 fps"
        shown = picture(page)
        assert (np.abs(shown - shown[0, 0]) > 40).any(axis=-1).mean() > 0.02
        assert page.said == []


def test_help_and_provenance_are_dialogs(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, swaying(10)), (700, 600)) as page:
        tab = page.page
        tab.keyboard.press("?")
        assert tab.get_by_role("dialog", name="Keys and gestures").is_visible()
        tab.keyboard.press("Space")  # belongs to the dialog now
        assert not tab.evaluate("mclip.playing")
        tab.keyboard.press("Escape")
        tab.get_by_role("button", name="Where it comes from").click()
        dialog = tab.get_by_role("dialog", name="Where it comes from")
        assert "10 frames at 30 fps" in dialog.inner_text()
        dialog.get_by_role("button", name="Close").click()
        assert not dialog.is_visible()


def test_a_browser_without_webgl_is_told_what_is_missing(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    tab = context.new_page()
    tab.goto(page_of(tmp_path, swaying(2)).as_uri())
    tab.wait_for_selector("body.failed")
    assert "WebGL 2" in tab.locator("#failure").inner_text()
    context.close()


# ---- the command ----


def test_view_makes_a_page_by_default(run: Run, tmp_path: Path) -> None:
    swaying(12).save(tmp_path / "walk.npz")
    swaying(12, seed=1).save(tmp_path / "run.npz")
    done = run("view", str(tmp_path / "walk.npz"), str(tmp_path / "run.npz"), "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["path"] == str(tmp_path / "walk-and-1.html")
    assert [each["name"] for each in result["motions"]] == ["walk", "run"]
    assert is_page(tmp_path / "walk-and-1.html")
