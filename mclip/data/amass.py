"""AMASS's data sets: their folders in the old and the new releases, their split, and the recordings in them.

A data set's folder is named one way where AMASS was first released (SMPL+H, which BABEL and HumanML3D refer to),
another way since (SMPL-X), and its archive a third way; recordings end in `_poses` or in `_stageii`, and their spaces
became underscores. https://amass.is.tue.mpg.de
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

# Today's name: the other names its folder and its archive have had.
DATASETS: Mapping[str, tuple[str, ...]] = {
    "ACCAD": (),
    "BMLhandball": (),
    "BMLmovi": (),
    "BMLrub": ("BioMotionLab_NTroje",),
    "CMU": (),
    "CNRS": (),
    "DanceDB": (),
    "DFaust": ("DFaust_67", "DFaust67"),
    "EKUT": (),
    "EyesJapanDataset": ("Eyes_Japan_Dataset",),
    "GRAB": (),
    "HDM05": ("MPI_HDM05", "MPIHDM05"),
    "HUMAN4D": (),
    "HumanEva": (),
    "KIT": (),
    "MoSh": ("MPI_mosh", "MPImosh"),
    "PosePrior": ("MPI_Limits", "MPILimits"),
    "SFU": (),
    "SOMA": (),
    "SSM": ("SSM_synced", "SSMsynced"),
    "TCDHands": ("TCD_handMocap", "TCDhandMocap"),
    "TotalCapture": (),
    "Transitions": ("Transitions_mocap", "Transitionsmocap"),
    "WEIZMANN": (),
}
# The split that AMASS publishes; every other data set is for training.
_HELD_OUT = {
    "HumanEva": "val",
    "HDM05": "val",
    "SFU": "val",
    "MoSh": "val",
    "Transitions": "test",
    "SSM": "test",
}
_NAME_OF = {folder: name for name, others in DATASETS.items() for folder in (name, *others)}
_ENDINGS = ("_poses", "_stageii")
_SUFFIXES = (".npz", ".npy", ".pkl")


def recording_key(path: str) -> str:
    """What is the same for one recording in every release: "KIT/3/walking_slow08".

    path: of a motion file, or as a label file writes it; relative, with the data set's folder in it. A path without
    such a folder is its own key, without ending.
    """
    parts = [part for part in unicodedata.normalize("NFC", path.replace("\\", "/")).split("/") if part not in ("", ".")]
    stem = next((parts[-1].removesuffix(suffix) for suffix in _SUFFIXES if parts[-1].endswith(suffix)), parts[-1])
    stem = next((stem.removesuffix(ending) for ending in _ENDINGS if stem.endswith(ending)), stem)
    parts = [part.replace(" ", "_") for part in (*parts[:-1], stem)]
    # The last, as an archive "BMLrub" holds the folder "BioMotionLab_NTroje".
    at = next((at for at in range(len(parts) - 2, -1, -1) if parts[at] in _NAME_OF), None)
    return "/".join(parts if at is None else [_NAME_OF[parts[at]], *parts[at + 1 :]])


def dataset_of(key: str) -> str:
    """The data set of a recording's key, "" if it is none of AMASS's."""
    name = key.partition("/")[0]
    return name if name in DATASETS else ""


def amass_split(keys: Sequence[str]) -> dict[int, str]:
    """AMASS's own split, by data set: the index of each key of a known data set -> train, val or test.

    The original MotionCLIP's loader has a `test` split that reads its own file name back; these are what its three
    files were made from (it calls `val` `vald`).
    """
    names = map(dataset_of, keys)
    return {number: _HELD_OUT.get(name, "train") for number, name in enumerate(names) if name}
