from __future__ import annotations

import io
import os
import pty
import re
import select
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from mclip.view.browser import has_desktop, open_page
from mclip.view.terminal import HalfBlocks
from tests.browser import swaying

if TYPE_CHECKING:
    from tests.commands import Run


def test_two_pixels_are_one_character_upper_and_lower() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0], picture[1, 0], picture[0, 1], picture[1, 1] = (1, 2, 3), (4, 5, 6), (7, 8, 9), (250, 251, 252)
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=40)
    console.print(HalfBlocks(picture, "wave\x1b[2J\n"), end="")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    codes = re.findall(r"\x1b\[38;2;(\d+;\d+;\d+);48;2;(\d+;\d+;\d+)m▀", text)
    assert codes == [("1;2;3", "4;5;6"), ("7;8;9", "250;251;252")]
    assert text.endswith("wave [2J ")


def test_a_motion_plays_in_a_terminal_until_ctrl_c_which_is_no_error(tmp_path: Path) -> None:
    swaying(20).save(tmp_path / "sway.npz")
    screen, code = play(tmp_path / "sway.npz")
    assert code == 0
    assert b"Traceback" not in screen
    assert b"interrupted" not in screen
    # The other screen is left again and the cursor comes back.
    assert screen.rindex(b"\x1b[?1049l") > screen.rindex(b"\x1b[?1049h")
    assert b"\x1b[?25h" in screen[screen.rindex(b"Ctrl-C ends") :]
    assert screen.count("▀".encode()) > 40 * 20
    times = re.findall(rb"sway  (\d\.\d\d) s  \d+ / 19", screen)
    assert len(set(times)) > 1


def play(path: Path) -> tuple[bytes, int]:
    """Run `mclip view PATH --terminal` in a terminal of 80 x 24, and press Ctrl-C after three pictures."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80", "LINES": "24"}
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [sys.executable, "-m", "mclip", "view", str(path), "--terminal"])
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    screen, pressed, deadline = b"", False, time.monotonic() + 180
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            screen += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not pressed and screen.count(b"Ctrl-C ends") >= 3:
            os.write(terminal, b"\x03")
            pressed = True
    os.close(terminal)
    return screen, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("more", [[], ["-o", "a.html"], ["--json"], ["sway.npz"]])
def test_without_a_terminal_or_with_an_output_it_is_refused(run: Run, tmp_path: Path, more: list[str]) -> None:
    swaying(2).save(tmp_path / "sway.npz")
    rest = [str(tmp_path / part) if part.endswith((".npz", ".html")) else part for part in more]
    result = run("view", str(tmp_path / "sway.npz"), *rest, "--terminal")
    assert result.code == 2
    assert "--terminal" in result.err
    assert [file.name for file in tmp_path.iterdir()] == ["sway.npz"]


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "a 1 b 22"}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_TTY": "/dev/ttys001"}, "darwin", False),
        ({}, "win32", True),
    ],
)
def test_a_desktop_is_a_display_in_front_of_which_someone_sits(
    environment: dict[str, str], platform: str, expected: bool
) -> None:
    assert has_desktop(environment, platform) is expected


def test_a_page_is_opened_only_on_a_desktop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def browse(url: str) -> bool:
        asked.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert not open_page(tmp_path / "a b.html")
    monkeypatch.setenv("DISPLAY", ":0")
    assert open_page(tmp_path / "a b.html")
    assert asked == [(tmp_path / "a b.html").as_uri()]
