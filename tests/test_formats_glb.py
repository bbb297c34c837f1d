"""glTF reading, against files built here byte by byte, scipy's interpolation, and a cut of a published character."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation, Slerp

import mclip.formats
from mclip.errors import MotionError
from mclip.formats import glb, gltf
from mclip.formats.glb import read_glb
from mclip.geometry import axis_angle_to_matrix
from mclip.skeleton.retarget import RigMotion, lowest_point
from mclip.skeleton.smpl import JOINT, forward_kinematics

KNIGHT = Path(__file__).parent / "golden" / "kaykit" / "knight.glb"
FLOAT, SHORT, BYTE, UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5122, 5120, 5121, 5123, 5125
DTYPES = {
    FLOAT: "<f4", SHORT: "<i2", BYTE: "<i1", UNSIGNED_BYTE: "<u1", UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4",
}  # fmt: skip
WIDTHS = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Builder:
    """A .glb in the making."""

    def __init__(self, nodes: list[dict[str, Any]], joints: list[int] | None = None) -> None:
        self.binary = bytearray()
        self.document: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "nodes": nodes,
            "animations": [{"name": "act", "samplers": [], "channels": []}],
            "accessors": [],
            "bufferViews": [],
            "buffers": [{}],
        }
        if joints is not None:
            self.document["skins"] = [{"joints": joints}]

    def view(self, content: bytes, **extra: int) -> int:
        self.binary += bytes(-len(self.binary) % 4)
        self.document["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content), **extra}
        )
        self.binary += content
        return len(self.document["bufferViews"]) - 1

    def accessor(self, values: Any, component: int = FLOAT, **extra: Any) -> int:
        array = np.asarray(values, DTYPES[component])
        array = array.reshape(len(array), -1)
        self.document["accessors"].append(
            {
                "bufferView": self.view(array.tobytes()),
                "componentType": component,
                "count": len(array),
                "type": WIDTHS[array.shape[1]],
                **extra,
            }
        )
        return len(self.document["accessors"]) - 1

    def track(self, node: int, path: str, times: int | list[float], values: int | Any, mode: str | None = None) -> None:
        animation = self.document["animations"][0]
        sampler = {
            "input": times if isinstance(times, int) else self.accessor(times),
            "output": values if isinstance(values, int) else self.accessor(values),
        }
        animation["samplers"].append(sampler if mode is None else sampler | {"interpolation": mode})
        target = {"node": node, "path": path}
        animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": target})

    def content(self) -> bytes:
        self.document["buffers"][0].setdefault("byteLength", len(self.binary))
        text = json.dumps(self.document).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self.binary) + bytes(-len(self.binary) % 4)
        header = struct.pack("<5I", 0x46546C67, 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
        return header + text + struct.pack("<2I", len(binary), 0x004E4942) + binary

    def save(self, folder: Path) -> Path:
        path = folder / "built.glb"
        path.write_bytes(self.content())
        return path

    def play(self, folder: Path, fps: float = 30.0) -> RigMotion:
        ((_, motion),) = read_glb(self.save(folder), fps=fps)
        return motion


def one_joint() -> Builder:
    return Builder([{"name": "hip"}], [0])


def quaternions(count: int, seed: int = 0) -> NDArray[np.float64]:
    """xyzw, as scipy and glTF have them."""
    return np.asarray(Rotation.random(count, random_state=seed).as_quat())


def test_translations_are_interpolated_linearly_and_stand_still_outside_their_keyframes(tmp_path: Path) -> None:
    built = Builder([{"name": "hip"}, {"name": "knee"}], [0, 1])
    built.track(0, "translation", [0.0, 1.0], [[0, 0, 0], [3, 6, 9]])
    built.track(1, "translation", [0.25, 0.5], [[1, 1, 1], [2, 1, 1]])
    motion = built.play(tmp_path, fps=4.0)
    assert motion.fps == 4.0
    np.testing.assert_allclose(motion.position[:, 0], np.linspace([0, 0, 0], [3, 6, 9], 5), atol=1e-6)
    np.testing.assert_allclose(motion.position[:, 1, 0], [1, 1, 2, 2, 2], atol=1e-6)


def test_rotations_are_interpolated_on_the_sphere_the_short_way(tmp_path: Path) -> None:
    keys = quaternions(4)
    keys[1:3] *= [[2.0], [-1.0]]  # the same rotations
    times = [0.0, 0.3, 1.0, 1.2]
    built = one_joint()
    built.track(0, "rotation", times, keys, "LINEAR")
    motion = built.play(tmp_path, fps=20.0)
    at = np.arange(25) / 20.0
    expected = Slerp(np.asarray(times, np.float32), Rotation.from_quat(keys))(
        np.clip(at, 0, np.float32(1.2))
    ).as_matrix()
    np.testing.assert_allclose(motion.rotation[:, 0], expected, atol=1e-5)


def test_steps_hold_the_last_keyframe_that_is_reached(tmp_path: Path) -> None:
    built = one_joint()
    # 1/30 as float32 is a little more than the time of the second sample.
    built.track(0, "translation", [k / 30 for k in range(4)], [[k, 0, 0] for k in (5, 6, 7, 8)], "STEP")
    assert built.play(tmp_path).position[:, 0, 0].tolist() == [5, 6, 7, 8]
    assert built.play(tmp_path, fps=60.0).position[:, 0, 0].tolist() == [5, 5, 6, 6, 7, 7, 8]


def test_cubic_splines_follow_their_tangents(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    times = [0.0, 0.4, 1.0]
    keys = random.normal(size=(3, 3, 3))  # keyframe, (in-tangent, value, out-tangent), axis
    built = one_joint()
    built.track(0, "translation", times, keys.reshape(9, 3), "CUBICSPLINE")
    motion = built.play(tmp_path, fps=10.0)
    for low, high, span in ((0, 1, slice(0, 5)), (1, 2, slice(4, 11))):
        spline = CubicHermiteSpline(
            times[low : high + 1], keys[low : high + 1, 1], np.stack([keys[low, 2], keys[high, 0]])
        )
        np.testing.assert_allclose(motion.position[span, 0], spline(np.arange(11)[span] / 10), atol=1e-5)


def test_cubic_rotations_are_normalised(tmp_path: Path) -> None:
    keys = np.zeros((2, 3, 4))
    keys[:, 1] = quaternions(2)
    built = one_joint()
    built.track(0, "rotation", [0.0, 1.0], keys.reshape(6, 4), "CUBICSPLINE")
    rotation = built.play(tmp_path).rotation[:, 0]
    np.testing.assert_allclose(rotation @ rotation.swapaxes(-1, -2), np.tile(np.eye(3), (31, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(rotation[[0, -1]], Rotation.from_quat(keys[:, 1]).as_matrix(), atol=1e-6)


@pytest.mark.parametrize(("component", "scale", "tolerance"), [(SHORT, 32767, 1e-4), (BYTE, 127, 0.02)])
def test_normalised_integers_stand_for_fractions(tmp_path: Path, component: int, scale: int, tolerance: float) -> None:
    keys = quaternions(5)
    built = one_joint()
    output = built.accessor(np.round(keys * scale), component, normalized=True)
    built.track(0, "rotation", [0.0, 0.5, 1.0, 1.5, 2.0], output)
    motion = built.play(tmp_path, fps=2.0)
    np.testing.assert_allclose(motion.rotation[:, 0], Rotation.from_quat(keys).as_matrix(), atol=tolerance)


def test_normalised_places_lie_between_minus_one_and_one(tmp_path: Path) -> None:
    built = one_joint()
    output = built.accessor([[-128, -127, 0], [127, 1, 0]], BYTE, normalized=True)
    built.track(0, "translation", [0.0, 1.0], output)
    expected = [[-1.0, -1.0, 0.0], [1.0, 1 / 127, 0.0]]
    np.testing.assert_allclose(built.play(tmp_path, fps=1.0).position[:, 0], expected, atol=1e-12)


@pytest.mark.parametrize("component", DTYPES)
def test_numbers_of_every_type_are_read(tmp_path: Path, component: int) -> None:
    built = one_joint()
    values = [[1, 2, 3], [4, 5, 120]]
    built.track(0, "translation", [0.0, 1.0], built.accessor(values, component))
    assert built.play(tmp_path, fps=1.0).position[:, 0].tolist() == values


def test_what_a_file_leaves_out_is_nothing(tmp_path: Path) -> None:
    built = one_joint()
    accessor = {"componentType": FLOAT, "count": 1}
    built.document["accessors"] = [accessor | {"type": "SCALAR"}, accessor | {"type": "VEC3"}]
    built.track(0, "translation", 0, 1)
    path = built.save(tmp_path)
    content = path.read_bytes()[:-8]  # without a binary chunk
    path.write_bytes(content[:8] + struct.pack("<I", len(content)) + content[12:])
    ((name, motion),) = read_glb(path)
    assert (name, motion.position.tolist()) == ("act", [[[0, 0, 0]]])

    built = one_joint()
    built.track(0, "translation", [1.0, 2.0], [[1, 2, 3], [4, 5, 6]])
    del built.document["bufferViews"][0]["byteOffset"]
    built.document["extensionsRequired"] = ["KHR_mesh_quantization"]
    assert built.play(tmp_path, fps=1.0).position[:, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_values_may_be_interleaved_with_others(tmp_path: Path) -> None:
    built = one_joint()
    records = np.zeros(3, np.dtype([("time", "<f4"), ("unused", "<u2", 2), ("value", "<f4", 3)]))
    records["time"], records["value"] = [0, 1, 2], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    view = built.view(records.tobytes(), byteStride=records.itemsize)
    shared = {"bufferView": view, "componentType": FLOAT, "count": 3}
    built.document["accessors"] += [shared | {"type": "SCALAR"}, shared | {"type": "VEC3", "byteOffset": 8}]
    built.track(0, "translation", 0, 1)
    assert built.play(tmp_path, fps=1.0).position[:, 0].tolist() == records["value"].tolist()


@pytest.mark.parametrize("component", [UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT])
@pytest.mark.parametrize("based", [True, False])
def test_sparse_accessors_replace_single_values(tmp_path: Path, based: bool, component: int) -> None:
    built = one_joint()
    output = built.accessor(np.ones((4, 3)))
    if not based:
        del built.document["accessors"][output]["bufferView"]  # all zeros then
    built.document["accessors"][output]["sparse"] = {
        "count": 2,
        "indices": {
            "bufferView": built.view(np.array([1, 3], DTYPES[component]).tobytes()),
            "componentType": component,
        },
        "values": {"bufferView": built.view(np.array([[7, 8, 9], [4, 5, 6]], "<f4").tobytes())},
    }
    built.track(0, "translation", [0.0, 1.0, 2.0, 3.0], output)
    one = [float(based)] * 3
    assert built.play(tmp_path, fps=1.0).position[:, 0].tolist() == [one, [7, 8, 9], one, [4, 5, 6]]


def test_sparse_accessors_may_replace_all_values(tmp_path: Path) -> None:
    built = one_joint()
    output = built.accessor(np.ones((2, 3)))
    built.document["accessors"][output]["sparse"] = {
        "count": 2,
        "indices": {"bufferView": built.view(bytes([0, 1])), "componentType": UNSIGNED_BYTE},
        "values": {"bufferView": built.view(np.array([[7, 8, 9], [4, 5, 6]], "<f4").tobytes())},
    }
    built.track(0, "translation", [0.0, 1.0], output)
    assert built.play(tmp_path, fps=1.0).position[:, 0].tolist() == [[7, 8, 9], [4, 5, 6]]
    built.binary[built.document["bufferViews"][1]["byteOffset"] + 1] = 2
    with pytest.raises(MotionError, match="a sparse index is 2, there are 2 values"):
        built.play(tmp_path)


def test_nodes_between_and_above_the_joints_count(tmp_path: Path) -> None:
    nodes: list[dict[str, Any]] = [
        {"name": "hip", "translation": [1, 0, 0], "children": [1]},
        {"name": "between", "rotation": [0, 0, np.sqrt(0.5), np.sqrt(0.5)], "children": [2]},
        {"name": "knee", "translation": [1, 0, 0]},
        {"name": "armature", "scale": [2, 2, 2], "translation": [0, 5, 0], "children": [0]},
        {"name": "mesh", "mesh": 0},
    ]
    built = Builder(nodes, [2, 0])
    built.track(3, "translation", [0.0, 1.0], [[0, 5, 0], [0, 6, 0]])
    motion = built.play(tmp_path, fps=1.0)
    assert motion.names == ("hip", "knee")
    assert motion.parents == (-1, 0)
    np.testing.assert_allclose(motion.position[:, 0], [[2, 5, 0], [2, 6, 0]], atol=1e-6)
    np.testing.assert_allclose(motion.position[:, 1], [[2, 7, 0], [2, 8, 0]], atol=1e-6)
    np.testing.assert_allclose(motion.rest_position, [[2, 5, 0], [2, 7, 0]], atol=1e-6)


@pytest.mark.parametrize("width", [2.0, 0.2, -2.0])
def test_a_matrix_is_read_like_its_translation_rotation_and_scale(tmp_path: Path, width: float) -> None:
    rotation = Rotation.random(random_state=3)
    scale, translation = np.array([width, 0.5, 1.5]), np.array([1.0, 2.0, 3.0])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix() * scale, translation
    parts = {"rotation": rotation.as_quat().tolist(), "scale": scale.tolist(), "translation": translation.tolist()}
    rests = []
    for node in ({"matrix": matrix.T.reshape(-1).tolist()}, parts):
        built = Builder([{"name": "hip", "children": [1], **node}, {"name": "knee", "translation": [1, 1, 1]}], [0, 1])
        built.track(1, "translation", [0.0, 1.0], [[1, 1, 1], [1, 1, 1]])
        rests.append(built.play(tmp_path))
    np.testing.assert_allclose(rests[0].rest_rotation, rests[1].rest_rotation, atol=1e-9)
    np.testing.assert_allclose(rests[0].position, rests[1].position, atol=1e-9)


def bound(posed: list[float], base: NDArray[np.float64]) -> Builder:
    """A leg whose node `knee` is rotated by `posed`, bound to its skin unbent; base: from nodes to the mesh's space."""
    built = Builder(
        [
            {"name": "hip", "translation": [0, 2, 0], "children": [1]},
            {"name": "knee", "translation": [0, -1, 0], "rotation": posed, "children": [2]},
            {"name": "ankle", "translation": [0, -1, 0]},
        ],
        [0, 1, 2],
    )
    matrices = np.tile(np.eye(4), (3, 1, 1))
    matrices[:, 1, 3] = [2, 1, 0]
    inverse = np.linalg.inv(base @ matrices)
    built.document["skins"][0]["inverseBindMatrices"] = built.accessor(inverse.swapaxes(-1, -2).reshape(3, 16))
    built.track(0, "translation", [0.0, 1.0], [[0, 2, 0], [0, 2, 0]])
    return built


