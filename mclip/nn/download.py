"""Downloads: resumed where they stopped, checked against their sha256, and there only when whole."""

from __future__ import annotations

import os
import shutil
import sys
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from mclip.console import err, progress
from mclip.errors import AssetError
from mclip.files import cannot_write, sha256

# Without a byte for this long a connection is dead.
_TIMEOUT_S = 30.0
_CHUNK = 1_000_000


def cache_folder() -> Path:
    """Where this user's downloads are kept: XDG_CACHE_HOME, or what the system has for it."""
    if wanted := os.environ.get("XDG_CACHE_HOME"):
        return Path(wanted) / "mclip"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mclip"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mclip"
    return Path.home() / ".cache" / "mclip"


def fetch(url: str, digest: str, folder: Path, *, hint: str) -> Path:
    """The file of this URL and SHA-256 in `folder`, downloaded unless it is there.

    hint: what an AssetError says to do when it cannot be had. What an earlier attempt left is gone on from.
    Raises AssetError without a connection or for other content, UsageError when `folder` cannot be written.
    """
    target = folder / url.rsplit("/", 1)[-1]
    part = target.with_name(f"{target.name}.part")
    try:
        if target.is_file() and sha256(target) == digest:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        err(f"downloading {url} to {target}")
        _download(url, part, hint)
        if sha256(part) != digest:
            part.unlink()
            raise AssetError(f"{url}: what came is not the file of sha256 {digest}", f"try again; else {hint}")
        os.replace(part, target)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        # HTTPError is one of them; all that came before it stays in the .part file.
        raise AssetError(f"{url}: cannot be downloaded ({getattr(error, 'reason', error)})", hint) from None
    except OSError as error:
        raise cannot_write(target, error) from None
    return target


def _download(url: str, part: Path, hint: str) -> None:
    """Append what is missing to `part`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "mclip", "Range": f"bytes={have}-"})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # nothing is missing
                return
        raise
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        expected = have + int(length) if length and length.isdigit() else 0
        if expected and expected - have > shutil.disk_usage(part.parent).free:
            raise AssetError(f"{part}: the disk has no room for {expected / 1e6:.0f} MB", hint)
        _save(response, part, have, expected)
    if part.stat().st_size < expected:
        raise ConnectionError(f"it ended after {part.stat().st_size} of {expected} bytes; the next attempt goes on")


def _save(response: HTTPResponse, part: Path, have: int, expected: int) -> None:
    with (
        part.open("ab" if have else "wb") as file,
        progress("download, MB", -(-expected // _CHUNK), have // _CHUNK) as bar,
    ):
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.advance(len(chunk) // _CHUNK)
