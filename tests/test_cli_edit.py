"""mclip edit and interpolate from the outside: files, exit codes, and what is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mclip.formats import save
from mclip.geometry import angle_between, axis_angle_to_matrix
from mclip.motion import Motion, load_npz
from mclip.pack import MANIFEST, Pack
from mclip.skeleton.smpl import JOINT
from tests.commands import Run, runner
from tests.fakes import swinging


@pytest.fixture
def mclip(tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in a folder with nod.npz and bend.npz, with the tiny pack as the default one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLIP_PACK", str(tiny_pack.path))
    swinging("head", 0, seed=2).save(Path("nod.npz"))
    swinging("spine1", 0, seed=3, frames=30).save(Path("bend.npz"))
    return runner(monkeypatch, capsys)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty folder, with the pack that is shipped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCLIP_PACK", raising=False)
    return runner(monkeypatch, capsys)


def turned(first: Motion, second: Motion) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How far each joint is turned in each frame (T, 24), radians."""
    matrices = [axis_angle_to_matrix(motion.pose.astype(np.float64)) for motion in (first, second)]
    return np.asarray(angle_between(*matrices), np.float64)


def made() -> list[str]:
    return sorted(path.as_posix() for path in Path().rglob("*") if path.is_file())


def test_an_edit_is_named_after_what_was_done(mclip: Run) -> None:
    done = mclip("edit", "nod.npz", "--add", "bends", "--remove", "bend.npz")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "+bends: the action 'bend'",
        "-bend.npz: the motion",
        "nod-bends-not-bend.npz: 50 frames at 30 fps",
    ]
    origin = load_npz(Path("nod-bends-not-bend.npz")).origin
    assert (origin["command"], origin["add"], origin["remove"]) == ("edit", ["bends"], ["bend.npz"])
    assert origin["strength"] == 1.0


def test_strength_zero_is_the_input(mclip: Run) -> None:
    assert mclip("edit", "nod.npz", "--add", "bends", "--strength", "0", "-o", "same.npz").code == 0
    same, given = load_npz(Path("same.npz")), load_npz(Path("nod.npz"))
    assert turned(same, given).max() < 1e-5 and np.abs(same.transl - given.transl).max() < 1e-5


def test_bvh_comes_in_and_goes_out(mclip: Run) -> None:
    save(Path("nod.bvh"), load_npz(Path("nod.npz")))
    assert mclip("edit", "nod.bvh", "--add", "bends", "-o", "bent.bvh").code == 0
    assert Path("bent.bvh").read_text(encoding="utf-8").startswith("HIERARCHY")
    assert mclip("edit", "nod.bvh", "--add", "bends").code == 0
    assert len(load_npz(Path("nod-bends.npz"))) == 50


def test_a_text_can_be_the_base(mclip: Run) -> None:
    assert mclip("edit", "a person nods", "--from", "nods", "--to", "bends").code == 0
    assert len(load_npz(Path("a-person-nods-bends-not-nods.npz"))) == 20


def test_a_sweep_is_a_folder_with_a_sheet(mclip: Run) -> None:
    done = mclip("edit", "nod.npz", "--add", "bends", "--sweep", "-1:1:2", "--json")
    result = json.loads(done.out)
    assert [item["strength"] for item in result["motions"]] == [-1, 1]
    names = [f"nod-bends/strength_{value}.npz" for value in (-1, 1)]
    assert [Path(item["path"]).as_posix() for item in result["motions"]] == names
    assert made() == ["bend.npz", *sorted(["nod-bends/sheet.png", *names]), "nod.npz"]
    # Again, over its own files.
    assert mclip("edit", "nod.npz", "--add", "bends", "--sweep", "-1:1:2").code == 0


def test_only_and_keep_root_leave_the_rest(mclip: Run) -> None:
    assert mclip("edit", "nod.npz", "--add", "bends", "--only", "arms", "-o", "arms.npz").code == 0
    given, arms = load_npz(Path("nod.npz")), load_npz(Path("arms.npz"))
    moved = turned(arms, given).max(axis=0)
    assert (
        moved[JOINT["left_elbow"]] > 1e-3 and moved[[JOINT["head"], JOINT["pelvis"], JOINT["left_knee"]]].max() < 1e-6
    )
    assert mclip("edit", "nod.npz", "--add", "bends", "--keep-root", "-o", "kept.npz").code == 0
    assert np.abs(load_npz(Path("kept.npz")).transl[:, :2] - given.transl[:, :2]).max() < 1e-5


def test_an_axis_is_saved_and_used_again(mclip: Run) -> None:
    assert mclip("edit", "nod.npz", "--add", "bends", "--save-axis", "bend.json", "-o", "a.npz").code == 0
    assert mclip("edit", "nod.npz", "--axis", "bend.json", "-o", "b.npz").code == 0
    assert np.array_equal(load_npz(Path("a.npz")).pose, load_npz(Path("b.npz")).pose)


def test_an_axis_of_another_pack_is_refused(mclip: Run, pack_copy: Path) -> None:
    assert mclip("edit", "nod.npz", "--add", "bends", "--save-axis", "bend.json", "-o", "a.npz").code == 0
    manifest = pack_copy / MANIFEST
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"tiny"', '"other"', 1), encoding="utf-8")
    done = mclip("edit", "nod.npz", "--axis", "bend.json", "--pack", str(pack_copy), "-o", "b.npz")
    assert (done.code, Path("b.npz").exists()) == (6, False)
    assert "belongs to the pack 'tiny'" in done.err and "--save-axis" in done.err


