"""An AMASS tree and BABEL and HumanML3D labels for it, made from four real motions.

Official folder and file names of both releases, SMPL+H (156 wide) and SMPL-X (165 wide), 60 to 250 frames per second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mclip.motion import Motion, load_npz
from mclip.skeleton.smpl import SMPLH_TO_SMPL

GOLDEN = Path(__file__).parent / "golden" / "kaykit"
# File, the real motion in it, frames per second.
FILES = (
    ("ACCAD/Female1General_c3d/A1_-_Stand_stageii.npz", "Cheer", 120.0),
    ("BioMotionLab_NTroje/rub001/0000_treadmill_norm_poses.npz", "Dodge_Left", 120.0),
    ("CMU/141/141_05_stageii.npz", "Unarmed_Melee_Attack_Kick", 60.0),
    ("HumanEva/S1/Jog_1_poses.npz", "Cheer", 120.0),
    ("KIT/3/walking_slow08_poses.npz", "Sit_Chair_Down", 100.0),
    ("SSM/20160330_03333/punch_kick_sync_stageii.npz", "Cheer", 60.0),
    ("Transitions_mocap/mazen_c3d/airkick_stand_poses.npz", "Dodge_Left", 250.0),
)
# What BABEL calls those of them that it knows, and one that is not in the tree.
BABEL_PATHS = {
    "ACCAD": "ACCAD/ACCAD/Female1General_c3d/A1 - Stand_poses.npz",
    "BMLrub": "BMLrub/BioMotionLab_NTroje/rub001/0000_treadmill_norm_poses.npz",
    "CMU": "CMU/CMU/141/141_05_poses.npz",
    "KIT": "KIT/KIT/3/walking_slow08_poses.npz",
    "SSM": "SSMsynced/SSM_synced/20160330_03333/punch_kick_sync_poses.npz",
    "Transitions": "Transitionsmocap/Transitions_mocap/mazen_c3d/airkick_stand_poses.npz",
    "missing": "DFaust67/DFaust_67/50002/50002_chicken_wings_poses.npz",
}


def write_amass_tree(folder: Path) -> None:
    """All FILES, as AMASS writes them, with the files that lie between them: body shapes, a video, half a download."""
    for name, source, fps in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, load_npz(GOLDEN / f"{source}.npz").resample(fps))
        shape = "neutral_stagei.npz" if name.endswith("_stageii.npz") else "shape.npz"
        np.savez(path.parent / shape, betas=np.zeros(16), gender=np.array("neutral"))
    (folder / "KIT" / "3" / "kick_poses.npz").write_bytes((folder / FILES[4][0]).read_bytes()[:-500])
    (folder / "CMU" / "141" / "141_05.mp4").write_bytes(b"no motion")


def _write(path: Path, motion: Motion) -> None:
    frames = len(motion)
    arrays: dict[str, Any] = {
        "trans": motion.transl.astype(np.float64),
        "betas": np.zeros(16),
        "gender": np.array("female"),
    }
    if path.name.endswith("_stageii.npz"):
        poses = np.zeros((frames, 55, 3))
        poses[:, :22], poses[:, 25], poses[:, 40] = motion.pose[:, :22], motion.pose[:, 22], motion.pose[:, 23]
        arrays |= {"mocap_frame_rate": np.array(motion.fps), "surface_model_type": np.array("smplx")}
    else:
        poses = np.zeros((frames, 52, 3))
        poses[:, SMPLH_TO_SMPL] = motion.pose
        arrays |= {"mocap_framerate": np.array(motion.fps), "dmpls": np.zeros((frames, 8))}
    np.savez(path, poses=poses.reshape(frames, -1), **arrays)


def label(raw: str, processed: str, categories: Sequence[str] | None, *times: float) -> dict[str, Any]:
    """A BABEL label; times: start and end of a frame label."""
    found = {"raw_label": raw, "proc_label": processed, "act_cat": categories, "seg_id": f"id of {raw}"}
    return found | (dict(zip(("start_t", "end_t"), times, strict=True)) if times else {})


def entry(sid: int, path: str, seconds: float, **annotators: Any) -> dict[str, Any]:
    """A BABEL recording."""
    url = f"https://babel-renders.s3.eu-central-1.amazonaws.com/{sid:06}.mp4"
    return {"babel_sid": sid, "url": url, "feat_p": path, "dur": seconds, **annotators}


def annotator(*labels: dict[str, Any]) -> dict[str, Any]:
    """What one annotator said of a recording."""
    return {"babel_lid": "a", "anntr_id": "b", "mul_act": True, "labels": list(labels)}


def write_babel(folder: Path) -> None:
    """The five files of BABEL v1.0 with labels for BABEL_PATHS."""
    kick = annotator(
        label("standing", "stand", ["stand"], 0, 1),
        label("kicks with the right leg", "kick", ["kick", "leg movements"], 1, 2),
        label("transition", "transition", ["transition"], 2, 3.1),
    )
    sit = annotator(label("walk", "walk", ["walk"]), label("sits down", "sit down", ["sit"]))
    train = [
        entry(1, BABEL_PATHS["CMU"], 3.1, seq_ann=annotator(label("kick", "kick", ["kick"])), frame_ann=kick),
        entry(2, BABEL_PATHS["ACCAD"], 2.77, seq_ann=annotator(label("cheering", "cheer", None)), frame_ann=None),
        entry(3, BABEL_PATHS["missing"], 4.0, seq_ann=annotator(label("wings", "flap", ["flap"])), frame_ann=None),
    ]
    # BABEL takes this one to last twice as long as the file does.
    dodge = annotator(label("dodges left", "dodge", ["evade"], 1.0, 3.0))
    val = [
        entry(4, BABEL_PATHS["KIT"], 2.2, seq_ann=sit, frame_ann=None),
        entry(5, BABEL_PATHS["BMLrub"], 5.1, seq_ann=sit, frame_ann=dodge),
    ]
    test = [entry(6, BABEL_PATHS["SSM"], 2.75, seq_ann=None, frame_ann=None)]
    several = [annotator(label("jumping", "jump", ["jump"])), annotator(label("leaps", "leap", ["leap", "jump"]))]
    extra_train = [entry(7, BABEL_PATHS["Transitions"], 2.54, seq_anns=several, frame_anns=None)]
    # Has dense labels, too, which are the ones that count.
    extra_val = [entry(1, BABEL_PATHS["CMU"], 3.1, seq_anns=several, frame_anns=None)]
    folder.mkdir(parents=True, exist_ok=True)
    files = {"train": train, "val": val, "test": test, "extra_train": extra_train, "extra_val": extra_val}
    for name, entries in files.items():
        (folder / f"{name}.json").write_text(json.dumps({str(value["babel_sid"]): value for value in entries}))


def write_humanml3d(folder: Path) -> None:
    """`index.csv` and `texts/` for two of the files and a motion that is none of AMASS's."""
    (folder / "texts").mkdir(parents=True)
    (folder / "index.csv").write_text(
        "source_path,start_frame,end_frame,new_name\n"
        "./pose_data/KIT/3/walking_slow08_poses.npy,10,40,000000.npy\n"
        "./pose_data/Transitions_mocap/mazen_c3d/airkick_stand_poses.npy,5,35,000001.npy\n"
        "./pose_data/humanact12/humanact12/P11G01R02F1812T1847A0402.npy,0,36,000002.npy\n"
        "./pose_data/KIT/3/walking_slow08_poses.npy,10,40,M000000.npy\n"
    )
    texts = {
        "000000": "a person sits down#a/DET person/NOUN sit/VERB down/ADP#0.0#0.0\n"
        "someone takes seat #1#someone/PRON take/VERB seat/NOUN#0.5#1.0\n",
        "000001": "a man kicks the air#a/DET man/NOUN kick/VERB the/DET air/NOUN#nan#nan\n",
        "000002": "a person warms up#a/DET person/NOUN warm/VERB up/ADP#0.0#0.0\n",
        "M000000": "a person sits down mirrored#a/DET#0.0#0.0\n",
    }
    for name, text in texts.items():
        (folder / "texts" / f"{name}.txt").write_text(text)
