"""Motions of the archives that are no common format, as AMASS .npz files.

    python recipes/mini/convert.py RAW OUT

RAW holds the unpacked archives deepmimic/, mesh2motion/ and kaykit/; OUT gets deepmimic/NAME.npz and so on. Cycles are
repeated, short actions continued, sitting and lying down joined with staying there. What is left out stands in the
tables below, with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.console import err, out
from mclip.errors import DataError, MclipError
from mclip.formats.glb import read_glb
from mclip.formats.tables import find_rig_table
from mclip.geometry import (
    Array,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    quaternion_to_matrix,
    rotation_about,
    rotation_between,
)
from mclip.motion import Motion
from mclip.skeleton.retarget import RigMotion, RigTable, lowest_point, retarget
from mclip.skeleton.smpl import JOINT, PARENTS, REST_JOINTS, forward_kinematics

FPS = 30.0
# What is over sooner is repeated or continued: windows of training last two seconds.
ACTION_SECONDS = 2.2
CYCLE_SECONDS = 4.0
# A joint is eased over this time: the poses on its two sides never fit exactly.
EASE_SECONDS = 0.3


# --- DeepMimic -------------------------------------------------------------------------------------------------------
# JSON; +X is forward, +Y up, +Z right. A frame is its duration, the root's position and quaternion (wxyz), then for
# each joint a quaternion or, at knees and elbows, the angle about Z. In the zero pose the arms hang down.

DEEPMIMIC_COLUMNS = (
    ("chest", 4), ("neck", 4), ("right_hip", 4), ("right_knee", 1), ("right_ankle", 4), ("right_shoulder", 4),
    ("right_elbow", 1), ("left_hip", 4), ("left_knee", 1), ("left_ankle", 4), ("left_shoulder", 4), ("left_elbow", 1),
)  # fmt: skip
DEEPMIMIC_RIG = RigTable(
    name="deepmimic",
    joints={
        "pelvis": "root", "spine2": "chest", "neck": "neck",
        "left_hip": "left_hip", "left_knee": "left_knee", "left_ankle": "left_ankle",
        "right_hip": "right_hip", "right_knee": "right_knee", "right_ankle": "right_ankle",
        "left_shoulder": "left_shoulder", "left_elbow": "left_elbow", "left_wrist": "left_wrist",
        "right_shoulder": "right_shoulder", "right_elbow": "right_elbow", "right_wrist": "right_wrist",
    },
)  # fmt: skip
DEEPMIMIC_SKIPPED = {
    # AMASS recordings, whose licence forbids passing them on.
    "humanoid3d_ready_to_walk_mirror", "humanoid3d_walk_to_ready_mirror",
    # Mirrored copies of clips beside them; training mirrors everything anyway.
    "humanoid3d_long_walk1_mirror", "humanoid3d_long_walk2_mirror", "humanoid3d_long_walk3_mirror",
    *(f"sie_humanoid3d_run_forward{number:02}" for number in range(1, 16, 2)),
    *(f"sie_humanoid3d_run_left{number:02}" for number in range(4, 12)),
    *(f"sie_humanoid3d_run_right{number:02}" for number in range(4, 11)),
}  # fmt: skip
DEEPMIMIC_CYCLES = {
    "humanoid3d_walk", "humanoid3d_run", "humanoid3d_jog", "humanoid3d_zombie_walk", "humanoid3d_crawl",
    "humanoid3d_dance_a", "humanoid3d_dance_b", "humanoid3d_dance_spin",
}  # fmt: skip
# Their bodies touch the floor with other parts than feet, and are thinner or thicker there than ours.
DEEPMIMIC_LOW = {"humanoid3d_getup_facedown", "humanoid3d_getup_faceup", "humanoid3d_roll", "humanoid3d_crawl"}

# No source shows someone lying down on the back or the belly: getting up, played backwards, does. Speeds such that the
# body lies within two seconds.
DEEPMIMIC_BACKWARDS = {
    "humanoid3d_getup_faceup": ("humanoid3d_liedown_faceup", -1.9),
    "humanoid3d_getup_facedown": ("humanoid3d_liedown_facedown", -1.4),
}


def deepmimic(folder: Path) -> Iterator[tuple[str, Motion]]:
    """The clips under folder/motions, by their file names."""
    skeleton = json.loads((folder / "characters" / "humanoid3d.txt").read_text())["Skeleton"]["Joints"]
    for path in sorted((folder / "motions").rglob("*.txt")):
        if path.stem in DEEPMIMIC_SKIPPED:
            continue
        frames = np.array(json.loads(path.read_text())["Frames"], dtype=np.float64)
        motion = motion_of(deepmimic_rig(skeleton, frames), DEEPMIMIC_RIG, path)
        if path.stem in DEEPMIMIC_LOW:
            motion = grounded(motion)
        yield path.stem, repeated(motion) if path.stem in DEEPMIMIC_CYCLES else held(motion)
        if path.stem in DEEPMIMIC_BACKWARDS:
            name, speed = DEEPMIMIC_BACKWARDS[path.stem]
            yield name, held(paced(motion, speed))


def deepmimic_rig(skeleton: list[dict[str, Any]], frames: NDArray[np.float64]) -> RigMotion:
    """A clip on its skeleton; frames (T, 44)."""
    names = tuple(str(joint["Name"]) for joint in skeleton)
    parents = tuple(int(joint["Parent"]) for joint in skeleton)
    offset = np.array([[joint["AttachX"], joint["AttachY"], joint["AttachZ"]] for joint in skeleton], dtype=np.float64)
    rotation = np.tile(np.eye(3), (len(frames), len(names), 1, 1))
    rotation[:, 0] = quaternion_to_matrix(frames[:, 4:8])
    column = 8
    for name, width in DEEPMIMIC_COLUMNS:
        values = frames[:, column : column + width]
        rotation[:, names.index(name)] = rotation_about(2, values[:, 0]) if width == 1 else quaternion_to_matrix(values)
        column += width
    offsets = np.tile(offset, (len(frames), 1, 1))
    offsets[:, 0] = frames[:, 1:4]
    # The last frame lasts no time, and a few clips round one frame's duration differently.
    fps = 1.0 / float(np.median(frames[:, 0]))
    rest = np.tile(np.eye(3), (len(names), 1, 1))
    return RigMotion.from_local(names, parents, rest, offset, rotation, offsets, fps)


# --- Mesh2Motion -----------------------------------------------------------------------------------------------------
# World matrices out of Blender: Z up, facing -Y. Besides the mannequin's bones there are those that drive it.

Z_UP_TO_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
MESH2MOTION_SKIPPED = {
    "crawl",  # on the spot; crawl-RM is the same with root motion
    "run-anime",  # on the spot
    "backflip",  # three metres high
}
# All others are cycles.
MESH2MOTION_ACTIONS = {"bow", "confused", "consume-powerup", "reject", "throw-ball", "victory"}
# Nothing of them touches the floor: it is where the rig stands in its rest pose.
MESH2MOTION_FLOATING = {"flying-forward", "flying-forward-super", "levitate-entrance", "levitate-idle"}


def mesh2motion(folder: Path) -> Iterator[tuple[str, Motion]]:
    """The clips animation-human-NAME.npz, by NAME."""
    for path in sorted(folder.glob("animation-human-*.npz")):
        name = path.stem.removeprefix("animation-human-")
        if name in MESH2MOTION_SKIPPED:
            continue
        rig = mesh2motion_rig(path)
        motion = motion_of(rig, find_rig_table(rig), path, floating=name in MESH2MOTION_FLOATING)
        yield name, held(motion) if name in MESH2MOTION_ACTIONS else repeated(motion)


def mesh2motion_rig(path: Path) -> RigMotion:
    """A clip, only the joints from `root` down."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("names", "parents", "world", "rest", "fps")}
    names = [str(name) for name in arrays["names"]]
    above = dict(zip(names, map(str, arrays["parents"]), strict=True))
    kept = [names.index("root")]
    kept += [index for index, name in enumerate(names) if index > kept[0] and above[name] in names[kept[0] :]]
    place = {names[index]: number for number, index in enumerate(kept)}
    rest, world = arrays["rest"][kept].astype(np.float64), arrays["world"][:, kept].astype(np.float64)
    return RigMotion(
        names=tuple(place),
        parents=tuple(place.get(above[name], -1) for name in place),
        rest_rotation=Z_UP_TO_Y_UP @ unscaled(rest[:, :3, :3]),
        rest_position=rest[:, :3, 3] @ Z_UP_TO_Y_UP.T,
        rotation=Z_UP_TO_Y_UP @ unscaled(world[:, :, :3, :3]),
        position=world[:, :, :3, 3] @ Z_UP_TO_Y_UP.T,
        fps=float(arrays["fps"]),
    )


