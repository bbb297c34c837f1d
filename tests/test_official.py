"""Official checkpoints: the original's numbers, in torch and from the pack, and clear words for what is none.

Every golden number is met to 1e-5, through the model in torch and through an exported pack, from the golden inputs to
the end; in the arithmetic of the processor that made them (tests.processor), without exception. On other processors one
thing is out of reach, of the original's modules too. Gram-Schmidt turns an error e of a rotation's 6D into one of about
e / room (tests.original.room); a random model's 6D leaves next to no room now and then, and golden 6D are float32. The
original's own value in double precision is 1.5e-5 from its golden rotation at reconstruction (1, 23, joint 8), and ours
are nearer to that true value than the golden one. Kernels of torch for AVX-512 met all of them on an EPYC (8.0e-6 at
most); those for AVX2 miss that one on the same machine (1.9e-5). Rotations are therefore met to 1e-5, or to what
ROUNDING does where there is no room for that: the entries in CRAMPED, and no others.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mclip.errors import DataError, UsageError
from mclip.export.official import load_official
from mclip.export.pack import Texts, export_pack
from mclip.geometry import axis_angle_to_matrix, matrix_to_rot6d, rot6d_to_matrix
from mclip.motion import Motion
from mclip.nn import losses
from mclip.nn import rotations as torch_rotations
from mclip.nn.model import MotionClip
from mclip.pack import Pack, open_pack
from mclip.runtime import tasks
from mclip.runtime.engine import Engine
from mclip.runtime.representation import LEGACY, motion_to_features, overwrite_root
from tests import processor
from tests.commands import Run, runner
from tests.fakes import tiny_recipe
from tests.original import GOLDEN, Original, golden_arrays, golden_tensors, room

Arrays = dict[str, NDArray[np.float32]]
Function = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]
TOLERANCE = 1e-5
# What float32 does to features between a window and its reconstruction, on one processor or another.
ROUNDING = 5e-7
# Motion, frame and joint of the golden reconstruction where that turns a rotation by more than TOLERANCE.
CRAMPED = {
    (0, 21, 12), (0, 21, 17), (0, 22, 17), (0, 27, 12), (0, 28, 16), (0, 35, 0),
    (1, 23, 8), (1, 28, 16), (1, 33, 0), (2, 33, 0),
}  # fmt: skip


def write_checkpoint(folder: Path, tensors: dict[str, Any], **options: object) -> Path:
    """checkpoint_0100.pth.tar and opt.yaml; options replace or, when None, remove lines of the golden one."""
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "checkpoint_0100.pth.tar")
    lines = (GOLDEN / "opt.yaml").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.split(":")[0] not in options]
    lines += [f"{key}: {value}" for key, value in options.items() if value is not None]
    (folder / "opt.yaml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "checkpoint_0100.pth.tar"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden checkpoint, to be read only."""
    return write_checkpoint(tmp_path_factory.mktemp("official") / "my paper model", golden_tensors())


