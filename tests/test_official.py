"""Official checkpoints: the original's numbers, in torch and from the pack, and clear words for what is none."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
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
from mclip.nn import rotations as torch_rotations
from mclip.nn.model import MotionClip
from mclip.pack import Pack, open_pack
from mclip.runtime.engine import Engine
from mclip.runtime.representation import LEGACY, overwrite_root
from tests.commands import Run, runner
from tests.fakes import tiny_recipe
from tests.original import GOLDEN, Original, golden_arrays, golden_tensors

Arrays = dict[str, NDArray[np.float32]]
TOLERANCE = 1e-5


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


def encode_and_decode(
    golden: Arrays,
    encode: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]],
    decode: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]],
) -> None:
    """Compare every number a model makes with the original's."""
    mask = golden["mask"].astype(bool)
    latents = encode(golden["x"], mask)
    np.testing.assert_allclose(latents, golden["mu"], rtol=0, atol=TOLERANCE)
    # Where no frame is wanted the original writes zeros, and we anything.
    reconstruction = decode(latents, mask) * mask[..., None, None]
    np.testing.assert_allclose(reconstruction, golden["reconstruction"], rtol=0, atol=TOLERANCE)
    generated = decode(golden["z"], np.ones_like(mask))
    np.testing.assert_allclose(generated, golden["generated"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(overwrite_root(generated), golden["generated_amass"], rtol=0, atol=TOLERANCE)


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


def test_the_pack_gives_every_number_of_the_original(pack: Pack, golden: Arrays) -> None:
    engine = Engine(pack, "cpu")
    encode_and_decode(golden, engine.encode_motion, engine.decode)
    assert pack.manifest.precision == "fp32"
    assert (pack.manifest.latent, pack.manifest.fps, pack.manifest.frames.default) == (32, 30.0, 60)
    assert set(pack.manifest.recipe) == {"name", "text_space", "data", "model"}


def test_rotations_are_written_as_the_original_writes_them(golden: Arrays) -> None:
    matrices = axis_angle_to_matrix(golden["axis_angle"])
    np.testing.assert_allclose(matrix_to_rot6d(matrices), golden["rot6d"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(rot6d_to_matrix(golden["rot6d"]), matrices, rtol=0, atol=TOLERANCE)
    rotations, _ = LEGACY.decode(golden["reconstruction"])
    np.testing.assert_allclose(rotations, golden["reconstruction_rotmat"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(
        torch_rotations.rot6d_to_matrix(torch.from_numpy(golden["reconstruction"][:, :, :24])),
        golden["reconstruction_rotmat"],
        rtol=0,
        atol=TOLERANCE,
    )


@pytest.mark.parametrize(("latent", "layers", "frames"), [(128, 3, 37), (64, 1, 1), (32, 2, 101)])
def test_any_size_agrees_with_the_transformers_of_torch(tmp_path: Path, latent: int, layers: int, frames: int) -> None:
    original = Original(latent, layers, seed=latent)
    path = write_checkpoint(
        tmp_path / "x", original.state_dict(), latent_dim=latent, num_layers=layers, num_frames=frames
    )
    model, recipe = load_official(path)
    assert recipe.data.window == frames
    random = torch.Generator().manual_seed(0)
    mask = torch.arange(frames) < torch.tensor([frames, max(1, frames - 5), 1])[:, None]
    x = torch.randn(3, frames, 25, 6, generator=random) * mask[..., None, None]
    z = torch.randn(3, latent, generator=random)
    with torch.inference_mode():
        torch.testing.assert_close(model.encode(x, mask), original.encode(x, mask), rtol=0, atol=TOLERANCE)
        decoded = model.decode(z, mask) * mask[..., None, None]
        torch.testing.assert_close(decoded, original.decode(z, mask), rtol=0, atol=TOLERANCE)


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
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("hello.txt", "not tensors")
    fails(mclip, path, tmp_path, "is no readable checkpoint")
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
