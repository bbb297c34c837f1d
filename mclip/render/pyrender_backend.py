"""pyrender (OpenGL): the independent witness of our rasteriser, and the choice of people with a GPU. Import it late.

Importing this module needs pyrender and a GL library, EGL or OSMesa; without them it raises ImportError.
"""

from __future__ import annotations

import os
import sys
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mclip.errors import AssetError
from mclip.render.camera import FIELD_OF_VIEW, Camera
from mclip.render.light import BRIGHT, LIGHTS

HINT = "install libegl1, or libosmesa6 and PyOpenGL >= 3.1.7 (PYOPENGL_PLATFORM=osmesa); or leave --renderer out"

# PyOpenGL chooses its platform at import. EGL needs no display; whoever set another one has a reason.
if "OpenGL" not in sys.modules:
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
try:
    import pyrender
    import trimesh
except ImportError:
    raise
except Exception as error:
    # A missing libEGL or libOSMesa surfaces as AttributeError or OSError.
    raise ImportError(f"no GL library: {error}") from error


@cache
def _renderer(size: int) -> pyrender.OffscreenRenderer:
    try:
        return pyrender.OffscreenRenderer(size, size)
    except Exception as error:
        # No EGL device, or a PyOpenGL too old for OSMesa: each platform fails in its own way.
        raise AssetError(
            f"pyrender cannot open a picture on {os.environ.get('PYOPENGL_PLATFORM', 'this platform')} ({error})", HINT
        ) from None


def draw(vertices: NDArray[np.float32], faces: NDArray[np.int32], camera: Camera, size: int) -> NDArray[np.uint8]:
    """One picture (size, size, 4): colour on white, and coverage."""
    scene = pyrender.Scene(bg_color=[1.0, 1.0, 1.0, 0.0], ambient_light=[0.12, 0.14, 0.18])
    material = pyrender.MetallicRoughnessMaterial(
        baseColorFactor=(*(BRIGHT / 255.0), 1.0), metallicFactor=0.0, roughnessFactor=0.8
    )
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    scene.add(pyrender.Mesh.from_trimesh(mesh, material=material, smooth=True))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = camera.axes.T, camera.eye
    scene.add(pyrender.PerspectiveCamera(yfov=FIELD_OF_VIEW, aspectRatio=1.0, znear=0.05, zfar=1000.0), pose=pose)
    for light in LIGHTS:
        strength = float(np.linalg.norm(light))
        scene.add(pyrender.DirectionalLight(color=np.ones(3), intensity=2.6 * strength), pose=_facing(light, camera))
    colour, _ = _renderer(size).render(scene, flags=pyrender.RenderFlags.RGBA)
    return np.array(colour, np.uint8)


def _facing(light: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    """The pose (4, 4) of a light that shines from direction `light`, given in camera axes."""
    back = light / np.linalg.norm(light) @ camera.axes
    right = np.cross([0.3, 0.9, 0.3], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
    return pose
