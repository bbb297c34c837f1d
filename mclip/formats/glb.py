"""Reading animations from glTF 2.0 binary files (.glb).

The file describes nodes (a tree of translation, rotation, scale), skins (which nodes are joints, and their inverse bind
matrices) and animations (tracks of keyframes for the nodes' values). Quaternions are xyzw, matrices column-major, Y is
up. Meshes, materials and textures are never looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError, shown
from mclip.formats.gltf import GltfFile, MalformedError, as_list, parse
from mclip.geometry import Array, matrix_to_quaternion, quaternion_to_matrix, slerp
from mclip.motion import MAX_FPS, MIN_FPS
from mclip.skeleton.retarget import RigMotion

FPS = 30.0
# Scenes of a gigabyte exist, animated characters of that size do not.
MAX_FILE_BYTES = 1 << 30
# The largest character rigs, faces included, have some hundreds of joints.
MAX_NODES = 20_000
# Frames x joints of all animations: half an hour at 30 fps of a 100-joint rig, about 1 GB.
MAX_SAMPLES = 6_000_000
# More than this many only if the file has a byte for each: two keyframes may be hours apart.
FREE_SAMPLES = 1_500_000
# Keyframes of one animation, all tracks together: three for each of those samples.
MAX_KEYFRAMES = 3 * MAX_SAMPLES

_TRACKS = {"translation": 3, "rotation": 4, "scale": 3}
_IDENTITY = {"translation": (0.0, 0.0, 0.0), "rotation": (0.0, 0.0, 0.0, 1.0), "scale": (1.0, 1.0, 1.0)}
# Keyframe times are float32: a key this little after a sample counts as reached.
_TIME_TOLERANCE = 1e-5


def read_glb(path: Path, *, fps: float | None = None) -> list[tuple[str, RigMotion]]:
    """All animations of a .glb that move its skeleton, in file order: (name, motion at `fps`).

    fps: if None, the rate that mclip noted in its own files, else FPS: glTF knows seconds only.

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
        scene = _Scene(parse(content))
        animations = [
            (str(animation.get("name") or f"animation{index}"), scene.play(animation, fps or _noted_fps(animation)))
            for index, animation in enumerate(as_list(scene.file.document, "animations"))
            if isinstance(animation, dict)
        ]
    except MalformedError as error:
        raise MotionError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, IndexError) as error:
        # Any JSON value may be missing or of another type than the specification says.
        raise MotionError(f"{path}: not a valid glTF file ({type(error).__name__}: {error})") from None
    moving = [(name, motion) for name, motion in animations if motion is not None]
    if not moving:
        raise MotionError(f"{path}: has no animation of its skeleton", "export the file with its animations")
    return moving


def _noted_fps(animation: dict[str, Any]) -> float:
    extras = animation.get("extras")
    noted = extras.get("fps") if isinstance(extras, dict) else None
    if isinstance(noted, (int, float)) and not isinstance(noted, bool) and MIN_FPS <= noted <= MAX_FPS:
        return float(noted)
    return FPS


