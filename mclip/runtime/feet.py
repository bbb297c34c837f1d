"""Feet that stand where they stand.

A decoder lets feet slide: they drift by centimetres a second under a body at rest, and go on with one that walks. A
foot that is low and slow is taken to stand. Its toes are held in one place over the ground, hip and knee follow, and
the foot keeps its height and its direction in the world: it may still roll over the toes. Before and after, the leg
comes back to its own movement. The rest of the body, its path included, stays as it is.

Who kneels, crawls or lies does not stand, nor does who is in the air.
"""

from __future__ import annotations

import numpy as np

from mclip.geometry import Array, axis_angle_to_matrix, rotation_between
from mclip.skeleton.smpl import CLEARANCE, JOINT

_HIPS, _KNEES, _ANKLES, _TOES = (
    [JOINT[f"left_{part}"], JOINT[f"right_{part}"]] for part in ("hip", "knee", "ankle", "foot")
)
# What moves when a foot is held.
LEGS = [*_HIPS, *_KNEES, *_ANKLES]
# A foot stands once its toes are lower and slower than the first, and until they are higher or faster than the second:
# metres, m/s.
_LOW, _SLOW = (0.04, 0.06), (0.35, 0.5)
# For so long at least, seconds.
_SHORTEST = 0.1
# Who has a knee so near to the floor kneels, crawls or lies: metres.
_KNEELS = 0.2
# How far toes are carried to where they stand, metres, and how long a leg takes to come back to its own movement,
# seconds.
_FARTHEST = 0.12
_EASE = 0.25
# Less than this is the rounding of float32, metres: an edit of no strength changes no bit.
_ROUNDING = 1e-4
# A leg is stretched to this share of its length at most, or as far as it was.
_REACH = 0.995


def stand(rotations: Array, world: Array, joints: Array, fps: float) -> Array:
    """Local rotations (T, 24, 3, 3) of a body on the floor z = 0, its feet held where they stand.

    rotations, world, joints: its local rotations, and the world rotations (T, 24, 3, 3) and positions (T, 24, 3) that
    follow from them
    """
    return _follow(rotations, world, joints, _stances(joints, fps), np.zeros((len(joints), 2, 2)), fps)


def stand_as(given: Array, rotations: Array, world: Array, joints: Array, fps: float) -> Array:
    """The same of a body whose feet are to stand when those of another one do, and to slide no more than they do.

    given: positions (T, 24, 3) of that other one's joints, on the floor z = 0
    Returns `rotations` themselves if the feet do so already.
    """
    return _follow(rotations, world, joints, _stances(given, fps), given[:, _TOES, :2], fps)


def _stances(joints: Array, fps: float) -> list[list[tuple[int, int]]]:
    """The frames [start, stop) in which the left and the right foot stand."""
    toes = joints[:, _TOES].astype(np.float64)  # (T, 2, 3)
    if len(toes) < 2:
        return [[], []]
    upright = joints[:, _KNEES, 2].min(axis=1, keepdims=True) > _KNEELS
    height = toes[..., 2] - CLEARANCE[_TOES]
    speed = np.linalg.norm(np.gradient(toes[..., :2], 1 / fps, axis=0), axis=-1)
    sure, still = (upright & (height < low) & (speed < slow) for low, slow in zip(_LOW, _SLOW, strict=True))
    shortest = max(2, round(_SHORTEST * fps))
    found = []
    for side in (0, 1):
        edges = np.flatnonzero(np.diff(still[:, side], prepend=False, append=False)).reshape(-1, 2)
        found.append([(a, b) for a, b in edges.tolist() if b - a >= shortest and sure[a:b, side].any()])
    return found


def _follow(
    rotations: Array, world: Array, joints: Array, stances: list[list[tuple[int, int]]], wanted: Array, fps: float
) -> Array:
    """The local rotations with toes that follow the paths `wanted` (T, 2, 2) while they stand, wherever these lie."""
    ease = max(1, round(_EASE * fps))
    moves = np.zeros((len(joints), 2, 3))
    for side in (0, 1):
        moves[:, side, :2] = _held(wanted[:, side] - joints[:, _TOES[side], :2], stances[side], ease)
    return _legs(rotations, world, joints, moves) if moves.any() else rotations


