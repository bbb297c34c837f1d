"""The bad files of tests/golden/bad, and packs, stores and indices spoilt here, each by the command that reads it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import struct
import tomllib
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from mclip.errors import DataError, PackError, shown
from mclip.files import read_toml
from mclip.formats import save
from mclip.npz import read_npz
from mclip.pack import Pack
from mclip.runtime.onnx_file import check_graph
from mclip.runtime.pictures import read_picture
from mclip.runtime.session import Session
from tests.commands import Outcome, Run, runner
from tests.fakes import swinging
from tests.test_pack import edit, replace_file

if TYPE_CHECKING:
    from mclip.data.store import MotionStore

BAD = Path(__file__).parent / "golden" / "bad"
PICTURE = "(picture)"
# What a command needs for itself, and the largest of the bad files several times over.
MAX_MEMORY = 400_000_000


def cases() -> Iterator[tuple[str, str, int, str]]:
    """Command, file, exit code and words of expected.toml."""
    for group in tomllib.loads((BAD / "expected.toml").read_text(encoding="utf-8"))["commands"]:
        for name, says in group["files"].items():
            yield group["run"], name, group["code"], says


@pytest.fixture(scope="module")
def assets(tiny_pack: Pack, tiny_store: MotionStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A motion, a folder of motions, a store and a pack, all in order. Not to be changed."""
    folder = tmp_path_factory.mktemp("good")
    motion = swinging("head", 0, seed=1, frames=30)
    motion.save(folder / "good.npz")
    save(folder / "good.bvh", motion)
    save(folder / "motions" / "x.bvh", motion)
    shutil.copy(tiny_store.file, folder / "store.h5")
    shutil.copytree(tiny_pack.path, folder / "pack")
    return folder


@pytest.fixture
def folder(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to work: the assets, to be changed if need be, and nothing else."""
    work = Path(shutil.copytree(assets, tmp_path / "work"))
    monkeypatch.chdir(work)
    monkeypatch.setenv("MCLIP_PACK", "pack")
    return work


@pytest.fixture
def mclip(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in `folder`."""
    return runner(monkeypatch, capsys)


def files(folder: Path) -> dict[str, int]:
    """The files and folders of a folder, with their sizes."""
    return {path.relative_to(folder).as_posix(): path.lstat().st_size for path in folder.rglob("*")}


def refused(mclip: Run, folder: Path, line: str, code: int, says: str) -> Outcome:
    """The command ends as it should: its code, its words, no traceback, little memory, and nothing left behind."""
    before = files(folder.parent)
    tracemalloc.start()
    try:
        done = mclip(*line.split())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done.code == code, done.err
    assert says in done.err
    assert "Traceback" not in done.err
    assert files(folder.parent) == before
    assert peak < MAX_MEMORY
    return done


@pytest.mark.parametrize(("line", "name", "code", "says"), [case for case in cases() if case[0] != PICTURE])
def test_a_bad_file_is_refused(mclip: Run, folder: Path, line: str, name: str, code: int, says: str) -> None:
    # With what lies beside it: an .amc has its .asf, a checkpoint its options.
    source = BAD / name.split("/")[0]
    (folder / "bad").mkdir()
    if source.is_dir():
        shutil.copytree(source, folder / "bad" / source.name)
    for beside in BAD.glob(f"{source.stem}.*"):
        shutil.copy(beside, folder / "bad")
    refused(mclip, folder, line.format(f"bad/{name}"), code, says)


@pytest.mark.parametrize(("name", "says"), [(name, says) for line, name, _, says in cases() if line == PICTURE])
def test_a_bad_picture_is_refused(name: str, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=says):
            read_picture(BAD / name, 224)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()


def test_every_bad_file_is_tried_and_small() -> None:
    notes = ("make.py", "expected.toml")
    present = [path for path in BAD.rglob("*") if path.is_file() and path.name not in notes and path.suffix != ".pyc"]
    named = {name.split("/")[0] for _, name, _, _ in cases()}
    assert {path.relative_to(BAD).parts[0] for path in present} - named == {"unfolds.asf", "fuzz"}
    assert max(path.stat().st_size for path in present) < 20_000
    assert sum(path.stat().st_size for path in present) < 300_000


# --- packs -----------------------------------------------------------------------------------------------------------

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def decoder(*nodes: onnx.NodeProto, domain: str = "", width: int = 24, **parts: Any) -> onnx.ModelProto:
    """A model with a decoder's inputs and output that does nothing sensible."""
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Identity", ["latent"], ["features"], domain=domain)],
        "g",
        [
            helper.make_tensor_value_info("latent", FLOAT, ["batch", width]),
            helper.make_tensor_value_info("mask", BOOL, ["batch", "frames"]),
        ],
        [helper.make_tensor_value_info("features", FLOAT, None)],
        **parts,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("strange", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def outside() -> onnx.ModelProto:
    """Weights in a file elsewhere, under a key of another name than ONNX's."""
    model = decoder(initializer=[numpy_helper.from_array(np.zeros(1, np.float32), "w")])
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "place", "/etc/passwd"
    return model


def sparse_weights() -> onnx.ModelProto:
    one = helper.make_tensor("w", FLOAT, [1], [1.0])
    where = helper.make_tensor("i", INT64, [1], [0])
    return decoder(sparse_initializer=[helper.make_sparse_tensor(one, where, [10**10])])


def loop() -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "b", [], [])
    return decoder(helper.make_node("Loop", ["", "mask"], ["features"], body=body))


def function() -> onnx.ModelProto:
    model = decoder()
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("strange", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 18)]))
    return model


