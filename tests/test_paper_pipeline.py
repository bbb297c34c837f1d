"""The paper's three commands on a tree with AMASS's names and BABEL's labels, made of real motion, with a random CLIP.

What a user with the data types is the same, but for the recipe's sizes and CLIP's weights.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mclip.data.store import read_store
from mclip.motion import load_npz
from mclip.nn import clip
from tests.amass import write_amass_tree, write_babel
from tests.clips import SMALL, SMALL_SHAPES, save_weights
from tests.commands import runner

PAPER = Path(__file__).parents[1] / "recipes" / "paper.toml"
# The real motions are three seconds long, and a laptop has a minute.
SMALLER = (
    ("window = 60\nmin_window = 60", "window = 40\nmin_window = 40"),
    ("piece = 100", "piece = 60"),
    ("\nwidth = 512\nfeedforward = 1024", "\nwidth = 64\nfeedforward = 64"),
    ("encoder_layers = 8\ndecoder_layers = 8", "encoder_layers = 1\ndecoder_layers = 1"),
    ('vertex_form = "all"', 'vertex_form = "sample"'),
    ("epochs = 100\nbatch = 20\nlr = 1e-4", "epochs = 30\nbatch = 3\nlr = 1e-3"),
    ("checkpoint_every = 1000", "checkpoint_every = 10"),
)


def test_preprocess_train_export_and_use_the_papers_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clip, "SHAPES", SMALL_SHAPES)
    mclip = runner(monkeypatch, capsys)
    write_amass_tree(Path("amass"))
    write_babel(Path("babel"))
    weights = ["--clip-weights", str(save_weights(SMALL, tmp_path / "small.pt")), "--unverified"]
    recipe = PAPER.read_text()
    for full, small in SMALLER:
        assert full in recipe
        recipe = recipe.replace(full, small)
    Path("paper.toml").write_text(recipe)

    done = mclip("preprocess", "amass", "--babel", "babel", "--split", "amass", "-o", "amass.h5", "--workers", "1")
    assert done.code == 0, done.err
    store = read_store(Path("amass.h5"))
    assert {"kick", "sit"} <= set(store.labels) and store.frames is not None

    done = mclip("train", "paper.toml", "--steps", "20", *weights)
    assert done.code == 0, done.err
    done = mclip("train", "paper.toml", *weights)  # goes on
    assert done.code == 0, done.err
    with Path("runs/paper/curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert int(rows[0]["step"]) == 20 < int(rows[-1]["step"])
    for term in ("text", "image", "features", "vertices"):
        assert float(rows[-1][term]) < float(rows[0][term])

    done = mclip("export", "runs/paper", "-o", "packs/paper", "--text-precision", "fp32", "--image-tower", *weights)
    assert done.code == 0, done.err
    manifest = json.loads(Path("packs/paper/manifest.json").read_text())
    assert (manifest["text_space"], manifest["representation"]) == ("clip-vit-b32", "motionclip-legacy")
    assert manifest["unverified"]

    assert mclip("generate", "kick", "--pack", "packs/paper", "-o", "kick.npz").code == 0
    made = load_npz(Path("kick.npz"))
    assert len(made) == 40 and np.isfinite(made.pose).all()
    kick = "amass/CMU/141/141_05_stageii.npz"
    done = mclip("classify", kick, "--labels", "kick, sit, walk", "--pack", "packs/paper", "--top", "3", "--json")
    assert done.code == 0, done.err
    (named,) = json.loads(done.out)["clips"]
    assert {item["name"] for item in named["labels"]} == {"kick", "sit", "walk"}
    assert sum(item["score"] for item in named["labels"]) == pytest.approx(1, abs=1e-3)
    assert mclip("edit", kick, "--add", "sit", "--pack", "packs/paper", "-o", "edited.npz").code == 0
    assert len(load_npz(Path("edited.npz"))) == len(load_npz(Path(kick)))
