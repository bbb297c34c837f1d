"""The runtime: sessions, engine, prior, and motions out of text."""

from __future__ import annotations

import io
import tempfile
import time
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import mclip.runtime.session
from mclip import __version__
from mclip.errors import DeviceError, PackError, UsageError
from mclip.geometry import Y_UP_TO_Z_UP, axis_angle_to_matrix
from mclip.motion import load_npz
from mclip.pack import Pack
from mclip.runtime.engine import CHUNK, Engine
from mclip.runtime.prior import Bank, Match, load_bank, unit
from mclip.runtime.representation import heading
from mclip.runtime.session import Session
from mclip.runtime.tasks import Prompt, generate
from mclip.skeleton.retarget import lowest_point
from mclip.skeleton.smpl import forward_kinematics
from tests.fakes import MAX_TOKENS, make_bank


@pytest.fixture(scope="module")
def engine(tiny_pack: Pack) -> Engine:
    return Engine(tiny_pack, "cpu")


def bank() -> Bank:
    """Four entries in a plane: two to the east, one to the north, one to the south-west; east and north share a
    caption."""
    return make_bank(
        latents=np.array([[1, 0], [0.8, 0.6], [0, 1], [-0.6, -0.8]], np.float32),
        frames=np.array([60, 55, 50, 40], np.int32),
        names=("east#0-60", "east#60-115", "north#0-50", "southwest#0-40"),
        label=np.array([0, 0, 1, 2], np.int32),
        labels=("east", "north", "southwest"),
        captions=np.array([[1, 0], [0.8, 0.6], [-0.6, -0.8]], np.float32),
        texts=("to the east", "north or east", "weit weg: süd-west"),
        spoken=[[0, 1], [1], [2]],
    )


def match(value: Bank, *directions: tuple[float, float], texts: tuple[str, ...] | None = None) -> list[Match]:
    return value.match(texts or ("?",) * len(directions), np.array(directions, np.float32))


def saved(value: Bank, path: Path) -> bytes:
    value.save(path)
    return path.read_bytes()


def test_a_text_is_answered_with_a_motion_of_its_nearest_label() -> None:
    matches = match(bank(), (1, 0), (-1, 0), (0.8, 0.6))
    assert [found.label for found in matches] == ["east", "southwest", "north"]
    assert matches[0].caption == "to the east"
    assert matches[0].score == pytest.approx(1.0)
    assert matches[1].score == pytest.approx(0.6, abs=1e-3)
    assert (matches[1].name, matches[1].frames) == ("southwest#0-40", 40)
    np.testing.assert_allclose(matches[1].latent, [-0.6, -0.8], atol=1e-3)


def crowd(entries: int = 12) -> Bank:
    """Two labels: "wave" with a fan of entries, and "rest" with one entry, far away and not at unit length."""
    angle = np.linspace(-0.6, 0.6, entries)
    fan = np.stack([np.cos(angle), np.sin(angle), np.zeros(entries)], axis=1)
    return make_bank(
        latents=np.concatenate([fan, [[0, 0, 2]]]).astype(np.float32),
        frames=np.arange(20, 21 + entries, dtype=np.int32),
        names=(*(f"wave#{row}" for row in range(entries)), "rest"),
        label=np.array([0] * entries + [1], np.int32),
        labels=("wave", "rest"),
        captions=np.array([[1, 0, 0], [0, 0, 1]], np.float32),
        texts=("a person waves", "a person rests"),
        spoken=[[0], [1]],
    )


