from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mclip.body.model import load_body
from mclip.errors import UsageError
from mclip.motion import Motion
from mclip.render.camera import HALF_SIDE
from mclip.render.frames import render_layers
from mclip.skeleton.smpl import JOINT, REST_JOINTS
from mclip.view.lettering import lettering
from mclip.view.preview import Look, check_output, is_preview, write_preview
from mclip.view.sheet import contact_sheet
from mclip.view.stage import Stage, draw_frames, set_stage

# transl z with the soles on the floor: the pelvis lies at transl + rest_joints[0], which is not turned.
STANDING = float(REST_JOINTS[0, 1] - load_body().v_template[:, 1].min() - REST_JOINTS[0, 2])


def sit_down(frames: int = 21) -> Motion:
    """From standing to sitting on a chair, walking one metre along x at the same time."""
    part = np.linspace(0, 1, frames, dtype=np.float32)
    pose = np.zeros((frames, 24, 3), np.float32)
    pose[:, 0, 0] = np.pi / 2
    pose[:, [JOINT["left_shoulder"], JOINT["right_shoulder"]], 2] = [-1.2, 1.2]
    pose[:, JOINT["left_hip"], 0] = pose[:, JOINT["right_hip"], 0] = -1.5 * part
    pose[:, JOINT["left_knee"], 0] = pose[:, JOINT["right_knee"], 0] = 1.5 * part
    thigh = np.linalg.norm(REST_JOINTS[JOINT["left_hip"]] - REST_JOINTS[JOINT["left_knee"]])
    transl = np.stack([part, 0 * part, STANDING - thigh * (1 - np.cos(1.5 * part))], axis=-1).astype(np.float32)
    return Motion(pose=pose, transl=transl, fps=20.0)


def draw(stage: Stage, size: int, *, transparent: bool = False) -> NDArray[np.uint8]:
    """All pictures (N, size, size, 4) of a stage."""
    return np.stack(list(draw_frames(stage, size=size, transparent=transparent)))


