"""What a newcomer can get wrong, on every command: the exit code, what is said, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mclip.cli import COMMANDS
from mclip.formats import save
from mclip.motion import load_npz
from mclip.pack import MANIFEST, Pack
from tests.commands import Run, runner
from tests.fakes import swinging, tiny_recipe

if TYPE_CHECKING:
    from mclip.data.store import MotionStore

LONG = "a" * 300
RECIPE = """
name = "tiny"
[data]
store = "store.h5"
window = 20
min_window = 10
[model]
latent = 24
width = 64
heads = 2
[optim]
steps = 2
warmup = 0
"""


@pytest.fixture(scope="session")
def assets(tiny_pack: Pack, tiny_store: MotionStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A motion, a store, a run and a pack, all in order. Not to be changed: `folder` is a copy."""
    import torch

    from mclip.nn.model import MotionClip
    from mclip.train.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("assets")
    motion = swinging("head", 0, seed=1, frames=30)
    motion.save(folder / "good.npz")
    save(folder / "good.bvh", motion)
    shutil.copy(tiny_store.file, folder / "store.h5")
    shutil.copytree(tiny_pack.path, folder / "pack")
    torch.manual_seed(0)
    model = MotionClip(tiny_recipe().model)
    save_checkpoint(folder / "run", model, torch.optim.AdamW(model.parameters()), 5, tiny_recipe(), {})
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "motions").mkdir()
    shutil.copy(folder / "good.npz", folder / "motions" / "a.npz")
    (folder / "empty").mkdir()
    (folder / "note.txt").write_text("not a motion")
    return folder


@pytest.fixture
def folder(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the assets to work in, with its pack as the default one."""
    copy = Path(shutil.copytree(assets, tmp_path / "work"))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("MCLIP_PACK", "pack")
    return copy


@pytest.fixture
def mclip(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in `folder`."""
    return runner(monkeypatch, capsys)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file and folder below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")
    }