def unscaled(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotations nearest to matrices that may hold a scale."""
    left, _, right = np.linalg.svd(matrices)
    result: NDArray[np.float64] = left @ right
    return result


# --- KayKit ----------------------------------------------------------------------------------------------------------

KAYKIT_FILE = "Knight.glb"  # the Mage's 76 animations are the same
KAYKIT_SKIPPED = {
    # Walking and running on the spot.
    "Walking_A", "Walking_B", "Walking_C", "Walking_Backwards",
    "Running_A", "Running_B", "Running_Strafe_Left", "Running_Strafe_Right",
    # Single frames.
    "T-Pose", "Death_A_Pose", "Death_B_Pose", "Lie_Pose", "Sit_Chair_Pose", "Sit_Floor_Pose", "Unarmed_Pose",
    # Parts of Jump_Full_Short, and one that hangs in the air for a second.
    "Jump_Start", "Jump_Idle", "Jump_Land", "Jump_Full_Long",
    "Death_A",  # thrown back through the air
    "2H_Melee_Attack_Spinning",  # the middle of 2H_Melee_Attack_Spin
    "Sit_Chair_StandUp",  # hops off a high chair; Sit_Chair_Down backwards looks better
}  # fmt: skip
KAYKIT_CYCLES = {
    "Idle", "Unarmed_Idle", "2H_Melee_Idle", "Blocking", "Spellcasting", "1H_Ranged_Shooting", "2H_Ranged_Shooting",
    "Lie_Idle", "Sit_Chair_Idle", "Sit_Floor_Idle",
}  # fmt: skip
# What goes on after an action; else "Idle".
KAYKIT_AFTER = {
    "Block": "Blocking", "Block_Attack": "Blocking", "Block_Hit": "Blocking",
    "Unarmed_Melee_Attack_Kick": "Unarmed_Idle", "Unarmed_Melee_Attack_Punch_A": "Unarmed_Idle",
    "Unarmed_Melee_Attack_Punch_B": "Unarmed_Idle",
    "2H_Melee_Attack_Chop": "2H_Melee_Idle", "2H_Melee_Attack_Slice": "2H_Melee_Idle",
    "2H_Melee_Attack_Spin": "2H_Melee_Idle", "2H_Melee_Attack_Stab": "2H_Melee_Idle",
}  # fmt: skip
# They end in a pose of their own, which is held.
KAYKIT_HELD = {"1H_Ranged_Aiming", "2H_Ranged_Aiming", "2H_Ranged_Shoot", "Death_B"}
# The legs are short and the body is thick: on our proportions it would float.
KAYKIT_LOW = ("Sit_", "Lie_", "Death_", "PickUp")
# Sitting on the floor: from this pelvis height, that of the thick body, down to ours, metres.
KAYKIT_SEAT, SEAT = 0.36, 0.12
STANDING = 0.95
# Joined recordings: name -> (animation, speed) one after the other, backwards where the speed is negative.
_SIT, _SEATED, _RISE = ("Sit_Chair_Down", 0.6), ("Sit_Chair_Idle", 2.0), ("Sit_Chair_Down", -0.6)
_SIT_FLOOR, _ON_FLOOR, _RISE_FLOOR = ("Sit_Floor_Down", 0.6), ("Sit_Floor_Idle", 2.0), ("Sit_Floor_StandUp", 0.6)
_LIE, _LYING, _GET_UP, _STAND = ("Lie_Down", 1.0), ("Lie_Idle", 1.0), ("Lie_StandUp", 0.8), ("Idle", 1.0)
KAYKIT_JOINED: dict[str, tuple[tuple[str, float], ...]] = {
    "Sit_Chair_Down_Fast_Stay": (("Sit_Chair_Down", 1.0), _SEATED),
    "Sit_Chair_Down_Stay": (_SIT, _SEATED, _SEATED),
    "Stand_Sit_Chair_Down_Stay": (_STAND, _SIT, _SEATED),
    "Sit_Chair_StandUp": (_SEATED, _RISE, _STAND),
    "Sit_Chair_Down_StandUp": (_SIT, _SEATED, _RISE, _STAND),
    "Sit_Floor_Down_Stay": (_SIT_FLOOR, _ON_FLOOR, _ON_FLOOR),
    "Sit_Floor_StandUp_Stay": (_ON_FLOOR, _RISE_FLOOR, _STAND),
    "Sit_Floor_Down_StandUp": (_SIT_FLOOR, _ON_FLOOR, _RISE_FLOOR, _STAND),
    "Lie_Down_Stay": (_LIE, _LYING),
    "Lie_StandUp_Stay": (_LYING, _GET_UP, _STAND),
    "Lie_Down_StandUp": (_LIE, _LYING, _GET_UP, _STAND),
}


def kaykit(folder: Path) -> Iterator[tuple[str, Motion]]:
    """The animations of one character, by name, and the joined ones."""
    path = folder / KAYKIT_FILE
    motions: dict[str, Motion] = {}
    for name, rig in read_glb(path, fps=FPS):
        motions[name] = motion_of(rig, find_rig_table(rig), path)
        if name.startswith("Sit_Floor"):
            motions[name] = seated(motions[name])
        if name.startswith("Sit_"):
            motions[name] = planted(motions[name])
        if name.startswith(KAYKIT_LOW):
            motions[name] = grounded(motions[name])
    for name, motion in motions.items():
        if name in KAYKIT_SKIPPED:
            continue
        if name in KAYKIT_CYCLES:
            yield name, repeated(motion)
        elif name in KAYKIT_HELD or name.endswith("_Down"):
            yield name, held(motion)
        else:
            after = motions[KAYKIT_AFTER.get(name, "Idle")]
            while motion.seconds < ACTION_SECONDS:
                motion = joined(motion, after)
            yield name, motion
    for name, parts in KAYKIT_JOINED.items():
        pieces = [paced(motions[part], speed) for part, speed in parts]
        motion = pieces[0]
        for piece in pieces[1:]:
            motion = joined(motion, piece)
        yield name, motion


def seated(motion: Motion) -> Motion:
    """The pelvis brought down to our body's height above the floor where it sits, the ankles left where they are."""
    world, position = forward_kinematics(axis_angle_to_matrix(motion.pose.astype(np.float64)), motion.transl)
    height = position[:, 0, 2]
    drop = (KAYKIT_SEAT - SEAT) * np.clip((STANDING - height) / (STANDING - KAYKIT_SEAT), 0.0, 1.0) ** 2
    down = np.stack([np.zeros_like(drop), np.zeros_like(drop), drop], axis=-1)
    for side in ("left", "right"):
        hip, knee, ankle = (JOINT[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        bent = bend(position[:, hip] - down, position[:, knee] - down, position[:, ankle])
        thigh = rotation_between(position[:, knee] - position[:, hip], bent - (position[:, hip] - down))
        shin = rotation_between(position[:, ankle] - position[:, knee], position[:, ankle] - bent)
        world[:, hip], world[:, knee] = thigh @ world[:, hip], shin @ world[:, knee]
    local = world.astype(np.float64)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            local[:, joint] = np.swapaxes(world[:, parent], -1, -2) @ world[:, joint]
    return replace(
        motion, pose=matrix_to_axis_angle(local).astype(np.float32), transl=(motion.transl - down).astype(np.float32)
    )


def bend(hip: Array, knee: Array, ankle: Array) -> Array:
    """Where the knee (T, 3) goes for the given hip and ankle, on the side of the line between them that it is on."""
    rest = REST_JOINTS.astype(np.float64)
    upper = np.linalg.norm(rest[JOINT["left_knee"]] - rest[JOINT["left_hip"]])
    lower = np.linalg.norm(rest[JOINT["left_ankle"]] - rest[JOINT["left_knee"]])
    line = ankle - hip
    length = np.clip(np.linalg.norm(line, axis=-1, keepdims=True), abs(upper - lower) + 1e-3, upper + lower - 1e-3)
    line = line / np.linalg.norm(line, axis=-1, keepdims=True)
    along = (upper**2 - lower**2 + length**2) / (2 * length)
    side = (knee - hip) - np.sum((knee - hip) * line, axis=-1, keepdims=True) * line
    side = side / np.linalg.norm(side, axis=-1, keepdims=True)
    result: Array = hip + along * line + np.sqrt(np.maximum(upper**2 - along**2, 0.0)) * side
    return result


# --- together --------------------------------------------------------------------------------------------------------


def motion_of(rig: RigMotion, table: RigTable, path: Path, *, floating: bool = False) -> Motion:
    """The rig's motion at FPS, its lowest point on the floor or, `floating`, on the floor its rest pose stands on."""
    pose, transl = retarget(rig, table, ground=not floating)
    if floating:
        still = replace(rig, rotation=rig.rest_rotation[None], position=rig.rest_position[None])
        transl[:, 2] += retarget(still, table)[1][0, 2] - retarget(still, table, ground=False)[1][0, 2]
    return Motion(pose=pose, transl=transl, fps=rig.fps, origin={"source": path.name}).resample(FPS)


def grounded(motion: Motion) -> Motion:
    """The lowest point of every single frame put on the floor."""
    _, position = forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)
    transl = motion.transl.copy()
    transl[:, 2] -= lowest_point(position)
    return replace(motion, transl=transl)


def planted(motion: Motion) -> Motion:
    """The feet kept, on the whole, where they are in the first frame: the body moves over them."""
    _, position = forward_kinematics(axis_angle_to_matrix(motion.pose), motion.transl)
    feet = position[:, [JOINT["left_ankle"], JOINT["right_ankle"]], :2].mean(axis=1)
    transl = motion.transl.copy()
    transl[:, :2] -= feet - feet[0]
    return replace(motion, transl=transl)


def paced(motion: Motion, speed: float) -> Motion:
    """The motion `speed` times as fast; backwards when that is negative."""
    step = 1 if speed > 0 else -1
    return replace(
        motion, pose=motion.pose[::step], transl=motion.transl[::step], fps=motion.fps * abs(speed)
    ).resample(FPS)


def held(motion: Motion) -> Motion:
    """The last pose held until ACTION_SECONDS are over."""
    missing = max(0, round(ACTION_SECONDS * motion.fps) - len(motion))
    return replace(
        motion,
        pose=np.concatenate([motion.pose, np.repeat(motion.pose[-1:], missing, axis=0)]),
        transl=np.concatenate([motion.transl, np.repeat(motion.transl[-1:], missing, axis=0)]),
    )


def repeated(motion: Motion) -> Motion:
    """A cycle, whose last pose is its first one, repeated for CYCLE_SECONDS, each one going on where the last ended."""
    result = motion
    while result.seconds < CYCLE_SECONDS:
        result = joined(result, motion)
    return result


def joined(first: Motion, second: Motion) -> Motion:
    """`second` after `first`: its first frame is taken for first's last, and the difference eased out."""
    end = axis_angle_to_matrix(first.pose[-1].astype(np.float64))  # (24, 3, 3)
    pose = axis_angle_to_matrix(second.pose.astype(np.float64))  # (T, 24, 3, 3)
    fade = np.clip(np.arange(len(second)) / (EASE_SECONDS * FPS), 0.0, 1.0)
    fade = 1.0 - fade**2 * (3.0 - 2.0 * fade)
    difference = matrix_to_axis_angle(np.swapaxes(pose[0], -1, -2) @ end)  # (24, 3)
    pose = pose @ axis_angle_to_matrix(fade[:, None, None] * difference)
    transl = second.transl.copy()
    transl[:, :2] += first.transl[-1, :2] - second.transl[0, :2]
    transl[:, 2] += fade * (first.transl[-1, 2] - second.transl[0, 2])
    return replace(
        first,
        pose=np.concatenate([first.pose, matrix_to_axis_angle(pose).astype(np.float32)[1:]]),
        transl=np.concatenate([first.transl, transl[1:]]),
    )


SOURCES = {"deepmimic": deepmimic, "mesh2motion": mesh2motion, "kaykit": kaykit}


def main() -> int:
    """Read the arguments, convert the sources that are there, print how many motions each gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, help="folder of the unpacked archives")
    parser.add_argument("out", type=Path, help="folder the motions are written to")
    arguments = parser.parse_args()
    found = [source for source in SOURCES if (arguments.raw / source).is_dir()]
    if not found:
        err(f"{arguments.raw}: has none of the folders {', '.join(SOURCES)}")
        return DataError.exit_code
    try:
        for source in found:
            motions = list(SOURCES[source](arguments.raw / source))
            for name, motion in motions:
                motion.save(arguments.out / source / f"{name}.npz")
            out(f"{source}: {len(motions)} motions")
    except MclipError as error:
        err(error.message)
        return error.exit_code
    except (OSError, ValueError, KeyError) as error:
        err(f"{arguments.raw}: not the archives as published ({error})")
        return DataError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
