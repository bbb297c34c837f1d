"""Motions as a page: one HTML file that plays them in any browser, without a network and without anything else.

The page is put together from the files in mclip/view/assets: a skeleton (.html), a style sheet and plain scripts that
share one scope. Its content security policy names the hashes of its own style and script and allows nothing besides.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mclip import __version__
from mclip.errors import UsageError
from mclip.files import write_text
from mclip.motion import Motion
from mclip.view.embed import embed_body, embed_motion

SUFFIXES: tuple[str, ...] = (".html", ".htm")
# More than can be told apart on a screen, or drawn at speed.
MAX_MOTIONS = 100
# What is at the start of every page we make.
MARK = '<meta name="generator" content="mclip '
_MARK_WITHIN = 1000
PLAYER = ("math.js", "data.js", "pose.js", "shaders.js", "stage.js", "gestures.js", "camera.js", "clock.js", "page.js")
# Digits of a pack's SHA-256 that are enough to tell packs apart.
_DIGEST = 12
# Motions that the heading names; the page lists all.
_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A motion of a page: its name, which tells it from the others there, and where it comes from."""

    name: str
    motion: Motion
    file: str = ""


def motion_page(motions: Sequence[Shown], *, title: str = "") -> str:
    """The HTML of a page that plays motions in step, side by side or overlaid.

    title: the heading; if empty, the text the motion was made from, or the motions' names.
    Raises UsageError when there is nothing to show, or more than MAX_MOTIONS.
    """
    if not motions:
        raise UsageError("there is no motion to show")
    if len(motions) > MAX_MOTIONS:
        raise UsageError(f"{len(motions)} motions are too many for one page", f"choose up to {MAX_MOTIONS}")
    data = {
        "body": embed_body(),
        "motions": [
            {"name": each.name, "caption": caption(each), "about": about(each), **embed_motion(each.motion)}
            for each in motions
        ],
    }
    return compose("motion", title or _heading(motions), data, scripts=(*PLAYER, "motion.js"))


def _heading(motions: Sequence[Shown]) -> str:
    if len(motions) == 1:
        return caption(motions[0])
    if len(motions) <= _NAMED:
        return " · ".join(shown.name for shown in motions)
    return f"{motions[0].name} and {len(motions) - 1} others"


def write_page(path: Path, page: str, *, force: bool = False) -> None:
    """Write a page atomically. Raises UsageError as `check_page_output` does."""
    check_page_output(path, force=force)
    write_text(path, page)


def check_page_output(path: Path, *, force: bool = False) -> None:
    """Raise UsageError when no page can be written to `path`: a folder, or a file there that is not ours."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", "name a file with -o")
    if path.exists() and not force and not is_page(path):
        raise UsageError(f"{path}: exists, and was not made by mclip view", "use --force to replace it")


def is_page(path: Path) -> bool:
    """Whether mclip made this page."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(_MARK_WITHIN)
    except OSError:
        return False


def default_page(files: Sequence[Path]) -> Path:
    """Where the page of these files goes, if nobody says: beside the first."""
    first = files[0]
    return first.with_name(first.stem + (f"-and-{len(files) - 1}" if len(files) > 1 else "") + SUFFIXES[0])


def names_of(files: Sequence[Path]) -> list[str]:
    """A name for each file that tells it from the others: its stem, or as much of its path as it takes."""
    for depth in range(1, max(len(file.parts) for file in files) + 1):
        names = ["/".join((*file.parts[-depth:-1], file.stem)) for file in files]
        if len(set(names)) == len(names):
            return names
    return [file.name for file in files]


def caption(shown: Shown) -> str:
    """What a motion shows, in words: the text it was made from, or its name."""
    origin = shown.motion.origin
    return str(origin.get("text") or origin.get("prompt") or shown.name)


def about(shown: Shown) -> list[tuple[str, str]]:
    """What is known of a motion, (name, value) each: its measures, then where it comes from."""
    motion = shown.motion
    travelled = float(np.linalg.norm(motion.transl[-1, :2] - motion.transl[0, :2]))
    rows = [
        ("length", f"{motion.seconds:.2f} s, {len(motion)} frames at {motion.fps:g} fps"),
        ("ends", f"{travelled:.2f} m from its start"),
    ]
    if shown.file:
        rows.insert(0, ("file", shown.file))
    for key, value in motion.origin.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if key.endswith("sha256"):
            text = text[:_DIGEST]
        rows.append((key.replace("_", " "), text))
    return rows


def compose(kind: str, title: str, data: Mapping[str, Any], *, scripts: Sequence[str]) -> str:
    """A whole page from mclip/view/assets: KIND.html within page.html, style.css, and the named scripts in order.

    KIND.html may ask for {{head}}, the heading and tools of a page that is a plane with a small stage beside it.
    """
    style = _asset("style.css")
    script = "\n".join(_asset(name) for name in scripts)
    policy = f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    # Within a script element only "<" can end it or open a comment.
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "mark": f'{MARK}{__version__}">',
        "policy": policy,
        "title": html.escape(" ".join(title.split())),
        "style": style,
        "body": _filled(_asset(f"{kind}.html"), {"head": _asset("head.html")}),
        "data": content,
        "script": script,
    }
    # What is no text, half of a broken file name, becomes a question mark.
    return _filled(_asset("page.html"), parts).encode(errors="replace").decode()


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """A template with its {{names}} replaced, once: what is put in is not searched."""
    pieces = []
    for piece in template.split("{{"):
        name, found, rest = piece.partition("}}")
        pieces.append(parts[name] + rest if found else piece)
    return "".join(pieces)


@cache
def _asset(name: str) -> str:
    return (resources.files("mclip.view") / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
