"""What can be wrong with the data sets, weights and checkpoints that others publish, and that none of them runs code.

Each fault is met by the command a user types: its own error, its own exit code, nothing left behind.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from mclip.data.store import MotionStore
from mclip.files import sha256
from mclip.nn import clip
from mclip.nn.model import MotionClip
from mclip.train.checkpoint import save_checkpoint
from tests.amass import write_babel
from tests.commands import Run, runner
from tests.fakes import swinging, tiny_recipe
from tests.original import GOLDEN, golden_tensors

ROOT = Path(__file__).parents[1]
RECIPE = """
name = "tiny"
text_space = "clip-vit-b32"
[data]
store = "store.h5"
window = 20
min_window = 10
[model]
latent = 512
width = 64
heads = 2
[optim]
steps = 2
warmup = 0
"""


@pytest.fixture
def folder(tiny_store: MotionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything the paper needs, small and in order, and weights that are somebody else's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(clip.ENVIRONMENT, raising=False)
    (tmp_path / "amass").mkdir()
    swinging("head", 0, seed=1, frames=30).save(tmp_path / "amass" / "a.npz")
    write_babel(tmp_path / "babel")
    shutil.copy(tiny_store.file, tmp_path / "store.h5")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "classes.json").write_text('{"walk": 0, "stand": 1}', encoding="utf-8")
    (tmp_path / "weights.pt").write_bytes(b"a model of somebody else's")
    (tmp_path / "original").mkdir()
    torch.save(golden_tensors(), tmp_path / "original" / "checkpoint_0100.pth.tar")
    shutil.copy(GOLDEN / "opt.yaml", tmp_path / "original")
    torch.manual_seed(0)
    model = MotionClip(tiny_recipe().model)
    save_checkpoint(tmp_path / "run", model, torch.optim.AdamW(model.parameters()), 5, tiny_recipe(), {})
    return tmp_path


@pytest.fixture
def mclip(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def halve(name: str) -> Callable[[], object]:
    """Keeps the first half of the one file of this name or pattern."""

    def spoil() -> None:
        (path,) = Path().glob(name)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return spoil


def lose(name: str) -> Callable[[], object]:
    return lambda: Path(name).unlink()


def nothing() -> None:
    """Wrong from the start."""


BABEL = "preprocess amass --babel babel -o new.h5"
CLASSES = "evaluate mini --data store.h5 --labels classes.json -o new.json"
OFFICIAL = "export original/checkpoint_0100.pth.tar -o new"


@pytest.mark.parametrize(
    ("spoil", "line", "code", "said"),
    [
        (halve("babel/train.json"), BABEL, 4, "babel/train.json: breaks off: its JSON has no end (character "),
        (halve("babel/extra_val.json"), BABEL, 4, "babel/extra_val.json: breaks off: its JSON has no end (character "),
        (lose("babel/val.json"), BABEL, 4, "babel/val.json: no such file"),
        (lose("classes.json"), CLASSES, 4, "classes.json: cannot be read (No such file or directory)"),
        (halve("classes.json"), CLASSES, 4, "classes.json: is not JSON"),
        (nothing, f"{OFFICIAL} --clip-weights weights.pt", 5, "weights.pt: is not OpenAI's CLIP ViT-B/32"),
        (nothing, "train recipe.toml --clip-weights weights.pt", 5, "weights.pt: is not OpenAI's CLIP ViT-B/32"),
        (nothing, f"{OFFICIAL} --clip-weights absent.pt", 5, "absent.pt: no such file of CLIP's weights"),
        (halve("original/*.pth.tar"), OFFICIAL, 4, "checkpoint_0100.pth.tar: is cut short, or no checkpoint of torch"),
        (halve("run/*/model.safetensors"), "export run -o new", 4, "model.safetensors does not match its sha256"),
        (lose("original/opt.yaml"), OFFICIAL, 4, "original/opt.yaml: is missing"),
        (halve("original/opt.yaml"), OFFICIAL, 4, "original/opt.yaml: has no "),
    ],
)
def test_each_fault_has_its_own_error(
    mclip: Run, folder: Path, spoil: Callable[[], object], line: str, code: int, said: str
) -> None:
    spoil()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = mclip(*line.split())
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert len(done.err.splitlines()) <= 3 and "Traceback" not in done.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (folder / "new").exists()


def test_weights_of_another_hash_are_named_by_it_wherever_they_were_named(
    mclip: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(clip.ENVIRONMENT, "weights.pt")
    done = mclip(*OFFICIAL.split())
    assert done.code == 5 and sha256(folder / "weights.pt") in done.err and "--unverified" in done.err
    # Taken all the same, they still have to be weights.
    done = mclip(*OFFICIAL.split(), "--unverified")
    assert done.code == 5 and "holds no weights that can be read" in done.err


@cache
def nodes(folder: str) -> list[tuple[str, ast.AST]]:
    """Every piece of syntax below a folder, and its file."""
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]


def imports(folder: str) -> set[tuple[str, str]]:
    """File and top-level module of every import below a folder."""
    names = [(file, alias.name) for file, node in nodes(folder) if isinstance(node, ast.Import) for alias in node.names]
    names += [(file, node.module or "") for file, node in nodes(folder) if isinstance(node, ast.ImportFrom)]
    return {(file, name.split(".")[0]) for file, name in names}


@pytest.mark.parametrize("folder", ["mclip", "recipes", "benchmarks"])
def test_nothing_that_is_read_can_run_code(folder: str) -> None:
    run_code = {"dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "pandas"}
    assert not [found for found in imports(folder) if found[1] in run_code]
    for file, node in nodes(folder):
        if not isinstance(node, ast.Call):
            continue
        keywords = {item.arg: item.value.value for item in node.keywords if isinstance(item.value, ast.Constant)}
        match ast.unparse(node.func).split("."):
            case ["torch", "load"]:
                assert keywords.get("weights_only") is True, file
            case ["np" | "numpy", "load"]:
                assert keywords.get("allow_pickle") is False, file
            case ["yaml", name]:
                assert name == "safe_load", file
            case ["exec" | "compile"] if file == "benchmarks/mutation.py":
                pass  # mclip's own source, changed
            case ["eval" | "exec" | "compile" | "__import__"]:
                raise AssertionError(f"{file}: {ast.unparse(node)}")


def test_the_only_unpickler_is_the_restricted_one_of_smpl_bodies() -> None:
    # official.py catches what torch's own reader raises, and reads nothing with it.
    assert {file for file, name in imports("mclip") if name in ("pickle", "_pickle")} == {
        "mclip/body/smpl_file.py",
        "mclip/export/official.py",
    }
    assert {
        (file, node.attr)
        for file, node in nodes("mclip")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle"
    } == {
        ("mclip/body/smpl_file.py", "Unpickler"),
        ("mclip/body/smpl_file.py", "UnpicklingError"),
        ("mclip/export/official.py", "UnpicklingError"),
    }
