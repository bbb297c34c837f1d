"""What mclip writes as .glb: valid, and deformed by glTF's own equations into the vertices our skinning makes."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mclip.body.model import load_body
from mclip.body.skinning import pose_vertices
from mclip.errors import UsageError
from mclip.formats import load
from mclip.formats.style import Style
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT_NAMES
from mclip.view.files import save
from mclip.view.glb import glb_bytes

GOLDEN = Path(__file__).parent / "golden"
VALIDATE = """
const {validateBytes} = require('gltf-validator');
validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])), {maxIssues: 20}).then(
  report => console.log(JSON.stringify(report)));
"""
_TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def wild(frames: int = 12, fps: float = 30.0) -> Motion:
    """Every joint turned by up to half a turn, far from the origin."""
    rng = np.random.default_rng(3)
    axis = rng.normal(size=(frames, 24, 3))
    axis *= rng.uniform(0, np.pi, (frames, 24, 1)) / np.linalg.norm(axis, axis=-1, keepdims=True)
    transl = rng.normal(scale=3, size=(frames, 3)).astype(np.float32)
    return Motion(pose=axis.astype(np.float32), transl=transl, fps=fps, origin={"prompt": "gehen – 走"})


class Scene:
    """A .glb read by nothing of ours, as far as one skinned mesh and one animation go."""

    def __init__(self, content: bytes) -> None:
        size = struct.unpack_from("<I", content, 12)[0]
        self.document: dict[str, Any] = json.loads(content[20 : 20 + size])
        self.binary = content[20 + size + 8 :]
        self.nodes: list[dict[str, Any]] = self.document["nodes"]

    def values(self, index: int) -> NDArray[np.float64]:
        accessor = self.document["accessors"][index]
        view = self.document["bufferViews"][accessor["bufferView"]]
        width = _WIDTHS[accessor["type"]]
        flat = np.frombuffer(
            self.binary, _TYPES[accessor["componentType"]], accessor["count"] * width, view["byteOffset"]
        )
        return flat.reshape(accessor["count"], width).astype(np.float64)

    def tracks(self) -> dict[tuple[int, str], NDArray[np.float64]]:
        (animation,) = self.document["animations"]
        return {
            (channel["target"]["node"], channel["target"]["path"]): self.values(
                animation["samplers"][channel["sampler"]]["output"]
            )
            for channel in animation["channels"]
        }

    def world(self, node: int, frame: int) -> NDArray[np.float64]:
        """The node's matrix (4, 4) in the world at a keyframe."""
        matrix, tracks = np.eye(4), self.tracks()
        chain = [node]
        while above := [index for index, each in enumerate(self.nodes) if chain[0] in each.get("children", [])]:
            chain = [above[0], *chain]
        for each in chain:
            local = np.eye(4)
            turn = tracks.get((each, "rotation"))
            if turn is not None:
                local[:3, :3] = Rotation.from_quat(turn[frame]).as_matrix()
            place = tracks.get((each, "translation"))
            local[:3, 3] = self.nodes[each].get("translation", [0, 0, 0]) if place is None else place[frame]
            matrix = matrix @ local
        return matrix

    def vertices(self, frame: int) -> NDArray[np.float64]:
        """Skinned vertices (V, 3): glTF 2.0, section 3.7.3.3."""
        (skin,), (mesh,) = self.document["skins"], self.document["meshes"]
        parts = mesh["primitives"][0]["attributes"]
        inverse = self.values(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        joints = np.stack([self.world(node, frame) for node in skin["joints"]]) @ inverse
        position = np.pad(self.values(parts["POSITION"]), ((0, 0), (0, 1)), constant_values=1.0)
        blended = np.einsum(
            "vk,vkab->vab", self.values(parts["WEIGHTS_0"]), joints[self.values(parts["JOINTS_0"]).astype(int)]
        )
        result: NDArray[np.float64] = np.einsum("vab,vb->va", blended, position)[:, :3]
        return result


def test_its_buffers_say_what_they_are_for_and_no_more() -> None:
    document = Scene(glb_bytes(wild(), load_body())).document
    (part,) = document["meshes"][0]["primitives"]
    views = [accessor["bufferView"] for accessor in document["accessors"]]
    targets = {view: each["target"] for view, each in enumerate(document["bufferViews"]) if "target" in each}
    # 34962 is ARRAY_BUFFER, 34963 ELEMENT_ARRAY_BUFFER.
    assert targets == {views[index]: 34962 for index in part["attributes"].values()} | {views[part["indices"]]: 34963}
    bounded = {index for index, accessor in enumerate(document["accessors"]) if "min" in accessor}
    times = {sampler["input"] for animation in document["animations"] for sampler in animation["samplers"]}
    assert bounded == {part["attributes"]["POSITION"], *times}


def test_its_vertices_are_those_of_our_skinning() -> None:
    motion = wild()
    scene, expected = Scene(glb_bytes(motion, load_body())), pose_vertices(load_body(), motion)
    for frame in (0, 5, 11):
        x, y, z = scene.vertices(frame).T
        # glTF is Y up: back to our Z up. The promise is a hundredth of a millimetre.
        np.testing.assert_allclose(np.stack([x, -z, y], axis=1), expected[frame], atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_the_khronos_validator_finds_nothing(tmp_path: Path, frames: int) -> None:
    node = shutil.which("node")
    if not node or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("node or gltf-validator is missing; NODE_PATH=... after npm install gltf-validator")
    save(tmp_path / "a.glb", wild(frames))
    done = subprocess.run([node, "-e", VALIDATE, str(tmp_path / "a.glb")], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["issues"]["numErrors"] == report["issues"]["numWarnings"] == 0, report["issues"]["messages"]
    assert report["info"]["totalVertexCount"] == 6890
    assert report["info"]["animationCount"] == 1


def test_at_rest_it_stands_on_the_floor_and_faces_z() -> None:
    scene = Scene(glb_bytes(wild(1), load_body()))
    vertices = scene.values(scene.document["meshes"][0]["primitives"][0]["attributes"]["POSITION"])
    assert vertices[:, 1].min() == pytest.approx(0.0, abs=1e-6)
    assert 1.5 < vertices[:, 1].max() < 2.0
    names = {node["name"]: node for node in scene.nodes}
    assert set(names) == {"body", *JOINT_NAMES}
    assert names["left_hip"]["translation"][0] > 0 > names["right_hip"]["translation"][0]
    assert names["left_foot"]["translation"][2] > 0.1  # toes are in front of ankles


def test_normals_point_out_of_the_body() -> None:
    scene = Scene(glb_bytes(wild(1), load_body()))
    parts = scene.document["meshes"][0]["primitives"][0]["attributes"]
    vertices, normals = scene.values(parts["POSITION"]), scene.values(parts["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-6)
    assert normals[vertices[:, 1].argmax(), 1] > 0.5
    assert normals[vertices[:, 0].argmax(), 0] > 0.3


def test_neighbouring_rotations_have_no_jump_of_sign() -> None:
    turning = wild(60)
    turning.pose[:] = 0
    turning.pose[:, 4, 0] = np.linspace(0, 4 * np.pi, 60)
    for (_, path), values in Scene(glb_bytes(turning, load_body())).tracks().items():
        if path == "rotation":
            assert (np.sum(values[1:] * values[:-1], axis=1) > 0).all()


@pytest.mark.parametrize("fps", [24.0, 59.94, 120.0])
def test_it_reads_back_as_it_was(tmp_path: Path, fps: float) -> None:
    motion = wild(7, fps)
    save(tmp_path / "a.glb", motion)
    read = load(tmp_path / "a.glb")
    assert (len(read), read.fps) == (7, fps)
    np.testing.assert_allclose(read.transl, motion.transl, atol=1e-5)
    np.testing.assert_allclose(pose_vertices(load_body(), read), pose_vertices(load_body(), motion), atol=1e-4)


@pytest.mark.parametrize(
    ("noted", "fps"), [("1.0", 1), ("1000", 1000), ('"x"', 30), ("1e9", 30), ("0.99", 30), ("1001", 30), ("true", 30)]
)
def test_a_noted_rate_that_is_none_is_not_believed(tmp_path: Path, noted: str, fps: float) -> None:
    content = glb_bytes(wild(7, 24.0), load_body()).replace(b'"fps":24.0', b'"fps":' + noted.encode().ljust(4))
    (tmp_path / "a.glb").write_bytes(content)
    assert load(tmp_path / "a.glb").fps == fps


def test_a_shape_of_smpl_shapes_only_smpl_bodies() -> None:
    shaped = replace(wild(1), betas=np.ones(10, np.float32))
    licensed = replace(load_body(), free=False)
    free, own = (Scene(glb_bytes(shaped, body)).vertices(0) for body in (load_body(), licensed))
    assert np.abs(free - own).max() > 0.01
    x, y, z = own.T
    np.testing.assert_allclose(np.stack([x, -z, y], axis=1), pose_vertices(licensed, shaped)[0], atol=1e-5)


@pytest.mark.parametrize("style", [Style(up="z"), Style(scale=100.0), Style(layout="smplx")])
def test_what_gltf_does_not_leave_open_cannot_be_asked_for(tmp_path: Path, style: Style) -> None:
    with pytest.raises(UsageError, match="no effect"):
        save(tmp_path / "a.glb", wild(1), style)
    assert not list(tmp_path.iterdir())
