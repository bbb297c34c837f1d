"""Where the camera stands: in front of the body, a little to the side and above, as close as the body allows.

The world is Z up. A camera looks along its own -z axis; x is right and y is up in the picture, as in OpenGL.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.skeleton.smpl import JOINT

FIELD_OF_VIEW = np.radians(30.0)
# Tangent of half the field of view: half the picture's side at depth one.
HALF_SIDE = float(np.tan(FIELD_OF_VIEW / 2))
# Free space around the body, as a factor on its size in the picture.
MARGIN = 1.08
# A frontal view hides the legs of a walk and a profile hides one arm; between them both show.
SIDE_ANGLE = np.radians(30.0)
ELEVATION = 0.15
# A body that lies is seen from higher, or it would be a line.
ELEVATION_LYING = 0.65
# Written into the store, so that frames made otherwise are not mixed up with these.
DESCRIPTION = "fov 30, yaw heading+30, elevation 0.15 (0.65 lying), fitted, margin 1.08"


@dataclass(frozen=True, eq=False)
class Camera:
    """A perspective camera with a square picture and FIELD_OF_VIEW.

    eye   (3,) float64, metres, world
    axes  (3, 3) float64, rows: right, up, and towards the viewer, unit vectors in the world
    """

    eye: NDArray[np.float64]
    axes: NDArray[np.float64]


def heading(joints: NDArray[np.float32]) -> float:
    """The direction the body faces, as the angle in radians from +x towards +y, from joints (24, 3)."""
    across = joints[JOINT["left_hip"]] - joints[JOINT["right_hip"]]
    across = across + joints[JOINT["left_shoulder"]] - joints[JOINT["right_shoulder"]]
    # across x up
    return float(np.arctan2(-across[0], across[1]))


def elevation(joints: NDArray[np.float32]) -> float:
    """How far above the horizon the camera stands, in radians: more the less upright the joints (24, 3) are."""
    spine = joints[JOINT["neck"]] - joints[JOINT["pelvis"]]
    upright = abs(float(spine[2])) / max(float(np.linalg.norm(spine)), 1e-9)
    return ELEVATION + (ELEVATION_LYING - ELEVATION) * (1.0 - upright)


def look(yaw: float, above: float) -> NDArray[np.float64]:
    """Camera axes (3, 3) of a viewer who stands at angle `yaw` around the subject and `above` its horizon, radians."""
    right = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    back = np.array([np.cos(above) * np.cos(yaw), np.cos(above) * np.sin(yaw), np.sin(above)])
    return np.stack([right, np.cross(back, right), back])


def fit(vertices: NDArray[np.float32], axes: NDArray[np.float64], margin: float = MARGIN) -> Camera:
    """The nearest camera with these axes that has all vertices (N, 3) in its picture.

    A vertex (x, y, z) in camera axes is inside when |x - eye_x| <= k (eye_z - z) with k = HALF_SIDE / margin, and the
    same for y. Each side of the picture is one linear bound over all vertices: the nearest eye has a closed form.
    """
    return fit_bounds(bounds(vertices, axes, margin), axes, margin)


def bounds(vertices: NDArray[np.float32], axes: NDArray[np.float64], margin: float = MARGIN) -> NDArray[np.float64]:
    """What `fit` needs to know of vertices (N, 3): (4,); of more vertices it is the largest of each of the four."""
    k = HALF_SIDE / margin
    x, y, z = axes.astype(np.float32) @ vertices.T * np.array([[1.0], [1.0], [k]], np.float32)
    return np.array([bound.max() for bound in (z + x, z - x, z + y, z - y)], np.float64)


def fit_bounds(sides: NDArray[np.float64], axes: NDArray[np.float64], margin: float = MARGIN) -> Camera:
    """The camera of `fit` for vertices with these `bounds` (4,)."""
    right, left, top, bottom = sides.tolist()
    distance = max(right + left, top + bottom) / (2 * HALF_SIDE / margin)
    return Camera(np.array([(right - left) / 2, (top - bottom) / 2, distance]) @ axes, axes)


def portrait(vertices: NDArray[np.float32], joints: NDArray[np.float32]) -> Camera:
    """The camera for one frame on its own, as CLIP is to see it, from vertices (V, 3) and joints (24, 3)."""
    return fit(vertices, portrait_axes(joints))


def portrait_axes(joints: NDArray[np.float32]) -> NDArray[np.float64]:
    """The axes (3, 3) of the camera of `portrait`."""
    return look(heading(joints) + SIDE_ANGLE, elevation(joints))