def test_the_same_command_gives_the_same_bytes(mclip: Run) -> None:
    for name in ("a.npz", "b.npz"):
        assert mclip("edit", "nod.npz", "--add", "bends", "-o", name).code == 0
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()


def test_steps_between_ends_of_different_kinds(mclip: Run) -> None:
    save(Path("bend.bvh"), load_npz(Path("bend.npz")))
    done = mclip("interpolate", "nod.npz", "a person bends slowly", "bend.bvh", "--steps", "4", "--json")
    result = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [round(item["at"], 2) for item in result["motions"]] == [0, 0.67, 1.33, 2]
    assert made()[2:-1] == ["nod-to-bend/sheet.png", *(f"nod-to-bend/step_0{n}.npz" for n in (1, 2, 3, 4))]


def test_a_blend_is_one_file(mclip: Run) -> None:
    done = mclip("interpolate", "nods", "bend.npz", "--blend", "--easing", "smooth", "--path", "linear")
    assert done.code == 0
    assert done.out.startswith("nods-to-bend.npz: 100% nods to 100% bend.npz, ")
    assert made() == ["bend.npz", "nod.npz", "nods-to-bend.npz"]
    assert load_npz(Path("nods-to-bend.npz")).origin["command"] == "interpolate"


@pytest.mark.parametrize(
    "line", ["edit nod.npz --add bends -o nod.npz --force", "interpolate nod.npz bends --blend -o nod.npz --force"]
)
def test_the_input_is_never_replaced(mclip: Run, line: str) -> None:
    before = Path("nod.npz").read_bytes()
    done = mclip(*line.split())
    assert done.code == 2 and "replace the input" in done.err
    assert Path("nod.npz").read_bytes() == before


def test_files_of_others_are_not_replaced_without_force(mclip: Run) -> None:
    shutil.copy("bend.npz", "nod-bends.npz")
    assert mclip("edit", "nod.npz", "--add", "bends").code == 2
    Path("keep.json").write_text("{}", encoding="utf-8")
    assert mclip("edit", "nod.npz", "--add", "bends", "-o", "x.npz", "--save-axis", "keep.json").code == 2
    assert Path("keep.json").read_text(encoding="utf-8") == "{}" and not Path("x.npz").exists()
    assert mclip("edit", "nod.npz", "--add", "bends", "--force").code == 0


@pytest.mark.parametrize(
    "line", ["edit one.npz --add bends", "interpolate one.npz bends", "interpolate nod.npz one.npz"]
)
def test_a_motion_of_one_frame_is_refused(mclip: Run, line: str) -> None:
    load_npz(Path("nod.npz")).slice(0, 1).save(Path("one.npz"))
    before = made()
    done = mclip(*line.split())
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("mclip: one.npz: the motion lasts 0.03 s, less than 0.33 s")
    assert made() == before


def test_a_motion_of_ten_thousand_frames_is_edited_whole(mclip: Run) -> None:
    nod = load_npz(Path("nod.npz"))
    rows = np.arange(10_000) % len(nod)
    replace(nod, pose=nod.pose[rows], transl=nod.transl[rows], fps=300.0).save(Path("long.npz"))
    assert mclip("edit", "long.npz", "--add", "bends").code == 0
    edited = load_npz(Path("long-bends.npz"))
    assert len(edited) == 10_000
    assert (
        turned(edited, load_npz(Path("long.npz")))[-100:].mean() > 1e-4
    )  # the tiny pack's latents are near each other


def test_the_owners_line_with_the_shipped_pack(shipped: Run) -> None:
    assert shipped("generate", "walk", "-o", "walk.npz").code == 0
    done = shipped("edit", "walk.npz", "--add", "angry")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].startswith("+angry: the style 'angry' for 'walk")
    walk, angry = load_npz(Path("walk.npz")), load_npz(Path("walk-angry.npz"))
    assert (len(angry), angry.fps) == (len(walk), walk.fps)
    assert np.abs(angry.transl[0, :2] - walk.transl[0, :2]).max() < 1e-6
    assert turned(angry, walk).mean() > 0.02


def test_strengths_beyond_what_was_trained_are_warned_about(shipped: Run) -> None:
    assert shipped("generate", "walk", "-o", "walk.npz").code == 0
    done = shipped("edit", "walk.npz", "--add", "angry", "--strength", "-20")
    assert done.code == 0
    assert done.err == "warning: strength -20 leaves what the pack was trained on\n"


def test_words_the_pack_does_not_know_are_warned_about(shipped: Run) -> None:
    assert shipped("generate", "walk", "-o", "walk.npz").code == 0
    done = shipped("edit", "walk.npz", "--add", "gluten-free")
    assert done.code == 0
    assert "'gluten-free' is no style or action the pack was trained on" in done.err.splitlines()[0]


def test_words_near_an_action_only_say_what_they_were_taken_for(shipped: Run) -> None:
    assert shipped("generate", "walk", "-o", "walk.npz").code == 0
    done = shipped("edit", "walk.npz", "--add", "drunk", "--add", "confident")
    assert done.code == 0
    assert done.err.splitlines() == [
        "warning: 'drunk' is nearest to 'being drunk' (0.78); taken for the action 'be dizzy'",
        "warning: 'confident' is no style by itself; taken for the opposite of the style 'not-confident' "
        f"for {done.out.splitlines()[1].rsplit(' for ')[-1]}",
    ]
