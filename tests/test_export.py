"""Export: graphs that say what torch says, weights that are what they were, and packs that are whole or absent."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import mclip.export.pack
from mclip.data.store import MotionStore
from mclip.errors import PackError, UsageError
from mclip.export import measures
from mclip.export.bank import build_bank
from mclip.export.graphs import exportables
from mclip.export.pack import Texts, export_pack
from mclip.export.precision import to_fp16, to_int8, to_stored_int8
from mclip.files import sha256
from mclip.nn.model import MotionClip
from mclip.pack import MANIFEST, Pack
from mclip.runtime.engine import Engine
from mclip.runtime.representation import SMPL24, mirror_features, motion_to_features
from mclip.runtime.session import Session
from mclip.skeleton.smpl import forward_kinematics
from tests.fakes import WIDTH, tiny_recipe, tiny_teacher

RANDOM = np.random.default_rng(0)
TABLE, MATRIX, FULL = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((100, 64), (64, 80), (90, 80)))
TEXTS = Texts(card="# tiny\n", license="CC0-1.0\n")


def graph_of_tables_and_matrices() -> onnx.ModelProto:
    """Gather, MatMul and Gemm with transB, by hand: y = relu(TABLE[ids] MATRIX) FULL^T."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["a"]),
            helper.make_node("MatMul", ["a", "matrix"], ["b"]),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("Gemm", ["c", "full"], ["y"], transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 90])],
        [
            numpy_helper.from_array(value, name)
            for name, value in (("table", TABLE), ("matrix", MATRIX), ("full", FULL))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def by_rows(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """What seven bits and a sign leave of the values, one scale along `axis`."""
    scale = np.abs(values).max(axis=axis, keepdims=True) / 127
    return np.asarray(np.round(values / scale) * scale)


def run_by_hand(
    ids: NDArray[np.int64], table: NDArray[np.float32], matrix: NDArray[np.float32], full: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.asarray(np.maximum(table[ids] @ matrix, 0) @ full.T)


def test_fp16_weights_give_what_rounded_weights_give() -> None:
    ids = np.arange(50)
    small = to_fp16(graph_of_tables_and_matrices()).SerializeToString()
    rounded = [value.astype(np.float16).astype(np.float32) for value in (TABLE, MATRIX, FULL)]
    np.testing.assert_allclose(Session(small, "g").run(ids), run_by_hand(ids, *rounded), rtol=1e-4, atol=1e-3)
    assert len(small) < 0.55 * len(graph_of_tables_and_matrices().SerializeToString())


def test_stored_int8_weights_give_what_rounded_weights_give() -> None:
    ids = np.arange(50)
    small = to_stored_int8(graph_of_tables_and_matrices()).SerializeToString()
    rounded = [by_rows(TABLE, 1), by_rows(MATRIX, 0), by_rows(FULL, 1)]
    np.testing.assert_allclose(Session(small, "g").run(ids), run_by_hand(ids, *rounded), rtol=1e-4, atol=1e-3)
    assert len(small) < 0.32 * len(graph_of_tables_and_matrices().SerializeToString())


def test_int8_arithmetic_stays_near_the_exact_result() -> None:
    ids = np.arange(50)
    exact = run_by_hand(ids, TABLE, MATRIX, FULL)
    found = Session(to_int8(graph_of_tables_and_matrices()).SerializeToString(), "g").run(ids)
    assert 0 < np.abs(found - exact).max() < 0.1 * exact.std()


def test_reducing_weights_leaves_the_graph_given_alone() -> None:
    graph = graph_of_tables_and_matrices()
    before = graph.SerializeToString()
    for reduce in (to_fp16, to_stored_int8, to_int8):
        reduce(graph)
    assert graph.SerializeToString() == before


@pytest.mark.parametrize(("batch", "frames"), [(1, 10), (5, 13), (9, 20), (2, 57)])
def test_the_pack_says_what_torch_says(tiny_pack: Pack, tiny_model: MotionClip, batch: int, frames: int) -> None:
    random = np.random.default_rng(batch)
    engine = Engine(tiny_pack, "cpu")
    mask = np.arange(frames) < random.integers(1, frames + 1, (batch, 1))
    features = random.normal(size=(batch, frames, 25, 6)).astype(np.float32)
    latents = random.normal(size=(batch, WIDTH)).astype(np.float32)
    with torch.inference_mode():
        encoded = tiny_model.encode(torch.from_numpy(features), torch.from_numpy(mask)).numpy()
        decoded = tiny_model.decode(torch.from_numpy(latents), torch.from_numpy(mask)).numpy()
    # Weights of the pack are fp16: a thousandth.
    np.testing.assert_allclose(engine.encode_motion(features, mask), encoded, atol=2e-3)
    np.testing.assert_allclose(engine.decode(latents, mask)[mask], decoded[mask], atol=2e-2)


def test_the_pack_embeds_texts_as_the_teacher_does(tiny_pack: Pack) -> None:
    texts = ["nods", "a person waves with the left hand", "slowly", "a person bends"]
    found, expected = Engine(tiny_pack, "cpu").encode_text(texts), tiny_teacher().embed(texts)
    assert (np.sum(found * expected, axis=1) > 0.999).all()


def test_graphs_carry_no_trace_of_the_machine_they_were_made_on(tiny_pack: Pack) -> None:
    for name in ("text_encoder", "motion_encoder", "motion_decoder"):
        content = tiny_pack.read_graph(name)
        assert b"/mclip/" not in content
        assert b".py" not in content


def test_a_graph_that_differs_from_torch_makes_no_pack(
    tiny_model: MotionClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mclip.export.pack, "to_onnx", lambda item: graph_of_tables_and_matrices())
    monkeypatch.setattr(mclip.export.pack, "_difference", lambda item, content, table: float("nan"))
    with pytest.raises(PackError, match="differs from torch"):
        export_pack(tiny_model, tiny_recipe(), tiny_teacher(), tmp_path / "out", texts=TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_replaced_unless_it_is_a_pack_and_forced(
    tiny_model: MotionClip, tiny_pack: Pack, tmp_path: Path
) -> None:
    digest = sha256(tiny_pack.path / MANIFEST)
    with pytest.raises(UsageError, match="already there"):
        export_pack(tiny_model, tiny_recipe(), tiny_teacher(), tiny_pack.path, texts=TEXTS)
    assert sha256(tiny_pack.path / MANIFEST) == digest
    (tmp_path / "thesis.txt").write_text("three years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="already there"):
        export_pack(tiny_model, tiny_recipe(), tiny_teacher(), tmp_path, texts=TEXTS, force=True)
    assert (tmp_path / "thesis.txt").exists()


def test_no_precision_of_that_name(tiny_model: MotionClip, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision"):
        export_pack(tiny_model, tiny_recipe(), tiny_teacher(), tmp_path / "x", texts=TEXTS, precision="int4")


def test_auto_takes_int8_where_it_is_clearly_faster_and_says_so(
    tiny_model: MotionClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for gain, taken in ((1.4, "fp16"), (1.6, "int8")):
        monkeypatch.setattr(mclip.export.pack, "int8_gain", lambda decoder, frames, gain=gain: gain)
        pack = export_pack(tiny_model, tiny_recipe(), None, tmp_path / taken, texts=TEXTS, precision="auto")
        assert pack.manifest.precision == taken
        assert all(graph.weights == taken for graph in pack.manifest.graphs.values())
        assert f"{gain:.2f} times as fast" in (said := capsys.readouterr().err) and f"{taken} is taken" in said


def test_the_gain_of_int8_is_measured_on_the_decoder(tiny_model: MotionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {to_fp16: 3.0, to_int8: 2.0}
    clock = [0.0]

    class Slow:
        def __init__(self, content: bytes, *_: object) -> None:
            self.reduce = {b"half": to_fp16, b"eight": to_int8}[content]

        def run(self, latents: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
            assert latents.shape == (8, WIDTH) and mask.shape == (8, 20) and mask.all()
            clock[0] += seconds[self.reduce]

    class Graph:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def SerializeToString(self) -> bytes:
            return self.content

    monkeypatch.setattr(measures, "to_fp16", lambda graph: Graph(b"half"))
    monkeypatch.setattr(measures, "to_int8", lambda graph: Graph(b"eight"))
    monkeypatch.setattr(measures, "Session", Slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    decoder = next(item for item in exportables(tiny_model, None, 0) if item.file == "motion_decoder")
    assert measures.int8_gain(decoder, 20) == pytest.approx(1.5)


def test_the_manifest_says_how_far_joints_of_held_out_motion_are_from_torch(
    tiny_pack: Pack, tiny_model: MotionClip, tiny_store: MotionStore
) -> None:
    joints = tiny_pack.manifest.joints
    assert joints is not None
    # Three test motions of 50 frames: two windows of 20 and a rest of 10 each.
    assert (joints.split, joints.windows) == ("test", 9)
    engine, distance = Engine(tiny_pack, "cpu"), list[NDArray[np.float64]]()
    for motion in (row for row in range(len(tiny_store)) if tiny_store.split[row] == "test"):
        for start in (0, 20, 40):
            features = motion_to_features(tiny_store.motion(motion).slice(start, min(start + 20, 50)))[None]
            mask = np.ones(features.shape[:2], np.bool_)
            with torch.inference_mode():
                exact = tiny_model.decode(
                    tiny_model.encode(torch.from_numpy(features), torch.from_numpy(mask)), torch.from_numpy(mask)
                )
            made = engine.decode(engine.encode_motion(features, mask), mask)
            places = [forward_kinematics(*SMPL24.decode(each.astype(np.float64)))[1] for each in (made, exact.numpy())]
            distance.append(1000 * np.linalg.norm(places[0] - places[1], axis=-1).ravel())
    assert joints.mean_mm == pytest.approx(np.concatenate(distance).mean(), rel=0.02) and joints.mean_mm > 0
    assert joints.max_mm == pytest.approx(np.concatenate(distance).max(), rel=0.02)


def test_the_bank_holds_latents_of_real_windows_under_their_captions(
    tiny_pack: Pack, tiny_model: MotionClip, tiny_store: MotionStore
) -> None:
    engine = Engine(tiny_pack, "cpu")
    match = engine.prior.match(["a person bends slowly"], engine.encode_text(["a person bends slowly"]))[0]  # type: ignore[union-attr]
    assert match.caption == "a person bends slowly"
    assert match.score == pytest.approx(1.0, abs=1e-3)
    path, span = match.name.split("#")
    start, stop = map(int, span.split("-"))
    motion = tiny_store.motion(tiny_store.path.index(path)).slice(start, stop)
    features = torch.from_numpy(motion_to_features(motion))[None]
    with torch.inference_mode():
        expected = tiny_model.encode(features, torch.ones(1, stop - start, dtype=torch.bool)).numpy()[0]
    np.testing.assert_allclose(match.latent, expected, atol=2e-3)


def test_the_bank_leaves_test_motions_out_and_mirrors_what_speaks_of_sides(tiny_store: MotionStore) -> None:
    seen: list[NDArray[np.float32]] = []

    def encode(features: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        seen.extend(features)
        return np.random.default_rng(len(seen)).normal(size=(len(features), 4)).astype(np.float32)

    bank = build_bank(
        tiny_store, tiny_recipe().data, encode, _at_rest, lambda texts: np.eye(len(texts), 4, dtype=np.float32)
    )
    assert not any("_3.npz" in name for name in bank.names)
    mirrored = [name for name in bank.names if name.endswith(" mirrored")]
    assert mirrored and all("wave_left" in name for name in mirrored)
    assert {"waves with the right hand", "a person waves with the right hand"} <= set(bank.texts)
    assert any(np.allclose(mirror_features(one), other) for one in seen for other in seen)


def test_the_bank_takes_the_windows_that_the_decoder_keeps_the_movement_of(tiny_store: MotionStore) -> None:
    """A decoder that gives every second window back and makes the others stand still."""
    windows: list[NDArray[np.float32]] = []
    latents: list[NDArray[np.float32]] = []

    def encode(features: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        first = len(windows)
        windows.extend(features)
        latents.extend(np.array([[1, first + row, 0, 0]], np.float32)[0] for row in range(len(features)))
        return np.stack(latents[first:])

    def decode(codes: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        rest = _at_rest(codes, mask)
        return np.stack([windows[int(c[1])] if int(c[1]) % 2 else r for c, r in zip(codes, rest, strict=True)])

    bank = build_bank(
        tiny_store, tiny_recipe().data, encode, decode, lambda texts: np.ones((len(texts), 4), np.float32)
    )
    number = np.rint(bank.latents[:, 1]).astype(int)
    assert len(number) < len(windows)
    # Of each label half of the windows are decoded, and that half is taken.
    assert (number % 2 == 1).all()


def _at_rest(latents: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    features = np.zeros((*mask.shape, 25, 6), np.float32)
    features[..., :24, [0, 4]] = 1
    return features


def test_labels_share_a_bank_that_is_too_small_for_all(tiny_store: MotionStore) -> None:
    bank = build_bank(
        tiny_store,
        tiny_recipe().data,
        lambda features, mask: features.reshape(len(features), -1)[:, :4],
        _at_rest,
        lambda texts: np.ones((len(texts), 4), np.float32),
        max_entries=4,
    )
    assert len(bank) == 4
    assert {name.split("/")[1].rsplit("_", 1)[0] for name in bank.names} == {"nod", "wave_left", "bend"}
