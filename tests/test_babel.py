"""AMASS trees with the labels of BABEL and HumanML3D: matched by name, timed by the file, and refused when broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mclip.cli import app
from mclip.data.amass import DATASETS, amass_split, dataset_of, recording_key
from mclip.data.babel import read_babel
from mclip.data.captions import WindowCaptions
from mclip.data.humanml3d import read_humanml3d
from mclip.data.preprocess import Report, preprocess
from mclip.data.store import MotionStore, read_store
from mclip.errors import DataError, UsageError
from mclip.runtime.babel import BABEL_60, BABEL_120, BABEL_CLASSES
from tests.amass import BABEL_PATHS, FILES, write_amass_tree, write_babel, write_humanml3d


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report, MotionStore]:
    """An AMASS tree with BABEL's and HumanML3D's labels: its folder, what preprocess said, and the store."""
    folder = tmp_path_factory.mktemp("amass")
    write_amass_tree(folder / "amass")
    write_babel(folder / "babel")
    write_humanml3d(folder / "humanml3d")
    report = preprocess(folder / "amass", folder / "babel.h5", babel=folder / "babel", workers=1)
    return folder, report, read_store(report.output)


def _said(store: MotionStore, part: str) -> list[tuple[int, int, str, str, list[str]]]:
    """The captions of the motion whose path has `part`: start, stop, raw, processed, categories."""
    motion = next(number for number, path in enumerate(store.path) if part in path)
    captions = store.captions
    return [
        (
            int(captions.start[row]),
            int(captions.stop[row]),
            store.texts[captions.text[row]],
            store.texts[captions.processed[row]],
            [store.labels[label] for label in captions.categories(row)],
        )
        for row in range(len(captions))
        if captions.motion[row] == motion
    ]


def test_frame_labels_have_their_times_and_sequence_labels_the_whole_motion(
    labelled: tuple[Path, Report, MotionStore],
) -> None:
    _, _, store = labelled
    assert store.length(2) == 93  # 185 frames at 60 per second
    assert _said(store, "CMU") == [
        (0, 30, "standing", "stand", ["stand"]),
        (30, 60, "kicks with the right leg", "kick", ["kick", "leg movements"]),
        (60, 93, "transition", "transition", ["transition"]),
    ]
    assert _said(store, "KIT") == [
        (0, 65, "walk", "walk", ["walk"]),
        (0, 65, "sits down", "sit down", ["sit"]),
    ]
    assert _said(store, "ACCAD") == [(0, 83, "cheering", "cheer", [])]
    # Two annotators of an extra file, both kept.
    assert [row[2] for row in _said(store, "Transitions")] == ["jumping", "leaps"]
    assert _said(store, "HumanEva") == []
    assert store.source_fps is not None
    assert store.source_fps.tolist() == [fps for _, _, fps in FILES]


def test_windows_join_babel_labels_as_the_original_does(labelled: tuple[Path, Report, MotionStore]) -> None:
    _, _, store = labelled
    captions = WindowCaptions(store)
    cmu, kit, eva = (next(n for n, path in enumerate(store.path) if part in path) for part in ("CMU", "KIT", "Human"))
    assert captions.text(cmu, 0, 60) == "kicks with the right leg and standing"
    assert captions.text(kit, 0, 60) == "sits down and walk"
    assert captions.text(kit, 0, 60, processed=True) == "sit down and walk"
    assert captions.text(eva, 0, 60) == ""
    assert [store.labels[label] for label in captions.categories(cmu, 20, 40)] == ["stand", "kick", "leg movements"]


def test_a_duration_that_disagrees_is_told_and_the_file_is_right(labelled: tuple[Path, Report, MotionStore]) -> None:
    _, report, store = labelled
    # 305 frames at 120 a second are 2.54 s; BABEL says 5.1 s, so its seconds 1 to 3 are 0.498 to 1.495 of the file.
    assert _said(store, "BioMotionLab") == [(15, 45, "dodges left", "dodge", ["evade"])]
    note = next(note for note in report.notes if "duration" in note)
    assert "1 recordings" in note
    assert BABEL_PATHS["BMLrub"] in note
    assert "5.1 s there, 2.54167 s at 120 fps here" in note


def test_babels_split_is_used_and_amasss_for_the_rest(labelled: tuple[Path, Report, MotionStore]) -> None:
    _, report, store = labelled
    split = {path.split("/")[0]: split for path, split in zip(store.path, store.split, strict=True)}
    assert split == {
        "ACCAD": "train",
        "BioMotionLab_NTroje": "val",
        "CMU": "train",
        "HumanEva": "val",
        "KIT": "val",
        "SSM": "test",
        "Transitions_mocap": "train",
    }
    assert any("the split of 6 motions is BABEL's; 1 that BABEL does not know" in note for note in report.notes)


def test_the_table_counts_what_came_together(labelled: tuple[Path, Report, MotionStore]) -> None:
    _, report, _ = labelled
    assert report.coverage is not None
    lines = [line.split() for line in report.coverage.table()]
    assert lines[0] == ["data", "set", "found", "labelled", "unlabelled", "missing", "skipped"]
    counts = {line[0]: [int(number) for number in line[1:]] for line in lines[1:]}
    assert counts["KIT"] == [2, 1, 0, 0, 1]
    assert counts["DFaust"] == [0, 0, 0, 1, 0]
    assert counts["HumanEva"] == counts["SSM"] == [1, 0, 1, 0, 0]
    assert counts["all"] == [8, 5, 2, 1, 1]
    assert report.coverage.missing == (BABEL_PATHS["missing"],)
    assert report.coverage.unlabelled == (FILES[3][0], FILES[5][0])
    assert [path for path, _ in report.skipped] == ["KIT/3/kick_poses.npz"]


def test_the_same_run_again_gives_the_same_report_and_other_labels_do_not(
    labelled: tuple[Path, Report, MotionStore], tmp_path: Path
) -> None:
    folder, report, _ = labelled
    again = preprocess(folder / "amass", report.output, babel=folder / "babel", workers=1)
    assert (again.done, again.coverage) == (False, report.coverage)
    with pytest.raises(UsageError, match=r"other options \(babel\)"):
        preprocess(folder / "amass", report.output, workers=1)
    with pytest.raises(UsageError, match=r"other options \(split\)"):
        preprocess(folder / "amass", report.output, babel=folder / "babel", split="amass", workers=1)
    write_babel(tmp_path)
    (tmp_path / "extra_val.json").unlink()
    with pytest.raises(UsageError, match=r"other options \(babel\)"):
        preprocess(folder / "amass", report.output, babel=tmp_path, workers=1)


def test_the_command_prints_the_table_in_words_and_in_json(labelled: tuple[Path, Report, MotionStore]) -> None:
    folder, report, _ = labelled
    command = ["preprocess", str(folder / "amass"), "--babel", str(folder / "babel"), "-o", str(report.output)]
    result = CliRunner().invoke(app, [*command, "--no-frames"])
    assert result.exit_code == 0, result.stderr
    assert report.coverage is not None
    assert result.stdout.splitlines()[1:] == report.coverage.table()
    assert f"missing: {BABEL_PATHS['missing']}" in result.stderr
    result = CliRunner().invoke(app, [*command, "--no-frames", "--json"])
    coverage = json.loads(result.stdout)["coverage"]
    counts = {"found": 2, "labelled": 1, "unlabelled": 0, "missing": 0, "skipped": 1}
    assert coverage["datasets"]["KIT"] == counts
    assert coverage["missing"] == [BABEL_PATHS["missing"]]


def test_humanml3d_captions_lie_where_its_excerpts_do(labelled: tuple[Path, Report, MotionStore]) -> None:
    folder, _, _ = labelled
    report = preprocess(
        folder / "amass", folder / "humanml3d.h5", humanml3d=folder / "humanml3d", split="amass", workers=1
    )
    store = read_store(report.output)
    # Frames 10 to 40 of every fifth of 100 a second: 0.5 s to 2 s. The second caption is of its seconds 0.5 to 1.
    assert [row[:3] for row in _said(store, "KIT")] == [
        (15, 60, "a person sits down"),
        (30, 45, "someone takes seat #1"),
    ]
    # 250 a second become 20.83; 0.5 s of 20 frames a second are cut from this data set before frames are counted:
    # frames 15 to 45 of every twelfth are 0.72 s to 2.16 s.
    assert [row[:3] for row in _said(store, "Transitions")] == [(22, 65, "a man kicks the air")]
    assert store.captions.label[0] == store.captions.label[1]
    assert dict(zip(store.path, store.split, strict=True))[FILES[6][0]] == "test"
    assert any("AMASS's, by data set" in note for note in report.notes)
    assert report.coverage is not None
    assert report.coverage.missing == ("./pose_data/humanact12/humanact12/P11G01R02F1812T1847A0402.npy",)
    assert report.coverage.datasets["(other)"].missing == 1


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("KIT/KIT/3/walking_slow08_poses.npz", "KIT/3/walking_slow08"),
        ("amass/KIT/3/walking_slow08_stageii.npz", "KIT/3/walking_slow08"),
        ("./pose_data/BioMotionLab_NTroje/rub001/0000_treadmill_norm_poses.npy", "BMLrub/rub001/0000_treadmill_norm"),
        ("BMLrub/rub001/0000_treadmill_norm_stageii.npz", "BMLrub/rub001/0000_treadmill_norm"),
        ("EyesJapanDataset/Eyes_Japan_Dataset/aita/gesture_etc-01-knees-aita_poses.npz",
         "EyesJapanDataset/aita/gesture_etc-01-knees-aita"),
        ("ACCAD/ACCAD/Female1General_c3d/A1 - Stand_poses.npz", "ACCAD/Female1General_c3d/A1_-_Stand"),
        ("smplx\\MoSh\\00008\\misc_stageii.npz", "MoSh/00008/misc"),
        ("mine/walk.npz", "mine/walk"),
        ("CMU.npz", "CMU"),
    ],
)  # fmt: skip
def test_a_recording_has_one_key_under_all_its_names(path: str, key: str) -> None:
    assert recording_key(path) == key


def test_every_name_of_a_data_set_leads_to_it() -> None:
    for name, others in DATASETS.items():
        for folder in (name, *others):
            assert dataset_of(recording_key(f"{folder}/1/x_poses.npz")) == name
    split = amass_split([recording_key(f"{name}/1/x.npz") for name in DATASETS] + ["mine/x"])
    held = {name: split[number] for number, name in enumerate(DATASETS) if split[number] != "train"}
    assert held == {
        **dict.fromkeys(("HumanEva", "HDM05", "SFU", "MoSh"), "val"),
        **dict.fromkeys(("Transitions", "SSM"), "test"),
    }
    assert len(split) == len(DATASETS)


def test_babels_class_lists() -> None:
    assert (len(BABEL_60), len(BABEL_120), len(set(BABEL_CLASSES))) == (60, 120, 150)
    assert (BABEL_60[0], BABEL_60[-1], BABEL_120[-1]) == ("walk", "martial art", "sudden movement")


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / f"{name}.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content)))

    return apply


def _set(value: Any, *keys: str | int) -> Callable[[Any], Any]:
    def change(content: Any) -> Any:
        at = content
        for key in keys[:-1]:
            at = at[key]
        if value is None:
            del at[keys[-1]]
        else:
            at[keys[-1]] = value
        return content

    return change


def _half(folder: Path) -> None:
    path = folder / "train.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


LABEL = ("1", "frame_ann", "labels", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_half, r"train\.json: breaks off"),
        (lambda folder: (folder / "val.json").unlink(), r"val\.json: no such file"),
        (lambda folder: (folder / "train.json").write_bytes(b""), r"train\.json: breaks off"),
        (lambda folder: (folder / "train.json").write_bytes(b"<html>"), r"train\.json: is not JSON"),
        (lambda folder: (folder / "train.json").write_bytes(b"\xff\xfe{"), r"train\.json: is not UTF-8"),
        (lambda folder: (folder / "train.json").write_text("[" * 100_000), r"train\.json: is not JSON"),
        (_change("train", lambda content: list(content.values())), r"train\.json is a list, not recordings"),
        (_change("val", lambda content: {}), r"val\.json: has no recordings"),
        (_change("train", _set("x", "1")), "recording 1 is 'x', not a JSON object"),
        (_change("train", _set(None, "1", "feat_p")), "recording 1: has no feat_p"),
        (_change("train", _set("x.npz", "1", "feat_p")), "feat_p is 'x.npz'"),
        (_change("train", _set("3.1", "1", "dur")), "recording 1: dur is '3.1', not a number"),
        (_change("train", _set(0, "1", "dur")), "dur is 0"),
        (_change("train", _set(float("nan"), "1", "dur")), "dur is nan"),
        (_change("train", _set(10**400, "1", "dur")), "dur is 1000"),
        (_change("train", _set(["x"], "1", "frame_ann")), "frame_ann is a list"),
        (_change("train", _set({"x": 1}, "1", "frame_ann", "labels")), r"frame_ann\.labels is an object, not a list"),
        (_change("train", _set(None, *LABEL, "act_cat")), r"frame_ann\.labels\[1\]: has no act_cat"),
        (_change("train", _set("kick", *LABEL, "act_cat")), r"labels\[1\]\.act_cat is 'kick', not a list of classes"),
        (_change("train", _set([3], *LABEL, "act_cat")), r"labels\[1\]\.act_cat is 3"),
        (_change("train", _set(3, *LABEL, "raw_label")), r"labels\[1\]\.raw_label is 3, not text"),
        (_change("train", _set("\ud800", *LABEL, "raw_label")), r"labels\[1\]\.raw_label holds half a character"),
        (_change("train", _set(True, *LABEL, "start_t")), r"labels\[1\]\.start_t is True"),
        (_change("train", _set(None, *LABEL, "end_t")), r"labels\[1\]: has no end_t"),
        (_change("extra_train", _set({}, "7", "seq_anns")), "seq_anns is an object, not a list"),
    ],
)
def test_a_broken_babel_release_is_refused_with_file_and_field(
    tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    write_babel(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read_babel(tmp_path)
    assert "BABEL v1.0" in caught.value.hint


def test_a_release_without_test_and_extra_files_is_read(tmp_path: Path) -> None:
    write_babel(tmp_path)
    for name in ("test", "extra_train", "extra_val"):
        (tmp_path / f"{name}.json").unlink()
    assert [annotation.split for annotation in read_babel(tmp_path)] == ["train", "train", "train", "val", "val"]
    with pytest.raises(DataError, match="no such folder"):
        read_babel(tmp_path / "nowhere")


def test_a_caption_of_nothing_but_padding_is_none(tmp_path: Path) -> None:
    write_babel(tmp_path)
    _change("train", _set("\0 ", *LABEL, "raw_label"))(tmp_path)
    segment = read_babel(tmp_path)[0].segments[1]
    assert segment.caption == segment.processed != ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("index.csv", "a,b\n", "has no column 'source_path'"),
        ("index.csv", "source_path,start_frame,end_frame,new_name\n", "has no rows"),
        ("index.csv", "source_path,start_frame,end_frame,new_name\nx,1\n", "index.csv:2: has 2 cells"),
        ("index.csv", "source_path,start_frame,end_frame,new_name\nx,a,2,000000.npy\n", "start_frame is 'a'"),
        ("index.csv", "source_path,start_frame,end_frame,new_name\nx,1,2,../../passwd.npy\n", "new_name is"),
        ("index.csv", "source_path,start_frame,end_frame,new_name\nx,1,2,000009.npy\n", "its captions are missing"),
        ("texts/000000.txt", "sits down\n", r"000000\.txt:1: is not caption"),
        ("texts/000000.txt", "sits#sit/VERB#a#0.0\n", r"000000\.txt:1: 'a' is not a number"),
    ],
)
def test_a_broken_humanml3d_folder_is_refused_with_file_and_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    folder = tmp_path / "humanml3d"
    write_humanml3d(folder)
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_humanml3d(folder)


def test_labels_of_other_recordings_are_refused_before_work_begins(
    labelled: tuple[Path, Report, MotionStore], tmp_path: Path
) -> None:
    folder, _, _ = labelled
    with pytest.raises(DataError, match="none of its 7 recordings is a file of"):
        preprocess(folder / "amass" / "HumanEva", tmp_path / "x.h5", babel=folder / "babel")
    with pytest.raises(UsageError, match="--split babel needs --babel"):
        preprocess(folder / "amass", tmp_path / "x.h5", split="babel")
    with pytest.raises(UsageError, match="--split 'best'"):
        preprocess(folder / "amass", tmp_path / "x.h5", split="best")
    with pytest.raises(UsageError, match="no file lies in a folder named"):
        preprocess(folder / "amass" / "CMU" / "141", tmp_path / "x.h5", split="amass")
