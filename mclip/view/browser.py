"""Whether a person sits in front of this machine, and opening a page for them."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path


def has_desktop(environment: Mapping[str, str], platform: str) -> bool:
    """Whether a browser window would be seen: not over SSH, and with a display."""
    if any(environment.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")):
        return False
    if platform in ("win32", "darwin"):
        return True
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_page(path: Path) -> bool:
    """Open a page in the browser, and return whether there is one. Nothing happens without a desktop."""
    if not has_desktop(os.environ, sys.platform):
        return False
    try:
        return webbrowser.open(path.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False
