from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.body.model import load_body
from mclip.body.skinning import pose_vertices
from mclip.errors import AssetError, UsageError
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import Motion
from mclip.render.camera import HALF_SIDE, MARGIN, Camera, elevation, fit, heading, look, portrait
from mclip.render.frames import clip_frames, find_backend, render_frames, render_layers
from mclip.skeleton.smpl import JOINT, REST_JOINTS, forward_kinematics

# A triangle pair facing -y, one metre wide, at the origin.
SQUARE = np.array([[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5]], np.float32)
SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def poses() -> Motion:
    """T-pose, standing, sitting, lying on the back, kicking, turned around and bent."""
    pose = np.zeros((6, 24, 3), np.float32)
    pose[:, 0, 0] = np.pi / 2
    pose[1:, JOINT["left_shoulder"], 2] = -1.2
    pose[1:, JOINT["right_shoulder"], 2] = 1.2
    pose[2, [JOINT["left_hip"], JOINT["right_hip"]], 0] = -1.5
    pose[2, [JOINT["left_knee"], JOINT["right_knee"]], 0] = 1.5
    pose[3, 0] = 0
    pose[4, JOINT["left_hip"], 0] = -1.4
    pose[5, 0] = [0, np.pi / np.sqrt(2), np.pi / np.sqrt(2)]
    pose[5, JOINT["spine1"], 0] = 0.8
    return Motion(pose=pose, transl=np.zeros((6, 3), np.float32), fps=30.0)


def joints_of(motion: Motion) -> NDArray[np.float32]:
    return forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)[1]


def test_the_heading_is_where_the_face_looks() -> None:
    joints = joints_of(poses())
    for frame, angle in ((0, -np.pi / 2), (5, np.pi / 2)):
        assert heading(joints[frame]) == pytest.approx(angle, abs=1e-3)
        toes = joints[frame, JOINT["left_foot"]] - joints[frame, JOINT["left_ankle"]]
        assert toes[:2] @ [np.cos(angle), np.sin(angle)] > 0.1


def test_lying_bodies_are_seen_from_higher() -> None:
    joints = joints_of(poses())
    assert elevation(joints[3]) > elevation(joints[0]) + 0.3


def test_camera_axes_are_a_right_handed_frame_with_the_horizon_level() -> None:
    axes = look(0.7, 0.3)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert axes[0, 2] == 0.0
    assert axes[1, 2] > 0.9
    np.testing.assert_allclose(look(0.0, 0.0)[2], [1, 0, 0])


def test_the_fitted_camera_is_the_nearest_that_shows_everything() -> None:
    vertices = np.random.default_rng(3).normal(0, [1, 0.3, 0.5], (500, 3)).astype(np.float32)
    camera = fit(vertices, look(0.4, 0.2))
    local = (vertices - camera.eye) @ camera.axes.T
    edge = np.abs(local[:, :2] / -local[:, 2:]) / HALF_SIDE
    assert edge.max() == pytest.approx(1 / MARGIN, abs=1e-4)
    widest = edge.max(axis=0).argmax()
    sides = (local[:, widest] / -local[:, 2]) / HALF_SIDE
    assert sides.min() == pytest.approx(-sides.max(), abs=1e-4)  # centred, so no nearer eye would do


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_square_covers_the_pixels_geometry_says(backend: str) -> None:
    # At depth 0.5 / HALF_SIDE * 2 the picture is two metres wide: the square is its middle half.
    camera = Camera(np.array([0.0, -1.0 / HALF_SIDE, 0.0]), look(-np.pi / 2, 0.0))
    covered = render_layers(SQUARE[None], SQUARE_FACES, [camera], size=64, backend=backend)[0, ..., 3]
    expected = np.zeros((64, 64), np.uint8)
    expected[16:48, 16:48] = 255
    np.testing.assert_array_equal(covered, expected)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_what_is_nearer_hides_what_is_behind_and_backs_are_not_drawn(backend: str) -> None:
    camera = Camera(np.array([0.0, -1.0 / HALF_SIDE, 0.0]), look(-np.pi / 2, 0.0))
    tilted = SQUARE @ np.array([[1, 0, 0], [0, 1, 0], [0, 0.5, 1]], np.float32)  # lit otherwise
    behind = tilted + np.array([0, 1.0, 0], np.float32)
    both = np.concatenate([behind, SQUARE])
    alone = render_frames(SQUARE[None], SQUARE_FACES, [camera], size=64, backend=backend)[0]
    for faces in (np.concatenate([SQUARE_FACES, SQUARE_FACES + 4]), np.concatenate([SQUARE_FACES + 4, SQUARE_FACES])):
        together = render_frames(both[None], faces, [camera], size=64, backend=backend)[0]
        np.testing.assert_array_equal(together[18:46, 18:46], alone[18:46, 18:46])
    assert (render_frames(SQUARE[None], SQUARE_FACES[:, ::-1], [camera], size=64, backend=backend) == 255).all()
    away = Camera(camera.eye, look(np.pi / 2, 0.0))
    assert (render_frames(SQUARE[None], SQUARE_FACES, [away], size=64, backend=backend) == 255).all()