def check(mclip: Run, folder: Path, arguments: list[str], code: int, said: str) -> None:
    """The command fails as it should: code, at most three lines that say so, and nothing changed or left behind."""
    before = contents(folder)
    done = mclip(*arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert 1 <= len(done.err.splitlines()) <= 3, done.err
    assert "Traceback" not in done.err
    after = contents(folder)
    assert after.keys() == before.keys()
    assert after == before


def npz(**changes: Any) -> Callable[[Path], object]:
    """Writes bad.npz: the good motion with some arrays changed, or left out (None)."""

    def spoil(folder: Path) -> None:
        with np.load(folder / "good.npz", allow_pickle=False) as file:
            arrays = dict(file) | {name: value for name, value in changes.items() if not callable(value)}
        arrays |= {name: change(arrays[name]) for name, change in changes.items() if callable(change)}
        np.savez(folder / "bad.npz", **{name: value for name, value in arrays.items() if value is not None})

    return spoil


def bvh(old: str, new: str) -> Callable[[Path], object]:
    """Writes bad.bvh: the good motion with a piece of text exchanged."""

    def spoil(folder: Path) -> None:
        text = (folder / "good.bvh").read_text(encoding="ascii")
        assert old in text
        (folder / "bad.bvh").write_text(text.replace(old, new), encoding="ascii")

    return spoil


def holds(name: str, content: bytes | str) -> Callable[[Path], object]:
    """Writes a file."""
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(source: str, name: str, size: int) -> Callable[[Path], object]:
    """Writes the first `size` bytes of a good file."""
    return lambda folder: (folder / name).write_bytes((folder / source).read_bytes()[:size])


def becomes(source: str, name: str) -> Callable[[Path], object]:
    """Copies a good file to another name."""
    return lambda folder: shutil.copy(folder / source, folder / name)


def with_value(index: int, value: float) -> Callable[[Any], Any]:
    """Puts a number into an array."""

    def change(array: Any) -> Any:
        changed = array.copy()
        changed.flat[index] = value
        return changed

    return change


MOTIONS: list[tuple[str, Callable[[Path], object] | None, str]] = [
    ("bad.npz", None, "no such file"),
    ("bad.bvh", None, "No such file"),
    ("note.txt", None, "it reads .npz, .bvh"),
    ("empty", None, "it reads .npz, .bvh"),
    (".", None, "it reads .npz, .bvh"),
    ("bad.npz", lambda folder: (folder / "bad.npz").mkdir(), "folder"),
    ("bad.bvh", lambda folder: (folder / "bad.bvh").mkdir(), "directory"),
    (f"{LONG}.npz", None, "too long"),
    ("bad.npz", holds("bad.npz", b""), "not a readable .npz"),
    ("bad.npz", cut("good.npz", "bad.npz", 400), "is the download complete?"),
    ("bad.npz", becomes("good.bvh", "bad.npz"), "not a readable .npz"),
    ("bad\n\x1b[31m.npz", holds("bad\n\x1b[31m.npz", b"x"), "bad \\x1b[31m.npz"),
    ("bad.npz", npz(poses=with_value(5, np.nan)), "NaN or infinite"),
    ("bad.npz", npz(trans=with_value(5, np.inf)), "NaN or infinite"),
    ("bad.npz", npz(trans=with_value(5, 1e30)), "what is its unit?"),
    ("bad.npz", npz(poses=with_value(5, 1e30)), "what is its unit?"),
    ("bad.npz", npz(poses=lambda poses: poses[:, :100]), "(30, 100)"),
    ("bad.npz", npz(poses=np.array(1.0)), "poses has shape ()"),
    ("bad.npz", npz(poses=lambda poses: poses.astype(complex)), "complex128"),
    ("bad.npz", npz(trans=lambda trans: trans[:3]), "poses has 30 frames"),
    ("bad.npz", npz(poses=None), "has no 'poses'"),
    ("bad.npz", npz(mocap_framerate=None), "has no frame rate"),
    ("bad.npz", npz(mocap_framerate=np.array(0.0)), "the frame rate is 0"),
    ("bad.npz", npz(mocap_framerate=np.array(1e9)), "the frame rate is 1e+09"),
    ("bad.npz", npz(mocap_framerate=np.array(30 + 1j)), "not a number"),
    ("bad.bvh", holds("bad.bvh", b""), "has no MOTION section"),
    ("bad.bvh", cut("good.bvh", "bad.bvh", 900), "is the download complete?"),
    ("bad.bvh", becomes("good.npz", "bad.bvh"), "is this a BVH file"),
    ("bad.bvh", bvh("left_knee", "Zorp"), "Zorp"),
    ("bad.bvh", bvh("Frame Time: 0.0333", "Frame Time: 0"), "the frame time is"),
    ("bad.bvh", bvh("Frame Time: 0.0333333333", "Frame Time: nan"), "the frame time is 'nan'"),
    ("bad.bvh", bvh("Frames: 30", "Frames: 99999999999"), "the number of frames is"),
    ("bad.glb", becomes("good.npz", "bad.glb"), "does not begin with 'glTF'"),
    ("bad.amc", becomes("good.bvh", "bad.amc"), "no .asf file"),
]


@pytest.mark.parametrize(("name", "spoil", "said"), MOTIONS)
def test_a_bad_motion_file_is_explained(
    mclip: Run, folder: Path, name: str, spoil: Callable[[Path], object] | None, said: str
) -> None:
    if spoil:
        spoil(folder)
    whole = os.path.isdir(name)
    code, why = (2, "several files need a folder to go to") if whole else (4, said)
    check(mclip, folder, ["convert", name, "new/deep/out.npz"], code, why)
    if not whole:  # a folder can be viewed
        check(mclip, folder, ["view", name, "-o", "new/deep/out.png"], 4, said)


def test_a_bad_motion_file_costs_preprocess_that_file_only(mclip: Run, folder: Path) -> None:
    npz(trans=with_value(5, np.nan))(folder)
    (folder / "bad.npz").rename(folder / "motions" / "る.npz")
    done = mclip("preprocess", "motions", "--no-frames", "--workers", "1", "-o", "made/走.h5", "--json")
    report = json.loads(done.out)
    assert (done.code, report["motions"]) == (0, 1)
    assert report["skipped"] == [{"path": "る.npz", "reason": "transl holds NaN or infinite values"}]
    assert [path.name for path in Path("made").iterdir()] == ["走.h5"]


USAGE = 2
FAILURES: list[tuple[str, int, str]] = [
    # what the parser itself refuses
    ("generate nods --nope", USAGE, "--nope"),
    ("nope", USAGE, "nope"),
    ("convert", USAGE, "mclip convert --help"),
    ("train recipe.toml --steps 0", USAGE, "--steps"),
    ("train recipe.toml --threads 99999999999", USAGE, "--threads"),
    ("evaluate pack", USAGE, "--data"),
    # generate
    ("generate nods --seconds 0", USAGE, "0.333 to 0.667 seconds"),
    ("generate nods --seconds nan", USAGE, "0.333 to 0.667 seconds"),
    ("generate nods --fps 1e9", USAGE, "between 1 and 1000"),
    (f"generate nods -o {LONG}.npz", USAGE, "too long"),
    ("generate nods -o good.npz", USAGE, "--force"),
    ("generate nods -o good.npz/x.npz", USAGE, "cannot write there"),
    ("generate nods bends -o note.txt", USAGE, "several motions need a folder"),
    ("generate nods --pack note.txt", 6, "no such pack"),
    (f"generate nods --pack {LONG}", 6, "no such pack"),
    ("generate nods --pack empty", 6, "not a pack"),
    ("generate --file empty", USAGE, "cannot be read"),
    ("generate nods\udcff", USAGE, "half a character"),
    # view
    ("view good.npz -o good.npz", USAGE, "it writes .html, .png"),
    ("view good.npz -o empty", USAGE, "it writes .html, .png"),
    ("view good.npz -o note.txt/x.png", USAGE, "cannot write there"),
    ("view good.npz -o new.png --frames 0", USAGE, "between 1 and 64"),
    ("view good.npz -o new.png --size 99999", USAGE, "between 32 and 1024"),
    ("view good.npz -o new.png --renderer crayon", USAGE, "numba, numpy, pyrender"),
    ("view good.npz -o new.png --body note.txt", 5, "note.txt"),
    ("view good.npz --take walk", USAGE, "--take"),
    # edit
    ("edit good.npz", USAGE, "nothing to add"),
    ("edit good.npz --from nods", USAGE, "belong together"),
    ("edit absent.npz --add nods", 4, "absent.npz: no such file"),
    ("edit note.txt --add nods", 4, "not a motion file"),
    ("edit good.npz --add absent.bvh", 4, "absent.bvh"),
    ("edit good.npz --add nods --strength nan", USAGE, "the strength nan"),
    ("edit good.npz --add nods --strength 1e9", USAGE, "between -100 and 100"),
    ("edit good.npz --add nods --sweep 1", USAGE, "FIRST:LAST:COUNT"),
    ("edit good.npz --add nods --sweep 0:1:1000", USAGE, "2 to 20"),
    ("edit good.npz --add nods --sweep 0:1:3 -o new.npz", USAGE, "need a folder"),
    ("edit good.npz --add nods --only tail", USAGE, "'tail'"),
    ("edit good.npz --add nods -o good.npz --force", USAGE, "replace the input"),
    ("edit good.npz --add nods -o note.txt", USAGE, "cannot write .txt"),
    ("edit good.npz --add nods -o new/x.fbx", USAGE, "cannot write .fbx"),
    ("edit good.npz --add nods --save-axis note.txt", USAGE, ".json"),
    ("edit good.npz --add nods --save-axis empty", USAGE, ".json"),
    ("edit good.npz --axis absent.json", 4, "absent.json"),
    ("edit good.npz --axis note.txt", 4, "is not an axis"),
    ("edit good.npz --add nods --pack empty", 6, "not a pack"),
    ("edit good.npz --add nods --take walk", USAGE, "--take"),
    # interpolate
    ("interpolate good.npz", USAGE, "2 to 10 ends"),
    ("interpolate good.npz absent.npz", 4, "absent.npz"),
    ("interpolate good.npz note.txt", 4, "not a motion file"),
    ("interpolate good.npz nods --steps 1", USAGE, "--steps 1"),
    ("interpolate good.npz nods --steps 1000", USAGE, "and 50"),
    ("interpolate good.npz nods --path arc", USAGE, "slerp, linear"),
    ("interpolate good.npz nods --easing cubic", USAGE, "linear, smooth"),
    ("interpolate good.npz nods --seconds 9", USAGE, "0.333 to 0.667 seconds"),
    ("interpolate good.npz nods -o note.txt", USAGE, "need a folder"),
    ("interpolate good.npz nods --blend -o empty", USAGE, "suffix"),
    ("interpolate good.npz nods --blend -o good.npz --force", USAGE, "replace the input"),
    # convert
    ("convert good.npz", USAGE, "replace the input"),
    ("convert good.npz ./good.npz --force", USAGE, "replace the input"),
    ("convert good.bvh good.npz", USAGE, "--force"),
    ("convert good.npz new/x.fbx", USAGE, "it writes .npz, .bvh"),
    ("convert good.npz x.bvh --fps 0", USAGE, "between 1 and 1000"),
    ("convert good.bvh x.npz --rig note.txt", 4, "not a TOML file"),
    ("convert good.bvh x.npz --rig absent.toml", 4, "absent.toml"),
    # preprocess
    ("preprocess empty", 4, "no motion files"),
    ("preprocess absent", 4, "no such folder"),
    ("preprocess note.txt", 4, "is not a folder"),
    ("preprocess motions -o empty", USAGE, "is a folder"),
    ("preprocess motions -o note.txt/x.h5", USAGE, "cannot write there"),
    ("preprocess motions -o note.txt", USAGE, "--force"),
    (f"preprocess motions -o {LONG}", USAGE, "too long"),
    ("preprocess motions -o motions/a.npz --force", USAGE, "replace an input"),
    ("preprocess motions --fps nan", USAGE, "--fps"),
    ("preprocess motions --val 1", USAGE, "leave nothing to train on"),
    ("preprocess motions --size 0", USAGE, "--size"),
    ("preprocess motions --labels absent.csv", 4, "absent.csv"),
    ("preprocess motions --labels note.txt", 4, ".csv or .jsonl"),
    ("preprocess motions --babel absent", 4, "no such folder"),
    ("preprocess motions --babel empty", 4, "train.json: no such file"),
    ("preprocess motions --humanml3d empty", 4, "has no folder texts/"),
    ("preprocess motions --split babel", USAGE, "needs --babel"),
    ("preprocess motions --split best", USAGE, "babel, amass, seed"),
    # train
    ("train absent.toml", 3, "no such file"),
    ("train empty", 3, "cannot be read"),
    ("train note.txt", 3, "not a readable TOML file"),
    ("train recipe.toml --store absent.h5", 4, "mclip preprocess"),
    ("train recipe.toml --store note.txt", 4, "not a readable HDF5 file"),
    ("train recipe.toml -o note.txt", USAGE, "not a run directory"),
    ("train recipe.toml -o .", USAGE, "other things"),
    # export
    ("export empty -o new/pack", 4, "holds no checkpoint"),
    ("export absent -o new/pack", 4, "holds no checkpoint"),
    ("export run -o run --force", USAGE, "is no pack"),
    ("export run -o pack", USAGE, "--force"),
    ("export run -o new/pack --store note.txt", 4, "not a readable HDF5 file"),
    ("export run -o new/pack --precision fp8", USAGE, "fp32, fp16, int8"),
    ("export run -o new/pack --card absent.md", USAGE, "absent.md"),
    ("export run -o new/pack --name ../pack", USAGE, "--name"),
    # evaluate
    ("evaluate absent --data store.h5", 6, "no such pack"),
    ("evaluate pack --data absent.h5", 4, "no such store"),
    ("evaluate pack --data note.txt", 4, "not a readable HDF5 file"),
    ("evaluate pack --data store.h5 --split dev", USAGE, "train, val, test"),
    ("evaluate pack --data store.h5 --split val", 4, "'val'"),
    ("evaluate pack --data store.h5 --device tpu", USAGE, "auto, cpu, cuda"),
]


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text space of the tests in place of the real one, whose weights are large."""
    from mclip.nn import teachers
    from tests.fakes import tiny_teacher

    monkeypatch.setattr(teachers, "load_teacher", lambda name, weights: tiny_teacher())


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(("line", "code", "said"), FAILURES)
def test_a_mistake_is_explained_and_nothing_is_left_behind(
    mclip: Run, folder: Path, line: str, code: int, said: str
) -> None:
    check(mclip, folder, line.split(), code, said)


@pytest.mark.parametrize("text", ["", "   ", "nods " * 5000])
def test_a_text_that_is_none_or_a_book_is_explained(mclip: Run, folder: Path, text: str) -> None:
    check(mclip, folder, ["generate", text], USAGE, "text")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 2", "stepz = 2", "did you mean optim.steps?"),
        ("steps = 2", 'steps = "2"', "optim.steps must be int"),
        ("warmup = 0", "warmup = 0\nlr = nan", "optim.lr must be a finite number"),
        ("width = 64", "width = 640000000000", "model.width"),
        ('"tiny"', '"../tiny"', "name must be"),
        ('"tiny"', '"tiny', "not a readable TOML file"),
        ("[model]", "[model]\n[model]", "not a readable TOML file"),
    ],
)
def test_a_wrong_recipe_key_is_named(mclip: Run, folder: Path, old: str, new: str, said: str) -> None:
    Path("recipe.toml").write_text(RECIPE.replace(old, new), encoding="utf-8")
    check(mclip, folder, ["train", "recipe.toml"], 3, said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no column 'path'"),
        ("path,caption\nother.npz,walk\n", "such as a.npz"),
        ("path,caption,start,end\na.npz,walk,5,1\n", "labels.csv:2"),
        ("path,caption,split\na.npz,walk,dev\n", "train, val, test"),
        ("path,words\na.npz,walk\n", "unknown column 'words'"),
        (b"path,caption\na.npz,\xff\n", "UTF-8"),
    ],
)
def test_a_broken_label_file_is_explained(mclip: Run, folder: Path, content: str | bytes, said: str) -> None:
    holds("labels.csv", content)(folder)
    check(mclip, folder, ["preprocess", "motions", "--labels", "labels.csv", "-o", "new/out.h5"], 4, said)


def test_labels_are_never_replaced_by_the_store(mclip: Run, folder: Path) -> None:
    holds("labels.csv", "path,caption\na.npz,walk\n")(folder)
    arguments = ["preprocess", "motions", "--labels", "labels.csv", "-o", "labels.csv", "--force"]
    check(mclip, folder, arguments, USAGE, "replace an input")


def test_a_folder_whose_every_file_is_bad_leaves_no_store(mclip: Run, folder: Path) -> None:
    holds("empty/x.bvh", b"")(folder)
    arguments = ["preprocess", "empty", "--no-frames", "--workers", "1", "-o", "new/deep/out.h5"]
    check(mclip, folder, arguments, 4, "none of 1 motion files can be used")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "nods", "seconds": 0}', "0.333 to 0.667 seconds"),
        ('{"text": "nods", "seconds": 1' + "0" * 400 + "}", "too large"),
        ('{"text": "nods", "out": "a\\u0000.npz"}', "not a path below"),
        ('{"text": "nods", "out": "' + LONG + '.npz"}', "too long"),
        ('{"text": "\\ud800"}', "half a character"),
        ('{"text": ' + "[" * 100_000, "JSON"),
    ],
)
def test_a_prompt_file_is_not_trusted(mclip: Run, folder: Path, line: str, said: str) -> None:
    Path("prompts.jsonl").write_text(line, encoding="utf-8")
    check(mclip, folder, ["generate", "--file", "prompts.jsonl", "-o", "new"], USAGE, said)


def test_the_run_a_pack_is_made_of_is_checked(mclip: Run, folder: Path) -> None:
    weights, state = (next(Path("run").glob(f"*/{name}")) for name in ("model.safetensors", "state.json"))
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    check(mclip, folder, ["export", "run", "-o", "new/pack"], 4, "does not match its sha256")
    weights.write_bytes(content)
    state.write_text("[]")
    check(mclip, folder, ["export", "run", "-o", "new/pack"], 4, "not a readable checkpoint")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format", 99, "pip install -U mclip"),
        ("mclip", 3, "mclip must be str"),
        ("representation", "quaternions", "this mclip knows smpl24"),
        ("latent", 25, "re-run mclip export"),
        ("surprise", 1, "unknown key 'surprise'"),
        ("fps", 0, "fps must lie between"),
    ],
)
def test_a_pack_that_says_what_it_is_not_is_refused(
    mclip: Run, folder: Path, key: str, value: object, said: str
) -> None:
    manifest = Path("pack") / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    check(mclip, folder, ["generate", "nods", "-o", "new/nod.npz"], 6, said)


def test_a_file_cut_off_in_a_pack_is_named(mclip: Run, folder: Path) -> None:
    os.truncate(Path("pack") / "bank.npz", 100)
    check(mclip, folder, ["generate", "nods"], 6, "bank.npz")


@pytest.mark.parametrize("arguments", [["convert", "{}", "走/é.npz"], ["view", "{}", "-o", "走/é.png", "--size", "40"]])
def test_any_alphabet_will_do(mclip: Run, folder: Path, arguments: list[str]) -> None:
    shutil.copy("good.bvh", "る 😀.bvh")
    done = mclip(*(item.replace("{}", "る 😀.bvh") for item in arguments), "--json")
    assert (done.code, done.err) == (0, "")
    assert Path(json.loads(done.out)["path"]).is_file()


def test_a_name_that_is_no_text_is_printed_all_the_same(mclip: Run, folder: Path) -> None:
    try:
        Path("\udcff").touch()
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    done = mclip("generate", "nods", "-o", "\udcff.npz", "--json")
    assert json.loads(done.out)["motions"][0]["path"] == "\udcff.npz"
    assert mclip("generate", "nods", "-o", "\udcff.npz").out.startswith("\\udcff.npz: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_and_shows_an_example(mclip: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = mclip(command, "--help")
    assert done.code == 0
    assert f"Example: mclip {command}" in done.out
    assert "--json" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    summary = next(line for line in mclip("--help").out.splitlines() if line.strip().startswith(f"{command} "))
    assert summary.endswith(".") and not summary.endswith("...")


def test_no_command_at_all_shows_the_help(mclip: Run) -> None:
    done = mclip()
    assert (done.code, done.out) == (2, "")
    assert "COMMAND [ARGS]" in done.err and "generate" in done.err


SHELL = "import sys; sys.modules.update(dict.fromkeys({blocked})); from mclip.cli import main; main()"


def shell(*arguments: str, blocked: tuple[str, ...] = (), **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, where some packages are not installed."""
    command = [sys.executable, "-c", SHELL.format(blocked=blocked), *arguments]
    return subprocess.run(command, capture_output="stdout" not in options, text=True, timeout=120, **options)


@pytest.mark.parametrize(
    ("arguments", "package", "said"),
    [
        (("preprocess", "motions"), "h5py", "mclip[train]"),
        (("train", "recipe.toml"), "torch", "mclip[train]"),
        (("export", "run", "-o", "new"), "onnx", "mclip[train]"),
        (("evaluate", "pack", "--data", "store.h5"), "h5py", "mclip[train]"),
        (("view", "good.npz", "-o", "new.png", "--renderer", "pyrender"), "pyrender", "pip install pyrender"),
        (("generate", "nods"), "onnxruntime", "install mclip again"),
    ],
)
def test_a_missing_package_is_a_sentence(folder: Path, arguments: tuple[str, ...], package: str, said: str) -> None:
    before = contents(folder)
    done = shell(*arguments, blocked=(package,))
    assert (done.returncode, done.stdout) == (5, "")
    assert package in done.stderr and said in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert contents(folder) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = shell("generate", "nods", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "mclip: stdout: cannot write there (No space left on device)"
    assert len(load_npz(Path("nods.npz"))) == 20


@pytest.mark.skipif(os.name == "nt", reason="pipes end in another way there")
def test_a_reader_that_went_away_is_no_error(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = shell("generate", "nods", "--json", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_the_letters_gets_escapes_and_json_stays_json(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = shell("generate", "nods", "-o", "走.npz", "--json", env=environment)
    assert json.loads(done.stdout)["motions"][0]["path"] == "走.npz"
    done = shell("generate", "nods", "-o", "走.npz", env=environment)
    assert done.stdout == "\\u8d70.npz: 20 frames at 30 fps\n"


@pytest.mark.skipif(os.name == "nt", reason="signals are other there")
def test_an_interrupt_ends_with_130_and_one_line(folder: Path) -> None:
    # A prompt file that never ends: the command waits for it until it is interrupted.
    process = subprocess.Popen(
        [sys.executable, "-m", "mclip", "generate", "--file", "-", "-o", "new"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    before = contents(folder)
    assert process.stdin is not None
    # Once this much has been taken from the pipe, it is reading.
    process.stdin.write("nods\n" * 40_000)
    process.stdin.flush()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "mclip: interrupted; what was finished is kept\n"
    assert contents(folder) == before
