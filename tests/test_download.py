"""Downloads from a server in the test: resumed, checked, and explained when they fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from mclip.errors import AssetError, UsageError
from mclip.nn.download import cache_folder, fetch

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HINT = "get it elsewhere"


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, with ranges unless told not to, and breaks off after `limit` bytes of an answer."""

    asked: ClassVar[list[str]] = []
    limit: ClassVar[int] = 1 << 30
    ranges: ClassVar[bool] = True

    def do_GET(self) -> None:
        Handler.asked.append(self.headers["Range"])
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.ranges else 0
        if self.path == "/absent.pt":
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if self.ranges else 200)
        if self.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + self.limit])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "asked", [])
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server: str, tmp_path: Path) -> None:
    path = fetch(f"{server}/w.pt", DIGEST, tmp_path / "new", hint=HINT)
    assert path == tmp_path / "new" / "w.pt"
    assert path.read_bytes() == CONTENT
    assert fetch(f"{server}/w.pt", DIGEST, tmp_path / "new", hint=HINT) == path
    assert len(Handler.asked) == 1
    assert list((tmp_path / "new").iterdir()) == [path]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr(Handler, "limit", 300_000)
    with pytest.raises(AssetError, match="300000 of 1048576 bytes"):
        fetch(f"{server}/w.pt", DIGEST, tmp_path, hint=HINT)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt.part"]
    monkeypatch.setattr(Handler, "limit", 1 << 30)
    monkeypatch.setattr(Handler, "ranges", ranges)
    assert fetch(f"{server}/w.pt", DIGEST, tmp_path, hint=HINT).read_bytes() == CONTENT
    assert Handler.asked == ["bytes=0-", "bytes=300000-"]


def test_a_whole_part_is_not_asked_for_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt.part").write_bytes(CONTENT)
    assert fetch(f"{server}/w.pt", DIGEST, tmp_path, hint=HINT).read_bytes() == CONTENT


def test_other_content_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="not the file of sha256"):
        fetch(f"{server}/w.pt", "0" * 64, tmp_path, hint=HINT)
    assert list(tmp_path.iterdir()) == []


def test_a_spoilt_file_is_downloaded_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"half")
    assert fetch(f"{server}/w.pt", DIGEST, tmp_path, hint=HINT).read_bytes() == CONTENT


def test_what_cannot_be_had_says_what_to_do(server: str, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="Not Found") as absent:
        fetch(f"{server}/absent.pt", DIGEST, tmp_path, hint=HINT)
    with pytest.raises(AssetError, match="cannot be downloaded") as offline:
        fetch("http://127.0.0.1:9/w.pt", DIGEST, tmp_path, hint=HINT)
    assert absent.value.hint == offline.value.hint == HINT
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_explained(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write"):
        fetch(f"{server}/w.pt", DIGEST, tmp_path / "file" / "mclip", hint=HINT)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mclip"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in cache_folder().parents