def test_the_rest_pose_is_the_one_the_skin_was_bound_in(tmp_path: Path) -> None:
    bent = Rotation.from_euler("x", 40, degrees=True).as_quat().tolist()
    motion = bound(bent, np.eye(4)).play(tmp_path)
    np.testing.assert_allclose(motion.rest_position[2], [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(motion.rest_rotation[1], np.eye(3), atol=1e-6)
    assert motion.position[0, 2, 1] > 0.1


def test_a_skin_is_bound_in_the_space_of_what_its_skeleton_hangs_from(tmp_path: Path) -> None:
    bent = Rotation.from_euler("x", 40, degrees=True).as_quat().tolist()
    legs = bound(bent, np.eye(4))
    for node in legs.document["nodes"]:
        node["children"] = [child + 1 for child in node.get("children", [])]
    legs.document["nodes"].insert(0, {"name": "armature", "translation": [3, 5, 0], "children": [1]})
    legs.document["skins"][0]["joints"] = [1, 2, 3]
    _animation(legs.document)["channels"][0]["target"]["node"] = 1
    np.testing.assert_allclose(legs.play(tmp_path).rest_position, [[3, 7, 0], [3, 6, 0], [3, 5, 0]], atol=1e-6)


@pytest.mark.parametrize(("degrees", "believed"), [(29.5, True), (30.5, False)])
def test_a_bind_pose_is_believed_when_it_is_turned_by_less_than_thirty_degrees(
    tmp_path: Path, degrees: float, believed: bool
) -> None:
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([1, 2, 2]) / 3).as_matrix()
    places = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    limbs = [{"name": f"limb{axis}", "translation": place} for axis, place in enumerate(np.eye(3).tolist())]
    built = Builder([{"name": "hip", "translation": [10, 20, 30], "children": [1, 2, 3]}, *limbs], [0, 1, 2, 3])
    matrices = np.tile(np.eye(4), (4, 1, 1))
    matrices[:, :3, :3] = turn
    matrices[:, :3, 3] = places @ turn.T + [30, 10, 20]
    inverse = np.linalg.inv(matrices)
    built.document["skins"][0]["inverseBindMatrices"] = built.accessor(inverse.swapaxes(-1, -2).reshape(4, 16))
    built.track(0, "translation", [0.0, 1.0], [[0, 2, 0], [0, 2, 0]])
    motion = built.play(tmp_path)
    np.testing.assert_allclose(motion.rest_rotation[0], turn if believed else np.eye(3), atol=1e-6)
    np.testing.assert_allclose(motion.rest_position[0], [30, 10, 20] if believed else [10, 20, 30], atol=1e-5)


def test_a_bind_pose_that_is_mirrored_is_not_believed(tmp_path: Path) -> None:
    bent = Rotation.from_euler("x", 20, degrees=True)
    motion = bound(bent.as_quat().tolist(), np.diag([-1.0, 1, 1, 1])).play(tmp_path)
    np.testing.assert_allclose(motion.rest_rotation[1], bent.as_matrix(), atol=1e-6)


def test_a_bind_pose_in_another_space_is_not_believed(tmp_path: Path) -> None:
    base = np.eye(4)
    base[:3, :3] = Rotation.from_euler("x", -90, degrees=True).as_matrix()
    motion = bound([0, 0, 0, 1], base).play(tmp_path)
    np.testing.assert_allclose(motion.rest_position[:, 1], [2, 1, 0], atol=1e-6)


def test_repeated_and_missing_names_are_told_apart(tmp_path: Path) -> None:
    built = Builder([{"name": "a"}, {"name": "a"}, {}])
    built.track(0, "translation", [0.0, 1.0], [[0, 0, 0], [1, 0, 0]])
    assert built.play(tmp_path).names == ("a", "a#1", "#2")


def test_animations_that_move_no_joint_are_left_out(tmp_path: Path) -> None:
    built = Builder([{"name": "hip"}, {"name": "mesh", "mesh": 0}], [0])
    built.track(1, "translation", [0.0, 1.0], [[0, 0, 0], [1, 0, 0]])
    with pytest.raises(MotionError, match=r"built\.glb: has no animation"):
        read_glb(built.save(tmp_path))


def _animation(document: dict[str, Any]) -> dict[str, Any]:
    animation: dict[str, Any] = document["animations"][0]
    return animation


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an offset behind the view": lambda d: d["accessors"][1].update(byteOffset=8),
    "a negative offset": lambda d: d["accessors"][1].update(byteOffset=-4),
    "an offset that is no number": lambda d: d["accessors"][1].update(byteOffset="0"),
    "a view behind the buffer": lambda d: d["bufferViews"][1].update(byteOffset=10_000),
    "a view before the buffer": lambda d: d["bufferViews"][1].update(byteOffset=-12),
    "a stride too long": lambda d: d["bufferViews"][1].update(byteStride=64),
    "a stride too short": lambda d: d["bufferViews"][1].update(byteStride=4),
    "a huge stride": lambda d: d["bufferViews"][1].update(byteStride=10**30),
    "more values than bytes": lambda d: d["accessors"][1].update(count=1000),
    "a billion zeros": lambda d: d["accessors"].__setitem__(
        1, {"componentType": FLOAT, "count": 10**9, "type": "VEC3"}
    ),
    "no values": lambda d: d["accessors"][1].update(count=0),
    "another type": lambda d: d["accessors"][1].update(type="VEC4"),
    "an unknown component type": lambda d: d["accessors"][1].update(componentType=5130),
    "a sparse index too high": lambda d: d["accessors"][1].update(
        sparse={
            "count": 1,
            "indices": {"bufferView": 1, "componentType": UNSIGNED_BYTE, "byteOffset": 15},
            "values": {"bufferView": 1},
        }
    ),
    "a missing view": lambda d: d["accessors"][1].update(bufferView=7),
    "a view that is true": lambda d: d["accessors"][1].update(bufferView=True),
    "a negative view": lambda d: d["accessors"][1].update(bufferView=-1),
    "a missing accessor": lambda d: _animation(d)["samplers"][0].update(output=9),
    "a missing sampler": lambda d: _animation(d)["channels"][0].update(sampler=-1),
    "a track without a target": lambda d: _animation(d)["channels"][0].pop("target"),
    "an unknown interpolation": lambda d: _animation(d)["samplers"][0].update(interpolation="BEZIER"),
    "too few values for splines": lambda d: _animation(d)["samplers"][0].update(interpolation="CUBICSPLINE"),
    "times that do not increase": lambda d: _animation(d)["samplers"][0].update(input=2),
    "data elsewhere": lambda d: d["buffers"][0].update(uri="data.bin"),
    "a missing joint": lambda d: d["skins"][0].update(joints=[5]),
    "a circle": lambda d: d["nodes"].__setitem__(0, {"name": "hip", "children": [0]}),
    "two parents": lambda d: d["nodes"].extend([{"children": [0]}, {"children": [0]}]),
    "two parents, the first of all nodes one of them": lambda d: d.update(
        nodes=[{"children": [1]}, {"name": "hip"}, {"children": [1]}]
    ),
    "an absurd scale": lambda d: d["nodes"].append({"scale": [1e308, 1e308, 1e308], "children": [0]}),
    "a rotation of length zero": lambda d: d["nodes"][0].update(rotation=[0, 0, 0, 0]),
    "a matrix too short": lambda d: d["nodes"][0].update(matrix=[1, 2, 3]),
    "nodes that are no list": lambda d: d.update(nodes={"0": {}}),
    "a node that is no object": lambda d: d.update(nodes=[None]),
    "no nodes": lambda d: d.update(nodes=[]),
    "compression": lambda d: d.update(extensionsRequired=["EXT_meshopt_compression"]),
    "no animations": lambda d: d.pop("animations"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_path(tmp_path: Path, name: str) -> None:
    built = one_joint()
    built.track(0, "translation", [0.0, 1.0], [[1, 2, 3], [1e30, 5, 6]])
    built.accessor([1.0, 1.0])
    BROKEN[name](built.document)
    with pytest.raises(MotionError, match=r"built\.glb: ") as caught:
        read_glb(built.save(tmp_path))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["accessors"][1].update(bufferView=3), r"there is no bufferViews\[3\]"),
        (lambda d: d["accessors"][1].update(count=0), "has 0 values, not 1 to"),
        (lambda d: _animation(d)["channels"][0].update(sampler=1), r"has no samplers\[1\]"),
        (lambda d: d["nodes"][0].update(translation=[1, 2]), "a node has 2 numbers where 3 finite ones belong"),
        (lambda d: d["nodes"][0].update(translation=[1, 2, 1e39]), "a node has 3 numbers where 3 finite ones belong"),
        (lambda d: d["bufferViews"][1].update(byteLength=23), "outside its buffer view"),
        (lambda d: d["bufferViews"][2].update(byteLength=9), "outside the file's data"),
        (lambda d: d["accessors"][1].update(sparse={"count": 1, "values": {}, "indices": {"componentType": FLOAT}}),
         "no whole numbers, or too many"),
        (lambda d: d["accessors"][1].update(
            sparse={"count": 3, "values": {}, "indices": {"componentType": UNSIGNED_BYTE}}),
         "no whole numbers, or too many"),
    ],
)  # fmt: skip
def test_one_too_many_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], Any], says: str) -> None:
    built = one_joint()
    times = built.accessor([0.0, 1.0])
    values = built.accessor([[1, 2, 3], [4, 5, 6]])
    built.accessor([1.0, 1.0])
    built.track(0, "translation", times, values)
    assert built.play(tmp_path, fps=1.0).position[:, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    if says == "outside the file's data":
        built.document["accessors"][values].update(bufferView=2, count=1, type="SCALAR")
        built.document["animations"][0]["samplers"][0]["input"] = values
    change(built.document)
    with pytest.raises(MotionError, match=says):
        built.play(tmp_path)


def test_files_may_be_as_large_as_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Builder([{"name": "hip", "children": [1]}, {"name": "knee"}], [0, 1])
    built.track(0, "translation", [1.0, 2.0], [[1, 2, 3], [4, 5, 6]])
    content = built.save(tmp_path).read_bytes()
    (json_bytes,) = struct.unpack_from("<I", content, 12)
    for module, name, limit in ((gltf, "MAX_VALUES", 2), (gltf, "MAX_JSON_BYTES", json_bytes),
                                (glb, "MAX_NODES", 2), (glb, "MAX_FILE_BYTES", len(content)),
                                (glb, "MAX_KEYFRAMES", 2), (glb, "MAX_SAMPLES", 62)):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, limit)
            assert len(built.play(tmp_path).position) == 31
            patch.setattr(module, name, limit - 1)
            with pytest.raises(MotionError, match=r"not 1 to|its JSON has|larger than|more than 1 key|too long"):
                built.play(tmp_path)