def of_weights() -> onnx.ModelProto:
    """onnxruntime computes what depends on no input when it loads a graph, and cannot be stopped then."""
    shape = numpy_helper.from_array(np.array([10**9], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["much"]), helper.make_node("ReduceSum", ["much"], ["sum"])]
    return decoder(*nodes, helper.make_node("Add", ["sum", "latent"], ["features"]), initializer=[shape])


def outer_product() -> onnx.ModelProto:
    """60 kB of weights, of which onnxruntime makes gigabytes when it loads them."""
    parts = [
        numpy_helper.from_array(np.zeros(shape, np.float32), f"w{i}") for i, shape in enumerate([(9999, 1), (9999,)])
    ]
    cast = helper.make_node("Cast", ["w0"], ["w2"], to=FLOAT)
    nodes = [cast, helper.make_node("Mul", ["w2", "w1"], ["much"]), helper.make_node("ReduceMax", ["much"], ["most"])]
    return decoder(*nodes, helper.make_node("Add", ["most", "latent"], ["features"]), initializer=parts)


def out_of_order() -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", ["later"], ["features"]), helper.make_node("Identity", ["latent"], ["later"])]
    return decoder(*nodes)


GRAPHS: list[tuple[Callable[[], onnx.ModelProto | bytes], str]] = [
    (outside, "refers to data outside the file"),
    (sparse_weights, "holds sparse weights"),
    (loop, "graphs within its graph"),
    (function, "holds functions"),
    (lambda: decoder(domain="strange"), "the operator Identity of the domain strange"),
    (lambda: decoder(helper.make_node("EPContext", ["latent"], ["features"], domain="com.microsoft")), "EPContext"),
    (lambda: decoder(helper.make_node("NoSuchThing", ["latent"], ["features"])), "cannot load it"),
    (lambda: decoder(width=7), "the manifest says float32 ['batch', 24]"),
    (decoder, "the manifest says float32 ['batch', 'frames', 25, 6]"),
    (lambda: decoder(helper.make_node("Identity", ["mask"], ["features"])), "motion_decoder.onnx: "),
    (of_weights, "computes ConstantOfShape of weights alone"),
    (outer_product, "computes weights that are larger than those it has"),
    (out_of_order, "operators out of order"),
    (lambda: b"\x08\x00\x00\x00ORTM" + bytes(100), "is no ONNX model"),
    (lambda: b"\x3a\xff\xff\xff\xff\x0f", "is cut short"),
]


@pytest.mark.parametrize(("make", "says"), GRAPHS)
def test_a_graph_that_no_pack_needs_is_refused(
    mclip: Run, folder: Path, make: Callable[[], onnx.ModelProto | bytes], says: str
) -> None:
    made = make()
    replace_file(folder / "pack", "motion_decoder.onnx", made if isinstance(made, bytes) else made.SerializeToString())
    refused(mclip, folder, "generate nods -o out/made.npz", 6, says)


def test_a_graph_that_gives_no_numbers_is_refused() -> None:
    graph = decoder(helper.make_node("Log", ["latent"], ["features"])).SerializeToString()
    with pytest.raises(PackError, match="gives NaN, infinite or no numbers"):
        Session(graph, "g.onnx", "cpu").run(np.full((1, 24), -1, np.float32), np.ones((1, 5), bool))


