"""BVH (Biovision hierarchy): reading any skeleton, writing SMPL's.

The format has no specification, only habits. What is accepted: any order of channels, position channels on any joint,
tabs, CRLF, keywords in any case, names with spaces, frames broken over lines, a missing final newline.
Position channels replace the OFFSET of their joint, as MotionBuilder, Maya and Blender have it; on joints other than
roots they are added to it where the values say so (they stay closer to zero than to the OFFSET).

What is written: SMPL's 24 joints under SMPL's names, in a T-pose at rest, on the free body's proportions; centimetres
and Y up, or what is asked for; the root's position is that of the pelvis; all rotations in the order Z X Y.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.errors import MotionError
from mclip.files import atomic_path
from mclip.formats.style import CENTIMETRES
from mclip.formats.text import MAX_JOINTS, check_size, first_bad, number, numbers, read_text
from mclip.geometry import Y_UP_TO_Z_UP, axis_angle_to_matrix, euler_to_matrix, matrix_to_euler_zxy
from mclip.motion import MAX_FPS, MAX_FRAMES, MIN_FPS, Motion
from mclip.skeleton.retarget import RigMotion
from mclip.skeleton.smpl import JOINT_NAMES, PARENTS, REST_JOINTS

_CHANNELS = tuple(axis + kind for kind in ("position", "rotation") for axis in "xyz")
_SPLIT = re.compile(r"^[ \t]*MOTION[ \t]*$", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True)
class _Joint:
    name: str
    parent: int
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()


def read_bvh(path: Path) -> RigMotion:
    """Read a BVH file. Raises MotionError, with the line, for anything that is not a sound one."""
    text = read_text(path)
    split = _SPLIT.search(text)
    if split is None:
        raise MotionError(f"{path}: has no MOTION section", "is this a BVH file, and is the download complete?")
    joints = _parse_hierarchy(text[: split.start()], path)
    frame_time, values = _parse_motion(text, split.end(), sum(len(joint.channels) for joint in joints), path)
    frames = len(values)
    check_size(path, frames, len(joints), values.size)

    rotation = np.empty((frames, len(joints), 3, 3))
    offset = np.empty((frames, len(joints), 3))
    column = 0
    for index, joint in enumerate(joints):
        own = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        turns = [at for at, channel in enumerate(joint.channels) if channel.endswith("rotation")]
        order = "".join(joint.channels[at][0].upper() for at in turns)
        rotation[:, index] = euler_to_matrix(np.deg2rad(own[:, turns]), order)
        offset[:, index] = _offsets(joint, own)
    return RigMotion.from_local(
        tuple(joint.name for joint in joints),
        tuple(joint.parent for joint in joints),
        np.broadcast_to(np.eye(3), (len(joints), 3, 3)),
        np.stack([joint.offset for joint in joints]),
        rotation,
        offset,
        _rate(frame_time),
    )


def write_bvh(path: Path, motion: Motion, *, up: str = "y", scale: float = CENTIMETRES) -> None:
    """Write a motion as BVH (module docstring), atomically. Shape and gender have no place in it.

    up: "y" or "z", of rest pose and motion alike; scale: units of length in a metre.
    """
    rotation = axis_angle_to_matrix(motion.pose.astype(np.float64))
    rotation[:, 0] = Y_UP_TO_Z_UP.T @ rotation[:, 0]
    pelvis = motion.transl + REST_JOINTS[0].astype(np.float64)  # (T, 3), Z up
    rest = REST_JOINTS.astype(np.float64)
    if up == "y":
        pelvis = pelvis @ Y_UP_TO_Z_UP
    else:
        # The skeleton itself is turned, joint by joint, so that the rest pose stands too.
        rest = rest @ Y_UP_TO_Z_UP.T
        rotation = Y_UP_TO_Z_UP @ rotation @ Y_UP_TO_Z_UP.T
    order = _depth_first()
    angles = np.rad2deg(matrix_to_euler_zxy(rotation[:, order])).reshape(len(motion), -1)
    hierarchy = ["HIERARCHY", *_joint_lines(rest * scale), "MOTION", f"Frames: {len(motion)}"]
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.write("\n".join(hierarchy) + "\n")
        file.write(f"Frame Time: {1.0 / motion.fps:.10f}\n")
        np.savetxt(file, np.concatenate([pelvis * scale, angles], axis=1), fmt="%.6f")


def is_own(rig: RigMotion) -> bool:
    """Whether the skeleton is one that mclip writes: then positions are exact, down to the height of the floor."""
    if sorted(rig.names) != sorted(JOINT_NAMES):
        return False
    position = rig.rest_position[[rig.names.index(name) for name in JOINT_NAMES]]
    position = position - position[0]
    rest = REST_JOINTS - REST_JOINTS[0].astype(np.float64)
    size = np.abs(position).max()
    if size == 0.0:
        return False
    position = position * (np.abs(rest).max() / size)  # whatever its unit
    return any(np.allclose(position, rest @ turn.T, atol=1e-5) for turn in (np.eye(3), Y_UP_TO_Z_UP))


def _depth_first(joint: int = 0) -> list[int]:
    """SMPL's joints in the order in which they are written."""
    return [joint, *(below for child in _children(joint) for below in _depth_first(child))]


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(PARENTS) if parent == joint]


