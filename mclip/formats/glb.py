"""Reading animations from glTF 2.0 binary files (.glb).

A .glb is a 12-byte header, a JSON chunk and a binary chunk. The JSON describes nodes (a tree of translation, rotation,
scale), skins (which nodes are joints, and their inverse bind matrices) and animations (tracks of keyframes for the nodes'
values); its accessors say where in the binary chunk the numbers lie.
Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html. Quaternions there are xyzw, matrices
column-major, Y is up. Meshes, materials and textures are never looked at.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.geometry import Array, matrix_to_quaternion, quaternion_to_matrix, slerp
from mclip.skeleton.retarget import RigMotion

FPS = 30.0
# Scenes of a gigabyte exist, animated characters of that size do not.
MAX_FILE_BYTES = 1 << 30
# The largest character rigs, faces included, have some hundreds of joints.
MAX_NODES = 20_000
# Keyframes of one track; a sparse accessor needs no bytes for them, so the file's size is no limit.
MAX_KEYFRAMES = 1_000_000
# Frames x joints of one animation: half an hour at 30 fps of a 100-joint rig, about 1 GB.
MAX_SAMPLES = 6_000_000

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_TRACKS = {"translation": 3, "rotation": 4, "scale": 3}
_IDENTITY = {"translation": (0.0, 0.0, 0.0), "rotation": (0.0, 0.0, 0.0, 1.0), "scale": (1.0, 1.0, 1.0)}
# Keyframe times are float32: a key this little after a sample counts as reached.
_TIME_TOLERANCE = 1e-5


class _Malformed(Exception):
    """What is wrong in the file; `read_glb` adds where."""


def read_glb(path: Path, *, fps: float = FPS) -> list[tuple[str, RigMotion]]:
    """All animations of a .glb that move its skeleton, in file order: (name, motion at `fps`).

    The joints are those of the skins, or without a skin all nodes that carry no mesh. The rest pose is the nodes' own,
    or the pose the skin was bound in where the two differ: some exporters leave the nodes in the pose last shown.
    Raises MotionError for anything that is no sound .glb, or one without animation.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise MotionError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB", "export the skeleton without meshes")
        content = path.read_bytes()
    except OSError as error:
        raise MotionError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        scene = _Scene(_File(*_chunks(content)))
        animations = [
            (str(animation.get("name") or f"animation{index}"), scene.play(animation, fps))
            for index, animation in enumerate(_list(scene.file.document, "animations"))
            if isinstance(animation, dict)
        ]
    except _Malformed as error:
        raise MotionError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        # Any JSON value may be missing or of another type than the specification says.
        raise MotionError(f"{path}: not a valid glTF file ({type(error).__name__}: {error})") from None
    moving = [(name, motion) for name, motion in animations if motion is not None]
    if not moving:
        raise MotionError(f"{path}: has no animation of its skeleton", "export the file with its animations")
    return moving


