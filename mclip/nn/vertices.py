"""The vertex loss: how far all vertices of a body lie apart in two poses, exactly or by one of two short cuts.

Linear blend skinning is linear in each joint's rotation and shift: a coordinate of vertex v is phi_v . a, where a are
the 24 x 4 numbers in that coordinate's rows of the joints' transforms, and phi_v what weights and rest pose make of
them. Hence three forms:

    all     the differences of V vertices are one product with Phi (V x 96), and pose correctives, where the body has
            them, are added
    gram    mean_v (phi_v . d)^2 = |L^T d|^2 with L L^T = Phi^T Phi / V: all vertices at the price of 96, but without
            correctives
    sample  as `all`, of vertices drawn at random at each call: unbiased

The root turns the body but does not move it, as in the original (its option --no-vertstrans); the shape is the mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mclip.body.model import BETAS, Body
from mclip.nn.rotations import forward_kinematics, rot6d_to_matrix


class VertexLoss:
    """The loss for one body, in one form (module docstring)."""

    def __init__(
        self, body: Body, form: str = "all", sample: int = 512, device: torch.device | str | None = None
    ) -> None:
        betas = np.zeros(BETAS, np.float32)
        self._rest_joints = torch.from_numpy(body.rest_joints(betas)).to(device)
        # Double precision here costs nothing, and the Gram matrix squares the condition of Phi.
        rest = np.pad(body.rest_vertices(betas).astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)  # (V, 4)
        phi = (body.weights[:, :, None] * rest[:, None]).reshape(len(rest), -1)  # (V, 96)
        self._sample = min(sample, len(phi)) if form == "sample" else 0
        self._weights = self._directions = None
        if form == "gram":
            values, vectors = np.linalg.eigh(phi.T @ phi / len(phi))
            # The mean over L's columns, as over vertices elsewhere, has to be their sum.
            phi = (vectors * np.sqrt(np.maximum(values, 0.0) * len(values))).T
        elif body.posedirs is not None:
            self._weights = torch.tensor(body.weights, device=device)  # (V, 24)
            self._directions = torch.tensor(body.posedirs, device=device)  # (V, 3, 207)
        self._phi = torch.from_numpy(phi.astype(np.float32)).to(device)

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error, square metres, of features (B, T, 25, 6) over the frames where mask (B, T) is true."""
        prediction, target = rot6d_to_matrix(prediction[mask][:, :24]), rot6d_to_matrix(target[mask][:, :24])
        chosen = (
            torch.randperm(len(self._phi), device=self._phi.device)[: self._sample] if self._sample else slice(None)
        )
        turn, transform = self._transforms(prediction)
        with torch.no_grad():
            target_turn, target_transform = self._transforms(target)
        error = (transform - target_transform) @ self._phi[chosen].T  # (F, 3, V)
        if self._directions is not None:
            with torch.no_grad():
                corrected = self._corrections(target, target_turn, chosen)
            error = error + (self._corrections(prediction, turn, chosen) - corrected)
        return error.square().sum() / max(1, error.numel())

    def _transforms(self, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Of local rotations (F, 24, 3, 3), the joints' world rotations and the numbers a (F, 3, 96)."""
        turn, position = forward_kinematics(rotations, rotations.new_zeros(len(rotations), 3), self._rest_joints)
        shift = position - (turn @ self._rest_joints[..., None])[..., 0]  # v -> turn v + shift
        return turn, torch.cat([turn, shift[..., None]], dim=-1).transpose(1, 2).flatten(2)

    def _corrections(self, rotations: Tensor, turn: Tensor, chosen: Tensor | slice) -> Tensor:
        """What pose correctives move the vertices by (F, 3, V); world rotations turn (F, 24, 3, 3)."""
        assert self._weights is not None and self._directions is not None
        pose = (rotations[:, 1:] - torch.eye(3, device=turn.device)).flatten(1)  # (F, 207)
        moved = torch.einsum("fp,vcp->fcv", pose, self._directions[chosen])
        blended = torch.einsum("fjab,vj->fabv", turn, self._weights[chosen])
        return (blended * moved[:, None]).sum(2)
