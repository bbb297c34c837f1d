"""The floor: its two backends, what geometry says of it, and films too long to be held."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mclip.body.model import load_body
from mclip.motion import Motion
from mclip.render.camera import HALF_SIDE, Camera, bounds, fit, fit_bounds, look
from mclip.view import preview
from mclip.view.film import Film
from mclip.view.floor import SHADOW, TILES, paint_numpy, path_mask
from mclip.view.preview import is_preview
from mclip.view.stage import set_stage
from tests.test_film import walk

SIZE = 96
FLOOR_CAMERA = Camera(np.array([0.3, -4.0, 1.6]), look(-np.pi / 2, 0.25))


def layer(rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
    """Nothing but white; or a body with an edge that covers pixels by half."""
    picture = np.full((SIZE, SIZE, 4), 255, np.uint8)
    picture[..., 3] = 0
    if rng is not None:
        picture[30:60, 40:60] = [90, 110, 130, 255]
        picture[30:60, 60] = [170, 180, 190, 128]
    return picture


def on_floor(row: int, column: int, camera: Camera) -> NDArray[np.float64]:
    """Where the ray through the middle of a pixel meets z = 0."""
    x, y = (2 * (column + 0.5) / SIZE - 1) * HALF_SIDE, (1 - 2 * (row + 0.5) / SIZE) * HALF_SIDE
    ray = np.array([x, y, -1.0]) @ camera.axes
    return np.asarray(camera.eye - ray * camera.eye[2] / ray[2])


def test_numpy_and_numba_paint_the_same_floor() -> None:
    pytest.importorskip("numba")
    from mclip.view.floor_numba import paint

    rng = np.random.default_rng(0)
    shadow = rng.integers(0, 256, (SIZE, SIZE), np.uint8)
    line = rng.integers(0, 256, (SIZE, SIZE), np.uint8)
    for axes in (look(-np.pi / 2, 0.25), look(1.0, 0.0), look(2.0, -0.2), look(0.3, 1.2)):
        for lines in (line, np.zeros((0, 0), np.uint8)):
            pair = [np.zeros((SIZE, 50, 4), np.uint8) for _ in range(2)]
            for draw, result in zip((paint, paint_numpy), pair, strict=True):
                eye, centre = np.array([3.0, -2.0, 1.5]), np.array([3.1, -5.0])
                draw(layer(rng), shadow, lines, axes, eye, centre, 1.3, 20, result)
            assert np.abs(pair[0].astype(int) - pair[1]).max() <= 1
            assert len(np.unique(pair[0][..., 0])) > 1


def test_tiles_lie_where_geometry_says_and_do_not_move_with_the_camera() -> None:
    nothing, none = np.zeros((SIZE, SIZE), np.uint8), np.zeros((0, 0), np.uint8)
    for shift in ([0.0, 0.0, 0.0], [0.7, -0.4, 0.0]):
        camera = Camera(FLOOR_CAMERA.eye + np.array(shift), FLOOR_CAMERA.axes)
        result = np.zeros((SIZE, SIZE, 4), np.uint8)
        # A floor that does not fade.
        paint_numpy(layer(), nothing, none, camera.axes, camera.eye, camera.eye[:2], 1e4, 0, result)
        checked = 0
        for row in range(60, SIZE, 3):
            for column in range(0, SIZE, 3):
                x, y, _ = on_floor(row, column, camera)
                margin = min(abs(value % 0.5 - 0.25) for value in (x, y))
                if margin > 0.17:  # near an edge a pixel shows both
                    continue
                light = (np.floor(x / 0.5) + np.floor(y / 0.5)) % 2
                other = np.abs(TILES - result[row, column, :3]).sum(axis=1)
                assert other[int(light)] < other[1 - int(light)], (row, column)
                checked += 1
        assert checked > 40


def test_a_shadow_darkens_the_floor_and_not_the_body() -> None:
    everywhere, none = np.full((SIZE, SIZE), 255, np.uint8), np.zeros((0, 0), np.uint8)
    body = layer(np.random.default_rng(0))
    results = []
    for shadow in (np.zeros_like(everywhere), everywhere):
        result = np.zeros((SIZE, SIZE, 4), np.uint8)
        paint_numpy(body, shadow, none, FLOOR_CAMERA.axes, FLOOR_CAMERA.eye, np.zeros(2), 1.0, 0, result)
        results.append(result.astype(float))
    bare = body[..., 3] == 0
    np.testing.assert_allclose(results[1][bare][:, :3], results[0][bare][:, :3] * (1 - SHADOW), atol=1)
    np.testing.assert_array_equal(results[0][30:60, 40:60], results[1][30:60, 40:60])


def test_a_path_goes_through_the_pixels_of_its_points_and_hours_of_it_look_alike() -> None:
    ends = np.stack([on_floor(80, 20, FLOOR_CAMERA), on_floor(70, 75, FLOOR_CAMERA)])[:, :2]
    part = np.linspace(0, 1, 50_000)[:, None]
    coarse, fine = (
        path_mask((ends[0] + at * (ends[1] - ends[0])).astype(np.float32), 0.0, FLOOR_CAMERA, SIZE)
        for at in (part[[0, 25_000, -1]], part)
    )
    for mask in (coarse, fine):
        assert min(mask[80, 20], mask[70, 75]) > 60
        assert mask[:60].max() == 0
    assert np.abs(coarse.astype(float) - fine).mean() < 1.5
    assert path_mask(ends[:1].astype(np.float32), 0.0, FLOOR_CAMERA, SIZE).size == 0


def test_a_camera_fits_points_that_are_seen_a_part_at_a_time() -> None:
    points = np.random.default_rng(1).normal(0, 1, (300, 3)).astype(np.float32)
    axes = look(0.4, 0.3)
    whole = fit(points, axes)
    parts = fit_bounds(np.max([bounds(part, axes) for part in np.array_split(points, 7)], axis=0), axes)
    np.testing.assert_array_equal(parts.eye, whole.eye)


def test_the_stage_of_a_long_motion_is_set_without_holding_all_of_its_vertices() -> None:
    frames = 2000
    one = walk(2)
    pose = np.repeat(one.pose[:1], frames, axis=0)
    long = Motion(pose=pose, transl=np.repeat(one.transl[:1], frames, axis=0), fps=30.0)
    expected = set_stage(replace(long, pose=pose[:70], transl=long.transl[:70]), load_body(), range(70))
    tracemalloc.start()
    stage = set_stage(long, load_body(), range(frames))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(stage.cameras[-1].eye, expected.cameras[-1].eye, atol=0.01)
    # Every seventh vertex of all frames would be 24 MB alone.
    assert peak < 16e6


def test_a_webp_is_written_picture_by_picture(tmp_path: Path) -> None:
    alive: list[weakref.ref[Image.Image]] = []
    most = 0

    def pictures() -> Iterator[Image.Image]:
        nonlocal most
        for shade in range(0, 200, 5):
            picture = Image.new("RGB", (32, 32), (shade, 0, 0))
            alive.append(weakref.ref(picture))
            most = max(most, sum(each() is not None for each in alive))
            yield picture

    path = tmp_path / "a.webp"
    preview._write_webp(path, Film((32, 32), 10.0, 40, pictures(), lambda count: pictures()), "view")
    assert most <= 3
    with Image.open(path) as written:
        assert written.n_frames == 40  # type: ignore[attr-defined]
        for index in (0, 1, 20, 39):
            written.seek(index)
            red = np.asarray(written.convert("RGB"))[..., 0].mean()
            assert red == pytest.approx(5 * index, abs=4)
    assert is_preview(path)


def test_of_a_film_of_gigabytes_only_its_notes_are_read(tmp_path: Path) -> None:
    note = preview._note("view")
    moov = (len(note) + 8).to_bytes(4, "big") + b"moov" + note
    head = (16).to_bytes(4, "big") + b"ftypisom\0\0\0\0"
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        # 64-bit sizes, as files of more than 4 GB have; the middle of the file is a hole.
        file.write(head + (1).to_bytes(4, "big") + b"mdat" + (3 * 2**30).to_bytes(8, "big"))
        file.seek(16 + 3 * 2**30)
        file.write(moov)
    tracemalloc.start()
    assert is_preview(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    for content in (b"", head, head + b"\0\0\0\0mdat", head + moov[:12], head + moov.replace(b"mclip", b"other")):
        path.write_bytes(content)
        assert not is_preview(path)
