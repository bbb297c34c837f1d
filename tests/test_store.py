"""The store: what is written is read back, and nothing that is not a whole store is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mclip.data.hdf5 import create
from mclip.data.store import SCHEMA, MotionStore, read_store, write_embeddings, write_store
from mclip.errors import DataError, UsageError

LENGTHS = (3, 1, 5)
PATHS = ("a/walk.bvh", "b/räum auf – 走る.npz", "c.glb#Sit 🪑")
POSE = np.random.default_rng(0).normal(size=(sum(LENGTHS), 24, 3)).astype(np.float32)
TRANSL = np.random.default_rng(1).normal(size=(sum(LENGTHS), 3)).astype(np.float32)
CAPTIONS = {"motion": [0, 2], "start": [0, 1], "stop": [3, 4], "text": [0, 1], "mirrored": [1, 0], "label": [0, 0]}
IMAGES = [(0, 1, b"RIFFone"), (2, 0, b"two"), (2, 4, b"three")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of three motions, written by us."""
    path = tmp_path / "motions.h5"
    _write(path)
    return path


def _write(path: Path) -> None:
    # scipy is the second witness for the rotations: rows of its matrices are the 6D we store.
    matrices = Rotation.from_rotvec(POSE.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    rotations = matrices[:, :, :2].reshape(-1, 24, 6).astype(np.float32)
    with write_store(
        path, frames=len(POSE), fps=30.0, options={"val": 0.1}, body="free", renderer="numba", camera="fov 30"
    ) as writer:
        stops = np.cumsum(LENGTHS).tolist()
        for start, stop in zip([0, *stops], stops, strict=False):
            writer.add_motion(rotations[start:stop], TRANSL[start:stop])
        writer.array("offsets", np.array([0, *stops], np.int64))
        writer.strings("path", PATHS)
        writer.strings("sha256", ["0" * 64, "1" * 64, "2" * 64])
        writer.strings("source", ["a", "b", ""])
        writer.splits(["train", "val", "test"])
        writer.array("betas", np.arange(30, dtype=np.float32).reshape(3, 10))
        writer.strings("gender", ["neutral", "female", "male"])
        writer.strings("texts", ["turn left", "turn right"])
        writer.strings("labels", ["turn"])
        columns = {
            "motion": [0, 2],
            "start": [0, 1],
            "stop": [3, 4],
            "text": [0, 1],
            "mirrored": [1, 0],
            "label": [0, 0],
        }
        for name, values in columns.items():
            writer.array(f"captions/{name}", np.array(values, np.int32))
        for name in ("path", "sha256", "reason"):
            writer.strings(f"skipped/{name}", [f"{name} of a bad file"])
        sizes = np.array([(motion, frame, len(image)) for motion, frame, image in IMAGES])
        writer.images(sizes, (np.frombuffer(image, np.uint8) for _, _, image in IMAGES))
        writer.array("captions/layer", np.array([0, 0], np.int32))
        writer.array("captions/processed", np.array([1, 1], np.int32))
        writer.array("categories/offsets", np.array([0, 1, 3], np.int64))
        writer.array("categories/label", np.array([0, 0, 0], np.int32))
        writer.array("source_fps", np.array([60.0, 120.0, 250.0]))


def test_what_was_written_is_read_back(path: Path) -> None:
    store = read_store(path)
    assert (store.fps, store.options, store.body, store.renderer) == (30.0, {"val": 0.1}, "free", "numba")
    assert store.created_by.startswith("mclip ")
    assert store.path == PATHS
    assert store.source == ("a", "b", "")
    assert store.split == ("train", "val", "test")
    assert store.gender == ("neutral", "female", "male")
    assert store.texts == ("turn left", "turn right")
    assert store.skipped == (("path of a bad file", "sha256 of a bad file", "reason of a bad file"),)
    assert store.captions.stop.tolist() == [3, 4]
    assert (store.captions.layer.tolist(), store.captions.processed.tolist()) == ([0, 0], [1, 1])
    assert [store.captions.categories(row).tolist() for row in range(2)] == [[0], [0, 0]]
    assert store.source_fps is not None
    assert store.source_fps.tolist() == [60.0, 120.0, 250.0]
    assert len(store) == 3
    assert len(store.captions) == 2
    assert [store.length(i) for i in range(3)] == list(LENGTHS)
    np.testing.assert_array_equal(store.transl, TRANSL)
    assert store.embeddings == {}


def test_a_store_without_layers_and_categories_has_its_labels_for_them(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for name in ("captions/layer", "captions/processed", "categories", "source_fps"):
            del file[name]
    store = read_store(path)
    captions = store.captions
    assert (captions.layer.tolist(), captions.processed.tolist()) == ([0, 1], captions.text.tolist())
    assert [captions.categories(row).tolist() for row in range(2)] == [[0], [0]]
    assert store.source_fps is None


def test_attributes_of_any_length_are_read_as_well(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["camera"] = "von schräg oben"
    assert read_store(path).camera == "von schräg oben"


def test_a_motion_comes_back_with_its_rotations(path: Path) -> None:
    motion = read_store(path).motion(2)
    assert len(motion) == LENGTHS[2]
    np.testing.assert_array_equal(motion.transl, TRANSL[4:])
    np.testing.assert_array_equal(motion.betas, np.arange(20, 30))
    difference = Rotation.from_rotvec(motion.pose.reshape(-1, 3)) * Rotation.from_rotvec(POSE[4:].reshape(-1, 3)).inv()
    assert difference.magnitude().max() < 1e-5
    assert motion.gender == "male"
    assert motion.origin["path"] == PATHS[2]


def test_mapped_arrays_equal_read_ones_and_cannot_be_written(path: Path) -> None:
    read, mapped = read_store(path), read_store(path, mmap=True)
    np.testing.assert_array_equal(read.rotations, mapped.rotations)
    np.testing.assert_array_equal(read.transl, mapped.transl)
    assert isinstance(mapped.rotations, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        mapped.rotations[0] = 0


def test_images_are_read_by_index(path: Path) -> None:
    frames = read_store(path).frames
    assert frames is not None
    assert len(frames) == 3
    assert frames.read([2, 0]) == [b"three", b"RIFFone"]
    assert frames.motion.tolist() == [0, 2, 2]
    assert frames.frame.tolist() == [1, 0, 4]


def test_a_store_without_images_has_none(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["frames"]
    assert read_store(path).frames is None


def test_every_dataset_lies_whole_and_uncompressed_in_the_file(path: Path) -> None:
    def check(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            assert item.chunks is None
            assert item.compression is None
            assert item.id.get_storage_size() == item.nbytes

    with h5py.File(path) as file:
        file.visititems(check)
        assert file["path"].asstr()[1] == PATHS[1]
        assert list(file["split"].attrs["names"]) == ["train", "val", "test"]


def test_a_failed_write_leaves_the_old_store_and_nothing_else(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="power"), write_store(path, frames=1, fps=30.0, options={}):
        raise RuntimeError("power failed")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_embeddings_are_added_and_replaced(path: Path) -> None:
    before = read_store(path)
    first, second = (np.eye(2, 7, k, dtype=np.float32) for k in (0, 1))
    write_embeddings(path, "minilm-l6", first)
    write_embeddings(path, "clip-vit-b32", first)
    write_embeddings(path, "minilm-l6", second)
    store = read_store(path)
    assert set(store.embeddings) == {"minilm-l6", "clip-vit-b32"}
    np.testing.assert_array_equal(store.embeddings["minilm-l6"], second)
    np.testing.assert_array_equal(store.rotations, before.rotations)
    assert store.texts == before.texts
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("space", "embeddings", "message"),
    [
        ("minilm", np.ones((3, 4), np.float32) / 2, "2 texts"),
        ("minilm", np.zeros((2, 4), np.float32), "zero or not finite"),
        ("minilm", np.full((2, 4), np.nan, np.float32), "zero or not finite"),
        ("../texts", np.eye(2, dtype=np.float32), "no name"),
        ("", np.eye(2, dtype=np.float32), "no name"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(path: Path, space: str, embeddings: np.ndarray, message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(DataError, match=message):
        write_embeddings(path, space, embeddings)
    assert path.read_bytes() == before


def _replace(name: str, values: object, **options: object) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, _: Path) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=values, **options)
        file[name].attrs.update(attributes)

    return change


def _value(name: str, value: float) -> Callable[[h5py.File, Path], None]:
    """Of the last motion's first frame."""
    return lambda file, _: file[name].__setitem__((sum(LENGTHS[:2]), 0), value)


def _attribute(name: str, value: object) -> Callable[[h5py.File, Path], None]:
    return lambda file, _: file.attrs.__setitem__(name, value)


def _delete(name: str) -> Callable[[h5py.File, Path], None]:
    return lambda file, _: file.__delitem__(name)


def _external_link(file: h5py.File, folder: Path) -> None:
    del file["transl"]
    file["transl"] = h5py.ExternalLink(str(folder / "other.h5"), "transl")


def _soft_link(file: h5py.File, _: Path) -> None:
    del file["captions/start"]
    file["captions/start"] = h5py.SoftLink("/captions/motion")


def _virtual(file: h5py.File, folder: Path) -> None:
    del file["transl"]
    layout = h5py.VirtualLayout((sum(LENGTHS), 3), np.float32)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "transl", (sum(LENGTHS), 3))
    file.create_virtual_dataset("transl", layout)


def _external_storage(file: h5py.File, folder: Path) -> None:
    del file["transl"]
    (folder / "secret.bin").write_bytes(bytes(sum(LENGTHS) * 12))
    file.create_dataset("transl", (sum(LENGTHS), 3), np.float32, external=[(str(folder / "secret.bin"), 0, 4096)])


def _promise(file: h5py.File, _: Path) -> None:
    """A shape of 4 TB, none of it stored."""
    del file["texts"]
    file.create_dataset("texts", (1 << 30,), "S4096")


def _hole(name: str, count: int, dtype: str) -> Callable[[h5py.File, Path], None]:
    """Strings that the file holds by its length, in which nothing is written."""

    def change(file: h5py.File, _: Path) -> None:
        del file[name]
        create(file, name, (count,), dtype)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_attribute("schema", SCHEMA + 1), "has schema 2"),
        (_attribute("schema", "1"), "not a store"),
        (_attribute("fps", float("nan")), "fps"),
        (_attribute("fps", "fast"), "fps"),
        (_attribute("options", "["), "options"),
        (_attribute("body", 3), "body"),
        (_delete("offsets"), "no 'offsets'"),
        (_delete("captions"), "no 'captions/motion'"),
        (_replace("offsets", np.array([0, 4, 3, 9], np.int64)), "does not rise"),
        (_replace("offsets", np.array([1, 3, 4, 9], np.int64)), "does not rise"),
        (_replace("offsets", np.array([0, 3, 4, 8], np.int64)), "rotations"),
        (_replace("offsets", np.zeros(0, np.int64)), "does not rise"),
        (_replace("rotations", np.zeros((9, 24, 6))), "float64"),
        (_replace("rotations", np.zeros((9, 24, 6), np.float32), chunks=(1, 24, 6)), "contiguous"),
        (_replace("rotations", np.zeros((9, 24, 6), np.float32), compression="gzip"), "contiguous"),
        (_replace("betas", np.full((3, 10), np.nan, np.float32)), "NaN"),
        (_value("transl", np.nan), "Sit 🪑 has values that are not finite or not of a motion"),
        (_value("rotations", 1e30), "Sit 🪑 has values that are not finite or not of a motion"),
        (_replace("split", np.array([0, 1, 3], np.uint8)), "no split"),
        (_replace("gender", np.array([b"male", b"male", b"robot"])), "gender"),
        (_replace("path", np.array([b"a", b"b", b"\xff"])), "UTF-8"),
        (_replace("path", ["a", "b", "c"]), "'path'"),
        (_replace("captions/motion", np.array([0, 3], np.int32)), "captions/motion"),
        (_replace("captions/text", np.array([-1, 0], np.int32)), "captions/text"),
        (_replace("captions/stop", np.array([3, 6], np.int32)), "outside its motion"),
        (_replace("captions/stop", np.array([0, 4], np.int32)), "outside its motion"),
        (_replace("captions/stop", np.array([3], np.int32)), "differ in length"),
        (_replace("captions/layer", np.array([0], np.int32)), "captions/layer"),
        (_replace("captions/processed", np.array([0, 2], np.int32)), "captions/processed"),
        (_replace("categories/label", np.array([0, 1, 0], np.int32)), "categories"),
        (_replace("categories/offsets", np.array([0, 3, 2], np.int64)), "categories"),
        (_replace("categories/offsets", np.array([0, 1, 2], np.int64)), "categories"),
        (_replace("source_fps", np.array([60.0, 120.0])), "source_fps"),
        (_replace("frames/offsets", np.array([0, 7, 10, 99], np.int64)), "frames"),
        (_replace("frames/motion", np.array([0, 2, 3], np.int32)), "frames"),
        (_external_link, "link"),
        (_soft_link, "link"),
        (_virtual, "contiguous"),
        (_external_storage, "contiguous"),
        (_promise, "contiguous"),
        # Gigabytes, if they were decoded.
        (_hole("texts", 1 << 30, "S1"), "'texts' is blank in row 0"),
        (_hole("skipped/path", 1 << 30, "S1"), "'skipped/path' is blank in row 0"),
        (_hole("skipped/reason", 1 << 30, "S1"), "not 1 strings"),
        (_hole("labels", 1, "S1000000000"), "'labels' has strings of more than 1 MiB"),
        (_replace("texts", np.array([b"turn left", b" \t"])), "'texts' is blank in row 1"),
        (_replace("labels", np.array([b"\0"])), "'labels' is blank in row 0"),
    ],
)
def test_a_store_that_is_not_whole_is_refused(
    path: Path, change: Callable[[h5py.File, Path], None], message: str
) -> None:
    with h5py.File(path, "r+") as file:
        change(file, path.parent)
    with pytest.raises(DataError, match=message):
        read_store(path)


def test_what_is_no_hdf5_file_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(DataError, match="no such store"):
        read_store(tmp_path / "missing.h5")
    with pytest.raises(DataError, match="is not a regular file"):
        read_store(tmp_path)
    other = tmp_path / "other.h5"
    other.write_bytes(b"PK\x03\x04 no")
    with pytest.raises(DataError, match="not a readable HDF5"):
        read_store(other)
    shutil.copyfile(path, other)
    with other.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(DataError, match="not a readable HDF5"):
        read_store(other)


def test_flipped_bytes_are_never_more_than_a_data_error(path: Path, tmp_path: Path) -> None:
    whole, random = path.read_bytes(), np.random.default_rng(2)
    damaged = tmp_path / "damaged.h5"
    for _ in range(100):
        content = bytearray(whole)
        for position in random.integers(0, len(whole), 8):
            content[position] ^= int(random.integers(1, 256))
        damaged.write_bytes(content)
        try:
            assert isinstance(read_store(damaged), MotionStore)
        except DataError:
            pass


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot write"),
        write_store(tmp_path / "file" / "motions.h5", frames=1, fps=30.0, options={}),
    ):
        pass