def test_numpy_and_numba_draw_the_same() -> None:
    pytest.importorskip("numba")
    first, second = (clip_frames(load_body(), poses(), range(6), backend=name) for name in ("numpy", "numba"))
    difference = np.abs(first.astype(int) - second)
    # The last bit of a shade may round to the next grey; a sample on an edge may fall to either side.
    assert (difference > 1).any(axis=-1).mean() < 1e-4


def test_frames_are_upright_bright_centred_and_on_white() -> None:
    frames = clip_frames(load_body(), poses(), [1, 5])
    assert frames.shape == (2, 224, 224, 3)
    assert frames.dtype == np.uint8
    for frame in frames:
        body = (frame < 250).any(axis=-1)
        rows, columns = np.nonzero(body)
        assert rows.min() == pytest.approx(223 - rows.max(), abs=3)
        assert 0.88 < np.ptp(rows) / 224 < 0.97
        assert columns.mean() == pytest.approx(112, abs=12)
        # The head, at the top, is narrower than the shoulders below it.
        assert body[rows.min() + 8].sum() < body[rows.min() + 50].sum()
        assert 90 < frame[body].mean() < 215
        red, _, blue = frame[body].mean(axis=0)
        assert blue > red + 10
        assert (frame[:8] == 255).all()


def test_a_body_that_turns_away_is_as_bright() -> None:
    first, second = clip_frames(load_body(), poses(), [1, 2])
    shades = [frame[(frame < 250).any(axis=-1)].mean() for frame in (first, second)]
    assert shades[0] == pytest.approx(shades[1], rel=0.15)


def test_silhouettes_agree_with_pyrender() -> None:
    try:
        find_backend("pyrender")(SQUARE, SQUARE_FACES, fit(SQUARE, look(-np.pi / 2, 0.0)), 640)
    except AssetError as error:
        pytest.skip(f"the independent renderer is missing: {error.message}")
    body, motion = load_body(), poses()
    vertices, joints = pose_vertices(body, motion), joints_of(motion)
    cameras = [portrait(*pair) for pair in zip(vertices, joints, strict=True)]
    # Larger than CLIP's, because the two place their four samples differently within a pixel of the outline.
    theirs, ours = (
        render_layers(vertices, body.faces, cameras, size=640, backend=name)[..., 3] >= 128
        for name in ("pyrender", "numba")
    )
    for frame in range(len(motion)):
        union = (theirs[frame] | ours[frame]).sum()
        assert (theirs[frame] & ours[frame]).sum() / union >= 0.99, f"pose {frame}"


def test_pyrender_without_a_gl_library_is_an_error_with_a_next_step() -> None:
    program = (
        "import sys; sys.modules['pyrender'] = None\n"
        "from mclip.errors import AssetError\nfrom mclip.render.frames import find_backend\n"
        "try: find_backend('pyrender')\nexcept AssetError as error: print(error.hint)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "libegl1" in result.stdout


def test_a_gl_platform_that_does_not_work_is_an_asset_error() -> None:
    pytest.importorskip("pyrender")
    program = (
        "import numpy as np\nfrom mclip.errors import AssetError\nfrom mclip.render.camera import fit, look\n"
        "from mclip.render.frames import find_backend\n"
        "points = np.eye(3, dtype=np.float32)\n"
        "try: find_backend('pyrender')(points, np.array([[0, 1, 2]], np.int32), fit(points, look(0.0, 0.0)), 8)\n"
        "except AssetError as error: print(error.hint)\n"
    )
    # With no display and no GL driver to be found, EGL has no device to open.
    environment = os.environ | {"PYOPENGL_PLATFORM": "egl", "EGL_DEVICE_ID": "99"}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert "--renderer" in result.stdout


def test_without_numba_the_numpy_rasteriser_and_skinning_take_over() -> None:
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\nfrom mclip.body.model import load_body\nfrom mclip.motion import Motion\n"
        "from mclip.render.frames import clip_frames\n"
        "m = Motion(pose=np.zeros((1, 24, 3), np.float32), transl=np.zeros((1, 3), np.float32), fps=30.0)\n"
        "print((clip_frames(load_body(), m, [0]) < 250).any(axis=-1).sum())\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(result.stdout) > 2000


@pytest.mark.parametrize(("size", "backend"), [(0, "numba"), (5000, "numba"), (64, "blender")])
def test_impossible_requests_are_usage_errors(size: int, backend: str) -> None:
    vertices = np.array(REST_JOINTS)[None]
    with pytest.raises(UsageError):
        render_frames(vertices, SQUARE_FACES, [fit(vertices[0], look(0, 0))], size=size, backend=backend)