def test_a_decoder_that_makes_no_motion_is_said_to(mclip: Run, folder: Path) -> None:
    model = onnx.load(folder / "pack" / "motion_decoder.onnx")
    (last,) = (node for node in model.graph.node if "features" in node.output)
    last.output[0] = "small"
    model.graph.node.append(helper.make_node("Mul", ["small", "far"], ["features"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e15, np.float32), "far"))
    replace_file(folder / "pack", "motion_decoder.onnx", model.SerializeToString())
    refused(mclip, folder, "generate nods -o out/made.npz", 6, "which is no motion")


def set_value(*keys: Any, value: Any) -> Callable[[Path], object]:
    """A value of the manifest becomes another."""

    def change(table: Any) -> None:
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value

    return lambda pack: edit(pack, change)


def link(name: str, to: str) -> Callable[[Path], object]:
    def change(pack: Path) -> None:
        (pack / name).unlink()
        (pack / name).symlink_to(to)

    return change


PACKS: list[tuple[Callable[[Path], object], str]] = [
    (link("LICENSE", "/etc/passwd"), "is not a regular file"),
    (link("manifest.json", "/dev/zero"), "is not a regular file"),
    (set_value("files", "../LICENSE", value={"size": 1, "sha256": "0" * 64}), "is no plain file name"),
    (set_value("files", "/etc/passwd", value={"size": 1, "sha256": "0" * 64}), "is no plain file name"),
    (set_value("prior", "file", value="../../bank.npz"), "files must list ../../bank.npz"),
    (set_value("files", "LICENSE", "sha256", value="x"), "must be 64 hex digits"),
    (set_value("files", "motion_decoder.onnx", "sha256", value="0" * 64), "sha256 does not match"),
    (set_value("graphs", "motion_decoder", "inputs", 0, "name", value="x"), "must take latent, mask"),
    (set_value("graphs", "text_encoder", "inputs", 0, "name", value="x"), "must take words, ids, mask"),
    (set_value("graphs", "motion_decoder", "inputs", 0, "dtype", value="float64"), "the manifest says float64"),
    (set_value("frames", "max", value=60_000), "frames needs 0 < min"),
    (set_value("latent", value=10**400), "latent must lie between"),
    (lambda pack: (pack / "manifest.json").write_bytes(b"[" * 2000), "not readable JSON"),
    (lambda pack: replace_file(pack, "tokenizer.json", b"{}"), "tokenizer.json: cannot be read (it has no model)"),
    (lambda pack: replace_file(pack, "bank.npz", (BAD / "shape.npz").read_bytes()), "the bank cannot be read"),
    (lambda pack: replace_file(pack, "bank.npz", b"PK\5\6" + bytes(18)), "the bank cannot be read"),
]