@pytest.fixture(scope="module")
def pack(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """What `mclip export --without-text` makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        out = tmp_path_factory.mktemp("packs") / "golden"
        patch.setattr("sys.argv", ["mclip", "export", str(checkpoint), "-o", str(out), "--without-text"])
        from mclip.cli import main

        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    return open_pack(out)


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return golden_arrays()


@pytest.fixture
def mclip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def agree(found: NDArray[Any], expected: NDArray[Any], tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def rotations_agree(found: NDArray[Any], expected: NDArray[Any], rot6d: NDArray[np.float32]) -> None:
    """Matrices (..., 3, 3), made of 6D that agree, are as near as these allow (module docstring)."""
    wrong = np.abs(found - expected).max(axis=(-2, -1)) > np.maximum(TOLERANCE, ROUNDING / room(rot6d))
    assert not wrong.any(), np.argwhere(wrong)


def encode_and_decode(golden: Arrays, encode: Function, decode: Function) -> None:
    """Compare every number a model makes with the original's, each from what the model itself made before."""
    mask = golden["mask"].astype(bool)
    latents = encode(golden["x"], mask)
    agree(latents, golden["mu"])
    # Where no frame is wanted the original writes zeros, and we anything.
    reconstruction = decode(latents, mask) * mask[..., None, None]
    agree(reconstruction, golden["reconstruction"])
    rotations, _ = LEGACY.decode(reconstruction.astype(np.float64))
    assert not rotations[~mask].any() and not golden["reconstruction_rotmat"][~mask].any()
    rotations_agree(rotations[mask], golden["reconstruction_rotmat"][mask], golden["reconstruction"][mask][:, :24])
    generated = decode(golden["z"], np.ones_like(mask))
    agree(generated, golden["generated"])
    agree(overwrite_root(generated), golden["generated_amass"])

    made, x, valid, mu, features = map(
        torch.from_numpy, (reconstruction, golden["x"], mask, latents, golden["features"])
    )
    agree(losses.position_loss(made, x, valid).numpy(), golden["loss_rc"])
    agree(losses.velocity_loss(made, x, valid).numpy(), golden["loss_vel"])
    agree(losses.cosine_loss(mu, features).numpy(), golden["loss_cosine"])


def run_torch(function: Callable[..., torch.Tensor]) -> Callable[..., NDArray[np.float32]]:
    def run(*arrays: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(function(*map(torch.from_numpy, arrays)).numpy())

    return run


def test_torch_gives_every_number_of_the_original(checkpoint: Path, golden: Arrays) -> None:
    model, recipe = load_official(checkpoint)
    encode_and_decode(golden, run_torch(model.encode), run_torch(model.decode))
    assert (recipe.name, recipe.text_space, recipe.data.representation, recipe.data.window) == (
        "my-paper-model", "clip-vit-b32", "motionclip-legacy", 60)  # fmt: skip


def test_no_rotation_is_missed_in_the_arithmetic_of_the_golden_processor(
    checkpoint: Path, golden: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = load_official(checkpoint)
    for name, kernel in processor.KERNELS.items():
        monkeypatch.setattr(torch.nn.functional, name, kernel)
    mask = golden["mask"].astype(bool)
    latents = run_torch(model.encode)(golden["x"], mask)
    agree(latents, golden["mu"], 1e-6)
    reconstruction = run_torch(model.decode)(latents, mask) * mask[..., None, None]
    agree(reconstruction, golden["reconstruction"], 1e-6)
    rotations = run_torch(torch_rotations.rot6d_to_matrix)(reconstruction[:, :, :24])
    agree(rotations, golden["reconstruction_rotmat"])
    agree(run_torch(model.decode)(golden["z"], np.ones_like(mask)), golden["generated"], 1e-6)


def test_the_pack_gives_every_number_of_the_original(pack: Pack, golden: Arrays) -> None:
    engine = Engine(pack, "cpu")
    encode_and_decode(golden, engine.encode_motion, engine.decode)
    assert pack.manifest.precision == "fp32"
    assert (pack.manifest.latent, pack.manifest.fps, pack.manifest.frames.default) == (32, 30.0, 60)
    assert set(pack.manifest.recipe) == {"name", "text_space", "data", "model"}


def test_rotations_are_written_as_the_original_writes_them(golden: Arrays) -> None:
    matrices = axis_angle_to_matrix(golden["axis_angle"])
    agree(matrix_to_rot6d(matrices), golden["rot6d"])
    agree(rot6d_to_matrix(golden["rot6d"]), matrices)
    for pose, rot6d in zip(golden["axis_angle"], golden["rot6d"], strict=True):
        motion = Motion(pose=pose, transl=np.zeros((len(pose), 3), np.float32), fps=30)
        agree(motion_to_features(motion, LEGACY)[:, :24], rot6d)
    # Of the golden reconstruction itself, all of them.
    given = golden["reconstruction"][:, :, :24]
    for rotations in (
        LEGACY.decode(golden["reconstruction"])[0],
        LEGACY.decode(golden["reconstruction"].astype(np.float64))[0],
        torch_rotations.rot6d_to_matrix(torch.from_numpy(given)).numpy(),
    ):
        agree(rotations, golden["reconstruction_rotmat"])


def test_what_the_golden_rotations_lack_is_rounding(checkpoint: Path, golden: Arrays) -> None:
    mask = golden["mask"].astype(bool)
    given = golden["reconstruction"][:, :, :24]
    cramped = (ROUNDING / np.maximum(room(given), 1e-30) > TOLERANCE) & mask[..., None]
    assert {tuple(place) for place in np.argwhere(cramped).tolist()} == CRAMPED

    original = Original(32, 2, seed=1)
    original.load_state_dict(golden_tensors())
    original.double()
    model, _ = load_official(checkpoint)
    x, wanted = torch.from_numpy(golden["x"]), torch.from_numpy(mask)
    with torch.inference_mode():
        true = original.decode(original.encode(x.double(), wanted), wanted).numpy()[:, :, :24]
        ours = model.decode(model.encode(x, wanted), wanted).numpy().astype(np.float64)[:, :, :24]
    agree(given, true, 1e-6)
    worst = (1, 23, 8)
    missed, nearer = (
        np.abs(rot6d_to_matrix(true)[worst] - other).max()
        for other in (golden["reconstruction_rotmat"][worst], rot6d_to_matrix(ours)[worst])
    )
    assert worst in CRAMPED and nearer < TOLERANCE < missed


class Said(Engine):
    """Reads a number, and embeds it as that row of the golden latents."""

    z: NDArray[np.float32]

    def tokenize(self, texts: Sequence[str], *, truncate: bool = False) -> list[list[int]]:
        return [[int(text)] for text in texts]

    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self.z[[ids[0] for ids in tokens]]


def test_generate_makes_the_originals_motion(pack: Pack, golden: Arrays) -> None:
    engine = Said(pack, "cpu")
    engine.z = golden["z"]
    made = [item.motion for item in tasks.generate(engine, [tasks.Prompt(str(row)) for row in range(3)])]
    rotations = axis_angle_to_matrix(np.stack([motion.pose for motion in made]).astype(np.float64))
    given = golden["generated_amass"][:, :, :24]
    expected = rot6d_to_matrix(given.astype(np.float64))
    # The original's world has Y down, ours Z up.
    expected[:, :, 0] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) @ expected[:, :, 0]
    rotations_agree(rotations, expected, given)


def masks(frames: int) -> Iterator[torch.Tensor]:
    """Windows of one, some and all frames, alone and in a batch of different lengths."""
    for length in sorted({1, 7, 37, 59, frames}):
        yield torch.ones(1, length, dtype=torch.bool)
        yield torch.arange(length) < torch.tensor([length, max(1, length - 5), 1])[:, None]


@pytest.mark.parametrize(
    ("latent", "layers", "heads", "feedforward", "frames"), [(128, 3, 4, 1024, 101), (48, 1, 8, 96, 1)]
)
def test_any_size_agrees_with_the_transformers_of_torch(
    mclip: Run, tmp_path: Path, latent: int, layers: int, heads: int, feedforward: int, frames: int
) -> None:
    original = Original(latent, layers, heads, feedforward, seed=latent)
    sizes = {"latent_dim": latent, "num_layers": layers, "num_heads": heads, "ff_size": feedforward}
    path = write_checkpoint(tmp_path / "x", original.state_dict(), num_frames=frames, **sizes)
    code, _, err = mclip("export", str(path), "-o", str(tmp_path / "pack"), "--without-text")
    assert code == 0, err
    pack = open_pack(tmp_path / "pack")
    assert (pack.manifest.latent, pack.manifest.frames.default) == (latent, frames)
    engine, (model, _) = Engine(pack, "cpu"), load_official(path)
    random = torch.Generator().manual_seed(0)
    for mask in masks(frames):
        x = torch.randn(*mask.shape, 25, 6, generator=random) * mask[..., None, None]
        z = torch.randn(len(mask), latent, generator=random)
        with torch.inference_mode():
            latents, features = original.encode(x, mask).numpy(), original.decode(z, mask).numpy()
        shown = mask[..., None, None].numpy()
        for encode, decode in (
            (run_torch(model.encode), run_torch(model.decode)),
            (engine.encode_motion, engine.decode),
        ):
            agree(encode(x.numpy(), mask.numpy()), latents)
            agree(decode(z.numpy(), mask.numpy()) * shown, features)


def test_clip_inside_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    tensors = golden_tensors() | {"clip_model.logit_scale": torch.tensor(4.6), "clip_model.visual.proj": torch.eye(3)}
    model, _ = load_official(write_checkpoint(tmp_path / "x", tensors))
    torch.testing.assert_close(model.state_dict()["encoder.tokens"][:1], tensors["encoder.muQuery"])


def test_options_that_the_original_leaves_out_may_be_there(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "x", golden_tensors(), ff_size=1024, num_heads=4, njoints=None, modeltype=None)
    assert load_official(path)[1].model.heads == 4


BIAS = "decoder.finallayer.bias"


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in golden_tensors().items() if name not in names}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (without(BIAS, "encoder.muQuery"), f"lacks {BIAS}, encoder.muQuery"),
        (golden_tensors() | {"surprise": torch.ones(1)}, "has unknown surprise"),
        (without(BIAS) | {"surprise": torch.ones(1)}, f"lacks {BIAS} and has unknown surprise"),
        (golden_tensors() | {BIAS: torch.ones(151)}, f"{BIAS} has shape (151,), not (150,)"),
        # A few bytes that claim to be terabytes.
        (golden_tensors() | {BIAS: torch.ones(1).expand(10**12)}, f"{BIAS} has shape (1000000000000,)"),
        (golden_tensors() | {BIAS: torch.full((150,), float("nan"))}, f"{BIAS} holds NaN"),
        (golden_tensors() | {BIAS: torch.ones(150, dtype=torch.int64)}, f"{BIAS} is no tensor of numbers"),
        (golden_tensors() | {BIAS: "text"}, f"{BIAS} is no tensor of numbers"),
        (
            golden_tensors() | {"encoder.sequence_pos_encoder.pe": torch.zeros(5000, 1, 32)},
            "encoder.sequence_pos_encoder.pe is not the original's",
        ),
        ([torch.ones(1)], "holds no table of tensors"),
        (golden_tensors() | {"path": Path("x")}, "holds more than tensors, code perhaps; it was not run"),
    ],
)
def test_every_tensor_is_accounted_for(mclip: Run, tmp_path: Path, tensors: dict[str, Any], said: str) -> None:
    path = write_checkpoint(tmp_path / "x", tensors)
    fails(mclip, path, tmp_path, said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pose_rep": "xyz"}, "pose_rep is 'xyz'; mclip reads models with 'rot6d' only"),
        ({"archiname": "gru"}, "archiname is 'gru'"),
        ({"modeltype": "cvae"}, "modeltype is 'cvae'"),
        ({"num_classes": 12}, "num_classes is 12"),
        ({"translation": "false"}, "translation is False"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"ablation": "average_encoder"}, "ablation is 'average_encoder'; mclip reads models without it only"),
        ({"normalize_encoder_output": "true"}, "normalize_encoder_output is True"),
        ({"latent_dim": None}, "has no latent_dim"),
        ({"latent_dim": "wide"}, "latent_dim is 'wide', not a positive number"),
        ({"latent_dim": 10**9}, "must lie between 1 and"),
        ({"latent_dim": 30}, "must be a multiple"),
        ({"latent_dim": 64}, "has shape"),
        ({"num_layers": 3}, "lacks decoder.seqTransDecoder.layers.2"),
        ({"num_layers": 1}, "has unknown decoder.seqTransDecoder.layers.1"),
        ({"num_frames": -1}, "num_frames is -1"),
        ({"num_frames": 5000}, "data.window must be"),
        ({"cuda": "!!python/object/apply:os.system [exit]"}, "opt.yaml: is not plain YAML"),
        ({"cuda": "["}, "opt.yaml: is not plain YAML"),
        ({"cuda": "[" * 3000}, "opt.yaml: is not plain YAML"),
    ],
)
def test_options_of_other_models_are_refused(mclip: Run, tmp_path: Path, options: dict[str, object], said: str) -> None:
    fails(mclip, write_checkpoint(tmp_path / "x", golden_tensors(), **options), tmp_path, said)