def _chunks(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk."""
    if len(content) < 20:
        raise _Malformed("too short for a .glb file")
    magic, version, length, json_length, kind = struct.unpack_from("<5I", content)
    if magic != _MAGIC:
        raise _Malformed("not a .glb file (it does not begin with 'glTF')")
    if version != 2:
        raise _Malformed(f"glTF version {version}; only 2 can be read")
    if length > len(content):
        raise _Malformed(f"cut off: {len(content)} of {length} bytes are there")
    if kind != _JSON or 20 + json_length > length:
        raise _Malformed("the JSON chunk is not where it should be")
    try:
        document = json.loads(content[20 : 20 + json_length])
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"the JSON chunk cannot be parsed ({error})") from None
    if not isinstance(document, dict):
        raise _Malformed("the JSON chunk holds no object")
    required = [name for name in document.get("extensionsRequired", []) if "meshopt" in str(name)]
    if required:
        raise _Malformed(f"compressed with {required[0]}, which cannot be read; export without compression")
    start = 20 + json_length
    if start + 8 > length:
        return document, b""
    size, kind = struct.unpack_from("<2I", content, start)
    if kind != _BIN or start + 8 + size > length:
        raise _Malformed("the binary chunk is cut off or of an unknown kind")
    return document, content[start + 8 : start + 8 + size]


def _list(owner: dict[str, Any], key: str) -> list[Any]:
    value = owner.get(key, [])
    if not isinstance(value, list):
        raise _Malformed(f"'{key}' is no list")
    return value


def _natural(owner: dict[str, Any], key: str, default: int | None = None) -> int:
    value = owner.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Malformed(f"'{key}' is {value!r}, not a whole number")
    return value


@dataclass(frozen=True, slots=True)
class _File:
    document: dict[str, Any]
    binary: bytes

    def item(self, key: str, index: Any) -> dict[str, Any]:
        """document[key][index], an object."""
        items = _list(self.document, key)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
            raise _Malformed(f"there is no {key}[{index!r}]")
        if not isinstance(items[index], dict):
            raise _Malformed(f"{key}[{index}] is no object")
        value: dict[str, Any] = items[index]
        return value

    def accessor(self, index: Any, kind: str) -> NDArray[np.float64]:
        """The values (count, width) of an accessor of the given type."""
        accessor = self.item("accessors", index)
        where = f"accessors[{index}]"
        if accessor.get("type") != kind:
            raise _Malformed(f"{where} is a {accessor.get('type')}, not a {kind}")
        count, width = _natural(accessor, "count"), _WIDTHS[kind]
        if not 0 < count <= MAX_KEYFRAMES:
            raise _Malformed(f"{where} has {count} values, not 1 to {MAX_KEYFRAMES}")
        component = accessor.get("componentType")
        if "bufferView" in accessor:
            values = self._view(accessor, component, count, width, where).copy()
        else:
            values = np.zeros((count, width), _dtype(component, where))
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            changed = _natural(sparse, "count")
            indices, replacements = sparse["indices"], sparse["values"]
            at = self._view(indices, indices.get("componentType"), changed, 1, f"{where} sparse indices")[:, 0]
            if changed and int(at.max()) >= count:
                raise _Malformed(f"{where}: a sparse index is {int(at.max())}, there are {count} values")
            values[at] = self._view(replacements, component, changed, width, f"{where} sparse values")
        result = values.astype(np.float64)
        if accessor.get("normalized") and values.dtype.kind in "iu":
            result = np.maximum(result / np.iinfo(values.dtype).max, -1.0)
        if not np.isfinite(result).all():
            raise _Malformed(f"{where} holds NaN or infinite values")
        return result

    def _view(self, owner: dict[str, Any], component: Any, count: int, width: int, where: str) -> NDArray[Any]:
        """(count, width) values of the buffer view that `owner` (an accessor or half of a sparse one) points to."""
        dtype = _dtype(component, where)
        view = self.item("bufferViews", owner["bufferView"])
        if self.item("buffers", view.get("buffer")).get("uri") is not None or view.get("buffer") != 0:
            raise _Malformed("its data lies in another file; export one .glb")
        start, size = _natural(view, "byteOffset", 0), _natural(view, "byteLength")
        offset, element = _natural(owner, "byteOffset", 0), dtype.itemsize * width
        stride = _natural(view, "byteStride", element)
        if start + size > len(self.binary):
            raise _Malformed(f"{where} lies outside the file's data")
        if stride < element or (count and offset + (count - 1) * stride + element > size):
            raise _Malformed(f"{where} lies outside its buffer view")
        return np.ndarray((count, width), dtype, self.binary, start + offset, (stride, dtype.itemsize))


def _dtype(component: Any, where: str) -> np.dtype[Any]:
    if not isinstance(component, int) or component not in _COMPONENTS:
        raise _Malformed(f"{where} has the unknown component type {component!r}")
    return np.dtype(_COMPONENTS[component])


class _Scene:
    """The nodes a skeleton consists of, parents first, and their rest pose."""

    def __init__(self, file: _File) -> None:
        self.file = file
        nodes = _list(file.document, "nodes")
        if not 0 < len(nodes) <= MAX_NODES:
            raise _Malformed(f"has {len(nodes)} nodes, not 1 to {MAX_NODES}")
        self.parent = self._parents(len(nodes))
        skins = [file.item("skins", index) for index in range(len(_list(file.document, "skins")))]
        bind = self._bind_matrices(skins)
        if not skins:
            bind = {index: None for index in range(len(nodes)) if "mesh" not in file.item("nodes", index)}
        # A joint's place in the world depends on every node above it.
        depth = {index: len(self._line(index)) for joint in bind for index in self._line(joint)}
        self.order = sorted(depth, key=lambda index: (depth[index], index))
        self.local = {index: _node_values(file.item("nodes", index)) for index in self.order}
        self.joints = [index for index in self.order if index in bind]
        if not self.joints:
            raise _Malformed("has no skeleton")
        place = {index: number for number, index in enumerate(self.joints)}
        self.parents = tuple(
            next((place[above] for above in self._line(index)[1:] if above in place), -1) for index in self.joints
        )
        self.names = self._names()
        world = self._world({})
        rest = self._only(world)
        self.rest = self._bound_rest(bind, world, (rest[0][0], rest[1][0]))

    def play(self, animation: dict[str, Any], fps: float) -> RigMotion | None:
        """The animation at `fps`, or None when it moves none of the joints."""
        samplers = _list(animation, "samplers")
        tracks: dict[tuple[int, str], tuple[NDArray[np.float64], NDArray[np.float64], str]] = {}
        for channel in _list(animation, "channels"):
            target = channel["target"]
            node, name = target.get("node"), target.get("path")
            if node not in self.local or name not in _TRACKS:
                continue
            index = channel["sampler"]
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(samplers):
                raise _Malformed(f"an animation has no samplers[{index!r}]")
            tracks[node, name] = self._track(samplers[index], name)
        if not tracks:
            return None
        first = min(float(times[0]) for times, _, _ in tracks.values())
        last = max(float(times[-1]) for times, _, _ in tracks.values())
        if (last - first) * fps * len(self.order) > MAX_SAMPLES:
            raise _Malformed(f"an animation lasts {last - first:.0f} s, too long for {len(self.order)} joints")
        at = first + np.arange(int((last - first) * fps + 1e-3) + 1) / fps
        rotation, position = self._only(
            self._world({key: _sample(*track, at, rotation=key[1] == "rotation") for key, track in tracks.items()})
        )
        rest_rotation, rest_position = self.rest
        return RigMotion(
            names=self.names,
            parents=self.parents,
            rest_rotation=rest_rotation,
            rest_position=rest_position,
            rotation=rotation,
            position=position,
            fps=fps,
        )

    def _track(self, sampler: dict[str, Any], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
        """Keyframe times (K,), values (K, width) or for cubic splines (K, 3, width), and the interpolation."""
        times = self.file.accessor(sampler.get("input"), "SCALAR")[:, 0]
        values = self.file.accessor(sampler.get("output"), f"VEC{_TRACKS[name]}")
        mode = sampler.get("interpolation", "LINEAR")
        if mode not in ("STEP", "LINEAR", "CUBICSPLINE"):
            raise _Malformed(f"the interpolation {mode!r} is unknown")
        if (np.diff(times) <= 0).any():
            raise _Malformed("the keyframe times of an animation do not increase")
        if len(values) != len(times) * (3 if mode == "CUBICSPLINE" else 1):
            raise _Malformed(f"a track has {len(times)} keyframes but {len(values)} values")
        if mode == "CUBICSPLINE":
            values = values.reshape(len(times), 3, -1)
        if name == "rotation" and (np.linalg.norm(values[:, 1] if values.ndim == 3 else values, axis=-1) < 1e-6).any():
            raise _Malformed("a rotation has length zero")
        return times, values, mode

    def _parents(self, count: int) -> list[int]:
        parent = [-1] * count
        for index in range(count):
            for child in _list(self.file.item("nodes", index), "children"):
                self.file.item("nodes", child)
                if parent[child] >= 0:
                    raise _Malformed(f"nodes[{child}] has two parents")
                parent[child] = index
        return parent

    def _line(self, index: int) -> list[int]:
        """The node and the nodes above it, upwards."""
        line = [index]
        while self.parent[line[-1]] >= 0:
            line.append(self.parent[line[-1]])
            if len(line) > len(self.parent):
                raise _Malformed("the nodes are connected in a circle")
        return line

    def _bind_matrices(self, skins: list[dict[str, Any]]) -> dict[int, NDArray[np.float64] | None]:
        """For each joint of any skin the inverse bind matrix (4, 4), where there is one."""
        matrices: dict[int, NDArray[np.float64] | None] = {}
        for skin in skins:
            joints = _list(skin, "joints")
            given = None
            if "inverseBindMatrices" in skin:
                given = self.file.accessor(skin["inverseBindMatrices"], "MAT4").reshape(-1, 4, 4).swapaxes(-1, -2)
                if len(given) < len(joints):
                    raise _Malformed(f"a skin has {len(joints)} joints but {len(given)} inverse bind matrices")
            for number, joint in enumerate(joints):
                self.file.item("nodes", joint)
                matrices.setdefault(joint, None if given is None else given[number])
        return matrices

    def _names(self) -> tuple[str, ...]:
        """The joints' names; a repeated or missing one is completed by the node's number."""
        names: list[str] = []
        for index in self.joints:
            name = str(self.file.item("nodes", index).get("name", ""))
            names.append(name if name and name not in names else f"{name}#{index}")
        return tuple(names)

    def _world(self, tracks: dict[tuple[int, str], NDArray[np.float64]]) -> dict[int, tuple[Array, Array, Array]]:
        """Each node's world rotation (T, 3, 3), linear part with scale (T, 3, 3), and position (T, 3).

        tracks holds (T, width) for (node, "rotation" and so on); what is not there stays at rest. T is 1 without tracks.
        """
        world: dict[int, tuple[Array, Array, Array]] = {}
        for index in self.order:
            values = {name: tracks.get((index, name), self.local[index][name][None]) for name in _TRACKS}
            rotation = quaternion_to_matrix(values["rotation"][:, [3, 0, 1, 2]])
            linear = rotation * values["scale"][:, None, :]
            position = values["translation"]
            if self.parent[index] >= 0:
                above_rotation, above_linear, above_position = world[self.parent[index]]
                position = above_position + (above_linear @ position[..., None])[..., 0]
                rotation, linear = above_rotation @ rotation, above_linear @ linear
            world[index] = rotation, linear, position
        return world

    def _only(self, world: dict[int, tuple[Array, Array, Array]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotations (T, J, 3, 3) and positions (T, J, 3) of the joints."""
        frames = max(len(rotation) for rotation, _, _ in world.values())
        rotation = np.empty((frames, len(self.joints), 3, 3))
        position = np.empty((frames, len(self.joints), 3))
        for number, index in enumerate(self.joints):
            rotation[:, number], _, position[:, number] = world[index]
        return rotation, position

    def _bound_rest(
        self,
        bind: dict[int, NDArray[np.float64] | None],
        world: dict[int, tuple[Array, Array, Array]],
        rest: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The pose the skin was bound in when it is known and trustworthy, else `rest`.

        Inverse bind matrices lead to the mesh's space, which most exporters make the space of the node above the
        skeleton. Where that gives a body turned otherwise than the nodes' (more than 30 degrees), it is another space.
        """
        inverse = [bind[index] for index in self.joints]
        if any(matrix is None for matrix in inverse):
            return rest
        matrices = np.stack([matrix for matrix in inverse if matrix is not None])
        if (np.abs(np.linalg.det(matrices)) < 1e-12).any():
            return rest
        bound = np.linalg.inv(matrices)
        above = self.parent[self.joints[0]]
        if above >= 0:
            _, linear, position = world[above]
            base = np.eye(4)
            base[:3, :3], base[:3, 3] = linear[0], position[0]
            bound = base @ bound
        left, _, right = np.linalg.svd(bound[:, :3, :3])
        rotation, position = left @ right, bound[:, :3, 3]
        if (np.linalg.det(rotation) < 0).any():
            return rest
        # Kabsch's best rotation between the two sets of joints.
        spread = (position - position.mean(0)).T @ (rest[1] - rest[1].mean(0))
        u, _, vt = np.linalg.svd(spread)
        turn = vt.T @ np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
        return (rotation, position) if np.trace(turn) > 1 + 2 * np.cos(np.radians(30.0)) else rest


def _node_values(node: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """A node's translation (3,), rotation (4,) xyzw and scale (3,)."""
    if "matrix" in node:
        matrix = _numbers(node["matrix"], 16).reshape(4, 4).T
        scale = np.linalg.norm(matrix[:3, :3], axis=0)
        if (scale < 1e-12).any():
            raise _Malformed("a node's matrix has scale zero")
        if np.linalg.det(matrix[:3, :3]) < 0:
            scale[0] = -scale[0]
        return {
            "translation": matrix[:3, 3],
            "rotation": matrix_to_quaternion(matrix[:3, :3] / scale)[[1, 2, 3, 0]],
            "scale": scale,
        }
    values = {name: _numbers(node.get(name, default), _TRACKS[name]) for name, default in _IDENTITY.items()}
    if np.linalg.norm(values["rotation"]) < 1e-6:
        raise _Malformed("a node's rotation has length zero")
    return values


def _numbers(value: Any, count: int) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise _Malformed(f"a node has {array.size} numbers where {count} finite ones belong")
    return array


def _sample(times: Array, values: Array, mode: str, at: Array, *, rotation: bool) -> NDArray[np.float64]:
    """A track's values (T, width) at the times `at` (T,); before the first and after the last keyframe it stands still."""
    low = np.clip(np.searchsorted(times, at + _TIME_TOLERANCE, side="right") - 1, 0, len(times) - 1)
    high = np.minimum(low + 1, len(times) - 1)
    span = times[high] - times[low]
    t = np.clip((at - times[low]) / np.where(span > 0, span, 1.0), 0.0, 1.0)
    if mode == "STEP":
        result = values[low]
    elif mode == "LINEAR" and rotation:
        unit = values / np.linalg.norm(values, axis=-1, keepdims=True)
        result = slerp(unit[low], unit[high], t)
    elif mode == "LINEAR":
        result = values[low] + t[:, None] * (values[high] - values[low])
    else:
        # Hermite splines; each keyframe holds in-tangent, value, out-tangent.
        t, span = t[:, None], span[:, None]
        result = (
            (2 * t**3 - 3 * t**2 + 1) * values[low, 1]
            + (t**3 - 2 * t**2 + t) * span * values[low, 2]
            + (3 * t**2 - 2 * t**3) * values[high, 1]
            + (t**3 - t**2) * span * values[high, 0]
        )
    return np.asarray(result, dtype=np.float64)
