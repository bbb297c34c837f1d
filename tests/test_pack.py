"""Packs: what is written is read back, and whatever is wrong with one is found before it is used."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import mclip.pack
from mclip.errors import PackError, UsageError
from mclip.files import sha256
from mclip.pack import (
    FORMAT,
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_FRAMES,
    MAX_LATENT,
    MAX_TOKENS,
    TOKEN_TABLE,
    Pack,
    find_pack,
    manifest_from_json,
    manifest_to_json,
    open_pack,
)
from mclip.runtime.engine import Engine
from tests.commands import runner


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a pack."""
    path = folder / MANIFEST
    table = json.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.write_text(json.dumps(table), encoding="utf-8")


def graph(table: dict[str, Any]) -> Any:
    """A graph of a manifest."""
    return table["graphs"]["text_encoder"]


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Put another file into a pack, with a manifest that agrees."""
    (folder / name).write_bytes(content)
    entry = {"size": len(content), "sha256": sha256(folder / name)}
    edit(folder, lambda table: table["files"].__setitem__(name, entry))


def test_a_pack_opens_and_every_file_is_what_the_manifest_says(tiny_pack: Pack) -> None:
    pack = open_pack(tiny_pack.path)
    pack.read_ahead("motion_decoder")
    pack.verify()
    pack.read_ahead("motion_encoder")
    assert pack == open_pack(tiny_pack.path)
    assert pack.manifest == tiny_pack.manifest
    assert pack.digest == sha256(tiny_pack.path / MANIFEST)


def test_a_pack_that_does_not_say_how_exact_its_motion_is_opens(pack_copy: Path) -> None:
    edit(pack_copy, lambda table: table.pop("joints"))
    assert open_pack(pack_copy).manifest.joints is None


def test_a_manifest_survives_the_way_through_json(tiny_pack: Pack) -> None:
    assert manifest_from_json(manifest_to_json(tiny_pack.manifest).encode()) == tiny_pack.manifest
    assert '"föö"' in manifest_to_json(replace(tiny_pack.manifest, recipe={"name": "föö"}))
    with pytest.raises(ValueError, match="JSON"):
        manifest_to_json(replace(tiny_pack.manifest, recipe={"rate": float("nan")}))


def test_the_manifest_says_what_was_trained_and_how_exact_the_graphs_are(tiny_pack: Pack) -> None:
    manifest = tiny_pack.manifest
    assert (manifest.name, manifest.latent, manifest.fps, manifest.representation) == ("tiny", 24, 30.0, "smpl24")
    assert (manifest.frames.min, manifest.frames.default, manifest.frames.max) == (10, 20, 20)
    assert manifest.license == "CC0-1.0"
    assert manifest.data == {"made": 9}
    assert manifest.recipe["model"]["width"] == 64
    assert all(0 < graph.parity.exported < 1e-5 for graph in manifest.graphs.values())
    assert all(graph.parity.exported < graph.parity.stored < 0.05 for graph in manifest.graphs.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(format=FORMAT + 1), f"format {FORMAT + 1}"),
        (lambda t: t.update(surprise=1), "unknown key 'surprise'"),
        (lambda t: t.pop("license"), "has no 'license'"),
        (lambda t: t.update(fps="30"), "fps must be float"),
        (lambda t: t.update(fps=True), "fps must be float"),
        (lambda t: t.update(fps=10**30), "fps must lie"),
        (lambda t: t.update(latent=True), "latent must be int"),
        (lambda t: t.update(name="../evil"), "name must be"),
        (lambda t: t["frames"].update(min=30), "frames needs"),
        (lambda t: t["graphs"].pop("text_encoder"), "graphs must be"),
        (lambda t: t["graphs"].update(other=t["graphs"]["text_encoder"]), "graphs must be"),
        (lambda t: graph(t)["inputs"].append(graph(t)["inputs"][0]), "text_encoder must take"),
        (lambda t: graph(t)["inputs"].clear(), "text_encoder must take"),
        (lambda t: graph(t)["outputs"].append(graph(t)["outputs"][0]), "text_encoder must take"),
        (lambda t: t["files"].pop(TOKEN_TABLE), f"must list {TOKEN_TABLE}"),
        (lambda t: t.update(max_tokens=None), "graphs must be motion_encoder, motion_decoder"),
        (lambda t: (t.update(max_tokens=None), t["graphs"].pop("text_encoder")), "prior needs a text encoder"),
        (lambda t: t["files"].pop("tokenizer.json"), "must list tokenizer.json"),
        (lambda t: t["graphs"]["text_encoder"]["parity"].update(stored="small"), "stored must be float"),
        (lambda t: t["joints"].update(mean_mm=-1), "joints needs"),
        (lambda t: t["joints"].update(max_mm=0), "joints needs"),
        (lambda t: t["joints"].pop("split"), "joints has no 'split'"),
        (lambda t: t["prior"].update(kind="python"), "prior.kind"),
        (lambda t: t["prior"].update(file="other.npz"), "must list"),
        (lambda t: t["files"].pop("LICENSE"), "must list"),
        (lambda t: t["files"].update({"../../secret": t["files"]["LICENSE"]}), "no plain file name"),
        (lambda t: t["files"].update({"/etc/passwd": t["files"]["LICENSE"]}), "no plain file name"),
        (lambda t: t["files"].update({MANIFEST: t["files"]["LICENSE"]}), "no plain file name"),
        (lambda t: t["files"]["LICENSE"].update(sha256="0" * 63), "64 hex digits"),
        (
            lambda t: t["files"].update({f"{n}.bin": t["files"]["LICENSE"] for n in range(MAX_FILES)}),
            "files lists more",
        ),
        (lambda t: t["files"]["LICENSE"].update(size=1), "bytes, the manifest says 1"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_and_the_key_named(
    pack_copy: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(pack_copy, change)
    with pytest.raises(PackError, match=message):
        open_pack(pack_copy)


@pytest.mark.parametrize(
    ("keys", "least", "most"),
    [
        (("latent",), 1, MAX_LATENT),
        (("max_tokens",), 1, MAX_TOKENS),
        (("fps",), 1, 1000),
        (("frames", "min"), 1, 20),
        (("frames", "default"), 10, 20),
        (("frames", "max"), 20, MAX_FRAMES),
        (("files", "LICENSE", "size"), 0, MAX_FILE_BYTES),
    ],
)
def test_numbers_in_a_manifest_may_be_at_their_limits_and_not_beyond(
    tiny_pack: Pack, keys: tuple[str, ...], least: int, most: int
) -> None:
    table = json.loads(manifest_to_json(tiny_pack.manifest))
    *above, key = keys
    for value in (least, most, least - 1, most + 1):
        functools.reduce(dict.__getitem__, above, table)[key] = value
        content = json.dumps(table).encode()
        if least <= value <= most:
            manifest_from_json(content)
        else:
            with pytest.raises(PackError, match=r"must lie between|needs 0 < min"):
                manifest_from_json(content)


def test_a_text_encoder_that_takes_no_words_needs_no_table_of_them(tiny_pack: Pack) -> None:
    table = json.loads(manifest_to_json(tiny_pack.manifest))
    graph(table)["inputs"] = [tensor for tensor in graph(table)["inputs"] if tensor["name"] == "ids"]
    del table["files"][TOKEN_TABLE]
    assert manifest_from_json(json.dumps(table).encode()).has_text


def test_a_manifest_may_have_as_many_files_and_bytes_as_are_read(pack_copy: Path) -> None:
    entry = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
    listed = len(open_pack(pack_copy).manifest.files)
    for number in range(MAX_FILES - listed):
        (pack_copy / f"{number}").touch()
        edit(pack_copy, lambda table, name=f"{number}": table["files"].update({name: entry}))  # type: ignore[misc]
    content = (pack_copy / MANIFEST).read_bytes()
    (pack_copy / MANIFEST).write_bytes(content.ljust(mclip.pack.MAX_MANIFEST_BYTES))
    open_pack(pack_copy).verify()


def test_a_newer_pack_says_which_mclip_reads_it(pack_copy: Path) -> None:
    edit(pack_copy, lambda table: table.update(format=FORMAT + 1, mclip="9.9.9", new_key={}))
    with pytest.raises(PackError) as raised:
        open_pack(pack_copy)
    assert "9.9.9" in raised.value.hint


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"format"', b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}', b'{"a":1,"a":2}'],
)
def test_a_manifest_that_is_no_json_object_is_refused(pack_copy: Path, content: bytes) -> None:
    (pack_copy / MANIFEST).write_bytes(content)
    with pytest.raises(PackError):
        open_pack(pack_copy)


def test_a_manifest_too_large_to_be_one_is_refused_unread(pack_copy: Path) -> None:
    with (pack_copy / MANIFEST).open("r+b") as file:
        file.truncate(mclip.pack.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(PackError, match="larger than"):
        open_pack(pack_copy)


def test_a_changed_byte_is_found_when_the_file_is_read(pack_copy: Path) -> None:
    path = pack_copy / "motion_decoder.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    pack = open_pack(pack_copy)
    pack.read_graph("text_encoder")
    with pytest.raises(PackError, match="sha256"):
        pack.read_graph("motion_decoder")
    with pytest.raises(PackError, match="sha256"):
        pack.verify()


def test_a_file_read_ahead_is_what_it_is_else_and_its_faults_are_told_at_its_use(pack_copy: Path) -> None:
    path = pack_copy / "tokenizer.json"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b" ")
    pack = open_pack(pack_copy)
    pack.read_ahead("text_encoder", "motion_decoder")
    assert pack.read("motion_decoder.onnx") == (pack_copy / "motion_decoder.onnx").read_bytes()
    with pytest.raises(PackError, match=r"tokenizer\.json: sha256"):
        pack.read("tokenizer.json")
    path.write_bytes(content)
    assert pack.read("tokenizer.json") == content


def test_a_missing_file_is_named(pack_copy: Path) -> None:
    (pack_copy / "tokenizer.json").unlink()
    with pytest.raises(PackError, match=r"tokenizer\.json: is missing"):
        open_pack(pack_copy)


def test_links_are_refused_even_to_the_right_content(pack_copy: Path, tiny_pack: Pack) -> None:
    (pack_copy / "tokenizer.json").unlink()
    (pack_copy / "tokenizer.json").symlink_to(tiny_pack.path / "tokenizer.json")
    with pytest.raises(PackError, match="not a regular file"):
        open_pack(pack_copy)


def test_a_graph_that_points_at_another_file_is_refused(pack_copy: Path, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((8, 8), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["latent", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("latent", onnx.TensorProto.FLOAT, ["b", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", 8])],
        [weight],
    )
    outside = tmp_path / "outside.onnx"
    onnx.save(helper.make_model(graph), outside, save_as_external_data=True, location="secret.bin", size_threshold=0)
    replace_file(pack_copy, "motion_decoder.onnx", outside.read_bytes())
    with pytest.raises(PackError, match="outside the file"):
        open_pack(pack_copy).read_graph("motion_decoder")


def test_files_the_manifest_does_not_list_are_no_part_of_the_pack(pack_copy: Path) -> None:
    (pack_copy / "sitecustomize.py").write_text("raise SystemExit", encoding="utf-8")
    assert "sitecustomize.py" not in open_pack(pack_copy).manifest.files


def test_packs_are_found_by_directory_by_environment_and_by_name(
    tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_pack(tiny_pack.path) == tiny_pack.path
    monkeypatch.setattr(mclip.pack, "_SHIPPED", tiny_pack.path.parent)
    assert find_pack("tiny") == tiny_pack.path
    monkeypatch.setenv("MCLIP_PACK", "tiny")
    assert find_pack() == tiny_pack.path
    with pytest.raises(PackError, match="shipped with this mclip: tiny"):
        find_pack("nothing-of-that-name")


def test_a_folder_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="not a pack"):
        open_pack(tmp_path)
    with pytest.raises(PackError, match="no such pack"):
        open_pack(tmp_path / "nowhere")


@pytest.mark.parametrize("number", [0, -3])
def test_an_older_pack_says_how_to_make_it_anew(pack_copy: Path, number: int) -> None:
    edit(pack_copy, lambda table: table.update(format=number, mclip="0.0.1"))
    with pytest.raises(PackError, match=f"has format {number}, this mclip reads format {FORMAT}") as raised:
        open_pack(pack_copy)
    assert "mclip 0.0.1" in raised.value.hint
    assert "mclip export" in raised.value.hint


def test_an_absurd_format_is_refused_in_a_short_sentence(pack_copy: Path) -> None:
    edit(pack_copy, lambda table: table.update(format=10**4000))
    with pytest.raises(PackError) as raised:
        open_pack(pack_copy)
    assert len(raised.value.message) < 400


def test_what_a_newer_mclip_added_without_a_new_format_names_that_mclip(pack_copy: Path) -> None:
    edit(pack_copy, lambda table: table.update(surprise=1, mclip="9.9.9"))
    with pytest.raises(PackError, match="unknown key 'surprise'") as raised:
        open_pack(pack_copy)
    assert "mclip 9.9.9" in raised.value.hint


def test_a_pack_has_to_be_the_one_that_is_required(tiny_pack: Pack) -> None:
    assert open_pack(tiny_pack.path, tiny_pack.digest.upper()).digest == tiny_pack.digest
    with pytest.raises(PackError, match=f"this pack is {tiny_pack.digest}, not {'0' * 64}"):
        open_pack(tiny_pack.path, "0" * 64)
    with pytest.raises(UsageError, match="no SHA-256"):
        open_pack(tiny_pack.path, tiny_pack.digest[:12])


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["motion_encoder.onnx", "CARD.md", "LICENSE", "token_embeddings.npy", "bank.npz"])
def test_no_result_comes_from_a_pack_of_which_any_byte_is_wrong(pack_copy: Path, name: str) -> None:
    # Embedding a text uses neither the motion encoder, nor the card, nor the bank.
    flip(pack_copy / name)
    engine = Engine.open(pack_copy, "cpu")
    with pytest.raises(PackError, match=rf"{name}: sha256"):
        engine.encode_text(["nods"])
    with pytest.raises(PackError, match=rf"{name}: sha256"):
        engine.encode_text(["nods"])


def test_a_token_table_that_is_replaced_while_it_is_in_use_stays_what_was_hashed(pack_copy: Path) -> None:
    engine = Engine.open(pack_copy, "cpu")
    before = engine.encode_text(["nods"])
    other = pack_copy / "other.npy"
    other.write_bytes(bytes(len((pack_copy / "token_embeddings.npy").read_bytes())))
    os.replace(other, pack_copy / "token_embeddings.npy")
    np.testing.assert_array_equal(engine.encode_text(["nods"]), before)


@pytest.mark.parametrize("command", ["generate", "edit", "interpolate", "classify", "search", "evaluate"])
def test_every_command_that_opens_a_pack_refuses_another_than_required(
    command: str, tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", poses=np.zeros((30, 72), np.float32), trans=np.zeros((30, 3)), mocap_framerate=30.0)
    pack = str(tiny_pack.path)
    arguments = {
        "generate": ["nods", "--pack", pack],
        "edit": ["a.npz", "--add", "nods", "--pack", pack],
        "interpolate": ["a.npz", "nods", "--pack", pack],
        "classify": ["a.npz", "--pack", pack],
        "search": ["nods", ".", "--pack", pack],
        "evaluate": [pack, "--data", "none.h5"],
    }[command]
    code, _, err = runner(monkeypatch, capsys)(command, *arguments, "--require-sha256", "0" * 64)
    assert code == PackError.exit_code
    assert tiny_pack.digest in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