@pytest.mark.parametrize(("content", "said"), [(None, "is missing"), (b"- a", "no options"), (b"\xff", "plain YAML")])
def test_the_options_file_has_to_be_there(
    mclip: Run, checkpoint: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    shutil.copy(checkpoint, tmp_path)
    if content is not None:
        (tmp_path / "opt.yaml").write_bytes(content)
    fails(mclip, tmp_path / checkpoint.name, tmp_path, said)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are other there")
def test_pipes_and_devices_are_no_checkpoints(mclip: Run, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("opt.yaml", checkpoint.name):
        shutil.copytree(checkpoint.parent, tmp_path / "x", dirs_exist_ok=True)
        for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
            (tmp_path / "x" / name).unlink()
            make(tmp_path / "x" / name)
            fails(mclip, tmp_path / "x" / checkpoint.name, tmp_path, "is not a regular file")
        (tmp_path / "x" / name).unlink()


def test_damaged_files_are_no_checkpoints(
    mclip: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = tmp_path / checkpoint.name, checkpoint.read_bytes()
    shutil.copy(checkpoint.with_name("opt.yaml"), tmp_path)
    fails(mclip, path, tmp_path, "no such file")
    for damaged in (b"", b"PK", content[:1000], content[: len(content) // 2], content[:-100]):
        path.write_bytes(damaged)
        fails(mclip, path, tmp_path, "is cut short, or no checkpoint of torch")
    path.write_bytes(content[: len(content) // 2] + b"spoilt" + content[len(content) // 2 + 6 :])
    fails(mclip, path, tmp_path, "is damaged at")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "not tensors")
    fails(mclip, path, tmp_path, "is no readable checkpoint")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("hello.txt", "not tensors")
    fails(mclip, path, tmp_path, "is compressed")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as bomb:
        for _ in range(20):
            bomb.write(bytes(10**6))
    monkeypatch.setattr("mclip.export.official.MAX_CHECKPOINT_BYTES", 10**7)
    fails(mclip, path, tmp_path, "unpacks to more than 0.01 GB")


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_code_in_a_checkpoint_is_not_run(mclip: Run, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "x", golden_tensors() | {BIAS: Bomb(tmp_path / "run")})
    fails(mclip, path, tmp_path, "code perhaps; it was not run")
    assert not (tmp_path / "run").exists()


def fails(mclip: Run, checkpoint: Path, folder: Path, said: str) -> None:
    """Exporting a checkpoint ends with exit code 4, in a few lines, and leaves nothing."""
    code, out, err = mclip("export", str(checkpoint), "-o", str(folder / "pack"), "--without-text")
    assert code == 4, err
    assert said in err
    assert out == ""
    assert len(err.splitlines()) <= 3
    assert not (folder / "pack").exists()


def test_a_pack_without_text_says_what_it_lacks(mclip: Run, pack: Pack, tmp_path: Path) -> None:
    assert not (pack.path / "text_encoder.onnx").exists()
    assert not (pack.path / "tokenizer.json").exists()
    code, _, err = mclip("generate", "couch", "--pack", str(pack.path), "-o", str(tmp_path / "couch.npz"))
    assert code == 6
    assert "this pack has no text encoder" in err
    assert "run mclip export again without --without-text; that needs the weights of clip-vit-b32" in err


def test_text_needs_the_weights_of_its_space(
    mclip: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCLIP_CLIP_WEIGHTS", str(tmp_path / "none.pt"))
    code, _, err = mclip("export", str(checkpoint), "-o", str(tmp_path / "pack"))
    assert code == 5, err
    assert "--without-text" in err


def test_a_run_directory_is_none_of_the_originals_whatever_its_name(mclip: Run, tmp_path: Path) -> None:
    (tmp_path / "run.pt").mkdir()
    code, _, err = mclip("export", str(tmp_path / "run.pt"), "-o", str(tmp_path / "pack"))
    assert code == 4
    assert "give the run directory that mclip train made" in err


def test_texts_and_latents_have_one_width(checkpoint: Path, tmp_path: Path) -> None:
    from tests.fakes import tiny_teacher

    model, recipe = load_official(checkpoint)
    texts = Texts(card="", license="")
    with pytest.raises(DataError, match="32 wide") as caught:
        export_pack(model, recipe, tiny_teacher(), tmp_path / "pack", texts=texts)
    assert "--without-text" in caught.value.hint


def test_a_prior_needs_texts(tiny_model: MotionClip, tiny_store: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads none"):
        export_pack(tiny_model, tiny_recipe(), None, tmp_path / "p", texts=Texts(card="", license=""), store=tiny_store)
