"""The differentiable twins of mclip.geometry and of forward kinematics."""

from __future__ import annotations

import torch
from torch import Tensor

from mclip.skeleton.smpl import PARENTS, REST_JOINTS


def rot6d_to_matrix(rot6d: Tensor) -> Tensor:
    """6D (..., 6), the first two rows, to rotation matrices (..., 3, 3) by Gram-Schmidt."""
    first, second = rot6d[..., :3], rot6d[..., 3:]
    x = torch.nn.functional.normalize(first, dim=-1, eps=1e-6)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-2)


# Joints by their depth in the tree: nine products instead of twenty-three.
def _levels() -> list[list[int]]:
    depth = [0] * len(PARENTS)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            depth[joint] = depth[parent] + 1
    return [[joint for joint, d in enumerate(depth) if d == level] for level in range(1, max(depth) + 1)]


_LEVELS = _levels()


def forward_kinematics(rotations: Tensor, transl: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """World rotations (..., 24, 3, 3) and positions (..., 24, 3), metres, of all joints.

    rotations (..., 24, 3, 3) local; transl (..., 3) metres; rest (24, 3) rest joints, metres.
    """
    world: list[Tensor] = [rotations[..., 0, :, :]] * 24
    position: list[Tensor] = [transl + rest[0]] * 24
    for level in _LEVELS:
        parents = [PARENTS[joint] for joint in level]
        parent_world = torch.stack([world[parent] for parent in parents], dim=-3)  # (..., n, 3, 3)
        offset = rest[level] - rest[parents]  # (n, 3)
        at = torch.stack([position[parent] for parent in parents], dim=-2)
        at = at + (parent_world @ offset[..., None])[..., 0]
        turned = parent_world @ rotations[..., level, :, :]
        for index, joint in enumerate(level):
            world[joint], position[joint] = turned[..., index, :, :], at[..., index, :]
    return torch.stack(world, dim=-3), torch.stack(position, dim=-2)


def joint_positions(features: Tensor) -> Tensor:
    """World positions (..., 24, 3), metres, of the free body's joints from features (..., 25, 6)."""
    rest = torch.from_numpy(REST_JOINTS).to(features)
    return forward_kinematics(rot6d_to_matrix(features[..., :24, :]), features[..., 24, :3], rest)[1]
