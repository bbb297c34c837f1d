"""mclip generate and export from the outside: files, exit codes, and what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from mclip.errors import UsageError
from mclip.locks import FOLDER_LOCK, own_folder
from mclip.motion import load_npz
from mclip.pack import MANIFEST, Pack
from mclip.runtime.bulk import SCRATCH
from mclip.runtime.prompts import Job, PromptFile, check_outputs, plan, slugify
from mclip.runtime.tasks import Prompt
from tests.commands import Run, runner


@pytest.fixture
def mclip(tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty folder, with the tiny pack as the default one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    return runner(monkeypatch, capsys)


def test_a_sentence_becomes_a_file(mclip: Run) -> None:
    done = mclip("generate", "a person nods", "-o", "nod.npz")
    assert (done.code, done.out, done.err) == (0, "nod.npz: 20 frames at 30 fps\n", "")
    assert load_npz(Path("nod.npz")).origin["prompt"] == "a person nods"


def test_the_file_is_what_amass_tools_expect(mclip: Run) -> None:
    assert mclip("generate", "nods").code == 0
    with np.load("nods.npz", allow_pickle=False) as file:
        assert file["poses"].shape == (20, 156)
        assert file["poses"].dtype == np.float32
        assert (file["trans"].shape, file["betas"].shape) == ((20, 3), (10,))
        assert float(file["mocap_framerate"]) == 30.0
        assert str(file["gender"]) == "neutral"


def test_json_is_one_object_on_stdout(mclip: Run) -> None:
    done = mclip("generate", "nods", "bends", "--json", "--seconds", "0.5", "--fps", "60", "-o", "made")
    result = json.loads(done.out)
    assert [Path(item["path"]).as_posix() for item in result["motions"]] == ["made/nods.npz", "made/bends.npz"]
    assert [(item["text"], item["frames"], item["fps"]) for item in result["motions"]] == [
        ("nods", 29, 60.0),
        ("bends", 29, 60.0),
    ]
    assert result["motions"][0]["nearest"] == "nods"
    assert len(load_npz(Path("made/nods.npz"))) == 29


def test_suffixes_choose_the_format(mclip: Run) -> None:
    assert mclip("generate", "nods", "-o", "nod.bvh").code == 0
    assert Path("nod.bvh").read_text(encoding="utf-8").startswith("HIERARCHY")


def test_prompts_come_from_a_file(mclip: Run) -> None:
    lines = ["a person nods", "", '{"text": "bends", "seconds": 0.4, "out": "deep/low.npz"}', "A person nods!"]
    Path("prompts.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    assert mclip("generate", "--file", "prompts.txt", "-o", "made", "--seconds", "0.5").code == 0
    made = {path.relative_to("made").as_posix(): len(load_npz(path)) for path in Path("made").rglob("*.npz")}
    assert made == {"a-person-nods.npz": 15, "deep/low.npz": 12, "a-person-nods-2.npz": 15}


def test_prompts_come_from_standard_input(tiny_pack: Pack, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mclip", "generate", "--file", "-", "--json"],
        input=b"nods\nbends\n",
        cwd=tmp_path,
        env={**os.environ, "MCLIP_PACK": str(tiny_pack.path)},
        capture_output=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["motions"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bends.npz", "nods.npz"]


def test_a_prompt_unlike_all_captions_gets_one_line_of_warning(mclip: Run) -> None:
    done = mclip("generate", "right slowly fast", "-o", "odd.npz")
    confidence = load_npz(Path("odd.npz")).origin["confidence"]
    assert done.code == 0
    assert len(done.err.splitlines()) == int(confidence < 0.5)
    assert ("nearest is" in done.err) == (confidence < 0.5)


def test_variations_are_numbered_and_the_same_seed_makes_the_same_bytes(mclip: Run) -> None:
    done = mclip("generate", "nods", "bends", "--variations", "3", "--seed", "5", "-o", "one", "--json")
    names = ["nods-1", "nods-2", "nods-3", "bends-1", "bends-2", "bends-3"]
    results = json.loads(done.out)["motions"]
    assert [Path(item["path"]).stem for item in results] == names
    assert all({"confidence", "nearest", "label", "motion"} <= set(item) for item in results)
    assert mclip("generate", "bends", "nods", "--variations", "3", "--seed", "5", "-o", "two").code == 0
    poses = set()
    for name in names:
        assert Path(f"one/{name}.npz").read_bytes() == Path(f"two/{name}.npz").read_bytes()
        poses.add(load_npz(Path(f"one/{name}.npz")).pose.tobytes())
    assert len(poses) == 6
    origin = load_npz(Path("one/nods-2.npz")).origin
    assert (origin["variation"], origin["seed"], origin["source"]) == (2, 5, results[1]["motion"])
    # The first is what is made without variations.
    assert mclip("generate", "nods", "-o", "plain.npz").code == 0
    np.testing.assert_array_equal(load_npz(Path("plain.npz")).pose, load_npz(Path("one/nods-1.npz")).pose)


def test_variations_of_one_prompt_are_named_after_its_file(mclip: Run) -> None:
    assert mclip("generate", "nods", "--variations", "2", "-o", "deep/nod.bvh").code == 0
    assert sorted(path.name for path in Path("deep").iterdir()) == ["nod-1.bvh", "nod-2.bvh"]
    assert mclip("generate", "nods", "--variations", "2", "-o", "all").code == 0
    assert sorted(path.name for path in Path("all").iterdir()) == ["nods-1.npz", "nods-2.npz"]
    Path("nods-2.npz").write_bytes(b"precious")
    done = mclip("generate", "nods", "--variations", "2")
    assert (done.code, Path("nods-1.npz").exists(), Path("nods-2.npz").read_bytes()) == (2, False, b"precious")


def test_a_far_prompt_is_warned_about_once_for_all_its_variations(mclip: Run) -> None:
    done = mclip("generate", "right slowly fast", "--variations", "3", "--json")
    confidence = json.loads(done.out)["motions"][0]["confidence"]
    assert len(done.err.splitlines()) == int(confidence < 0.5)


def test_a_pack_without_a_prior_has_no_variations(mclip: Run, pack_copy: Path) -> None:
    manifest = json.loads((pack_copy / MANIFEST).read_text())
    (pack_copy / MANIFEST).write_text(json.dumps({**manifest, "prior": None}))
    done = mclip("generate", "nods", "--variations", "2", "--pack", str(pack_copy))
    assert (done.code, "a pack with a prior" in done.err) == (2, True)
    assert mclip("generate", "nods", "--pack", str(pack_copy)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["generate"], 2, "nothing to generate"),
        (["generate", "nods", "--variations", "0"], 2, "--variations 0 is not between 1 and 1000"),
        (["generate", "nods", "--variations", "1001"], 2, "between 1 and 1000"),
        (["generate", "nods", "--seed", "1"], 2, "--seed has no effect"),
        (["generate", "nods", "--seed", "-1", "--variations", "2"], 2, "--seed is negative"),
        (["generate", "nods", "--file", "x"], 2, "not both"),
        (["generate", "nods", "--workers", "2"], 2, "for many prompts"),
        (["generate", ""], 2, "empty"),
        (["generate", "   "], 2, "empty"),
        (["generate", "nods " * 5000], 2, "5000 tokens"),
        (["generate", "nods", "--seconds", "9"], 2, "0.333 to 0.667 seconds"),
        (["generate", "nods", "--fps", "0"], 2, "--fps"),
        (["generate", "nods", "--device", "tpu"], 2, "auto, cpu, cuda"),
        (["generate", "nods", "-o", "nod.fbx"], 2, "cannot write .fbx"),
        (["generate", "nods", "-o", "nod"], 2, "without a suffix"),
        (["generate", "nods", "bends", "-o", "both.npz"], 2, "need a folder"),
        (["generate", "nods", "-o", "/dev/null/nod.npz"], 2, "cannot write there"),
        (["generate", "--file", "absent.txt"], 2, "absent.txt"),
        (["generate", "nods", "--pack", "nowhere"], 6, "no such pack"),
        (["generate", "nods", "--pack", "."], 6, "not a pack"),
    ],
)
def test_mistakes_get_their_exit_code_and_three_lines_at_most(
    mclip: Run, arguments: list[str], code: int, said: str
) -> None:
    done = mclip(*arguments)
    assert done.code == code
    assert said in done.err
    assert 1 <= len(done.err.splitlines()) <= 3
    assert "Traceback" not in done.err
    assert done.out == ""
    assert list(Path().iterdir()) == []


def test_only_what_generate_made_is_overwritten(mclip: Run) -> None:
    assert mclip("generate", "nods", "-o", "nod.npz").code == 0
    assert mclip("generate", "bends", "-o", "nod.npz").code == 0
    assert load_npz(Path("nod.npz")).origin["prompt"] == "bends"
    Path("mine.npz").write_bytes(b"precious")
    done = mclip("generate", "nods", "-o", "mine.npz")
    assert (done.code, Path("mine.npz").read_bytes()) == (2, b"precious")
    assert "--force" in done.err
    assert mclip("generate", "nods", "-o", "mine.npz", "--force").code == 0
    assert len(load_npz(Path("mine.npz"))) == 20


def test_one_file_in_the_way_stops_all_before_any_is_made(mclip: Run) -> None:
    Path("bends.npz").write_bytes(b"precious")
    assert mclip("generate", "nods", "bends").code == 2
    assert [path.name for path in Path().iterdir()] == ["bends.npz"]


def test_a_spoiled_pack_is_exit_code_6(mclip: Run, pack_copy: Path) -> None:
    (pack_copy / "motion_decoder.onnx").write_bytes(b"x" * (pack_copy / "motion_decoder.onnx").stat().st_size)
    done = mclip("generate", "nods", "--pack", str(pack_copy), "-o", "nod.npz")
    assert (done.code, Path("nod.npz").exists()) == (6, False)
    assert "sha256" in done.err
    (pack_copy / MANIFEST).unlink()
    assert mclip("generate", "nods", "--pack", str(pack_copy)).code == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": 1}', "has no"),
        ('{"seconds": 1}', "has no"),
        ('{"text": "a", "second": 1}', "unknown key 'second'"),
        ('{"text": "a", "seconds": "1"}', "not a number"),
        ('{"text": "a", "seconds": true}', "not a number"),
        ('{"text": "a"', "JSON"),
        ('{"text": "a", "out": "../x.npz"}', "below the output folder"),
        ('{"text": "a", "out": "/x.npz"}', "below the output folder"),
        ('{"text": "a", "out": ""}', "below the output folder"),
        ('{"text": "a", "out": 3}', "below the output folder"),
    ],
)
def test_a_broken_line_is_left_out_and_told_by_number(line: str, said: str) -> None:
    prompts = PromptFile(f"fine\n{line}\n".encode(), "prompts.txt")
    assert [job.prompt.text for job in prompts] == ["fine"] and len(prompts) == 1
    assert list(prompts.bad) == [2] and said in prompts.bad[2]
    with pytest.raises(UsageError, match=said) as raised:
        PromptFile(f"\n{line}\n".encode(), "prompts.txt")
    assert raised.value.message.startswith("prompts.txt:2: ")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_a_file_without_prompts_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError):
        PromptFile(content, "prompts.txt")


def test_good_lines_are_made_and_bad_ones_told(mclip: Run) -> None:
    lines = [b"nods", b'{"text": 1}', b"bends", b"nods " * 5000, b"\xff", b'{"text": "nods", "seconds": 9}']
    lines += [b'{"text": "a", "out": "x.npz"}', b'{"text": "b", "out": "X.npz"}', b'{"text": "b", "out": "x.fbx"}']
    Path("prompts.txt").write_bytes(b"\n".join(lines))
    done = mclip("generate", "--file", "prompts.txt", "-o", "made", "--json")
    assert done.code == 0
    result = json.loads(done.out)
    assert [Path(item["path"]).name for item in result["motions"]] == ["nods.npz", "bends.npz", "x.npz"]
    assert sorted(path.name for path in Path("made").iterdir()) == ["bends.npz", "nods.npz", "x.npz"]
    assert [item["line"] for item in result["skipped"]] == [2, 4, 5, 6, 8, 9]
    assert "prompts.txt:8" in done.err and "line above" in done.err
    assert mclip("generate", "--file", "prompts.txt", "-o", "made", "--strict").code == 4


def test_an_interrupted_file_of_prompts_is_gone_on_with(mclip: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{word} {hand}" for word in ("nods", "bends", "waves") for hand in ("left", "right", "slowly")]
    Path("prompts.txt").write_text("\n".join(texts))
    assert mclip("generate", "--file", "prompts.txt", "-o", "whole").code == 0
    whole = {path.name: path.read_bytes() for path in Path("whole").iterdir()}
    # What a kill leaves: some files, and one that is another prompt's.
    made = Path("made")
    made.mkdir()
    for name in sorted(whole)[:4]:
        (made / name).write_bytes(whole[name])
    (made / "nods-left.npz").write_bytes(whole["bends-left.npz"])
    stamps = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    done = mclip("generate", "--file", "prompts.txt", "-o", "made", "--json")
    assert done.code == 0 and "3 were there already" in done.err
    result = json.loads(done.out)
    assert [item["text"] for item in result["motions"]] == texts
    assert result["reused"] == 3
    assert {path.name: path.read_bytes() for path in made.iterdir()} == whole
    same = {name for name, stamp in stamps.items() if (made / name).stat().st_mtime_ns == stamp}
    assert same == set(stamps) - {"nods-left.npz"}
    # Of another length, or asked for anew, all are made.
    for more in (["--seconds", "0.5"], ["--seconds", "0.5", "--force"]):
        done = mclip("generate", "--file", "prompts.txt", "-o", "made", "--json", *more)
        assert json.loads(done.out)["reused"] == 0
    assert {item["frames"] for item in json.loads(done.out)["motions"]} == {15}


def test_other_processes_make_the_same_files_and_go_on_with_what_is_there(mclip: Run) -> None:
    lines = ["a person nods", '{"text": "bends", "seconds": 0.4, "out": "deep/low.npz"}', "waves", "slowly fast"]
    Path("prompts.txt").write_text("\n".join(lines))
    asked = ("generate", "--file", "prompts.txt", "--device", "cpu", "--variations", "2", "--json")
    here, there = mclip(*asked, "-o", "here"), mclip(*asked, "-o", "apart", "--workers", "2")
    assert there.code == 0, there.err
    assert there.out == here.out.replace("here/", "apart/") and there.err == here.err
    made = {path.relative_to("here"): path.read_bytes() for path in Path("here").rglob("*.npz")}
    assert {path.relative_to("apart"): path.read_bytes() for path in Path("apart").rglob("*") if path.is_file()} == made
    Path("apart/waves-1.npz").unlink()
    assert json.loads(mclip(*asked, "-o", "apart", "--workers", "1").out)["reused"] == 6


def test_prompts_from_nowhere_or_in_another_encoding_are_refused(mclip: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wide.txt").write_text("nods\nbends\n", encoding="utf-16")
    done = mclip("generate", "--file", "wide.txt", "-o", "made")
    assert (done.code, "is UTF-16" in done.err) == (2, True)
    monkeypatch.setattr("sys.stdin", None)
    done = mclip("generate", "--file", "-", "-o", "made")
    assert (done.code, "there is no stdin" in done.err) == (2, True)
    assert not Path("made").exists()


def test_what_a_killed_run_left_goes_with_the_next_and_nothing_else(mclip: Run) -> None:
    Path("prompts.txt").write_text("nods\nbends\n")
    left = Path("made", SCRATCH, "x1y2z3w4", "nods.npz")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"PK")
    Path("made", SCRATCH, FOLDER_LOCK).touch()
    # A file that another program is writing at this moment.
    others = Path("made", ".nods-a1b2c3d4.npz")
    others.write_bytes(b"PK")
    assert mclip("generate", "--file", "prompts.txt", "-o", "made").code == 0
    assert sorted(path.name for path in Path("made").iterdir()) == [others.name, "bends.npz", "nods.npz"]


def test_two_runs_do_not_write_to_one_folder_at_once(mclip: Run) -> None:
    Path("prompts.txt").write_text("nods\n")
    with own_folder(Path("made", SCRATCH), "", ""):
        live = Path("made", SCRATCH, "live.npz")
        live.write_bytes(b"PK")
        done = mclip("generate", "--file", "prompts.txt", "-o", "made")
        assert done.code == 2 and f"another mclip generate is writing there (process {os.getpid()})" in done.err
        # One motion more is no such run.
        assert mclip("generate", "nods", "-o", "made/one.npz").code == 0
        assert live.read_bytes() == b"PK"
        live.unlink()
    assert mclip("generate", "--file", "prompts.txt", "-o", "made").code == 0


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs another disk")
def test_a_folder_below_may_lie_on_another_disk(mclip: Run) -> None:
    with TemporaryDirectory(dir="/dev/shm") as other:
        assert os.stat(other).st_dev != os.stat(".").st_dev
        Path("made").mkdir()
        Path("made", "far").symlink_to(other)
        Path("prompts.jsonl").write_text('{"text": "nods", "out": "far/nod.npz"}\n{"text": "bends"}\n')
        assert mclip("generate", "--file", "prompts.jsonl", "-o", "made").code == 0
        assert sorted(os.listdir("made")) == ["bends.npz", "far"] and os.listdir(other) == ["nod.npz"]
        assert len(load_npz(Path(other, "nod.npz"))) == 20


def test_results_are_printed_whole_or_not_at_all(mclip: Run) -> None:
    Path("prompts.txt").write_text("nods\nbends\n")
    Path("made").mkdir()
    (Path("made") / "bends.npz").mkdir()
    done = mclip("generate", "--file", "prompts.txt", "-o", "made", "--json")
    assert (done.code, done.out) == (2, "")


def test_files_are_named_after_prompts_and_never_twice_the_same(tmp_path: Path) -> None:
    texts = ["Couch", "couch!", "../../etc/passwd", "???", "走る", "word " * 40]
    names = [path.name for _, path in plan([Job(Prompt(text)) for text in texts], tmp_path, folder=True)]
    assert names[:5] == ["couch.npz", "couch-2.npz", "etc-passwd.npz", "motion.npz", "走る.npz"]
    assert len(names[5]) < 70
    assert slugify("x" * 500) == "x" * 60


def test_a_name_asked_for_is_not_given_to_another(tmp_path: Path) -> None:
    jobs = [Job(Prompt("couch")), Job(Prompt("sit"), Path("couch.npz"))]
    assert [path.name for _, path in plan(jobs, tmp_path, folder=True)] == ["couch-2.npz", "couch.npz"]
    lines = b'{"text": "a", "out": "x.npz"}\n{"text": "b", "out": "X.npz"}\n'
    assert list(PromptFile(lines, "prompts.jsonl").bad) == [2]


def test_a_folder_as_output_holds_the_one_motion(tmp_path: Path) -> None:
    assert next(plan([Job(Prompt("couch"))], tmp_path, folder=False))[1] == tmp_path / "couch.npz"
    (tmp_path / "couch.npz").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_outputs([tmp_path / "couch.npz"], force=True)