@pytest.mark.parametrize(("spoil", "says"), PACKS)
def test_a_pack_that_reaches_out_or_lies_is_refused(
    mclip: Run, folder: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(folder / "pack")
    refused(mclip, folder, "generate nods -o out/made.npz", 6, says)


# --- stores ----------------------------------------------------------------------------------------------------------


def dataset(make: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    """`transl` is made anew."""

    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            values = file["transl"][...]
            del file["transl"]
            file["copy"] = values
            make(file)

    return spoil


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(file["copy"].shape, np.float32)
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", file["copy"].shape)
    file.create_virtual_dataset("transl", layout)


def external(file: h5py.File) -> None:
    size = file["copy"].nbytes
    file.create_dataset("transl", file["copy"].shape, np.float32, external=[("/etc/passwd", 0, size)])


def cut_off(path: Path) -> None:
    """The file ends within its last dataset, and its tables say that it does not."""
    with h5py.File(path) as file:
        ends = max(file[name].id.get_offset() + file[name].nbytes for name in ("transl", "rotations"))
    with path.open("r+b") as opened:
        opened.truncate(max(ends - 1000, 0))


STORES: list[tuple[Callable[[Path], object], str]] = [
    (dataset(lambda file: file.__setitem__("transl", h5py.ExternalLink("/etc/passwd", "/x"))), "link to elsewhere"),
    (dataset(lambda file: file.__setitem__("transl", h5py.SoftLink("/copy"))), "link to elsewhere"),
    (dataset(lambda file: file.__setitem__("transl", h5py.SoftLink("/transl"))), "link to elsewhere"),
    (dataset(virtual), "is not stored whole"),
    (dataset(external), "is not stored whole"),
    (dataset(lambda file: file.create_dataset("transl", (10**10, 3), np.float32)), "stored whole"),
    (dataset(lambda file: file.create_dataset("transl", data=file["copy"][...], compression="gzip")), "stored whole"),
    (dataset(lambda file: file.create_group("transl")), "has no 'transl'"),
    (dataset(lambda file: file.__setitem__("transl", file["copy"][...].astype(np.float64))), "float64"),
    (cut_off, ""),
]


@pytest.mark.parametrize(("spoil", "says"), STORES)
def test_a_store_that_reaches_out_or_lies_is_refused(
    mclip: Run, folder: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(folder / "store.h5")
    refused(mclip, folder, "evaluate pack --data store.h5 --split test", 4, says or "store.h5")


# --- indices ---------------------------------------------------------------------------------------------------------


def header_of(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[8:16])
    header: dict[str, Any] = json.loads(content[16 : 16 + length])
    return header


def with_header(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """An index whose header is another one, padded to where the arrays begin."""
    (length,) = struct.unpack("<Q", content[8:16])
    header = header_of(content)
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) <= length
    return content[:16] + text.ljust(length) + content[16 + length :]


INDICES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda content: content[:8] + b"\xff" * 8 + content[16:], "the index is damaged"),
    (lambda content: content[:8] + struct.pack("<Q", 399_999_999) + content[16:], "the index is damaged"),
    (lambda content: content[:-5], "its length is wrong"),
    (lambda content: content[:-100] + b"\xff" * 100, "NaN or infinite"),
    (lambda content: with_header(content, lambda header: header.update(fps=0)), "0 frames per second"),
    (lambda content: with_header(content, lambda header: header.update(windows=9)), "do not fit together"),
    (lambda content: with_header(content, lambda header: header.update(files=[])), "the index is damaged"),
    (lambda content: with_header(content, lambda header: header["files"][4].__setitem__(0, 0)), "do not fit"),
]


@pytest.mark.parametrize(("spoil", "says"), INDICES)
def test_an_index_that_lies_is_refused(mclip: Run, folder: Path, spoil: Callable[[bytes], bytes], says: str) -> None:
    assert mclip("search", "nods", "motions").code == 0
    index = folder / "motions" / ".mclip-index"
    index.write_bytes(spoil(index.read_bytes()))
    refused(mclip, folder, "search nods motions", 4, says)


# --- garbage ---------------------------------------------------------------------------------------------------------

HURRIED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HURRIED
@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_are_an_archive_of_arrays_or_an_error(garbage: bytes, place: int) -> None:
    whole = (BAD / "nan.npz").read_bytes()
    for content in (garbage, whole[:place] + garbage + whole[place + len(garbage) :]):
        with contextlib.suppress(ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
            arrays = read_npz(io.BytesIO(content), {"poses": 10_000, "trans": 10_000})
            assert set(arrays) <= {"poses", "trans"}
            assert all(array.nbytes <= 20_000 for array in arrays.values())


@HURRIED
@given(st.dictionaries(st.sampled_from(["a", "b"]), st.lists(st.floats(width=32), max_size=20), min_size=1))
def test_arrays_survive_the_way_through_an_archive(arrays: dict[str, list[float]]) -> None:
    stream = io.BytesIO()
    made: dict[str, Any] = {name: np.array(values, np.float32) for name, values in arrays.items()}
    np.savez(stream, **made)
    read = read_npz(stream, dict.fromkeys(arrays, 1000))
    assert read.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], np.array(values, np.float32))


@HURRIED
@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_a_graph_or_a_pack_error(garbage: bytes, place: int) -> None:
    whole = decoder().SerializeToString()
    for content in (garbage, whole[:place] + garbage + whole[place:]):
        with contextlib.suppress(PackError):
            check_graph(content, "g.onnx")


@HURRIED
@given(st.text(max_size=200))
def test_any_text_is_toml_or_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_bytes(text.encode())
    with contextlib.suppress(ValueError):
        assert isinstance(read_toml(tmp_path / "x.toml"), dict)


@HURRIED
@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(), st.lists, max_leaves=9))
def test_any_value_can_be_shown_in_a_message(value: object) -> None:
    assert 0 < len(shown(value)) <= 63


def test_values_that_python_cannot_print_can_be_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    laughs: list[Any] = ["x"]
    for _ in range(60):
        laughs = [laughs, laughs]
    assert (shown(deep), shown(laughs)) == ("a list of 1", "a list of 2")
    assert shown(1 << 100_000) == "a number of thousands of digits"