def _held(missing: Array, stances: list[tuple[int, int]], ease: int) -> Array:
    """How far toes are to be moved (T, 2) that are off their paths by `missing` (T, 2), and a constant."""
    moves = np.zeros(missing.shape)
    begin, value, slope = -ease - 1, np.zeros(2), np.zeros(2)
    for start, stop in stances:
        move = missing[start:stop] - missing[start:stop].mean(axis=0)
        most = float(np.linalg.norm(move, axis=1).max())
        move *= min(1.0, _FARTHEST / most) if most > _ROUNDING else 0.0
        _join(moves, (begin, value, slope), (start, move[0], move[1] - move[0]), ease)
        moves[start:stop] = move
        begin, value, slope = stop - 1, move[-1], move[-1] - move[-2]
    _join(moves, (begin, value, slope), (len(moves) + ease, np.zeros(2), np.zeros(2)), ease)
    return moves


def _join(moves: Array, last: tuple[int, Array, Array], first: tuple[int, Array, Array], ease: int) -> None:
    """Fill the moves (T, 2) between two frames, of which value and slope are known, by cubics that meet them smoothly.

    Where there is time for it, by way of no move at all.
    """
    (begin, value, slope), (end, next_value, next_slope) = last, first
    none = np.zeros(2)
    if end - begin >= 2 * ease:
        pieces = [
            (begin, begin + ease, value, slope, none, none),
            (end - ease, end, none, none, next_value, next_slope),
        ]
    else:
        pieces = [(begin, end, value, slope, next_value, next_slope)]
    for a, b, left, rise, right, fall in pieces:
        frames = np.arange(max(a + 1, 0), min(b, len(moves)))
        t = ((frames - a) / (b - a))[:, None]
        cubic = (1 + 2 * t) * (1 - t) ** 2 * left + t**2 * (3 - 2 * t) * right
        moves[frames] = cubic + (b - a) * (t * (1 - t) ** 2 * rise - t**2 * (1 - t) * fall)


def _legs(rotations: Array, world: Array, joints: Array, moves: Array) -> Array:
    """Local rotations (T, 24, 3, 3) of a body whose ankles are moved (T, 2, 3); its feet keep their direction."""
    hips, knees, ankles = (joints[:, which].astype(np.float64) for which in (_HIPS, _KNEES, _ANKLES))
    bend, turn = reach_for(hips, knees, ankles, moves)
    thigh, shin = turn @ world[:, _HIPS], turn @ bend @ world[:, _KNEES]
    result = rotations.copy()
    result[:, _HIPS] = np.swapaxes(world[:, [0]], -1, -2) @ thigh
    result[:, _KNEES] = np.swapaxes(thigh, -1, -2) @ shin
    result[:, _ANKLES] = np.swapaxes(shin, -1, -2) @ world[:, _ANKLES]
    return result


def reach_for(hip: Array, knee: Array, ankle: Array, move: Array) -> tuple[Array, Array]:
    """How a leg follows its ankle: world turns (..., 3, 3) of the shin about the knee, then of all about the hip.

    Positions and move are (..., 3). The knee bends in its own plane; the leg turns the shortest way. Of a move that
    is too far for the leg it does as much as it can.
    """
    upper, lower, leg = knee - hip, ankle - knee, ankle - hip
    squares = [np.sum(np.square(bone), axis=-1) for bone in (upper, lower)]
    longest = np.sqrt(squares[0]) + np.sqrt(squares[1])
    limit = np.maximum(np.linalg.norm(leg, axis=-1), _REACH * longest)
    # The largest part of the move, from none to all, that ends within the limit.
    a, b = np.sum(np.square(move), axis=-1), np.sum(leg * move, axis=-1)
    c = np.sum(np.square(leg), axis=-1) - np.square(limit)
    part = np.minimum(1.0, (np.sqrt(np.maximum(b * b - a * c, 0.0)) - b) / np.maximum(a, 1e-12))
    wanted = leg + part[..., None] * move
    lengths = np.sqrt(squares[0] * squares[1])
    angles = [
        np.arccos(np.clip((np.sum(np.square(each), axis=-1) - squares[0] - squares[1]) / (2 * lengths), -1.0, 1.0))
        for each in (leg, wanted)
    ]
    normal = np.cross(upper, lower)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    bend = axis_angle_to_matrix((angles[1] - angles[0])[..., None] * normal)
    bent = upper + (bend @ lower[..., None])[..., 0]
    return bend, rotation_between(bent, wanted)
