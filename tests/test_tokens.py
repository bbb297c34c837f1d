"""The token table beside the text graph: the same embeddings, and no table that does not fit."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mclip.errors import PackError
from mclip.export.precision import reduced_table
from mclip.export.tokens import cut_table
from mclip.pack import MANIFEST, TOKEN_TABLE, Pack, open_pack
from mclip.runtime.engine import Engine
from mclip.runtime.session import Session
from mclip.runtime.tokens import open_table, save_table

TABLE = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)


def tower(*, uses_ids: bool) -> onnx.ModelProto:
    """y = 2 TABLE[ids], with ids added where they have a use of their own."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Add", ["rows", "rows"], ["twice"]),
    ]
    if uses_ids:
        nodes += [
            helper.make_node("Cast", ["ids"], ["number"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["number", "last"], ["column"]),
            helper.make_node("Add", ["twice", "column"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["twice"], ["y"]))
    weights = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array([2]), "last")]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("ids", onnx.TensorProto.INT64, ["batch", "tokens"])],
        [value("y", onnx.TensorProto.FLOAT, ["batch", "tokens", 8])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("uses_ids", [False, True])
def test_a_tower_without_its_table_gives_what_it_gave(uses_ids: bool) -> None:
    ids = np.array([[3, 99, 0], [7, 7, 1]])
    expected = Session(tower(uses_ids=uses_ids).SerializeToString(), "g", "cpu").run(ids)
    cut = cut_table(tower(uses_ids=uses_ids), 100)
    assert cut is not None
    session = Session(cut[0].SerializeToString(), "g", "cpu")
    assert session.inputs == (("words", "ids") if uses_ids else ("words",))
    np.testing.assert_array_equal(session.run(*([cut[1][ids], ids][: len(session.inputs)])), expected)


def test_a_graph_with_no_table_for_the_vocabulary_stays_whole() -> None:
    assert cut_table(tower(uses_ids=False), 101) is None


@pytest.mark.parametrize(("weights", "error"), [("fp32", 0.0), ("fp16", 2e-3), ("stored int8", 2e-2)])
def test_rows_are_those_that_were_stored(tiny_pack: Pack, pack_copy: Path, weights: str, error: float) -> None:
    save_table(pack_copy / TOKEN_TABLE, *reduced_table(TABLE, weights))
    ids = np.array([[5, 0], [99, 5]])
    rows = open_table(relisted(pack_copy))[ids]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, TABLE[ids], rtol=0, atol=error)


def relisted(folder: Path) -> Pack:
    """The pack, with a manifest that says what the table now is."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content = (folder / TOKEN_TABLE).read_bytes()
    manifest["files"][TOKEN_TABLE] = {"size": len(content), "sha256": sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return open_pack(folder)


@pytest.mark.parametrize(
    "records",
    [
        np.zeros((4, 24), np.float32),
        np.zeros(4, [("scale", "<f4"), ("values", "<i8", 24)]),
        np.zeros(4, [("scale", "<f8"), ("values", "i1", 24)]),
        np.zeros(4, [("values", "i1", 24)]),
        np.zeros(4, [("scale", "<f4"), ("values", "i1", (24, 1))]),
        np.zeros(4, [("scale", "<f4"), ("values", "i1", 0)]),
        np.zeros(4, [("scale", "<f4"), ("values", "i1")]),
    ],
    ids=lambda records: str(records.dtype),
)
def test_what_is_no_table_is_refused(pack_copy: Path, records: NDArray[np.generic]) -> None:
    np.save(pack_copy / TOKEN_TABLE, records)
    with pytest.raises(PackError, match="no token table"):
        open_table(relisted(pack_copy))


def test_a_table_of_as_many_rows_as_there_are_is_refused(pack_copy: Path) -> None:
    content = (pack_copy / TOKEN_TABLE).read_bytes()
    at = content.index(b"'shape': (")
    length = content.index(b",)", at) - at - len(b"'shape': (")
    changed = content.replace(content[at : at + 10 + length], b"'shape': (-1".ljust(10 + length), 1)
    (pack_copy / TOKEN_TABLE).write_bytes(changed)
    with pytest.raises(PackError, match="no token table"):
        open_table(relisted(pack_copy))


def test_a_table_with_too_few_rows_is_refused_when_one_is_missed(pack_copy: Path) -> None:
    save_table(pack_copy / TOKEN_TABLE, *reduced_table(np.ones((3, 24), np.float32), "fp32"))
    with pytest.raises(PackError, match="has no row"):
        Engine(relisted(pack_copy), "cpu").encode_text(["nods"])
    table = open_table(relisted(pack_copy))
    for ids in ([0, 3], [-1, 0], [-(2**40)]):
        with pytest.raises(PackError, match="has no row"):
            table[np.array(ids)]


def test_a_changed_table_is_noticed(pack_copy: Path) -> None:
    content = bytearray((pack_copy / TOKEN_TABLE).read_bytes())
    content[-1] ^= 1
    (pack_copy / TOKEN_TABLE).write_bytes(content)
    with pytest.raises(PackError, match="sha256"):
        Engine(open_pack(pack_copy), "cpu").encode_text(["nods"])


@pytest.mark.parametrize("quick", [False, True])
def test_an_engine_says_the_same_however_often_it_is_asked_and_however_it_is_started(
    tiny_pack: Pack, *, quick: bool
) -> None:
    plain, early = Engine(tiny_pack, "cpu"), Engine(tiny_pack, "cpu", quick=quick)
    early.start("text_encoder", "image_encoder")  # which this pack does not have
    expected, first = plain.encode_text(["a person waves"]), early.encode_text(["a person waves"])
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-6)
    for _ in range(20):
        np.testing.assert_array_equal(early.encode_text(["a person waves"]), first)


def test_a_broken_graph_started_early_is_reported_at_its_use(pack_copy: Path) -> None:
    path = pack_copy / "motion_decoder.onnx"
    path.write_bytes(bytes(path.stat().st_size))
    engine = Engine(open_pack(pack_copy), "cpu")
    engine.start("motion_decoder")
    with pytest.raises(PackError, match="sha256"):
        engine.decode(np.zeros((1, 24), np.float32), np.ones((1, 10), np.bool_))
