"""Captions from label files and file names, and their mirror images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mclip.data.labels import (
    MAX_CAPTION,
    Label,
    caption_from_name,
    match_labels,
    names_any,
    read_labels,
    split_take,
    swap_left_right,
)
from mclip.errors import DataError, MclipError


@pytest.mark.parametrize(
    ("path", "caption"),
    [
        ("Female1_B09_WalkTurnLeft90.bvh", "female walk turn left"),
        ("Female1_B21_S2_PutDownBoxToWalk.bvh", "female put down box to walk"),
        ("Male1_C24_QuickSideStepLeft.bvh", "male quick side step left"),
        ("Female1_A02_SwayT2.bvh", "female sway"),
        ("dataset-1_walk-back_not-confident_003.bvh", "walk back not confident"),
        ("ACCAD/Female1General_c3d/A1 - Stand_poses.npz", "stand"),
        ("ACCAD/s/B3 - walk2run_poses.npz", "walk to run"),
        ("BMLrub/rub001/0005_treadmill_norm_stageii.npz", "treadmill norm"),
        ("CMU/01/01_01_poses.npz", ""),
        ("dances/007.bvh", "dances"),
        ("01_02.amc", ""),
        ("kaykit/Mage.glb#Sit_Chair_Idle", "sit chair idle"),
        ("kaykit/Mage.glb#1H_Melee_Attack_Chop", "melee attack chop"),
        ("kaykit/Mage.glb#007", "mage"),
        ("throw_a_ball.bvh", "throw a ball"),
        ("HTMLPage.bvh", "html page"),
        ("läuft_schnell.bvh", "läuft schnell"),
        ("AufrechtÜben.bvh", "aufrecht üben"),
        ("走る.bvh", "走る"),
        ("跑.bvh", "跑"),
        ("v1.2 walk.final.bvh", "walk final"),
        ("jump#turn.bvh", "jump turn"),
    ],
)
def test_a_file_name_says_what_happens(path: str, caption: str) -> None:
    assert caption_from_name(path) == caption


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("turn left", "turn right"),
        ("Left-handed, then RIGHT", "Right-handed, then LEFT"),
        ("step leftwards with the right foot", "step rightwards with the left foot"),
        ("turn clockwise", "turn counterclockwise"),
        ("Counter-clockwise spin", "Clockwise spin"),
        ("anticlockwise", "clockwise"),
        ("the left_hand", "the right_hand"),
        ("bright cleft, upright and brightly", "bright cleft, upright and brightly"),
        ("leftover food", "leftover food"),
        ("走る", "走る"),
        ("", ""),
    ],
)
def test_left_and_right_are_exchanged_as_whole_words(text: str, mirrored: str) -> None:
    assert swap_left_right(text) == mirrored


@given(
    st.lists(
        st.sampled_from(["left", "Right", "LEFTWARDS", "clockwise", "Counterclockwise", "leftmost", "-", "é", "walk"])
    )
)
def test_swapping_twice_gives_the_caption_again(words: list[str]) -> None:
    text = " ".join(words)
    assert swap_left_right(swap_left_right(text)) == text


@given(st.text())
def test_any_text_can_be_swapped_and_any_name_read(text: str) -> None:
    assert len(swap_left_right(text)) >= 0
    caption = caption_from_name(text)
    assert caption == " ".join(caption.split())


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("x.glb#Take 1", ("x.glb", "Take 1")),
        ("a/X.GLB#A#B/c", ("a/X.GLB", "A#B/c")),
        ("a#b.bvh", ("a#b.bvh", "")),
        ("walk.bvh", ("walk.bvh", "")),
    ],
)
def test_a_take_is_told_from_a_file_with_a_number_sign(path: str, parts: tuple[str, str]) -> None:
    assert split_take(path) == parts


def test_a_csv_is_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "\ufeffPath, caption,start,end,label,split\r\n"
        'a/walk.bvh,"go, then  sit",,,,\r\n'
        "\r\n"
        "a/walk,sit down,1.5,3,sit,Test\r\n"
        'b.glb#Cafe\u0301,"two\nlines",0,,,\r\n',
        encoding="utf-8",
        newline="",
    )
    assert read_labels(file) == [
        Label(
            path="a/walk.bvh",
            start=None,
            end=None,
            caption="go, then sit",
            label="go, then sit",
            split=None,
            line=2,
        ),
        Label(path="a/walk", start=1.5, end=3.0, caption="sit down", label="sit", split="test", line=4),
        Label(path="b.glb#Café", start=0.0, end=None, caption="two lines", label="two lines", split=None, line=5),
    ]


def test_jsonl_says_the_same_as_csv(tmp_path: Path) -> None:
    table, lines = tmp_path / "labels.csv", tmp_path / "labels.jsonl"
    table.write_text("path,caption,start,end,label\nwalk,walks,1,2.5,walk\nrun,läuft,,,\n", encoding="utf-8")
    rows = [
        {"path": "walk", "caption": "walks", "start": 1, "end": 2.5, "label": "walk"},
        {"path": "run", "caption": "läuft", "start": None},
    ]
    # A blank first line shifts the numbers to those of the CSV.
    lines.write_text("\n" + "\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    assert read_labels(lines) == read_labels(table)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "path,text\na,b\n", r"l.csv:1: unknown column 'text'"),
        ("l.csv", "path\na\n", r"l.csv:1: has no column 'caption'"),
        ("l.csv", "path,caption,path\na,b,c\n", r"l.csv:1: has a column twice"),
        ("l.csv", "", r"l.csv:1: has no column 'path'"),
        ("l.csv", "path,caption\n", r"l.csv: has no rows"),
        ("l.csv", "path,caption\na,walk, then sit\n", r"l.csv:2: has 3 cells, the header has 2"),
        ("l.csv", "path,caption\na,walk\nb,\n", r"l.csv:3: the caption is empty"),
        ("l.csv", "path,caption\n  ,walk\n", r"l.csv:2: the path is empty"),
        ("l.csv", "path,caption,start\na,walk,1:30\n", r"l.csv:2: start is '1:30', not a number"),
        ("l.csv", "path,caption,end\na,walk,nan\n", r"l.csv:2: end is 'nan', not a time"),
        ("l.csv", "path,caption,start\na,walk,-1\n", r"l.csv:2: start is '-1', not a time"),
        ("l.csv", "path,caption,start,end\na,walk,2,2\n", r"l.csv:2: end 2 is not after start 2"),
        ("l.csv", "path,caption,split\na,walk,dev\n", r"l.csv:2: split is 'dev'"),
        ("l.csv", 'path,caption\na,"walk\n', r"l.csv:2: is not CSV"),
        ("l.csv", 'path,caption\n"a"x,walk\n', r"l.csv:2: is not CSV"),
        ("l.csv", f"path,caption\na,{'x' * (MAX_CAPTION + 1)}\n", r"l.csv:2: caption has 2001 characters"),
        ("l.jsonl", '{"path": "a", "caption": "b"}\n{"path": "a"', r"l.jsonl:2: is not JSON"),
        ("l.jsonl", '["a", "b"]', r"l.jsonl:1: is no JSON object"),
        ("l.jsonl", '{"path": "a", "caption": 3}', r"l.jsonl:1: caption is 3, not text"),
        ("l.jsonl", '{"path": "a", "caption": "b", "start": true}', r"l.jsonl:1: start is True, not a number"),
        ("l.jsonl", '{"path": "a", "caption": "b", "start": [1]}', r"l.jsonl:1: start is a list of 1, not a number"),
        ("l.jsonl", '{"path": "a", "caption": "b", "end": Infinity}', r"l.jsonl:1: end is inf, not a time"),
        ("l.jsonl", '{"path": "a", "caption": "\\ud800"}', r"l.jsonl:1: caption holds half a character"),
        ("l.jsonl", '{"path": "a", "caption": "b", "who": "c"}', r"l.jsonl:1: unknown column 'who'"),
        ("l.jsonl", "[" * 100_000, r"l.jsonl:1: is not JSON"),
        ("l.txt", "path,caption\na,b\n", r"l.txt: a label file is .csv or .jsonl"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_labels(file)


def test_a_file_that_is_not_text_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    file.write_bytes(b"path,caption\na,walk\nb,l\xe4uft\n")
    with pytest.raises(DataError, match=r"l.csv:3: is not UTF-8"):
        read_labels(file)
    with pytest.raises(DataError, match="no such label file"):
        read_labels(tmp_path / "missing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is not a regular file"):
        read_labels(tmp_path / "folder.csv")


@given(st.binary(max_size=200), st.sampled_from([".csv", ".jsonl"]))
def test_any_bytes_give_labels_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    file = tmp_path_factory.mktemp("labels") / f"l{suffix}"
    file.write_bytes(content)
    try:
        assert read_labels(file)
    except MclipError as error:
        assert str(file) in error.message


def _row(path: str) -> Label:
    return Label(path=path, start=None, end=None, caption="c", label="c", split=None, line=2)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a/walk.bvh", [0]),
        ("a/walk", [0, 1]),
        ("./a//walk.npz", [1]),
        (r"a\walk.npz", [1]),
        ("m.glb", [2, 3]),
        ("m", [2, 3]),
        ("m.glb#Sit", [2]),
        ("m#Stand Up", [3]),
        ("Cafe\u0301", [4]),
        ("walk", []),
        ("a", []),
        ("A/walk.bvh", []),
        ("../a/walk.bvh", []),
        ("m.glb#Run", []),
    ],
)
def test_a_row_finds_its_motions(written: str, found: list[int]) -> None:
    paths = ["a/walk.bvh", "a/walk.npz", "m.glb#Sit", "m.glb#Stand Up", "Caf\u00e9.bvh"]
    row = _row(written)
    matched, missing = match_labels([row], paths)
    assert [motion for motion, _ in matched] == found
    assert missing == ([] if found else [row])


def test_rows_are_compared_with_files_before_their_takes_are_known() -> None:
    files = ["m.glb", "a/walk.bvh"]
    assert names_any([_row("m.glb#Sit")], files)
    assert names_any([_row("m#Sit")], files)
    assert names_any([_row("nothing"), _row("a/walk")], files)
    assert not names_any([_row("walk"), _row("n.glb#Sit")], files)