def test_a_stored_bank_finds_many_texts_at_once_as_it_finds_each() -> None:
    random = np.random.default_rng(0)
    captions = unit(random.normal(size=(2000, 16)).astype(np.float32))
    value = make_bank(
        latents=captions[:40] * 3,
        frames=np.arange(1, 41, dtype=np.int32),
        names=tuple(map(str, range(40))),
        label=np.arange(40, dtype=np.int32),
        labels=tuple(f"label {row}" for row in range(40)),
        captions=captions,
        texts=tuple(f"caption {row}" for row in range(2000)),
        spoken=np.arange(2000).reshape(40, 50).tolist(),
    )
    with tempfile.TemporaryDirectory() as folder:
        value.save(Path(folder) / "bank.npz")
        stored = load_bank((Path(folder) / "bank.npz").read_bytes(), 16)
    queries = unit(random.normal(size=(300, 16)).astype(np.float32))
    np.testing.assert_allclose(stored.captions[np.arange(5, 9)], captions[5:9], atol=0.005)
    many = stored.match(["?"] * 300, queries)
    for found, query in zip(many, queries, strict=True):
        (alone,) = stored.match(["?"], query[None])
        assert (found.entry, found.caption, found.score) == (alone.entry, alone.caption, alone.score)


def test_variations_begin_with_the_match_and_are_all_different() -> None:
    value, text = crowd(), np.array([0.98, 0.199, 0], np.float32)
    found = value.vary("waves", text, 12, seed=3)
    (best,) = value.match(["waves"], text[None])
    assert (found[0].name, found[0].score) == (best.name, best.score)
    assert {match.name for match in found} == {f"wave#{row}" for row in range(12)}
    for match in found:
        np.testing.assert_array_equal(match.latent, value.latents[match.entry])
        assert match.frames == value.frames[match.entry]


def test_a_picture_is_answered_with_the_label_whose_captions_are_nearest() -> None:
    # Pictures lie beside texts, all on one side: the classifiers, which know texts alone, are misled, cosines are not.
    value = crowd()
    value = replace(value, reading=replace(value.reading, action_weights=value.reading.action_weights * np.float32(-1)))
    picture = unit(np.array([[0.3, 1.0, 0.2]], np.float32))
    assert value.match([""], picture)[0].label == "wave"
    assert value.match(["a text"], picture)[0].label == "rest"


def test_a_seed_chooses_the_variations_and_nothing_else_does() -> None:
    value, text = crowd(), np.array([1, 0, 0], np.float32)
    draws = {seed: [match.name for match in value.vary("waves", text, 4, seed)] for seed in range(8)}
    assert len({tuple(names) for names in draws.values()}) > 4
    assert draws[5] == [match.name for match in value.vary("waves", text, 4, 5)]
    # More variations are those of fewer, and others.
    assert [match.name for match in value.vary("waves", text, 6, 5)][:4] == draws[5]
    assert [match.name for match in value.vary("waves!", text, 4, 5)] != draws[5]


def test_when_entries_run_out_variations_are_blends_near_one_of_them() -> None:
    value, text = crowd(entries=3), np.array([1, 0, 0], np.float32)
    found = value.vary("waves", text, 20, seed=1)
    assert len({match.latent.tobytes() for match in found}) == 20
    for match in found[3:]:
        cosines = value.latents[:3] @ match.latent
        assert value.names[int(cosines.argmax())] == match.name
        assert cosines.max() < 0.9999
        assert np.linalg.norm(match.latent) == pytest.approx(1.0, abs=1e-5)
        assert match.latent[2] == 0.0  # between waves, never towards rest


def test_a_lone_entry_varies_towards_its_neighbours() -> None:
    found = crowd(entries=5).vary("rests", np.array([0, 0, 1], np.float32), 6, seed=0)
    assert {match.name for match in found} == {"rest"}
    assert len({match.latent.tobytes() for match in found}) == 6
    for match in found[1:]:
        # A fifth to a half of the way along the right angle between them; lengths are 2 and 1.
        assert 0.1 * np.pi <= np.arccos(match.latent[2] / np.linalg.norm(match.latent)) <= 0.25 * np.pi
        assert 1.5 <= np.linalg.norm(match.latent) <= 1.8


