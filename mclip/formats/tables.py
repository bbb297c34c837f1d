"""Rig tables: which joint of a file's skeleton stands for which SMPL joint, as TOML.

    name = "unreal"

    [joints]                      # SMPL joint = the file's joint; spine joints left out share their neighbours' bend
    pelvis = "pelvis"
    left_hip = "thigh_l"

    [tpose]                       # optional: the file's joint = where its local x, y, z axes point in a T-pose that
    upperarm_l = ["+y", "-x", "+z"]                   # faces +z, with +y up and +x to the left: axes,
    foot_l = ["+x", [0, 0.83, -0.56], [0, 0.56, 0.83]]       # directions,
    foot_r = [1, 0, 0, 0, 0.83, 0.56, 0, -0.56, 0.83]        # or the rotation matrix, row by row

    [rest]                        # optional: the table is only chosen by itself for files in whose rest pose the bone
    lowerarm_l = "+x"             # to this joint has this direction in its parent's axes

The tables in rigs/ are chosen by the joints' names; a prefix as in "mixamorig:Hips" does not count.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError, shown
from mclip.files import read_toml
from mclip.geometry import Array
from mclip.skeleton.retarget import REQUIRED, RigMotion, RigTable
from mclip.skeleton.smpl import JOINT

# Joint names in a message.
_SHOWN = 12
# Directions may have any length, but squares of it have to be numbers.
_MAX_NUMBER = 1e6
# Recordings of one rig differ in bone lengths, hardly in the directions of the bones.
_REST_TOLERANCE = np.deg2rad(10.0)
_PREFIX = re.compile(r"^(mixamorig|Character\d*_)?_*")
_AXES = {
    f"{sign}{axis}": value * np.eye(3)[i] for i, axis in enumerate("xyz") for sign, value in (("+", 1.0), ("-", -1.0))
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A table and the rest-pose bone directions it is for: joint name -> (3,) unit vector."""

    table: RigTable
    rest: Mapping[str, NDArray[np.float64]]


def load_rig_table(path: Path) -> RigTable:
    """Read a rig table (module docstring). Raises MotionError naming the key that is wrong."""
    return _load(path).table


def find_rig_table(rig: RigMotion) -> RigTable:
    """The built-in table that knows most of the rig's joints. Raises MotionError when none fits, naming the joints."""
    best: tuple[tuple[int, int, int], RigTable] | None = None
    namesake: RigTable | None = None
    known: set[str] = set()
    for entry in _built_in():
        table = bind(entry.table, rig)
        known.update(table.joints.values())
        hits = {joint for joint, name in table.joints.items() if name in rig.names}
        if not hits.issuperset(REQUIRED):
            continue
        if not _has_rest(rig, entry.rest):
            namesake = table
            continue
        score = (len(hits), len(hits) - len(table.joints), len(entry.rest))
        if best is None or score > best[0]:
            best = score, table
    if best is not None:
        return best[1]
    if namesake is not None:
        raise MotionError(
            f"unknown skeleton: its joints have the names of {namesake.name}'s, but it rests in another pose",
            "write a rig table, a TOML file with a [tpose] of these joints: --rig table.toml",
        )
    unknown = [name for name in rig.names if name not in known]
    names = ", ".join(unknown[:_SHOWN]) + (f", ... ({len(unknown)} in all)" if len(unknown) > _SHOWN else "")
    raise MotionError(
        f"unknown skeleton; joints in no table: {names}" if unknown else "some joints of the body are missing",
        "write a rig table, a TOML file with [joints] and below it left_knee = 'LeftLeg' and so on: --rig table.toml",
    )


def bind(table: RigTable, rig: RigMotion) -> RigTable:
    """The table with the names as the rig spells them, prefixes included."""
    spelled: dict[str, str] = {}
    for name in rig.names:
        spelled.setdefault(_plain(name), name)
    exact = set(rig.names)

    def own(name: str) -> str:
        return name if name in exact else spelled.get(_plain(name), name)

    return replace(
        table,
        joints={joint: own(name) for joint, name in table.joints.items()},
        tpose={own(name): rotation for name, rotation in table.tpose.items()},
    )


