"""Checks of what draws: the renderers, OpenGL, films, the browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mclip.doctor.finding import ERROR, OK, WARNING, Finding, Places
from mclip.doctor.packages import has_module
from mclip.doctor.probe import probe, step


def pictures(places: Places) -> list[Finding]:
    """The renderers mclip draws with unless it is told otherwise: numba's, and numpy's where numba is missing."""
    slow = probe("picture", "numpy")
    if "error" in slow:
        return [
            Finding(
                "pictures", ERROR, f"no body can be drawn: {slow['error']}", 'pip install --force-reinstall "mclip"'
            )
        ]
    if not has_module("numba"):
        return [Finding("pictures", WARNING, "drawn by numpy, slowly: numba is missing", "pip install numba")]
    found = probe("numba")
    if "error" in found:
        text = f"drawn by numpy, slowly: numba does not work ({found['error']})"
        return [Finding("pictures", WARNING, text, step(found, "pip install -U numba"))]
    if not _can_cache():
        text = "drawn by numba, which compiles in every process anew: its cache cannot be written"
        return [Finding("pictures", WARNING, text, "export NUMBA_CACHE_DIR=some/folder")]
    return [Finding("pictures", OK, "a body is drawn; numba, which draws faster, compiles")]


def _can_cache() -> bool:
    """Whether numba can keep what it compiled: in a folder it is told, beside the code, or in the user's cache."""
    import mclip.render
    from mclip.nn.download import cache_folder

    named = os.environ.get("NUMBA_CACHE_DIR")
    folders = [Path(named)] if named else [Path(mclip.render.__path__[0]), cache_folder().parent]
    return any(
        os.access(next(each for each in (folder, *folder.parents) if each.is_dir()), os.W_OK) for folder in folders
    )


def opengl(places: Places) -> list[Finding]:
    """Whether --renderer pyrender draws: by EGL, else by OSMesa."""
    from importlib import metadata

    if not has_module("pyrender"):
        text = "pyrender is not installed; only --renderer pyrender needs it"
        return [Finding("opengl", WARNING, text, 'pip install "mclip[train]"')]
    chosen = os.environ.get("PYOPENGL_PLATFORM")
    tried: dict[str, dict[str, str]] = {}
    for platform in dict.fromkeys([chosen or "egl", "egl", "osmesa"]):
        found = probe("picture", "pyrender", environment={"PYOPENGL_PLATFORM": platform})
        if "error" not in found:
            if not tried:
                return [Finding("opengl", OK, f"pyrender draws a body off screen, by {platform}")]
            why = "; ".join(f"{name} does not work: {failed['error']}" for name, failed in tried.items())
            text = f"pyrender draws a body off screen by {platform}; {why}"
            return [Finding("opengl", WARNING, text, f"export PYOPENGL_PLATFORM={platform}")]
        tried[platform] = found
        if found.get("late"):
            break
    first = next(iter(tried.values()))
    text = f"--renderer pyrender does not work ({first['error']}); the others do without it"
    fix = "apt-get install libegl1 libgl1-mesa-dri" if sys.platform == "linux" else "leave --renderer out"
    if chosen == "osmesa" and metadata.version("PyOpenGL") == "3.1.0":
        fix = f'pip install --no-deps "PyOpenGL>=3.1.7"\n{fix}'
    return [Finding("opengl", WARNING, text, step(first, fix))]


def film(places: Places) -> list[Finding]:
    """Whether .mp4 can be written."""
    if not has_module("av"):
        text = ".mp4 cannot be written: the package av is missing; .webp and .gif can"
        return [Finding("film", WARNING, text, 'pip install "mclip[mp4]"')]
    found = probe("film")
    if "error" in found:
        text = f".mp4 cannot be written ({found['error']}); .webp and .gif can"
        return [Finding("film", WARNING, text, step(found, "pip install --force-reinstall av"))]
    return [Finding("film", OK, ".mp4 is written by av")]


def browser(places: Places) -> list[Finding]:
    """Whether pages that mclip view makes can be opened here."""
    import webbrowser

    from mclip.view.browser import has_desktop

    if not has_desktop(os.environ, sys.platform):
        return [Finding("browser", OK, "no desktop here: mclip view writes pages, open them where there is one")]
    try:
        webbrowser.get()
    except webbrowser.Error:
        text = "there is a desktop, but no browser that mclip view could open a page in"
        return [Finding("browser", WARNING, text, "export BROWSER=firefox")]
    return [Finding("browser", OK, "mclip view opens pages in it")]
