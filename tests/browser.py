"""Real pages in a real, headless Chromium, with nothing to reach: whatever a page says or asks for is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

# Debian's chromium; elsewhere Chrome or what playwright installed under these names.
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # It would look for updates and time servers.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
# Software GL on a busy machine.
PATIENCE_MS = 120_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page and what went wrong in it."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def opened(
    browser: Browser, path: Path, size: tuple[int, int] = (400, 300), *, phone: bool = False, dark: bool = False
) -> Iterator[Opened]:
    """Open the page in `path` from disk and wait until it is drawn. It does not start by itself: `mclip.play()`."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        has_touch=phone,
        is_mobile=phone,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    result = Opened(page)
    page.on("console", lambda message: result.said.append(message.text))
    page.on("pageerror", lambda error: result.said.append(str(error)))
    page.on("request", lambda request: result.asked.append(request.url))
    # Nothing leaves this machine, and a page that tries is seen to.
    context.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    try:
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("body.ready, body.failed")
        yield result
    finally:
        context.close()


def drawn(opened: Opened) -> None:
    """Wait until the screen shows what was asked for."""
    opened.page.evaluate("mclip.drawn")


def until(opened: Opened, condition: str) -> None:
    """Wait for a condition in JavaScript. The page's policy does not let playwright's own waiting run."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not opened.page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        opened.page.wait_for_timeout(20)


def touch(session: CDPSession, kind: str, *points: tuple[float, float]) -> None:
    """Start, Move or End: fingers at these pixels of a page opened as a phone's, one session for all they do."""
    touches = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})


def swaying(frames: int, fps: float = 30.0, *, seed: int = 0) -> Motion:
    """Someone who walks along a bend, turns more than once, and moves every joint."""
    rng = np.random.default_rng(seed)
    at = np.arange(frames)[:, None] / fps
    pose = np.zeros((frames, 24, 3))
    pace = rng.uniform(0.5, 3.0, (24, 3))
    pose[:, 1:] = rng.uniform(-0.5, 0.5, (23, 3)) * np.sin(at[..., None] * pace[1:] + pace[:-1])
    pose[:, JOINT["left_shoulder"], 2] -= 1.0
    pose[:, JOINT["right_shoulder"], 2] += 1.0
    # Upright, then around the vertical.
    half = 0.5 * (seed + at[:, 0])
    quaternion = np.stack([np.cos(half), np.cos(half), np.sin(half), np.sin(half)], axis=-1) * np.sqrt(0.5)
    angle = 2 * np.arccos(np.clip(quaternion[:, :1], -1, 1))
    axis = quaternion[:, 1:] / np.maximum(np.linalg.norm(quaternion[:, 1:], axis=1, keepdims=True), 1e-9)
    pose[:, 0] = angle * axis
    path = np.concatenate([2 + 0.8 * at, np.sin(at) - 3, np.full_like(at, 1.19)], axis=1)
    return Motion(pose=pose.astype(np.float32), transl=path.astype(np.float32), fps=fps)