def _joint_lines(rest: NDArray[np.float64], joint: int = 0) -> list[str]:
    """The hierarchy from one joint down; rest (24, 3) in the file's axes and unit."""

    def offset(vector: NDArray[np.float64]) -> str:
        return "OFFSET " + " ".join(f"{value:.6f}" for value in vector)

    # The root's channels hold its whole position, so that it does not matter whether a reader adds its OFFSET.
    place = rest[joint] - rest[PARENTS[joint]] if joint else np.zeros(3)
    channels = "3" if joint else "6 Xposition Yposition Zposition"
    lines = [
        f"{'JOINT' if joint else 'ROOT'} {JOINT_NAMES[joint]}",
        "{",
        f"\t{offset(place)}",
        f"\tCHANNELS {channels} Zrotation Xrotation Yrotation",
    ]
    for child in _children(joint):
        lines += _joint_lines(rest, child)
    if not _children(joint):
        # Some readers draw the last bone only up to its end site.
        lines += ["\tEnd Site", "\t{", f"\t\t{offset(0.7 * place)}", "\t}"]
    return [("\t" if joint else "") + line for line in [*lines, "}"]]


def _rate(frame_time: float) -> float:
    """Frames per second; a frame time written as 0.0333333 means 30."""
    rate = 1.0 / frame_time
    return float(round(rate)) if abs(rate - round(rate)) < 1e-4 * rate else rate