def _plain(name: str) -> str:
    """A joint's name without a namespace, or the prefix that Mixamo and MotionBuilder give characters: mixamorig:Hips,
    Armature|mixamorig1:Hips, mixamorigHips and Character1_Hips are Hips."""
    return _PREFIX.sub("", name.split(":")[-1])


def _has_rest(rig: RigMotion, rest: Mapping[str, Array]) -> bool:
    where = {_plain(name): index for index, name in reversed(list(enumerate(rig.names)))}
    for name, wanted in rest.items():
        index = where.get(name)
        if index is None or rig.parents[index] < 0:
            return False
        parent = rig.parents[index]
        bone = rig.rest_rotation[parent].T @ (rig.rest_position[index] - rig.rest_position[parent])
        if bone @ wanted < np.cos(_REST_TOLERANCE) * np.linalg.norm(bone) or not bone.any():
            return False
    return True


@functools.cache
def _built_in() -> tuple[_Entry, ...]:
    return tuple(_load(path) for path in sorted((Path(__file__).parent / "rigs").glob("*.toml")))


def _load(path: Path) -> _Entry:
    try:
        content = read_toml(path)
    except OSError as error:
        raise MotionError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # not UTF-8, not TOML
        raise MotionError(f"{path}: not a TOML file ({error})") from None
    unknown = sorted(content.keys() - {"name", "joints", "tpose", "rest"})
    if unknown:
        raise MotionError(f"{path}: unknown key {unknown[0]}", "a rig table has name, [joints], [tpose] and [rest]")
    joints, tpose, rest = (content.get(key, {}) for key in ("joints", "tpose", "rest"))
    for key, value in (("joints", joints), ("tpose", tpose), ("rest", rest)):
        if not isinstance(value, dict):
            raise MotionError(f"{path}: {key} is {shown(value)}, not a table", f"write [{key}]")
    if not joints:
        raise MotionError(f"{path}: has no [joints]", 'such as pelvis = "Hips"')
    for joint, source in joints.items():
        if joint not in JOINT:
            raise MotionError(f"{path}: {joint} is no SMPL joint", f"they are {', '.join(JOINT)}")
        if not isinstance(source, str):
            raise MotionError(f"{path}: joints.{joint} is {shown(source)}, not a name")
    name = content.get("name", path.stem)
    if not isinstance(name, str):
        raise MotionError(f"{path}: name is {shown(name)}, not a text")
    table = RigTable(
        name=name,
        joints=joints,
        tpose={source: _rotation(path, source, value) for source, value in tpose.items()},
    )
    directions: dict[str, NDArray[np.float64]] = {}
    for source, value in rest.items():
        direction = _direction(value)
        if direction is None:
            hint = 'write "+x" or [0, 0.83, -0.56]'
            raise MotionError(f"{path}: rest.{source} is {shown(value)}, not a direction", hint)
        directions[source] = direction
    return _Entry(table, directions)


def _direction(value: Any) -> NDArray[np.float64] | None:
    """A unit vector (3,) from "+x" or three numbers."""
    if isinstance(value, str):
        return _AXES.get(value)
    if isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)):
        vector = np.asarray(value, dtype=np.float64)
        length = np.linalg.norm(vector)
        return vector / length if length > 0 else None
    return None


def _is_number(value: Any) -> bool:
    """Whether this is no number too large to be squared: TOML has whole numbers of any size, and inf."""
    return isinstance(value, int | float) and not abs(value) > _MAX_NUMBER


def _rotation(path: Path, source: str, value: Any) -> NDArray[np.float64]:
    axes = [_direction(axis) for axis in value] if isinstance(value, list) else []
    directions = [axis for axis in axes if axis is not None]
    if len(axes) == len(directions) == 3:
        matrix = np.stack(directions, axis=1)
    elif isinstance(value, list) and len(value) == 9 and all(map(_is_number, value)):
        matrix = np.asarray(value, dtype=np.float64).reshape(3, 3)
    else:
        raise MotionError(
            f"{path}: tpose.{source} is {shown(value)}", 'write ["+y", "-x", "+z"] or the 9 numbers of a matrix'
        )
    # Numbers are written with a few digits.
    if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-2) or np.linalg.det(matrix) < 0:
        raise MotionError(f"{path}: tpose.{source} is no rotation", "its axes must be at right angles, right-handed")
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)
