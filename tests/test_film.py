"""Each option of pictures and films, by its pixels."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from mclip.body.model import load_body
from mclip.errors import AssetError, UsageError
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT
from mclip.view import preview
from mclip.view.film import film
from mclip.view.preview import Look, is_preview, write_preview
from mclip.view.sheet import contact_sheet
from mclip.view.stage import FAR, draw_frames, set_stage
from tests.commands import Run, runner
from tests.test_view import dark, sit_down


def walk(frames: int = 12, fps: float = 10.0) -> Motion:
    """Stands, faces -Y, and glides two metres that way."""
    motion = sit_down(frames)
    pose = np.repeat(motion.pose[:1], frames, axis=0)
    transl = np.repeat(motion.transl[:1], frames, axis=0)
    transl[:, 1] -= np.linspace(0, 2, frames, dtype=np.float32)
    return Motion(pose=pose, transl=transl, fps=fps)


def pointing() -> Motion:
    """Three frames of standing with the left arm stretched out to the left, the right one down."""
    motion = walk(3)
    pose = motion.pose.copy()
    pose[:, JOINT["left_shoulder"], 2] = 0.0
    return replace(motion, pose=pose, transl=np.repeat(motion.transl[:1], 3, axis=0))


def shots(motion: Motion, view: str, size: int = 120) -> NDArray[np.uint8]:
    stage = set_stage(motion, load_body(), range(len(motion)), view)
    return np.stack(list(draw_frames(stage, size=size)))


def middle(picture: NDArray[np.uint8]) -> tuple[float, float]:
    """Column and row of the middle of the body."""
    rows, columns = np.nonzero(dark(picture))
    return float(columns.mean()), float(rows.mean())


def height(picture: NDArray[np.uint8]) -> int:
    rows = np.nonzero(dark(picture).any(axis=1))[0]
    return int(rows[-1] - rows[0])


def read(path: Path) -> list[NDArray[np.uint8]]:
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)]


def durations(path: Path) -> list[float]:
    with Image.open(path) as image:
        result = []
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(index)
            image.load()
            result.append(float(image.info["duration"]))
        return result


def test_a_following_camera_keeps_the_body_where_it_is() -> None:
    first, last = (middle(picture) for picture in shots(walk(), "follow")[[0, -1]])
    assert first == pytest.approx(last, abs=1.5)


def test_a_camera_in_front_sees_who_comes_grow_and_stay_in_the_middle() -> None:
    pictures = shots(walk(), "front")
    assert height(pictures[-1]) > 1.1 * height(pictures[0])
    assert middle(pictures[0])[0] == pytest.approx(middle(pictures[-1])[0], abs=4)


def test_a_camera_at_the_side_sees_who_walks_cross_the_picture() -> None:
    pictures = shots(walk(), "side")
    # From the left of who walks, ahead is to the left.
    assert middle(pictures[0])[0] - middle(pictures[-1])[0] > 40
    assert height(pictures[0]) == pytest.approx(height(pictures[-1]), abs=3)


@pytest.mark.parametrize("view", ["front", "side"])
def test_a_camera_goes_along_with_who_goes_far(view: str) -> None:
    near = walk()
    far = replace(near, transl=near.transl * np.array([1, 6, 1], np.float32))
    assert np.ptp(far.transl, axis=0).max() > FAR > np.ptp(near.transl, axis=0).max()
    pictures = shots(far, view)
    first, last = middle(pictures[0]), middle(pictures[-1])
    assert first == pytest.approx(last, abs=1.5)
    assert height(pictures[0]) > 0.5 * len(pictures[0])


def test_front_and_side_are_the_body_s_own() -> None:
    front, side = (dark(shots(pointing(), view)[0]) for view in ("front", "side"))
    # Seen from in front, a left arm stretched out goes far to the right; from the side it points at the camera.
    column = np.nonzero(front.any(axis=0))[0]
    head = np.nonzero(front[np.nonzero(front.any(axis=1))[0][0]])[0].mean()
    assert column.max() - head > 1.7 * (head - column.min())
    assert np.ptp(np.nonzero(side.any(axis=0))[0]) < 0.75 * np.ptp(column)


def test_a_turntable_goes_around_once() -> None:
    pose, transl = np.repeat(pointing().pose[:1], 8, axis=0), np.repeat(walk(1).transl, 8, axis=0)
    still = replace(walk(8), pose=pose, transl=transl)
    pictures = shots(still, "turntable")
    reach = []
    for picture in pictures:
        columns = np.nonzero(dark(picture).any(axis=0))[0]
        head = np.nonzero(dark(picture)[np.nonzero(dark(picture).any(axis=1))[0][0]])[0].mean()
        reach.append((columns.max() - head) - (head - columns.min()))
    # The arm is on one side half of the time, on the other in the other half.
    assert np.corrcoef(reach, np.cos(np.arange(8) * np.pi / 4 + np.angle(np.fft.fft(reach)[1])))[0, 1] > 0.95
    assert max(reach) > 15
    assert min(reach) < -15


@pytest.mark.parametrize("view", ["follow", "front", "side", "turntable"])
def test_nobody_leaves_the_picture(view: str) -> None:
    stage = set_stage(walk(), load_body(), range(12), view)
    for picture in draw_frames(stage, size=120, transparent=True):
        body = picture[..., 3] > 200
        assert body.sum() > 200
        assert not (body[0].any() or body[-1].any() or body[:, 0].any() or body[:, -1].any())


def test_the_floor_moves_under_a_following_camera_and_not_under_one_that_stands() -> None:
    corner = (slice(100, 120), slice(0, 30))
    for view, moves in (("follow", True), ("side", False)):
        first, second = shots(walk(), view)[[0, 2]].astype(int)
        assert (np.abs(first[corner] - second[corner]).max() > 4) == moves


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".mp4"])
def test_a_film_has_the_motion_s_frames_time_and_body(tmp_path: Path, suffix: str) -> None:
    if suffix == ".mp4":
        pytest.importorskip("av", reason="av is not installed")
    path, motion = tmp_path / f"a{suffix}", sit_down(21)
    write_preview(path, [("sit", motion)], load_body(), Look(size=96))
    if suffix == ".mp4":
        import av

        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            pictures = [frame.to_ndarray(format="rgba") for frame in container.decode(stream)]
            assert float(stream.average_rate) == pytest.approx(20.0)
            assert stream.pix_fmt == "yuv420p"
    else:
        pictures = read(path)
        assert sum(durations(path)) == pytest.approx(21 / 20 * 1000, abs=1)
    expected = list(film([("sit", motion)], load_body(), size=96).pictures)
    assert len(pictures) == len(expected) == 21
    for picture, wanted in zip(pictures, expected, strict=True):
        assert np.abs(picture[..., :3].astype(int) - np.asarray(wanted).astype(int)).mean() < 4
    tops = [int(np.nonzero(dark(picture[15:]).any(axis=1))[0][0]) for picture in (pictures[0], pictures[-1])]
    assert tops[1] > tops[0] + 10  # who sits is lower
    assert is_preview(path)


@pytest.mark.parametrize(("suffix", "unit"), [(".webp", 1), (".gif", 10)])
def test_a_film_s_rate_may_be_chosen(tmp_path: Path, suffix: str, unit: int) -> None:
    path = tmp_path / f"a{suffix}"
    write_preview(path, [("sit", sit_down(41))], load_body(), Look(size=64, fps=7.0))
    assert len(read(path)) == 15
    assert sum(durations(path)) == pytest.approx(15 / 7 * 1000, abs=unit)


def test_a_fast_recording_is_played_in_real_time_at_thirty(tmp_path: Path) -> None:
    made = film([("a", walk(121, 120.0))], load_body(), size=64)
    assert (made.fps, made.frames) == (30.0, 31)


@pytest.mark.parametrize("size", [64, 101, 200])
def test_size_is_the_height_of_the_picture_below_its_caption(size: int) -> None:
    picture = next(film([("a", walk(2))], load_body(), size=size).pictures)
    sheet = contact_sheet([("a", walk(2))], load_body(), size=size)
    assert size < picture.height < size + 40
    assert picture.height % 2 == picture.width % 2 == 0
    body = height(np.asarray(picture)[picture.height - size :])
    assert 0.6 * size < body < size
    assert sheet.height > picture.height


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif"])
def test_transparent_pictures_have_neither_floor_nor_background(tmp_path: Path, name: str) -> None:
    for transparent in (False, True):
        path = tmp_path / f"{transparent}-{name}"
        write_preview(path, [("", walk(2))], load_body(), Look(size=128, transparent=transparent))
    plain, clear = (read(tmp_path / f"{transparent}-{name}")[0] for transparent in (False, True))
    assert (plain[..., 3] == 255).all()
    assert (clear[0, 0, 3], clear[-1, -1, 3]) == (0, 0)
    body = clear[..., 3] == 255
    assert 0.04 < body.mean() < 0.3
    # Put on white, the body looks as it does on the floor.
    own = clear[..., :3] * (clear[..., 3:] / 255) + 255 - clear[..., 3:].astype(float)
    assert np.abs(own - plain[..., :3])[body].mean() < 12
    if name != "a.gif":
        # The shadow is black and half there.
        assert ((clear[..., 3] > 20) & (clear[..., 3] < 100) & (clear[..., :3].max(axis=-1) < 60)).sum() > 50


def test_several_motions_are_a_grid_with_captions_and_who_is_done_stands_still() -> None:
    motions = [("first", walk(4)), ("second", sit_down(4)), ("third", walk(8))]
    made = film(motions, load_body(), size=96)
    pictures = [np.asarray(picture) for picture in made.pictures]
    assert made.frames == len(pictures) == 8 * 2 - 1
    half, across = pictures[0].shape[0] // 2, pictures[0].shape[1] // 2
    up, down, left, right = slice(0, half), slice(half, None), slice(0, across), slice(across, None)
    cells = [(up, left), (up, right), (down, left)]
    for cell in cells:
        assert dark(pictures[0][cell][15:]).sum() > 200
        assert (pictures[0][cell][:15].min(axis=-1) < 120).sum() > 10  # the caption's ink
    assert (pictures[0][down, right] == 255).all()
    np.testing.assert_array_equal(pictures[7][cells[0]], pictures[14][cells[0]])
    assert np.abs(pictures[7][cells[2]].astype(int) - pictures[14][cells[2]]).max() > 3


@pytest.mark.parametrize(
    ("name", "look", "says"),
    [
        ("a.png", Look(fps=10.0), "--fps has no effect"),
        ("a.webp", Look(frames=4), "--frames has no effect"),
        ("a.mp4", Look(transparent=True), "transparent"),
        ("a.webp", Look(view="behind"), "no camera 'behind'"),
        ("a.webp", Look(fps=0.0), "--fps 0"),
        ("a.webp", Look(fps=float("nan")), "--fps nan"),
        ("a.webp", Look(size=5), "picture size"),
        ("a.gif", Look(fps=50.0, size=1024), "too many"),
        ("a.gif", Look(fps=50.1), "shows 50 at most"),
        ("a.avi", Look(), ".webp, .gif, .mp4"),
    ],
)
def test_what_makes_no_picture_is_refused_and_leaves_nothing(
    tmp_path: Path, name: str, look: Look, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "MAX_GIF_BYTES", 25_000_000)
    with pytest.raises(UsageError) as caught:
        write_preview(tmp_path / name, [("a", walk(120))], load_body(), look)
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert not list(tmp_path.iterdir())


def test_films_of_days_are_refused_before_anything_is_drawn() -> None:
    with pytest.raises(UsageError, match="too long"):
        film([("a", walk(2000, 1.0))], load_body(), fps=30.0)
    with pytest.raises(UsageError, match="motions"):
        film([("a", walk(2))] * 26, load_body())


def test_without_av_an_mp4_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AssetError) as caught:
        write_preview(tmp_path / "a.mp4", [("a", walk(2))], load_body())
    assert "mclip[mp4]" in caught.value.hint


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".mp4"])
def test_only_films_of_our_own_are_replaced(tmp_path: Path, suffix: str) -> None:
    if suffix == ".mp4":
        pytest.importorskip("av", reason="av is not installed")
    path, look = tmp_path / f"a{suffix}", Look(size=32)
    for _ in range(2):
        write_preview(path, [("a", walk(2))], load_body(), look)
    path.write_bytes(b"somebody's film")
    with pytest.raises(UsageError, match="not made by mclip"):
        write_preview(path, [("a", walk(2))], load_body(), look)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    walk(4).save(tmp_path / "walk.npz")
    sit_down(6).save(tmp_path / "sit.npz")
    return runner(monkeypatch, capsys)


def test_the_command_makes_films_of_several_motions(tmp_path: Path, run: Run) -> None:
    done = run("view", "walk.npz", "sit.npz", "-o", "both.webp", "--size", "64", "--camera", "side", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["path"] == "both.webp"
    assert [each["frames"] for each in result["motions"]] == [4, 6]
    assert len(read(tmp_path / "both.webp")) == 7  # the first lasts from 0 to 0.3 s, at 20 per second


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["walk.npz", "-o", "a.tiff"], 2),
        (["walk.npz", "-o", "a.webp", "--camera", "drone"], 2),
        (["walk.npz", "missing.npz", "-o", "a.webp"], 4),
        (["empty.npz", "-o", "a.webp"], 4),
        (["nan.npz", "-o", "a.webp"], 4),
        (["walk.npz", "-o", "a.png", "--fps", "12"], 2),
    ],
)
def test_bad_input_is_a_sentence(tmp_path: Path, run: Run, arguments: list[str], code: int) -> None:
    rate = np.array(30.0)
    np.savez(tmp_path / "empty.npz", poses=np.zeros((0, 156)), trans=np.zeros((0, 3)), mocap_framerate=rate)
    np.savez(tmp_path / "nan.npz", poses=np.full((2, 156), np.nan), trans=np.zeros((2, 3)), mocap_framerate=rate)
    done = run("view", *arguments)
    assert done.code == code, done.err
    assert done.err.startswith("mclip: ")
    assert len(done.err.splitlines()) <= 3
    assert not [each for each in tmp_path.iterdir() if each.name.startswith("a.")]


def test_a_film_needs_no_numba(tmp_path: Path) -> None:
    sit_down(3).save(tmp_path / "a.npz")
    program = (
        "import sys; sys.modules['numba'] = None\nfrom mclip.cli import main\n"
        "sys.argv = ['mclip', 'view', 'a.npz', '-o', 'a.webp', '--size', '48']\nmain()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    assert len(read(tmp_path / "a.webp")) == 3
