"""mclip search: the index and how it is kept true, ranking, groups, and the command from the outside."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclip.errors import DataError, PackError
from mclip.formats import load, save
from mclip.formats.folder import File, read_files
from mclip.pack import Pack
from mclip.runtime import index as index_module
from mclip.runtime.engine import Engine
from mclip.runtime.index import MAGIC, NAME, Entry, Index, load_index, update_index
from mclip.runtime.search import Library, kmeans, motion_query, open_library, text_query
from tests.commands import Run, runner
from tests.fakes import ACTIONS, swinging

OLD_NS = 1_600_000_000_000_000_000


@pytest.fixture(scope="module")
def engine(tiny_pack: Pack) -> Engine:
    return Engine(tiny_pack, "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two takes of three actions, one as .bvh, one broken file; all of them old. Not to be changed."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "deep").mkdir()
    for action, (_, joint, axis) in ACTIONS.items():
        for take in range(2):
            swinging(joint, axis, take).save(folder / f"{action.replace(' ', '_')}_{take}.npz")
    save(folder / "deep" / "nod.bvh", swinging("head", 0, 3, frames=90))
    (folder / "torn.bvh").write_text("HIERARCHY")
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(OLD_NS, OLD_NS))
    return folder


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "library"))


@pytest.fixture
def mclip(
    library: Path, tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command line beside the library, with the tiny pack."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    return runner(monkeypatch, capsys)


# The index


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    entries = (
        Entry("a.npz", 5, 7, "f" * 64, (("", 2),), ""),
        Entry("böse\n.bvh", 1, 0, "0" * 64, (), "torn"),
        Entry("k.glb", 2**40, OLD_NS, "1" * 64, (("Idle", 1), ("Run", 3)), ""),
    )
    latents, bounds = random.normal(size=(6, 5)).astype(np.float32), np.arange(12, dtype=np.int32).reshape(6, 2)
    index = Index("tiny", "d" * 64, 30.0, entries, latents, bounds)
    index.save(tmp_path / NAME)
    again = load_index(tmp_path / NAME)
    assert (again.pack, again.digest, again.fps, again.entries) == ("tiny", "d" * 64, 30.0, entries)
    assert isinstance(again.latents, np.memmap)
    np.testing.assert_array_equal(again.latents, latents)
    np.testing.assert_array_equal(again.bounds, bounds)
    # The documented layout, read by hand.
    content = (tmp_path / NAME).read_bytes()
    (length,) = struct.unpack("<Q", content[8:16])
    assert (content[:8], json.loads(content[16 : 16 + length])["windows"]) == (MAGIC, 6)
    np.testing.assert_array_equal(np.frombuffer(content[-6 * 5 * 4 :], "<f4").reshape(6, 5), latents)
    assert (len(content) - 6 * 5 * 4) % 64 == 0


def test_an_empty_index_is_an_index(tmp_path: Path) -> None:
    Index("tiny", "", 30.0, (), np.zeros((0, 5), np.float32), np.zeros((0, 2), np.int32)).save(tmp_path / NAME)
    assert load_index(tmp_path / NAME).latents.shape == (0, 5)


@pytest.mark.parametrize("size", [0, 4, 12, 40, -1])
def test_a_cut_index_is_called_damaged(engine: Engine, library: Path, size: int) -> None:
    update_index(engine, library)
    content = (library / NAME).read_bytes()
    (library / NAME).write_bytes(content[:size])
    with pytest.raises(DataError, match=r"damaged|not an index"):
        update_index(engine, library)


def test_an_index_with_other_tables_is_called_damaged(engine: Engine, library: Path) -> None:
    update_index(engine, library)
    content = (library / NAME).read_bytes()
    for old, new in (
        (b'"windows":', b'"windowz":'),
        (b'"width":24', b'"width":25'),
        (b"[4,4,8,", b"[5,4,8,"),
        (b'"torn.bvh"', b"1"),
    ):
        assert old in content
        (library / NAME).write_bytes(content.replace(old, new))
        with pytest.raises(DataError, match="damaged"):
            load_index(library / NAME)


def test_only_what_is_new_or_changed_is_encoded(engine: Engine, library: Path) -> None:
    first = update_index(engine, library)
    assert first.encoded == 8
    assert [Path(path).name for path, _ in first.skipped] == ["torn.bvh"]
    written = (library / NAME).read_bytes(), (library / NAME).stat().st_mtime_ns
    again = update_index(engine, library)
    assert (again.encoded, again.skipped) == (0, first.skipped)
    assert ((library / NAME).read_bytes(), (library / NAME).stat().st_mtime_ns) == written

    swinging("spine1", 1, 5).save(library / "nod_0.npz")  # changed, and as large as it was
    os.utime(library / "nod_1.npz", ns=(OLD_NS + 1, OLD_NS + 1))  # touched
    (library / "bend_0.npz").unlink()
    shutil.copy(library / "bend_1.npz", library / "new.npz")
    update = update_index(engine, library)
    assert update.encoded == 2
    names = [entry.path for entry in update.index.entries]
    assert names == sorted({*(entry.path for entry in first.index.entries), "new.npz"} - {"bend_0.npz"})
    rows = rows_of(update.index)
    # An untrained model hardly tells motions apart, but by more than rounding.
    assert np.abs(rows["nod_0.npz"] - rows_of(first.index)["nod_0.npz"]).max() > 1e-4
    for name in ("nod_1.npz", "deep/nod.bvh", "wave_left_1.npz"):
        np.testing.assert_array_equal(rows[name], rows_of(first.index)[name])
    np.testing.assert_allclose(rows["new.npz"], rows["bend_1.npz"], atol=1e-6)
    # What is in the file is what was returned, and what an index made from nothing has.
    for other in (load_index(library / NAME), update_index(engine, library, rebuild=True).index):
        np.testing.assert_allclose(other.latents, update.index.latents, atol=1e-6)
        np.testing.assert_array_equal(other.bounds, update.index.bounds)


def rows_of(index: Index) -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    ends = np.cumsum([entry.windows for entry in index.entries])
    return {
        entry.path: np.array(index.latents[end - entry.windows : end])
        for entry, end in zip(index.entries, ends.tolist(), strict=True)
    }


def test_a_file_changed_within_the_clocks_resolution_is_noticed(engine: Engine, library: Path) -> None:
    path = library / "nod_0.npz"
    swinging("head", 0, 7).save(path)
    update_index(engine, library)
    status = path.stat()
    swinging("spine1", 1, 5).save(path)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert update_index(engine, library).encoded == 1


def test_what_was_finished_before_an_interruption_is_kept(
    engine: Engine, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(paths: list[Path], fps: float, *where: Any) -> Iterator[File]:
        for number, file in enumerate(read_files(paths, fps, *where)):
            if number == 3:
                raise KeyboardInterrupt
            yield file

    monkeypatch.setattr(index_module, "read_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        update_index(engine, library)
    assert len(load_index(library / NAME).entries) == 3
    monkeypatch.setattr(index_module, "read_files", read_files)
    assert update_index(engine, library).encoded == 5
    assert sorted(path.name for path in library.iterdir() if path.name.startswith(".")) == [NAME]


def test_another_packs_index_is_refused_and_can_be_made_anew(engine: Engine, library: Path) -> None:
    update_index(engine, library)
    other = Engine(replace(engine.pack, digest="0" * 64), "cpu")
    before = (library / NAME).read_bytes()
    with pytest.raises(PackError, match="another pack of the name tiny") as raised:
        update_index(other, library)
    assert "--rebuild" in raised.value.hint
    assert (library / NAME).read_bytes() == before
    assert update_index(other, library, rebuild=True).encoded == 8


def test_a_file_that_is_no_index_is_not_replaced(engine: Engine, library: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    for rebuild in (False, True):
        with pytest.raises(DataError, match="not an index"):
            update_index(engine, library, tmp_path / "mine", rebuild=rebuild)
    assert (tmp_path / "mine").read_bytes() == b"precious"
    update_index(engine, library, tmp_path / "elsewhere")
    assert not (library / NAME).exists()


# Ranking


def shelf(*vectors: tuple[float, float]) -> Library:
    """A library with one motion of one window for each vector, and a last one with all of them."""
    entries = [Entry(f"{row}.npz", 1, 1, "", (("", 1),), "") for row in range(len(vectors))]
    entries.append(Entry("all.npz", 1, 1, "", (("", len(vectors)),), ""))
    latents = np.array([*vectors, *vectors], np.float32)
    bounds = np.array([[30, 90]] * len(vectors) + [[60 * k, 60 * k + 60] for k in range(len(vectors))], np.int32)
    return Library([(Path("lib"), Index("tiny", "", 30.0, tuple(entries), latents, bounds))])


def test_motions_are_ranked_by_their_best_window() -> None:
    library = shelf((1, 0), (0.6, 0.8), (0, 1))
    hits = library.search(np.array([[0, 1]], np.float32), 3)
    assert [(hit.path, round(hit.score, 3), hit.start, hit.end) for hit in hits] == [
        (str(Path("lib/2.npz")), 1.0, 1.0, 3.0),
        (str(Path("lib/all.npz")), 1.0, 4.0, 6.0),
        (str(Path("lib/1.npz")), 0.8, 1.0, 3.0),
    ]


def test_a_query_of_several_windows_wants_all_of_them() -> None:
    hits = shelf((1, 0), (0.6, 0.8), (0, 1)).search(np.array([[1, 0], [0, 1]], np.float32), 4)
    assert [round(hit.score, 3) for hit in hits] == [1.0, 0.7, 0.5, 0.5]
    assert Path(hits[0].path).name == "all.npz"


def test_duplicates_are_left_out_and_named() -> None:
    library = shelf((1, 0), (0.9999, 0.0141), (0, 1))
    hits = library.search(np.array([[1, 0]], np.float32), 9, dedupe=True)
    assert [(Path(hit.path).name, tuple(Path(path).name for path in hit.alike)) for hit in hits] == [
        ("0.npz", ("1.npz",)),
        ("all.npz", ()),
        ("2.npz", ()),
    ]


def test_exact_search_agrees_with_a_plain_loop(engine: Engine, made: Path, tmp_path: Path) -> None:
    library = open_library(engine, [made], tmp_path / "index")[0]
    query = text_query(engine, "a person nods")
    (shelf,) = library._shelves
    best = {name: float((rows @ query[0]).max()) for name, rows in rows_of(shelf[1]).items() if len(rows)}
    hits = library.search(query, 99)
    assert [Path(hit.path).relative_to(made).as_posix() for hit in hits] == sorted(best, key=lambda name: -best[name])
    np.testing.assert_allclose([hit.score for hit in hits], sorted(best.values(), reverse=True), atol=1e-6)


def test_a_motion_finds_itself_and_can_leave_itself_out(engine: Engine, made: Path, tmp_path: Path) -> None:
    path = made / "bend_0.npz"
    library = open_library(engine, [made], tmp_path / "index")[0]
    query = motion_query(engine, load(path))
    hit = library.search(query, 1)[0]
    assert (Path(hit.path), round(hit.score, 4)) == (path, 1.0)
    assert path not in {Path(hit.path) for hit in library.search(query, 99, without=path)}


def test_kmeans_finds_bundles_and_ends_where_nothing_moves() -> None:
    random = np.random.default_rng(3)
    axes = np.eye(4, 8, dtype=np.float32)
    member = np.repeat(np.arange(4), 25)
    vectors = axes[member] + random.normal(0, 0.05, (100, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    label, centres = kmeans(vectors, 4)
    assert len({(int(a), int(b)) for a, b in zip(member, label, strict=True)}) == 4
    np.testing.assert_array_equal((vectors @ centres.T).argmax(axis=1), label)
    for group in range(4):
        mean = vectors[label == group].sum(axis=0)
        np.testing.assert_allclose(centres[group], mean / np.linalg.norm(mean), atol=1e-6)
    assert len(kmeans(np.repeat(axes[:1], 5, axis=0), 3)[1]) == 1


# The command


def test_a_text_finds_motions_and_json_says_where(mclip: Run) -> None:
    done = mclip("search", "a person bends slowly", "library", "--top", "3", "--json")
    result = json.loads(done.out)
    assert (done.code, result["text"], result["motions"]) == (0, "a person bends slowly", 7)
    scores = [hit["score"] for hit in result["results"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert all(set(hit) == {"path", "score", "start", "end", "alike"} for hit in result["results"])
    assert result["skipped"] == [{"path": str(Path("library/torn.bvh")), "reason": "has no MOTION section"}]
    lines = mclip("search", "a person bends slowly", "library", "--top", "3").out.splitlines()
    assert [line.split()[1] for line in lines] == [hit["path"] for hit in result["results"]]
    assert mclip("search", "nods", "library", "--strict").code == 4


def test_like_groups_and_single_files(mclip: Run) -> None:
    done = mclip("search", "--like", "library/deep/nod.bvh", "library", "--json")
    paths = [Path(hit["path"]).as_posix() for hit in json.loads(done.out)["results"]]
    assert len(paths) == 6 and "library/deep/nod.bvh" not in paths
    clusters = json.loads(mclip("search", "library", "--cluster", "3", "--json").out)["clusters"]
    assert sum(len(group["motions"]) for group in clusters) == 7
    assert all(group["path"] == group["motions"][0] and group["name"] in ACTIONS for group in clusters)
    assert len(mclip("search", "nods", "library", "--top", "4", "--cluster", "2").out.splitlines()) <= 2
    done = mclip("search", "nods", "library/nod_0.npz", "library/bend_0.npz", "--json")
    assert {Path(hit["path"]).name for hit in json.loads(done.out)["results"]} == {"nod_0.npz", "bend_0.npz"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nods"], 2, "say what to look for, and where"),
        (["library"], 2, "say what to look for, and where"),
        (["", "library"], 2, "the text is empty"),
        (["nods " * 30, "library"], 2, "30 tokens"),
        (["nods", "nowhere"], 4, "no such file or folder"),
        (["nods", "empty"], 4, "holds no motion files"),
        (["nods", "note.txt"], 4, "not a motion file"),
        (["--like", "library/torn.bvh", "library"], 4, "has no MOTION section"),
        (["--like", "absent.npz", "library"], 4, "no such file"),
        (["--like", "short.npz", "library"], 4, "short.npz: lasts 0.13 s, the pack tiny needs 0.33 s"),
        (["nods", "library", "--top", "0"], 2, "must be 1 or more"),
        (["nods", "library", "--workers", "0"], 2, "must be 1 or more"),
        (["nods", "library", "--workers", "2", "--dask", "tcp://127.0.0.1:1"], 2, "give one of them"),
        (["nods", "library", "--index", "note.txt"], 4, "not an index"),
        (["nods", "library", "library/deep", "--index", "x"], 2, "one folder"),
        (["nods", "library", "--index", "/dev/null/x"], 2, "/dev/null/x"),
        (["nods", "library", "--pack", "nowhere"], 6, "no such pack"),
        ([], 2, "Missing argument"),
    ],
)
def test_mistakes_get_their_exit_code(mclip: Run, arguments: list[str], code: int, said: str) -> None:
    Path("empty").mkdir()
    Path("note.txt").write_text("precious")
    swinging("head", 0, 1, frames=4).save(Path("short.npz"))
    done = mclip("search", *arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert 1 <= len(done.err.splitlines()) <= 3
    assert Path("note.txt").read_text() == "precious"


def test_an_index_made_with_another_pack_is_exit_code_6(mclip: Run, pack_copy: Path) -> None:
    assert mclip("search", "nods", "library").code == 0
    card = pack_copy / "manifest.json"
    card.write_text(card.read_text().replace('"name": "tiny"', '"name": "other"', 1))
    done = mclip("search", "nods", "library", "--pack", str(pack_copy))
    assert done.code == 6
    assert "was made with the pack tiny, not other" in done.err
    assert mclip("search", "nods", "library", "--pack", str(pack_copy), "--rebuild").code == 0
