"""The whole way, on real files and with the real text encoder: preprocess, train, export, generate, view, evaluate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mclip.motion import load_npz
from mclip.skeleton.smpl import REST_JOINTS

pytest.importorskip("torch", reason="training needs the extra train")
GOLDEN = Path(__file__).parent / "golden"

RECIPE = """
name = "tiny"
[data]
store = "motions.h5"
window = 30
min_window = 20
[model]
latent = 384
width = 32
feedforward = 64
encoder_layers = 1
decoder_layers = 1
heads = 2
dropout = 0.0
patch = 3
[loss]
contrast = 0.03
text_decode = 0.3
[optim]
steps = 20
batch = 8
text_batch = 2
warmup = 5
lr = 1e-3
"""

LABELS = """path,start,end,caption,label
kaykit/Cheer.npz,0,1.7,a person cheers,cheer
kaykit/Dodge_Left.npz,,,dodge to the left,dodge to the left
kaykit/Sit_Chair_Down.npz,,,sit down on a chair,sit down
kaykit/Unarmed_Melee_Attack_Kick.npz,,,kick,kick
kaykit/knight.glb#Idle,,,stand still,stand
"""


def mclip(folder: Path, *arguments: str) -> str:
    """Run the command as a user would; returns stdout."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MCLIP_PACK": ""}
    environment.pop("MCLIP_PACK")
    result = subprocess.run(
        [sys.executable, "-m", "mclip", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, f"mclip {' '.join(arguments)}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def teacher() -> None:
    from mclip.errors import AssetError
    from mclip.nn.teachers import load_teacher

    try:
        load_teacher("minilm-l6")
    except AssetError as error:
        pytest.skip(f"{error.message}: {error.hint}")


@pytest.mark.usefixtures("teacher")
def test_from_motion_files_to_a_generated_motion(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "kaykit", tmp_path / "motions" / "kaykit")
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    mclip(tmp_path, "preprocess", "motions", "--labels", "labels.csv", "-o", "motions.h5", "--test", "0", "--val", "0")
    trained = json.loads(mclip(tmp_path, "train", "recipe.toml", "-o", "run", "--json"))
    assert trained["steps"] == 20
    mclip(tmp_path, "export", "run", "-o", "pack", "--store", "motions.h5")
    made = json.loads(mclip(tmp_path, "generate", "sit down on a chair", "--pack", "pack", "-o", "sit.npz", "--json"))
    assert made["motions"][0]["path"] == "sit.npz"
    motion = load_npz(tmp_path / "sit.npz")
    assert motion.origin["nearest"] == "sit down on a chair"
    assert motion.origin["source"].startswith("kaykit/Sit_Chair_Down.npz")
    mclip(tmp_path, "view", "sit.npz", "-o", "sit.png", "--frames", "3", "--size", "96")
    assert (tmp_path / "sit.png").read_bytes().startswith(b"\x89PNG")
    scores = json.loads(mclip(tmp_path, "evaluate", "pack", "--data", "motions.h5", "--split", "train", "--json"))
    assert scores["split"] == "train"
    # numpy alone reads it, and it is what AMASS readers expect.
    with np.load(tmp_path / "sit.npz", allow_pickle=False) as file:
        assert file["poses"].shape == (len(motion), 156)
        assert file["trans"].shape == (len(motion), 3)
        assert float(file["mocap_framerate"]) == 30.0


def test_a_saved_motion_drives_smplx(tmp_path: Path) -> None:
    """What smplx makes of the file's first 72 numbers is what our own kinematics say."""
    smplx = pytest.importorskip("smplx", reason="smplx comes with the extra train")
    import torch

    from mclip.body.model import load_body
    from mclip.geometry import axis_angle_to_matrix
    from mclip.nn.smpl import smplx_body
    from mclip.skeleton.smpl import forward_kinematics

    source = load_npz(GOLDEN / "kaykit" / "Unarmed_Melee_Attack_Kick.npz")
    source.save(tmp_path / "kick.npz")
    with np.load(tmp_path / "kick.npz", allow_pickle=False) as file:
        poses, trans = file["poses"].reshape(-1, 52, 3), file["trans"]
    body = np.concatenate([poses[:, :22], poses[:, [22]], poses[:, [37]]], axis=1)
    model = smplx_body(load_body())
    assert isinstance(model, smplx.SMPL)
    with torch.no_grad():
        output = model(
            betas=torch.zeros(len(body), 10),
            global_orient=torch.from_numpy(body[:, 0]),
            body_pose=torch.from_numpy(body[:, 1:].reshape(len(body), 69)),
            transl=torch.from_numpy(trans),
        )
    _, joints = forward_kinematics(axis_angle_to_matrix(source.pose), source.transl, REST_JOINTS)
    np.testing.assert_allclose(output.joints[:, :24].numpy(), joints, atol=2e-4)
