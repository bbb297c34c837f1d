"""ASF/AMC (Acclaim): a skeleton in one file, any number of recordings of it in others. Reading only.

An ASF bone is a segment from its parent's far end, `length` along `direction`, given in world axes in the rest pose.
It turns about its near end: by the angles of its `dof` in AMC, in the frame that `axis` gives. So it becomes a joint at
its near end, with world-aligned axes at rest. Rotations are applied in the order in which they are listed, about fixed
axes. Format: J. Lander, "Working with Motion Capture File Formats", Game Developer, January 1998.
AMC holds no frame rate; the recordings people have are CMU's, at 120 frames per second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.formats.text import MAX_JOINT_FRAMES, MAX_JOINTS, check_size, number, numbers, read_text
from mclip.geometry import Array, euler_to_matrix
from mclip.motion import MAX_FRAMES
from mclip.skeleton.retarget import RigMotion

FPS = 120.0

_ROOT = "root"
_TURNS, _MOVES = ("rx", "ry", "rz"), ("tx", "ty", "tz")
_DEGREES = {"deg": np.pi / 180.0, "rad": 1.0}


@dataclass(slots=True)
class _Bone:
    name: str
    parent: int = -1
    direction: Array = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: Array = field(default_factory=lambda: np.zeros(3))
    axis_order: str = "XYZ"
    channels: tuple[str, ...] = ()

    def tip(self) -> Array:
        """From the near to the far end (3,)."""
        size = np.linalg.norm(self.direction)
        return self.direction * self.length / size if size > 0 else self.direction

    def frame(self, angle_unit: float) -> Array:
        """The axes (3, 3) that its angles are about; of the root, its orientation at rest."""
        return _fixed_axes(self.axis * angle_unit, self.axis_order)


@dataclass(slots=True)
class _Skeleton:
    bones: list[_Bone]
    position: NDArray[np.float64]  # (3,) of the root at rest
    angle_unit: float  # radians

    def order(self) -> list[int]:
        """The bones, parents before children."""
        children: dict[int, list[int]] = {}
        for index, bone in enumerate(self.bones[1:], start=1):
            children.setdefault(bone.parent, []).append(index)
        result = [0]
        for index in result:  # grows while it is walked
            result.extend(children.get(index, []))
        return result


def read_amc(path: Path) -> RigMotion:
    """Read an AMC file with the ASF skeleton that lies beside it (`find_asf`).

    Raises MotionError, with the line, for anything that is not sound.
    """
    skeleton = _read_asf(find_asf(path))
    names, values, angle_unit = _read_frames(path, skeleton)
    check_size(path, len(values), len(skeleton.bones), values.size)
    columns: dict[str, NDArray[np.float64]] = {}
    column = 0
    widths = {bone.name: len(bone.channels) for bone in skeleton.bones}
    for name in names:
        columns[name] = values[:, column : column + widths[name]]
        column += widths[name]

    order = skeleton.order()
    place = {index: at for at, index in enumerate(order)}
    bones = [skeleton.bones[index] for index in order]
    rotation = np.empty((len(values), len(bones), 3, 3))
    offset = np.empty((len(values), len(bones), 3))
    rest_offset = np.empty((len(bones), 3))
    rest_rotation = np.broadcast_to(np.eye(3), (len(bones), 3, 3)).copy()
    for at, bone in enumerate(bones):
        own = columns.get(bone.name, np.zeros((len(values), len(bone.channels))))
        turns = [k for k, channel in enumerate(bone.channels) if channel in _TURNS]
        turned = _fixed_axes(own[:, turns] * angle_unit, "".join(bone.channels[k][1] for k in turns).upper())
        frame = bone.frame(skeleton.angle_unit)
        if at == 0:
            # The root's frame is its orientation at rest, which all directions already include.
            rotation[:, 0] = turned @ frame
            rest_rotation[0] = frame
            moves = [k for k, channel in enumerate(bone.channels) if channel in _MOVES]
            offset[:, 0] = skeleton.position
            offset[:, 0, ["xyz".index(bone.channels[k][1]) for k in moves]] += own[:, moves]
            rest_offset[0] = skeleton.position
            continue
        rotation[:, at] = frame @ turned @ frame.T
        offset[:, at] = rest_offset[at] = skeleton.bones[bone.parent].tip()
    return RigMotion.from_local(
        tuple(bone.name for bone in bones),
        tuple(-1 if at == 0 else place[bone.parent] for at, bone in enumerate(bones)),
        rest_rotation,
        rest_offset,
        rotation,
        offset,
        FPS,
    )


def find_asf(path: Path) -> Path:
    """The skeleton of an AMC file: of its stem, of the part before the last "_" (01_05: 01), or the only one there.

    Raises MotionError when there is none, or no telling which.
    """
    try:
        skeletons = {found.stem: found for found in sorted(path.parent.iterdir()) if found.suffix.lower() == ".asf"}
    except OSError as error:
        raise MotionError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not path.exists():
        raise MotionError(f"{path}: no such file")
    for stem in (path.stem, path.stem.rpartition("_")[0]):
        if stem in skeletons:
            return skeletons[stem]
    if len(skeletons) == 1:
        return next(iter(skeletons.values()))
    found = f"{len(skeletons)} .asf files, none of this name" if skeletons else "no .asf file"
    raise MotionError(f"{path}: its skeleton is missing: {found} beside it", f"put {path.stem}.asf in the same folder")


def _fixed_axes(angles: Array, order: str) -> Array:
    """Rotations (..., 3, 3) by angles (..., n), radians, about fixed axes, the first of `order` applied first."""
    return euler_to_matrix(angles[..., ::-1], order[::-1])


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    for at, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.partition("#")[0].split()
        if words:
            yield at, words


def _read_asf(path: Path) -> _Skeleton:
    bones = [_Bone(_ROOT, channels=(*_MOVES, *_TURNS))]
    where = {_ROOT: 0}
    position, unit = np.zeros(3), _DEGREES["deg"]
    section, linked = "", False

    for line, words in _lines(path):
        key, rest = words[0].lower(), words[1:]

        def fail(what: str, line: int = line) -> MotionError:
            return MotionError(f"{path}, line {line}: {what}")

        def vector(words: list[str], what: str, line: int = line) -> NDArray[np.float64]:
            values = numbers(words)
            if values is None or len(values) != 3:
                raise MotionError(f"{path}, line {line}: {what} needs three numbers")
            return values

        if key.startswith(":"):
            section = key[1:]
        elif section == "units" and key == "angle":
            if not rest or rest[0].lower()[:3] not in _DEGREES:
                raise fail("angle is neither deg nor rad")
            unit = _DEGREES[rest[0].lower()[:3]]
        elif section == "root":
            if key == "order":
                bones[0].channels = _channels(rest, path, line)
            elif key == "axis" and rest:
                bones[0].axis_order = _axes(rest[0], path, line)
            elif key == "position":
                position = vector(rest, "position")
            elif key == "orientation":
                bones[0].axis = vector(rest, "orientation")
        elif section == "bonedata":
            if key == "begin":
                bones.append(_Bone(f"bone{len(bones)}"))
                if len(bones) > MAX_JOINTS:
                    raise fail(f"more than {MAX_JOINTS} bones")
            elif len(bones) < 2:
                raise fail("expected 'begin'")
            elif key == "name" and rest:
                bones[-1].name = rest[0]
                if rest[0] in where:
                    raise fail(f"there are two bones {rest[0][:40]}")
                where[rest[0]] = len(bones) - 1
            elif key == "direction":
                bones[-1].direction = vector(rest, "direction")
            elif key == "length":
                given = number(" ".join(rest))
                if given is None:
                    raise fail("length needs a number")
                bones[-1].length = given
            elif key == "axis":
                bones[-1].axis = vector(rest[:3], "axis")
                if len(rest) > 3:
                    bones[-1].axis_order = _axes(rest[3], path, line)
            elif key == "dof":
                bones[-1].channels = _channels(rest, path, line)
                if any(channel in _MOVES for channel in bones[-1].channels):
                    raise fail(f"bone {bones[-1].name[:40]} moves along its parent; only rotations are read")
        elif section == "hierarchy" and key not in ("begin", "end"):
            for name in words:
                if name not in where:
                    raise fail(f"unknown bone {name[:40]}")
            for name in rest:
                child = bones[where[name]]
                if child.parent >= 0 or where[name] == 0:
                    raise fail(f"bone {name[:40]} has two parents")
                child.parent = where[words[0]]
                linked = True
    if not linked:
        raise MotionError(f"{path}: has no bones and hierarchy", "is this an ASF file, and is it complete?")
    return _Skeleton(bones, position, unit)


def _channels(words: list[str], path: Path, line: int) -> tuple[str, ...]:
    channels = tuple(word.lower() for word in words)
    if not set(channels) <= {*_TURNS, *_MOVES} or len(set(channels)) != len(channels):
        raise MotionError(
            f"{path}, line {line}: degrees of freedom are {' '.join(words)[:60]}, not of rx ry rz tx ty tz"
        )
    return channels


def _axes(word: str, path: Path, line: int) -> str:
    if sorted(word.upper()) != ["X", "Y", "Z"]:
        raise MotionError(f"{path}, line {line}: the axis order is {word[:40]}, not of X, Y and Z")
    return word.upper()


def _read_frames(path: Path, skeleton: _Skeleton) -> tuple[list[str], NDArray[np.float64], float]:
    """Bone names, values (T, all their channels) in that order, and the unit of angles in radians."""
    widths = {bone.name: len(bone.channels) for bone in skeleton.bones}
    unit = skeleton.angle_unit
    names: list[str] = []
    rows: list[str] = []
    frames = at = 0
    for line, words in _lines(path):
        first = words[0]
        if first.startswith(":"):
            unit = _DEGREES.get(first[1:4].lower(), unit)
        elif len(words) == 1 and first.isdigit():
            if frames and at != len(names):
                raise MotionError(f"{path}, line {line}: the frame before is not complete")
            frames, at = frames + 1, 0
            if frames > MAX_FRAMES or frames * len(skeleton.bones) > MAX_JOINT_FRAMES:
                raise MotionError(f"{path}: more frames than can be read", "cut the file into pieces")
        else:
            if frames == 0 or first not in widths:
                raise MotionError(
                    f"{path}, line {line}: unknown bone {first[:40]}", "does the .asf belong to this .amc?"
                )
            if frames == 1:
                names.append(first)
            if at >= len(names) or names[at] != first or (frames == 1 and first in names[:-1]):
                raise MotionError(f"{path}, line {line}: bone {first[:40]} is not in the order of the first frame")
            if len(words) - 1 != widths[first]:
                raise MotionError(
                    f"{path}, line {line}: {first} has {len(words) - 1} values, its skeleton {widths[first]}",
                    "does the .asf belong to this .amc?",
                )
            rows.append(" ".join(words[1:]))
            at += 1
    if not rows or at != len(names):
        raise MotionError(
            f"{path}: ends within a frame" if rows else f"{path}: has no frames", "is the download complete?"
        )
    values = numbers(" ".join(rows))
    if values is None or len(values) % frames:
        bad = next(row for row in rows if numbers(row) is None)
        raise MotionError(f"{path}: '{bad[:60]}' are not numbers")
    return names, values.reshape(frames, -1), unit