@pytest.mark.parametrize("count", range(1, 5))
def test_what_is_built_is_aligned_to_four_bytes(count: int) -> None:
    builder = gltf.GltfBuilder()
    builder.document["asset"] = {"generator": "x" * count}
    for kind in (np.uint8, np.float32):
        builder.add(np.arange(count, dtype=kind), bounds=True)
    content = builder.content()
    magic, version, length, size, kind = struct.unpack_from("<5I", content)
    assert (magic, version, length, kind) == (0x46546C67, 2, len(content), 0x4E4F534A)
    document = json.loads(content[20 : 20 + size])
    binary, kind = struct.unpack_from("<2I", content, 20 + size)
    assert (binary, kind) == (len(content) - size - 28, 0x004E4942)
    assert size % 4 == binary % 4 == 0
    assert document["buffers"] == [{"byteLength": binary}]
    file = gltf.parse(content)
    for index, accessor in enumerate(document["accessors"]):
        assert document["bufferViews"][accessor["bufferView"]]["byteOffset"] % 4 == 0
        assert (accessor["min"], accessor["max"]) == ([0], [count - 1])
        assert file.accessor(index, "SCALAR")[:, 0].tolist() == list(range(count))
    builder.document["asset"] = {"number": float("nan")}
    with pytest.raises(ValueError, match="JSON"):
        builder.content()