class _Scene:
    """The nodes a skeleton consists of, parents first, and their rest pose."""

    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self._free = min(MAX_SAMPLES, max(FREE_SAMPLES, len(file.binary)))
        nodes = as_list(file.document, "nodes")
        if not 0 < len(nodes) <= MAX_NODES:
            raise MalformedError(f"has {len(nodes)} nodes, not 1 to {MAX_NODES}")
        self.parent, order = self._tree(len(nodes))
        skins = [file.item("skins", index) for index in range(len(as_list(file.document, "skins")))]
        bind = self._bind_matrices(skins)
        if not skins:
            bind = {index: None for index in range(len(nodes)) if "mesh" not in file.item("nodes", index)}
        if not bind:
            raise MalformedError("has no skeleton")
        # A joint's place in the world depends on every node above it.
        needed = set(bind)
        needed.update(self.parent[index] for index in reversed(order) if index in needed)
        self.order = [index for index in order if index in needed]
        self.local = {index: _node_values(file.item("nodes", index)) for index in self.order}
        self.joints = [index for index in self.order if index in bind]
        self.parents = self._joint_parents()
        self.names = self._names()
        world = self._world({})
        rotation, position = self._only(world)
        if not np.isfinite(position).all():
            raise MalformedError("the rest pose is out of all bounds")
        with np.errstate(all="ignore"):
            self.rest = self._bound_rest(bind, world, (rotation[0], position[0]))

    def play(self, animation: dict[str, Any], fps: float) -> RigMotion | None:
        """The animation at `fps`, or None when it moves none of the joints."""
        samplers, keyframes = as_list(animation, "samplers"), 0
        tracks: dict[tuple[int, str], tuple[NDArray[np.float64], NDArray[np.float64], str]] = {}
        for channel in as_list(animation, "channels"):
            target = channel["target"]
            node, name = target.get("node"), target.get("path")
            if node not in self.local or name not in _TRACKS:
                continue
            index = channel["sampler"]
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(samplers):
                raise MalformedError(f"an animation has no samplers[{shown(index)}]")
            tracks[node, name] = self._track(samplers[index], name)
            keyframes += len(tracks[node, name][0])
            if keyframes > (limit := min(MAX_KEYFRAMES, 3 * self._free)):
                raise MalformedError(f"an animation has more than {limit} keyframes")
        if not tracks:
            return None
        first = min(float(times[0]) for times, _, _ in tracks.values())
        last = max(float(times[-1]) for times, _, _ in tracks.values())
        self._free -= int(((last - first) * fps + 1) * len(self.order))
        if self._free < 0:
            raise MalformedError(f"an animation lasts {last - first:.0f} s, too long for {len(self.order)} joints")
        at = first + np.arange(int((last - first) * fps + 1e-3) + 1) / fps
        sampled = {key: _sample(*track, at, rotation=key[1] == "rotation") for key, track in tracks.items()}
        rotation, position = self._only(self._world(sampled))
        if not (np.isfinite(rotation).all() and np.isfinite(position).all()):
            raise MalformedError("an animation moves a joint out of all bounds")
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
            raise MalformedError(f"the interpolation {shown(mode)} is unknown")
        if (np.diff(times) <= 0).any():
            raise MalformedError("the keyframe times of an animation do not increase")
        if len(values) != len(times) * (3 if mode == "CUBICSPLINE" else 1):
            raise MalformedError(f"a track has {len(times)} keyframes but {len(values)} values")
        if mode == "CUBICSPLINE":
            values = values.reshape(len(times), 3, -1)
        if name == "rotation" and (np.linalg.norm(values[:, 1] if values.ndim == 3 else values, axis=1) < 1e-6).any():
            raise MalformedError("a keyframe's rotation has length zero")
        return times, values, mode

    def _tree(self, count: int) -> tuple[list[int], list[int]]:
        """Each node's parent, -1 for roots, and all nodes, parents first."""
        parent = [-1] * count
        children = [as_list(self.file.item("nodes", index), "children") for index in range(count)]
        for index in range(count):
            for child in children[index]:
                self.file.item("nodes", child)
                if parent[child] >= 0:
                    raise MalformedError(f"nodes[{child}] has two parents")
                parent[child] = index
        order = [index for index in range(count) if parent[index] < 0]
        for index in order:
            order.extend(children[index])
        if len(order) < count:
            raise MalformedError("some nodes are connected in a circle")
        return parent, order

    def _joint_parents(self) -> tuple[int, ...]:
        """For each joint the next joint above it, as an index of `joints`, or -1."""
        place = {index: number for number, index in enumerate(self.joints)}
        above: dict[int, int] = {-1: -1}  # node -> the joint it is or is under
        for index in self.order:
            above[index] = place.get(index, above[self.parent[index]])
        return tuple(above[self.parent[index]] for index in self.joints)

    def _bind_matrices(self, skins: list[dict[str, Any]]) -> dict[int, NDArray[np.float64] | None]:
        """For each joint of any skin the inverse bind matrix (4, 4), where there is one."""
        matrices: dict[int, NDArray[np.float64] | None] = {}
        for skin in skins:
            joints = as_list(skin, "joints")
            given = None
            if "inverseBindMatrices" in skin:
                given = self.file.accessor(skin["inverseBindMatrices"], "MAT4").reshape(-1, 4, 4).swapaxes(-1, -2)
                if len(given) < len(joints):
                    raise MalformedError(f"a skin has {len(joints)} joints but {len(given)} inverse bind matrices")
            for number, joint in enumerate(joints):
                self.file.item("nodes", joint)
                matrices.setdefault(joint, None if given is None else given[number])
        return matrices

    def _names(self) -> tuple[str, ...]:
        """The joints' names; a repeated or missing one is completed by the node's number."""
        names: dict[str, None] = {}
        for index in self.joints:
            name = str(self.file.item("nodes", index).get("name", ""))
            names[name if name and name not in names else f"{name}#{index}"] = None
        return tuple(names)

    def _world(self, tracks: dict[tuple[int, str], NDArray[np.float64]]) -> dict[int, tuple[Array, Array, Array]]:
        """Each node's world rotation (T, 3, 3), linear part with scale (T, 3, 3), and position (T, 3).

        tracks: (T, width) for (node, "rotation" and so on); what is not there stays at rest. T is 1 without tracks.
        """
        world: dict[int, tuple[Array, Array, Array]] = {}
        for index in self.order:
            values = {name: tracks.get((index, name), self.local[index][name][None]) for name in _TRACKS}
            rotation: Array = quaternion_to_matrix(values["rotation"][:, [3, 0, 1, 2]])
            position: Array = values["translation"]
            # Scales may be absurd; what comes of them is checked where it is used.
            with np.errstate(over="ignore", invalid="ignore"):
                linear: Array = rotation * values["scale"][:, None, :]
                if self.parent[index] >= 0:
                    above_rotation, above_linear, above_position = world[self.parent[index]]
                    position = above_position + (above_linear @ position[..., None])[..., 0]
                    rotation, linear = above_rotation @ rotation, above_linear @ linear
            world[index] = rotation, linear, position
        return world

    def _only(self, world: dict[int, tuple[Array, Array, Array]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotations (T, J, 3, 3) and positions (T, J, 3) of the joints."""
        # Where nothing moves there is one frame.
        frames = max(len(part) for parts in world.values() for part in parts)
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
        matrices = np.array([matrix for matrix in inverse if matrix is not None])  # (J, 4, 4)
        if len(matrices) < len(inverse) or (np.abs(np.linalg.det(matrices)) < 1e-12).any():
            return rest
        base = np.eye(4)
        if self.parent[self.joints[0]] >= 0:
            _, linear, origin = world[self.parent[self.joints[0]]]
            base[:3, :3], base[:3, 3] = linear[0], origin[0]
        bound = base @ np.linalg.inv(matrices)
        left, _, right = np.linalg.svd(bound[:, :3, :3])
        rotation, position = np.asarray(left @ right), np.asarray(bound[:, :3, 3])
        if not np.isfinite(bound).all() or (np.linalg.det(rotation) < 0).any():
            return rest
        # Kabsch's best rotation between the two sets of joints.
        u, _, vt = np.linalg.svd((position - position.mean(0)).T @ rest[1])
        turn = vt.T @ np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
        return (rotation, position) if np.trace(turn) > 1 + 2 * np.cos(np.radians(30.0)) else rest


def _node_values(node: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """A node's translation (3,), rotation (4,) xyzw and scale (3,)."""
    if "matrix" in node:
        matrix = _numbers(node["matrix"], 16).reshape(4, 4).T
        scale = np.linalg.norm(matrix[:3, :3], axis=0)
        if (scale < 1e-12).any():
            raise MalformedError("a node's matrix has scale zero")
        if np.linalg.det(matrix[:3, :3]) < 0:
            scale[0] = -scale[0]
        return {
            "translation": matrix[:3, 3],
            "rotation": matrix_to_quaternion(matrix[:3, :3] / scale)[[1, 2, 3, 0]],
            "scale": scale,
        }
    values = {name: _numbers(node.get(name, default), _TRACKS[name]) for name, default in _IDENTITY.items()}
    if np.linalg.norm(values["rotation"]) < 1e-6:
        raise MalformedError("a node's rotation has length zero")
    return values


def _numbers(value: Any, count: int) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    # glTF's numbers are single precision; larger ones are mistakes, and their squares overflow.
    if array.shape != (count,) or not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise MalformedError(f"a node has {array.size} numbers where {count} finite ones belong")
    return array


def _sample(times: Array, values: Array, mode: str, at: Array, *, rotation: bool) -> NDArray[np.float64]:
    """A track's values (T, width) at the times `at` (T,); outside its keyframes it stands still."""
    low = np.maximum(np.searchsorted(times, at + _TIME_TOLERANCE, side="right") - 1, 0)
    high = np.minimum(low + 1, len(times) - 1)
    span = times[high] - times[low]
    t = np.clip((at - times[low]) / np.where(span > 0, span, 1.0), 0.0, 1.0)
    if mode == "STEP":
        result = values[low]
    elif mode == "LINEAR" and rotation:
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
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
    if rotation and (np.linalg.norm(result, axis=1) < 1e-6).any():
        raise MalformedError("a rotation has length zero between its keyframes")
    return np.asarray(result, dtype=np.float64)
