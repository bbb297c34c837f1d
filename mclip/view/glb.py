"""A motion as glTF 2.0 (.glb): the body's mesh, its skeleton, and one animation. Y up, metres, as glTF has it.

The file is one scene of two roots: the skinned mesh, and the pelvis with the other joints below it, under SMPL's names.
At rest the body stands on the floor in SMPL's T-pose and faces +Z. The animation turns each joint and moves the pelvis.
glTF cannot say how a shape corrects itself as joints bend: those corrections of a licensed SMPL body are left out.
Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip import __version__
from mclip.body.model import Body
from mclip.body.skinning import shape_of
from mclip.files import write_bytes
from mclip.formats.gltf import ARRAY, ELEMENTS, GltfBuilder
from mclip.geometry import Y_UP_TO_Z_UP, axis_angle_to_matrix, matrix_to_quaternion
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT_NAMES, PARENTS

# glTF viewers need not read more than four joints of a vertex.
_INFLUENCES = 4
_MATERIAL = {"baseColorFactor": (0.42, 0.50, 0.60, 1.0), "metallicFactor": 0.0, "roughnessFactor": 0.8}
# The mesh is the first node: the joints follow.
_FIRST_JOINT = 1


def write_glb(path: Path, motion: Motion, body: Body, *, name: str = "motion") -> None:
    """Write a motion of `body` (module docstring), atomically; `name` is that of the animation."""
    write_bytes(path, glb_bytes(motion, body, name=name))


def glb_bytes(motion: Motion, body: Body, *, name: str = "motion") -> bytes:
    """The content of a .glb of a motion of `body`; see `write_glb`."""
    betas = shape_of(body, motion)
    vertices, joints = body.rest_vertices(betas), body.rest_joints(betas)
    # SMPL's rest pose has its chest at the origin; what stands on the floor is easier to set up in a scene.
    lift = np.array([0, -vertices[:, 1].min(), 0], np.float32)
    file = GltfBuilder()
    file.document |= {
        "asset": {"version": "2.0", "generator": f"mclip {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0, _FIRST_JOINT], "extras": {"mclip": dict(motion.origin)}}],
        "nodes": [{"name": "body", "mesh": 0, "skin": 0}, *_joint_nodes(joints, lift)],
        "materials": [{"name": "body", "pbrMetallicRoughness": _MATERIAL}],
    }
    file.document["meshes"] = [{"name": "body", "primitives": [_primitive(file, body, vertices + lift)]}]
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    inverse[:, :3, 3] = -(joints + lift)
    file.document["skins"] = [
        {
            # glTF's matrices are column-major.
            "inverseBindMatrices": file.add(np.ascontiguousarray(inverse.transpose(0, 2, 1))),
            "joints": list(range(_FIRST_JOINT, _FIRST_JOINT + len(joints))),
            "skeleton": _FIRST_JOINT,
        }
    ]
    _animate(file, motion, joints[0], name)
    return file.content()


def _joint_nodes(joints: NDArray[np.float32], lift: NDArray[np.float32]) -> list[dict[str, object]]:
    nodes: list[dict[str, object]] = []
    for joint, parent in enumerate(PARENTS):
        place = joints[joint] + lift if parent < 0 else joints[joint] - joints[parent]
        children = [child + _FIRST_JOINT for child, above in enumerate(PARENTS) if above == joint]
        nodes.append({"name": JOINT_NAMES[joint], "translation": place.tolist()})
        if children:  # an empty list is no valid glTF
            nodes[-1]["children"] = children
    return nodes


def _primitive(file: GltfBuilder, body: Body, vertices: NDArray[np.float32]) -> dict[str, object]:
    joints, weights = body.strongest(_INFLUENCES)
    index_type = np.uint16 if len(vertices) < 1 << 16 else np.uint32
    return {
        "attributes": {
            "POSITION": file.add(vertices, target=ARRAY, bounds=True),
            "NORMAL": file.add(_normals(vertices, body.faces), target=ARRAY),
            # A joint without weight has to be joint 0, as `strongest` has it.
            "JOINTS_0": file.add(joints.astype(np.uint8), target=ARRAY),
            "WEIGHTS_0": file.add(weights.astype(np.float32), target=ARRAY),
        },
        "indices": file.add(body.faces.reshape(-1).astype(index_type), target=ELEMENTS),
        "material": 0,
    }


def _normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Unit normals (V, 3) of vertices, the mean of their triangles' by area."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    across = np.cross(b - a, c - a)
    normal = np.zeros((len(vertices), 3))
    for corner in range(3):
        for axis in range(3):
            normal[:, axis] += np.bincount(faces[:, corner], across[:, axis], len(vertices))
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    # A vertex without a triangle has none; any will do.
    unit = np.where(length > 0, normal / np.maximum(length, 1e-30), [0.0, 1.0, 0.0])
    return unit.astype(np.float32)


def _animate(file: GltfBuilder, motion: Motion, pelvis: NDArray[np.float32], name: str) -> None:
    rotation = axis_angle_to_matrix(motion.pose.astype(np.float64))
    rotation[:, 0] = Y_UP_TO_Z_UP.T @ rotation[:, 0]
    quaternion = _continuous(matrix_to_quaternion(rotation))[..., [1, 2, 3, 0]].astype(np.float32)  # (T, 24, xyzw)
    place = ((motion.transl + pelvis) @ Y_UP_TO_Z_UP).astype(np.float32)
    times = file.add((np.arange(len(motion)) / motion.fps).astype(np.float32), bounds=True)
    outputs = [file.add(place), *(file.add(quaternion[:, joint]) for joint in range(len(JOINT_NAMES)))]
    targets = [(0, "translation"), *((joint, "rotation") for joint in range(len(JOINT_NAMES)))]
    file.document["animations"] = [
        {
            "name": name,
            "samplers": [{"input": times, "output": output, "interpolation": "LINEAR"} for output in outputs],
            "channels": [
                {"sampler": index, "target": {"node": joint + _FIRST_JOINT, "path": path}}
                for index, (joint, path) in enumerate(targets)
            ],
            # glTF knows seconds only; mclip reads its own files at the rate they were written at.
            "extras": {"fps": float(motion.fps)},
        }
    ]


def _continuous(quaternion: NDArray[np.floating]) -> NDArray[np.floating]:
    """Quaternions (T, J, 4) with signs such that neighbours are near: some players do not take the short way."""
    turned = np.sum(quaternion[1:] * quaternion[:-1], axis=-1, keepdims=True) < 0
    sign = np.cumprod(np.where(turned, -1.0, 1.0), axis=0)
    return np.concatenate([quaternion[:1], quaternion[1:] * sign])