def test_what_texts_expect_lies_between_the_labels_they_agree_with() -> None:
    value = crowd()
    texts = np.array([[1, 0, 0], [0, 0, 1], [np.sqrt(0.5), 0, np.sqrt(0.5)]], np.float32)
    wave, rest, both = value.expect(["?"] * 3, texts)
    np.testing.assert_allclose(wave, [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(rest, [0, 0, 1], atol=1e-3)
    np.testing.assert_allclose(both, [np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-3)


def test_left_is_not_expected_where_right_is_said() -> None:
    value = replace(crowd(), texts=("wave left", "wave right"))
    text = unit(np.array([[1, 0, 1]], np.float32))  # between the two
    assert value.expect(["wave with the left hand"], text)[0, 0] > 0.99
    assert value.expect(["wave with the right hand"], text)[0, 2] > 0.99


def test_of_two_labels_with_one_caption_the_one_that_has_no_other_is_meant() -> None:
    # East and north share the nearest caption; east has another one, which is farther away.
    assert match(bank(), (0.6, 0.8))[0].label == "north"


def test_of_a_labels_motions_the_first_answers_however_near_others_are() -> None:
    assert [found.name for found in match(bank(), (1, 0.0), (0.98, 0.2))] == ["east#0-60", "east#0-60"]
    mirrored = replace(bank(), latents=bank().latents * np.array([1, -1], np.float32))
    found = match(mirrored, (0.9, -0.436))[0]  # east#60-115 is nearer
    assert (found.name, found.entry, found.label) == ("east#0-60", 0, "east")


def test_left_is_not_answered_with_right() -> None:
    sides = replace(bank(), texts=("wave the right hand", "the right hand waves", "wave the left hand"))
    # East is nearer than south-west by a little; words decide.
    assert match(sides, (0.4, -0.92), texts=("greet with the LEFT hand",))[0].label == "southwest"
    assert match(sides, (0.4, -0.92), texts=("greet with the right hand",))[0].label == "east"
    assert match(sides, (0.4, -0.92), texts=("greet",))[0].label == "east"


def test_a_bank_is_read_as_it_was_written(tmp_path: Path) -> None:
    read = load_bank(saved(bank(), tmp_path / "bank.npz"), 2)
    assert (read.names, read.texts, read.labels) == (bank().names, bank().texts, bank().labels)
    for name in ("frames", "label", "offsets", "ids"):
        np.testing.assert_array_equal(getattr(read, name), getattr(bank(), name))
    for name in ("latents", "captions"):
        np.testing.assert_allclose(getattr(read, name), getattr(bank(), name), atol=0.5 / 127)
    for name in ("centre_label", "centre_source"):
        np.testing.assert_array_equal(getattr(read, name), getattr(bank(), name))
    for name in ("centres", "said"):
        np.testing.assert_allclose(getattr(read, name), getattr(bank(), name), atol=5e-4)
    for name in ("action_weights", "style_weights"):
        np.testing.assert_array_equal(getattr(read.reading, name), getattr(bank().reading, name))


def test_line_breaks_in_captions_do_not_shift_the_others(tmp_path: Path) -> None:
    broken = replace(bank(), texts=("to the\neast", "north\r\nor east", "south\u2028west"))
    assert load_bank(saved(broken, tmp_path / "bank.npz"), 2).texts == ("to the east", "north or east", "south west")


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": np.array([0, 1, 1, 3], np.int32)},
        {"ids": np.array([0, 1, 1, -1], np.int32)},
        {"offsets": np.array([0, 2, 2, 4], np.int32)},
        {"offsets": np.array([0, 2, 3], np.int32)},
        {"offsets": np.array([1, 2, 3, 4], np.int32)},
        {"label": np.array([0, 0, 1, 3], np.int32)},
        {"label": np.array([0, 0, 1, 1], np.int32)},
        {"labels": ("east", "north")},
        {"latents": np.array([[1, 0], [0, np.nan], [1, 1], [0, 0]], np.float32)},
        {"latents": np.zeros((0, 2), np.float32)},
        {"names": ("east",)},
        {"texts": ("a",)},
        {"said": np.zeros((2, 2), np.float32)},
        {"centres": np.zeros((3, 3), np.float32)},
        {"centre_label": np.array([0, 1, 1], np.int32)},
        {"centre_source": np.zeros(2, np.int32)},
        {"said": np.full((3, 2), np.nan, np.float32)},
        {"reading": replace(bank().reading, labels=("east", "north", "west"))},
        {"reading": replace(bank().reading, action_weights=np.zeros((2, 3), np.float32))},
        {"reading": replace(bank().reading, style_weights=np.full((1, 3), np.inf, np.float32))},
        {"reading": replace(bank().reading, style_weights=np.full((1, 3), 3e38, np.float32))},
        {"captions": np.full((3, 2), 3e38, np.float32)},
        {"latents": np.full((4, 2), -3e38, np.float32)},
    ],
)
def test_a_bank_that_does_not_fit_together_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PackError, match="do not fit together"):
        replace(bank(), **changes)  # type: ignore[arg-type]


