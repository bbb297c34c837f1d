"""Links, pipes and devices where mclip expects files of its own, and folders that it did not make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mclip.data.journal import SUFFIX
from mclip.data.preprocess import preprocess
from mclip.errors import MotionError, UsageError
from mclip.files import open_own, open_regular, sha256
from mclip.formats import load
from mclip.locks import FOLDER_LOCK, acquire, own_folder
from mclip.pack import Pack
from mclip.runtime.bulk import SCRATCH
from mclip.runtime.index import load_index
from tests.commands import Run, runner

GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are other there")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's, whose content is to stay."""
    path = tmp_path / "home" / "diary.txt"
    path.parent.mkdir()
    path.write_text("dear diary")
    return path


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OSError, match="link"):
        acquire(tmp_path / "lock", "busy", "")
    (tmp_path / "new").symlink_to(tmp_path / "home" / "made")
    with pytest.raises(OSError, match="link"):
        open_own(tmp_path / "new")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        open_own(tmp_path / "pipe")
    assert victim.read_text() == "dear diary"
    assert [path.name for path in victim.parent.iterdir()] == ["diary.txt"]


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zeros"):
        for read in (open_regular, sha256, load_index):
            with pytest.raises(OSError, match="not a regular file"):
                read(path)
    (tmp_path / "a.amc").write_text(":FULLY-SPECIFIED\n:DEGREES\n1\nroot 0 0 0 0 0 0\n")
    for skeleton in ("pipe", "zeros"):
        (tmp_path / "a.asf").symlink_to(tmp_path / skeleton)
        with pytest.raises(MotionError, match="not a regular file"):
            load(tmp_path / "a.amc")
        (tmp_path / "a.asf").unlink()
    (tmp_path / "link").symlink_to(GOLDEN / "kaykit" / "Cheer.npz")
    assert sha256(tmp_path / "link") == sha256(GOLDEN / "kaykit" / "Cheer.npz")


def test_a_folder_of_somebody_else_is_neither_taken_nor_emptied(tmp_path: Path, victim: Path) -> None:
    for folder in (victim.parent, tmp_path / "link"):
        if not folder.exists():
            folder.symlink_to(victim.parent)
        with pytest.raises(UsageError, match="mclip did not make it"), own_folder(folder, "busy", ""):
            pass
    assert victim.read_text() == "dear diary" and not (victim.parent / FOLDER_LOCK).exists()
    (tmp_path / "empty").mkdir()
    with own_folder(tmp_path / "empty", "busy", ""):
        (tmp_path / "empty" / "kept").touch()
    # What is left is ours, and known as that.
    with own_folder(tmp_path / "empty", "busy", ""):
        (tmp_path / "empty" / "kept").unlink()
    assert not (tmp_path / "empty").exists()


def test_preprocess_leaves_what_a_link_in_its_place_leads_to(tmp_path: Path, victim: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.npz").write_bytes((GOLDEN / "kaykit" / "Cheer.npz").read_bytes())
    (tmp_path / f"a.h5{SUFFIX}").symlink_to(victim.parent)
    with pytest.raises(UsageError, match="in the way"):
        preprocess(clips, tmp_path / "a.h5", workers=1)
    assert victim.read_text() == "dear diary" and not (tmp_path / "a.h5").exists()


def test_commands_leave_what_links_in_their_places_lead_to(
    tiny_pack: Pack, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    mclip: Run = runner(monkeypatch, capsys)
    Path("lib").mkdir()
    Path("lib", "a.npz").write_bytes((GOLDEN / "kaykit" / "Cheer.npz").read_bytes())
    Path("lib", ".mclip-index.lock").symlink_to(victim)
    assert mclip("search", "nods", "lib").code == 2
    Path("texts.txt").write_text("nods\nbends\n")
    Path("made").mkdir()
    Path("made", SCRATCH).symlink_to(victim.parent)
    done = mclip("generate", "--file", "texts.txt", "-o", "made")
    assert (done.code, "in the way" in done.err) == (2, True)
    assert victim.read_text() == "dear diary"
    assert [path.name for path in victim.parent.iterdir()] == ["diary.txt"]
