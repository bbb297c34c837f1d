"""What fuzzing found stays found, and what benchmarks/fuzz.py is made of does what it says. Fuzzing needs atheris."""

from __future__ import annotations

import json
import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from benchmarks.fuzz import READERS, Finding, Reader, attempt, minimise, mutated_tree
from mclip.errors import MotionError
from mclip.formats.bvh import read_bvh

FOUND = [path for path in sorted((Path(__file__).parent / "golden" / "bad" / "fuzz").iterdir()) if path.suffix != ".md"]


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_is_refused(path: Path) -> None:
    assert attempt(READERS[path.name.split("-")[0]], path) is False


def test_a_small_file_does_not_claim_the_largest_files_memory(tmp_path: Path) -> None:
    path = tmp_path / "empty.bvh"
    path.touch()
    tracemalloc.start()
    try:
        with pytest.raises(MotionError, match="MOTION"):
            read_bvh(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", READERS)
def test_seeds_can_be_read_taken_apart_and_put_together(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    seeds = reader.seeds()
    assert seeds
    for number, seed in enumerate(seeds):
        path = tmp_path / f"{number}{reader.suffix}"
        path.write_bytes(reader.join(reader.split(seed)))
        assert attempt(reader, path) is True


def fails(path: Path) -> None:
    if b"needle" in path.read_bytes():
        raise KeyError("needle")
    if not path.read_bytes():
        raise MotionError("empty")


def test_a_finding_is_told_from_a_refusal_and_made_small(tmp_path: Path) -> None:
    reader, path = Reader(".txt", fails, list), tmp_path / "a.txt"
    path.write_bytes(b"")
    assert attempt(reader, path) is False

    def shows(content: bytes) -> bool:
        path.write_bytes(content)
        try:
            attempt(reader, path)
        except Finding as finding:
            return finding.kind.startswith("KeyError")
        return False

    assert minimise(reader, b"hay" * 50 + b"needle" + b"hay" * 77, shows) == b"needle"
    zipped = READERS["npz"].join([b"a.npy", b"hay" * 9, b"b.npy", b"hay needle hay"])
    small = minimise(Reader(".npz", fails, list, READERS["npz"].split, READERS["npz"].join), zipped, shows)
    path.write_bytes(small)
    with zipfile.ZipFile(path) as archive:
        assert b"".join(archive.read(entry) for entry in archive.infolist()) == b"needle"


def test_a_tree_is_changed_in_one_place() -> None:
    before = {"a": [1, {"b": "c"}], "d": None}
    for seed in range(200):
        after = json.loads(mutated_tree(json.dumps(before).encode(), random.Random(seed)))
        assert isinstance(after, dict)
    assert mutated_tree(b"3", random.Random(0)) == b"3"
