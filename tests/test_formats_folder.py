"""Finding motion files, and in how many processes they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mclip.errors import DataError, MotionError
from mclip.formats import folder
from mclip.formats.folder import File, find_sources, gather, read_files, reason_of


def test_a_folder_that_is_reached_twice_is_read_once_under_its_first_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.npz").touch()
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "hüpfen.NPZ").touch()
    assert find_sources(tmp_path) == (["a/x.npz", "hüpfen.NPZ"], [])


def test_what_is_named_twice_is_gathered_once_and_what_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no motion files"):
        gather([tmp_path])
    with pytest.raises(MotionError, match="no such file or folder"):
        gather([tmp_path / "a.npz"])
    (tmp_path / "gone.npz").symlink_to(tmp_path / "nowhere")
    problems = [(str(tmp_path / "gone.npz"), "cannot be opened (No such file or directory)")]
    assert gather([tmp_path]) == ([], problems)
    (tmp_path / "a.npz").touch()
    assert gather([tmp_path, tmp_path / "a.npz"]) == ([tmp_path / "a.npz"], problems)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MotionError("some/a.npz: is\nwrong", "mend it"), "is wrong"),
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied)"),
        (OSError("odd"), "cannot be read (odd)"),
        (MemoryError(), "does not fit into memory"),
        (KeyError("x"), "cannot be read (KeyError: 'x')"),
    ],
)
def test_a_reason_is_a_line_without_the_path(error: BaseException, reason: str) -> None:
    assert reason_of(error, Path("some/a.npz")) == reason


@pytest.mark.parametrize(("size", "workers"), [(19, None), (20, 2), (1000, 3)])
def test_files_are_read_in_as_many_processes_as_are_worth_it(
    size: int, workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run_all(work: object, jobs: list[Path], count: int) -> Iterator[tuple[Path, Any]]:
        asked.append(count)
        yield from ((job, None) for job in jobs)

    monkeypatch.setattr(folder, "run_all", run_all)
    monkeypatch.setattr(folder, "_BYTES_PER_WORKER", 10)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    paths = [tmp_path / "a.npz", tmp_path / "missing.npz"]
    paths[0].write_bytes(bytes(size))
    files: list[File] = list(read_files(paths, 30.0))
    assert asked == ([] if workers is None else [workers])
    assert [file.path for file in files] == paths
    says = "not a readable" if workers is None else "reading it ended the worker process"
    assert says in files[0].reason