def test_keyframes_may_not_be_nan(tmp_path: Path) -> None:
    built = one_joint()
    built.track(0, "translation", [0.0, 1.0], [[1, 2, 3], [np.nan, 5, 6]])
    with pytest.raises(MotionError, match="NaN"):
        read_glb(built.save(tmp_path))


def test_a_joint_may_not_be_moved_out_of_all_bounds(tmp_path: Path) -> None:
    above = [{"scale": [1e38] * 3, "children": [node + 1]} for node in range(8)]
    built = Builder([*above, {"name": "hip"}], [8])
    built.track(8, "translation", [0.0, 1.0], [[0, 0, 0], [1e30, 0, 0]])
    with pytest.raises(MotionError, match="an animation moves a joint out of all bounds"):
        built.play(tmp_path)


def test_absurdly_long_animations_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    built = one_joint()
    built.track(0, "translation", [0.0, 1e9], [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(MotionError, match="too long"):
        read_glb(built.save(tmp_path))


def test_many_large_tracks_are_refused_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glb, "MAX_KEYFRAMES", 5)
    built = Builder([{"name": "hip"}, {"name": "knee"}, {"name": "ankle"}], [0, 1, 2])
    for node in range(3):
        built.track(node, "translation", [0.0, 1.0], [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(MotionError, match="more than 5 keyframes"):
        read_glb(built.save(tmp_path))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "too short"),
        (b"BVH" * 20, "not a .glb"),
        (struct.pack("<5I", 0x46546C67, 1, 20, 0, 0), "version 1"),
        (struct.pack("<5I", 0x46546C67, 2, 500, 0, 0x4E4F534A), "cut off"),
        (struct.pack("<5I", 0x46546C67, 2, 20, 4, 0x4E4F534A), "JSON chunk is not where"),
        (struct.pack("<5I", 0x46546C67, 2, 24, 4, 0x4E4F534B) + b"{}  ", "JSON chunk is not where"),
        (struct.pack("<5I", 0x46546C67, 2, 24, 4, 0x4E4F534A) + b"{]  ", "parsed"),
        (struct.pack("<5I", 0x46546C67, 2, 24, 4, 0x4E4F534A) + b"[]  ", "no object"),
        (struct.pack("<5I", 0x46546C67, 2, 24, 4, 0x4E4F534A) + b"{}  ", "0 nodes"),
        (struct.pack("<5I", 0x46546C67, 2, 32, 4, 0x4E4F534A) + b"{}  " + struct.pack("<2I", 4, 0x4E4942), "binary"),
        (struct.pack("<5I", 0x46546C67, 2, 32, 4, 0x4E4F534A) + b"{}  " + struct.pack("<2I", 0, 0x4E4943), "binary"),
        (struct.pack("<5I", 0x46546C67, 2, 100_020, 100_000, 0x4E4F534A) + b"[" * 100_000, "parsed"),
    ],
)  # fmt: skip
def test_what_is_no_glb_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "bad.glb"
    path.write_bytes(content)
    with pytest.raises(MotionError, match=rf"bad\.glb: .*{what}"):
        read_glb(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.glb", tmp_path):
        with pytest.raises(MotionError, match="cannot be read"):
            read_glb(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_gives_a_motion_or_a_motion_error(tmp_path: Path, data: st.DataObject) -> None:
    built = bound([0, 0, 0, 1], np.eye(4))
    built.track(1, "rotation", [0.0, 0.5, 1.0], quaternions(3))
    content = bytearray(built.content())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.glb"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        for _, motion in read_glb(path):
            assert np.isfinite(motion.position).all()
    except MotionError as error:
        assert str(path) in error.message


def test_the_limits_leave_room_for_real_files() -> None:
    # Ten minutes of a 200-joint character at 30 fps, keyed on every frame.
    assert glb.MAX_SAMPLES > 10 * 60 * 30 * 200
    assert glb.MAX_KEYFRAMES > 10 * 60 * 30 * 200 * 3
    assert gltf.MAX_VALUES > 10 * 60 * 30


def test_the_knight_has_its_animations_and_joints() -> None:
    motions = dict(read_glb(KNIGHT))
    assert list(motions) == ["Idle", "Sit_Chair_Down"]
    assert len(motions["Idle"].rotation) == 33  # 1.067 s at 30 fps
    assert len(motions["Sit_Chair_Down"].rotation) == 25
    assert len(motions["Idle"].names) == 41
    left, right = (motions["Idle"].names.index(f"upperarm.{side}") for side in "lr")
    assert motions["Idle"].rest_position[left, 0] > 0.2 > -0.2 > motions["Idle"].rest_position[right, 0]


def test_the_knights_joints_are_where_a_walk_down_the_tree_puts_them() -> None:
    """The last keyframe of sitting down, by matrices read from the file in another way."""
    content = KNIGHT.read_bytes()
    (size,) = struct.unpack_from("<I", content, 12)
    document, binary = json.loads(content[20 : 20 + size]), content[28 + size :]
    values = {index: dict(node) for index, node in enumerate(document["nodes"])}
    animation = document["animations"][1]
    for channel in animation["channels"]:
        accessor = document["accessors"][animation["samplers"][channel["sampler"]]["output"]]
        start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        width = {"VEC3": 3, "VEC4": 4}[accessor["type"]]
        last = struct.unpack_from(f"<{width}f", binary, start + 4 * width * (accessor["count"] - 1))
        values[channel["target"]["node"]][channel["target"]["path"]] = last

    def matrix(index: int) -> NDArray[np.float64]:
        local = np.eye(4)
        local[:3, :3] = Rotation.from_quat(values[index].get("rotation", (0, 0, 0, 1))).as_matrix()
        local[:3, :3] *= np.asarray(values[index].get("scale", (1, 1, 1)))
        local[:3, 3] = values[index].get("translation", (0, 0, 0))
        above = [parent for parent, node in values.items() if index in node.get("children", ())]
        return matrix(above[0]) @ local if above else local

    motion = dict(read_glb(KNIGHT))["Sit_Chair_Down"]
    for index, node in values.items():
        if node["name"] in motion.names:
            joint = motion.names.index(node["name"])
            np.testing.assert_allclose(motion.position[-1, joint], matrix(index)[:3, 3], atol=1e-5)


def test_the_knight_stands_upright_on_the_floor_when_idle() -> None:
    motion = mclip.formats.load(KNIGHT, take="Idle")
    rotations = axis_angle_to_matrix(motion.pose)
    world, joints = forward_kinematics(rotations, motion.transl)
    assert np.abs(lowest_point(joints)).max() < 0.02
    assert (joints[:, JOINT["head"], 2] > 1.4).all()
    assert ((joints[:, JOINT["pelvis"], 2] > 0.85) & (joints[:, JOINT["pelvis"], 2] < 1.0)).all()
    assert (joints[:, JOINT["left_wrist"], 2] < joints[:, JOINT["left_shoulder"], 2]).all()
    # It faces -y as AMASS has it (+z of SMPL's rest pose), its left is +x.
    np.testing.assert_allclose(world[0, 0] @ [0, 0, 1], [0, -1, 0], atol=0.2)
    assert (joints[:, JOINT["left_shoulder"], 0] > joints[:, JOINT["right_shoulder"], 0] + 0.2).all()