def dark(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the body is: darker than tiles, path and most of the shadow."""
    return np.asarray(picture[..., :3].max(axis=-1) < 215)


def test_who_sits_down_looks_lower_in_the_same_scale() -> None:
    pictures = draw(set_stage(sit_down(), load_body(), [0, 20]), 200)
    top = [int(np.nonzero(dark(picture).any(axis=1))[0][0]) for picture in pictures]
    assert top[1] > top[0] + 25


def test_the_camera_keeps_its_direction_and_height_and_follows_over_the_ground() -> None:
    stage = set_stage(sit_down(), load_body(), [0, 10, 20])
    first, _, last = stage.cameras
    np.testing.assert_array_equal(first.axes, last.axes)
    np.testing.assert_allclose(last.eye - first.eye, [1, 0, 0], atol=1e-5)


def test_every_vertex_and_the_floor_below_it_are_in_the_picture() -> None:
    flying = replace(sit_down(), transl=sit_down().transl + np.array([0, 0, 0.4], np.float32))
    stage = set_stage(flying, load_body(), [0, 10, 20])
    assert stage.floor == 0.0
    for vertices, camera in zip(stage.vertices(), stage.cameras, strict=True):
        for points in (vertices, vertices * [1, 1, 0]):
            local = (points - camera.eye) @ camera.axes.T
            assert np.abs(local[:, :2] / -local[:, 2:]).max() < HALF_SIDE


def test_a_file_whose_floor_is_not_at_zero_gets_a_floor_below_the_feet() -> None:
    sunk = replace(sit_down(), transl=sit_down().transl - np.array([0, 0, 1.1], np.float32))
    assert set_stage(sunk, load_body(), [0]).floor == pytest.approx(-1.1, abs=0.02)


def test_a_floating_body_is_apart_from_its_shadow() -> None:
    flying = replace(sit_down(), transl=sit_down().transl + np.array([0, 0, 0.45], np.float32))
    gaps = []
    for motion in (sit_down(), flying):
        stage = set_stage(motion, load_body(), [0])
        opaque = draw(stage, 200, transparent=True)[0, ..., 3]
        body = render_layers(stage.vertices(), stage.body.faces, stage.cameras, size=200)[0, ..., 3] > 0
        feet, shadow = (int(np.nonzero(mask.any(axis=1))[0].max()) for mask in (body, (opaque > 20) & ~body))
        gaps.append(shadow - feet)
    assert gaps[0] < 3
    assert gaps[1] > 12


def test_a_sheet_is_bright_and_grows_with_its_pictures() -> None:
    body, motion = load_body(), sit_down()
    few, many = (contact_sheet([("sit", motion)], body, frames=n, size=96) for n in (4, 8))
    assert many.width > 1.7 * few.width
    assert many.height == few.height
    pixels = np.asarray(many)
    assert pixels.mean() > 200
    assert 0.01 < dark(pixels).mean() < 0.4
    assert contact_sheet([("sit", motion)], body, frames=16, size=96).height > 1.6 * many.height


def test_two_motions_are_two_strips() -> None:
    one = contact_sheet([("a", sit_down())], load_body(), frames=2, size=64)
    assert (
        contact_sheet([("a", sit_down()), ("b", sit_down())], load_body(), frames=2, size=64).height == 2 * one.height
    )


def test_letters_are_of_a_font_that_has_them_or_of_the_plain_alphabet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lettering("walk, ok?", 12)[0] == "walk, ok?"
    own = bytes(lettering("a", 12)[1].getmask("a"))
    text, font = lettering("Ça żółw идти", 12)
    if bytes(font.getmask("a")) == own:
        pytest.skip("the system has no font with these letters, such as fonts-dejavu-core")
    assert text == "Ça żółw идти"
    # Each letter looks like none of the others, nor like the box of a missing one.
    assert len({bytes(font.getmask(letter)) for letter in "Çżółидт\uffff"}) == 8
    assert lettering("Ç \U0010fffd", 12)[0] == "Ç ?"
    monkeypatch.setattr("mclip.view.lettering.FONTS", ())
    text, font = lettering("Ça è и", 12)
    assert (text, bytes(font.getmask("a"))) == ("Ca e ?", own)


@pytest.mark.parametrize("caption", ["", "word " * 500, "sich setzen – 坐下\nzweite Zeile"])
def test_any_caption_fits(caption: str) -> None:
    sheet = contact_sheet([(caption, sit_down())], load_body(), frames=2, size=64)
    assert sheet.width < 400


def test_a_motion_of_one_frame_is_one_picture() -> None:
    assert contact_sheet([("pose", sit_down().slice(0, 1))], load_body(), frames=8, size=64).width < 400


@pytest.mark.parametrize(("frames", "size"), [(0, 100), (1000, 100), (4, 3), (4, 100_000)])
def test_absurd_numbers_are_usage_errors(frames: int, size: int) -> None:
    with pytest.raises(UsageError):
        contact_sheet([("sit", sit_down())], load_body(), frames=frames, size=size)


def test_a_preview_can_be_written_again_but_not_over_a_foreign_file(tmp_path: Path) -> None:
    path, motion, body = tmp_path / "sit.png", sit_down(), load_body()
    for _ in range(2):
        write_preview(path, [("sit", motion)], body, Look(frames=1, size=64))
    assert is_preview(path)
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(UsageError, match="not made by mclip") as caught:
        write_preview(path, [("sit", motion)], body, Look(frames=1, size=64))
    assert "--force" in caught.value.hint
    write_preview(path, [("sit", motion)], body, Look(frames=1, size=64), force=True)
    assert is_preview(path)
    assert [file.name for file in tmp_path.iterdir()] == ["sit.png"]


@pytest.mark.parametrize("name", ["walk.txt", "walk", "walk.npz"])
def test_other_suffixes_are_refused_with_the_ones_that_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_output(tmp_path / name)
    assert ".png" in caught.value.hint


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # In a process of its own, and without what turns errors into messages.
    program = (
        "import sys\nfrom mclip.cli.command import app\nfrom mclip.errors import MclipError\n"
        "try: app(['view', *sys.argv[1:]])\n"
        "except MclipError as error: sys.stderr.write(error.message); sys.exit(error.exit_code)\n"
    )
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_command_writes_a_picture(tmp_path: Path) -> None:
    sit_down().save(tmp_path / "sit.npz")
    result = run("sit.npz", "-o", "sit.png", "--frames", "3", "--size", "64", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"path": "sit.png", "frames": 21, "fps": 20.0, "seconds": 1.05}
    assert is_preview(tmp_path / "sit.png")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.npz"], 4),
        (["sit.npz", "-o", "sit.docx"], 2),
        (["sit.npz", "-o", "sit.png", "--renderer", "blender"], 2),
        (["sit.npz", "-o", "sit.png", "--frames", "0"], 2),
        (["sit.npz", "-o", "sit.png", "--body", "SMPL_NEUTRAL.pkl"], 5),
        (["sit.npz", "--body", "SMPL_NEUTRAL.pkl"], 2),
        (["sit.npz", "--camera", "side"], 2),
        (["sit.npz", "-o", "."], 2),
    ],
)
def test_the_command_fails_with_the_right_code_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    sit_down(2).save(tmp_path / "sit.npz")
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["sit.npz"]


def test_viewing_loads_no_torch_and_no_h5py(tmp_path: Path) -> None:
    program = (
        "import sys\nimport mclip.view.preview, mclip.render.frames, mclip.body.skinning_numba\n"
        "print([name for name in ('torch', 'smplx', 'h5py', 'pyrender') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