def _offsets(joint: _Joint, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place (T, 3) of a joint in its parent, from its channels' values (T, channels)."""
    result = np.repeat(joint.offset[None], len(values), axis=0)
    columns = [at for at, channel in enumerate(joint.channels) if channel.endswith("position")]
    if columns:
        axes = ["xyz".index(joint.channels[at][0]) for at in columns]
        moved, rest = values[:, columns], joint.offset[axes]
        to_zero, to_rest = (np.median(np.linalg.norm(moved - origin, axis=1)) for origin in (0.0, rest))
        result[:, axes] = moved + rest if joint.parent >= 0 and to_zero < to_rest else moved
    return result


def _parse_hierarchy(text: str, path: Path) -> list[_Joint]:
    joints: list[_Joint] = []
    open_blocks: list[int] = []  # indices of the joints whose braces are open; -1 for an end site
    pending: int | None = None  # the joint or end site named last, whose brace has not come yet
    # Braces are lines of their own here, wherever the file has them.
    for at, line in enumerate(text.splitlines(), start=1):
        for part in re.split(r"([{}])", line):
            words = part.split()
            if not words:
                continue

            def fail(what: str, at: int = at) -> MotionError:
                return MotionError(f"{path}, line {at}: {what}")

            keyword = words[0].upper()
            if pending is not None and keyword != "{":
                raise fail(f"expected '{{', found '{words[0][:40]}'")
            if keyword == "HIERARCHY" and not joints:
                continue
            if keyword in ("ROOT", "JOINT"):
                inside = bool(open_blocks)
                if inside != (keyword == "JOINT") or (inside and open_blocks[-1] < 0):
                    raise fail(f"{keyword} is out of place")
                name = " ".join(words[1:]) or f"joint{len(joints)}"
                joints.append(_Joint(name, open_blocks[-1] if inside else -1))
                if len(joints) > MAX_JOINTS:
                    raise fail(f"more than {MAX_JOINTS} joints")
                pending = len(joints) - 1
            elif keyword == "END" and open_blocks:
                pending = -1
            elif keyword == "{" and pending is not None:
                open_blocks.append(pending)
                pending = None
            elif keyword == "}" and open_blocks:
                open_blocks.pop()
            elif keyword == "OFFSET" and open_blocks:
                offset = numbers(words[1:])
                if offset is None or len(offset) != 3:
                    raise fail("OFFSET needs three numbers")
                if open_blocks[-1] >= 0:
                    joints[open_blocks[-1]].offset = offset
            elif keyword == "CHANNELS" and open_blocks and open_blocks[-1] >= 0:
                channels = tuple(word.lower() for word in words[2:])
                unknown = [word for word in words[2:] if word.lower() not in _CHANNELS]
                if unknown:
                    raise fail(f"unknown channel '{unknown[0][:40]}'")
                if len(words) < 2 or words[1] != str(len(channels)) or len(set(channels)) != len(channels):
                    raise fail("CHANNELS does not list as many different channels as it says")
                joints[open_blocks[-1]].channels = channels
            else:
                raise fail(f"unexpected '{part.strip()[:40]}'")
    if not joints:
        raise MotionError(f"{path}: has no joints", "is this a BVH file?")
    if open_blocks or pending is not None:
        raise MotionError(f"{path}: the hierarchy ends before all braces are closed", "is the download complete?")
    return joints


def _parse_motion(text: str, start: int, width: int, path: Path) -> tuple[float, NDArray[np.float64]]:
    """Frame time in seconds and values (T, width), from the text after MOTION."""
    # Nothing is given back ("+"): a line of a megabyte would be tried in a million ways.
    header = re.compile(
        r"\s*+Frames\s*+:[ \t]*+(?P<frames>\S*+)[^\n]*+\n\s*+Frame[ \t]++Time\s*+:[ \t]*+(?P<time>\S*+)[^\n]*+(?:\n|$)",
        re.IGNORECASE,
    ).match(text, start)
    line = text[:start].count("\n") + 2
    if header is None:
        raise MotionError(f"{path}, line {line}: expected 'Frames:' and 'Frame Time:'", "is the download complete?")
    count, frame_time = number(header["frames"]), number(header["time"])
    if count is None or not 1 <= count <= MAX_FRAMES or count != int(count):
        raise MotionError(
            f"{path}, line {line}: the number of frames is '{header['frames'][:40]}', not 1 to {MAX_FRAMES}"
        )
    if frame_time is None or not 1.0 / MAX_FPS <= frame_time <= 1.0 / MIN_FPS:
        raise MotionError(
            f"{path}, line {line + 1}: the frame time is '{header['time'][:40]}', "
            f"not {1 / MAX_FPS:g} to {1 / MIN_FPS:g} seconds"
        )
    if width == 0:
        raise MotionError(f"{path}: no joint has channels: nothing moves")
    body = text[header.end() :]
    values = numbers(body)
    if values is None:
        at, word = first_bad(body)
        raise MotionError(
            f"{path}, line {text.count(chr(10), 0, header.end()) + at}: '{word}' is not a number",
            "is the download complete?",
        )
    frames = int(count)
    if len(values) != frames * width:
        raise MotionError(
            f"{path}: says {frames} frames of {width} values, but holds {len(values) / width:.10g} frames",
            "is the download complete?",
        )
    return frame_time, values.reshape(frames, width)