def test_what_is_no_bank_is_refused(tmp_path: Path) -> None:
    content = saved(bank(), tmp_path / "bank.npz")
    for wrong in (b"", b"PK", content[: len(content) // 2], np.array([1]).tobytes()):
        with pytest.raises(PackError, match="bank"):
            load_bank(wrong, 2)
    with pytest.raises(PackError, match="width 2, the pack's 3"):
        load_bank(content, 3)
    pickled = io.BytesIO()
    np.savez(pickled, latents=np.array([{"a": 1}], dtype=object))
    with pytest.raises(PackError, match="bank"):
        load_bank(pickled.getvalue(), 2)
    with np.load(io.BytesIO(content)) as arrays:
        packed = io.BytesIO()
        np.savez_compressed(packed, **{**arrays, "latents": np.zeros((100_000, 2), np.int8)})
    with pytest.raises(PackError, match=r"\.npy is compressed"):
        load_bank(packed.getvalue(), 2)


def test_a_wrong_type_in_a_bank_is_refused(tmp_path: Path) -> None:
    arrays = dict(np.load(io.BytesIO(saved(bank(), tmp_path / "bank.npz"))))
    arrays["latents"] = arrays["latents"].astype(np.float64)
    content = io.BytesIO()
    np.savez(content, **arrays)
    with pytest.raises(PackError, match="latents is float64"):
        load_bank(content.getvalue(), 2)
    assert zipfile.is_zipfile(content)


def test_lines_are_counted_before_there_is_a_text_for_each(tmp_path: Path) -> None:
    arrays = dict(np.load(io.BytesIO(saved(bank(), tmp_path / "bank.npz"))))
    arrays["names"] = np.full(20_000_000, ord("\n"), np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays)
    tracemalloc.start()
    try:
        with pytest.raises(PackError, match="20000001 lines where 4 belong"):
            load_bank(content.getvalue(), 2)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_one_long_caption_of_many_labels_is_read_once() -> None:
    many = 2000
    text = "left " * 100_000
    ids = np.zeros(many * 3, np.int32)
    offsets = np.array([0, many, 2 * many, 3 * many], np.int32)
    long = replace(bank(), texts=(text, *bank().texts[1:]), ids=ids, offsets=offsets)
    start = time.monotonic()
    assert long._sides == ["left"] * 3
    assert time.monotonic() - start < 5


def test_rows_do_not_depend_on_what_is_run_beside_them(engine: Engine) -> None:
    texts = ["nods", "a person waves with the left hand", "bends"] * CHUNK
    together = engine.encode_text(texts)
    alone = np.concatenate([engine.encode_text([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    mask = np.arange(20) < np.tile([[12], [20], [15]], (CHUNK, 1))
    decoded = engine.decode(together, mask)
    for row in range(3):
        frames = int(mask[row].sum())
        one = engine.decode(together[row : row + 1], np.ones((1, frames), bool))
        np.testing.assert_allclose(decoded[row, :frames], one[0], atol=1e-5)


def test_nothing_in_nothing_out(engine: Engine) -> None:
    assert engine.encode_text([]).shape == (0, 24)
    assert engine.encode_motion(np.zeros((0, 5, 25, 6), np.float32), np.ones((0, 5), bool)).shape == (0, 24)
    assert engine.decode(np.zeros((0, 24), np.float32), np.ones((0, 5), bool)).shape == (0, 5, 25, 6)


def test_texts_as_long_as_the_pack_reads_pass_and_longer_ones_are_counted(engine: Engine) -> None:
    engine.encode_text(["nods " * MAX_TOKENS])
    with pytest.raises(UsageError, match=f"5000 tokens, the pack tiny reads at most {MAX_TOKENS}"):
        engine.encode_text(["nods " * 5000])


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_empty_texts_are_refused(engine: Engine, text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        engine.encode_text(["nods", text])


def test_a_generated_motion_stands_on_the_ground_at_the_origin_and_faces_forward(engine: Engine) -> None:
    motion = next(generate(engine, [Prompt("a person nods")])).motion
    rotations = axis_angle_to_matrix(motion.pose.astype(np.float64))
    _, joints = forward_kinematics(rotations, motion.transl)
    assert abs(float(lowest_point(joints).min())) < 0.02
    np.testing.assert_allclose(motion.transl[0, :2], 0.0, atol=1e-6)
    assert abs(float(heading(rotations[0, 0]))) < 1e-5
    assert (len(motion), motion.fps) == (20, 30.0)


def test_without_a_path_the_body_stays_upright_in_place_and_touches_the_ground_in_every_frame(tiny_pack: Pack) -> None:
    legacy = replace(tiny_pack, manifest=replace(tiny_pack.manifest, representation="motionclip-legacy"))
    (made,) = generate(Engine(legacy, "cpu"), [Prompt("a person bends slowly")])
    rotations = axis_angle_to_matrix(made.motion.pose.astype(np.float64))
    np.testing.assert_allclose(rotations[:, 0], np.tile(Y_UP_TO_Z_UP, (len(made.motion), 1, 1)), atol=1e-5)
    np.testing.assert_allclose(made.motion.transl[:, :2], 0, atol=1e-6)
    _, joints = forward_kinematics(rotations, made.motion.transl)
    np.testing.assert_allclose(lowest_point(joints), 0, atol=1e-5)


def test_a_generated_file_says_how_it_was_made(engine: Engine, tmp_path: Path) -> None:
    made = next(generate(engine, [Prompt("a person nods")]))
    made.motion.save(tmp_path / "nod.npz")
    origin = load_npz(tmp_path / "nod.npz").origin
    assert made.match is not None
    assert origin == {
        "command": "generate",
        "prompt": "a person nods",
        "pack": "tiny",
        "pack_sha256": engine.pack.digest,
        "confidence": pytest.approx(1.0, abs=1e-3),
        "nearest": "a person nods",
        "label": "nod",
        "source": made.match.name,
        "version": __version__,
    }


def test_prompts_of_many_lengths_keep_their_order_and_length(engine: Engine) -> None:
    prompts = [Prompt("nods" if index % 2 else "bends", (10 + index % 11) / 30) for index in range(2 * CHUNK + 3)]
    made = list(generate(engine, prompts))
    assert [item.prompt for item in made] == prompts
    assert [len(item.motion) for item in made] == [10 + index % 11 for index in range(len(prompts))]


def test_the_same_prompt_gives_the_same_motion_every_time(tiny_pack: Pack, engine: Engine) -> None:
    first = next(generate(engine, [Prompt("nods")])).motion
    again = next(generate(Engine(tiny_pack, "cpu"), [Prompt("nods")])).motion
    np.testing.assert_array_equal(first.pose, again.pose)
    np.testing.assert_array_equal(first.transl, again.transl)


def test_another_frame_rate_covers_the_same_time(engine: Engine) -> None:
    slow = next(generate(engine, [Prompt("nods")])).motion
    fast = next(generate(engine, [Prompt("nods")], fps=120)).motion
    assert fast.fps == 120
    np.testing.assert_allclose(fast.transl[::4], slow.transl, atol=1e-5)


@pytest.mark.parametrize("seconds", [0, -1, 0.3, 0.7, 60, float("nan"), float("inf")])
def test_lengths_the_pack_was_not_trained_for_are_refused_with_the_range(engine: Engine, seconds: float) -> None:
    with pytest.raises(UsageError, match="outside what the pack tiny was trained for") as raised:
        generate(engine, [Prompt("nods"), Prompt("nods", seconds)])
    assert "0.333 to 0.667 seconds" in raised.value.hint


@pytest.mark.parametrize("fps", [0, -30, 1e6, float("nan")])
def test_absurd_frame_rates_are_refused(engine: Engine, fps: float) -> None:
    with pytest.raises(UsageError, match="--fps"):
        generate(engine, [Prompt("nods")], fps=fps)


def test_without_a_prior_the_text_itself_is_decoded(tiny_pack: Pack, engine: Engine) -> None:
    bare = Engine(Pack(tiny_pack.path, replace(tiny_pack.manifest, prior=None), tiny_pack.digest), "cpu")
    made = next(generate(bare, [Prompt("nods")]))
    assert made.match is None
    assert "nearest" not in made.motion.origin
    with_prior = next(generate(engine, [Prompt("nods")])).motion
    assert np.abs(made.motion.pose - with_prior.pose).max() > 1e-3


def test_an_unknown_device_is_a_usage_error(tiny_pack: Pack) -> None:
    with pytest.raises(UsageError, match="no device 'tpu'"):
        Session(tiny_pack.read_graph("motion_decoder"), "g", "tpu")


def test_cuda_without_a_driver_is_said_and_never_replaced_by_the_cpu(
    tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = tiny_pack.read_graph("motion_decoder")
    monkeypatch.setattr(mclip.runtime.session, "_has_nvidia_driver", lambda: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        Session(graph, "g", "cuda")
    # A driver, but onnxruntime falls back on its own, as it does with libraries missing.
    monkeypatch.setattr(mclip.runtime.session, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(mclip.runtime.session, "_load_cuda_libraries", lambda: None)
    create = mclip.runtime.session._create
    monkeypatch.setattr(
        mclip.runtime.session,
        "_create",
        lambda model, name, _, optimise: create(model, name, ["CPUExecutionProvider"], optimise),
    )
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(DeviceError, match="fell back"):
        Session(graph, "g", "cuda")
    assert Session(graph, "g", "auto").device == "cpu"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="without CUDA"):
        Session(graph, "g", "cuda")


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(tiny_pack: Pack) -> None:
    latents, mask = np.eye(3, 24, dtype=np.float32), np.ones((3, 17), bool)
    cuda = Engine(tiny_pack, "cuda").decode(latents, mask)
    np.testing.assert_allclose(cuda, Engine(tiny_pack, "cpu").decode(latents, mask), atol=1e-2)


def test_what_is_no_graph_is_a_pack_error() -> None:
    with pytest.raises(PackError, match="is no ONNX model"):
        Session(b"not a graph", "broken.onnx", "cpu")
    with pytest.raises(PackError, match="cannot load"):
        Session(b"", "broken.onnx", "cpu")


def test_a_damaged_tokenizer_is_a_pack_error(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pack, "read", lambda self, name: b"{}")
    with pytest.raises(PackError, match=r"tokenizer\.json"):
        Engine(tiny_pack, "cpu").encode_text(["nods"])
