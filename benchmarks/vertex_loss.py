"""What the vertex loss of a training step costs, form by form: python -m benchmarks.vertex_loss [REPEATS]

Forward and backward of 20 windows of 60 frames on the free body, one thread, seconds of processor time, the best of
REPEATS (3). "smplx" is the loss as the original computes it: both motions skinned by smplx. The last line is one JSON
object: seconds and value of each, and how many times faster than smplx it is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mclip.body.model import load_body
from mclip.nn.rotations import rot6d_to_matrix
from mclip.nn.smpl import smplx_body
from mclip.nn.vertices import VertexLoss
from mclip.recipe import VERTEX_FORMS

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def smplx_loss() -> Loss:
    """The mean squared error of the vertices that smplx makes of both motions."""
    body = smplx_body(load_body())

    def vertices(features: Tensor, mask: Tensor) -> Tensor:
        rotations = rot6d_to_matrix(features[mask][:, :24])
        shape = torch.zeros(len(rotations), 10)
        posed = body(betas=shape, global_orient=rotations[:, :1], body_pose=rotations[:, 1:], pose2rot=False)
        return posed.vertices  # type: ignore[no-any-return]

    return lambda made, wanted, mask: (vertices(made, mask) - vertices(wanted, mask)).square().mean()


def main(repeats: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    wanted = torch.randn(20, 60, 25, 6)
    made = (wanted + 0.1 * torch.randn_like(wanted)).requires_grad_()
    mask = torch.ones(20, 60, dtype=torch.bool)
    losses: dict[str, Loss] = {"smplx": smplx_loss()}
    losses |= {form: VertexLoss(load_body(), form) for form in VERTEX_FORMS}
    results: dict[str, dict[str, float]] = {}
    for name, loss in losses.items():
        seconds = []
        for _ in range(repeats):
            started = time.process_time()
            value = loss(made, wanted, mask)
            value.backward()  # type: ignore[no-untyped-call]
            seconds.append(time.process_time() - started)
        faster = results["smplx"]["seconds"] / min(seconds) if results else 1.0
        results[name] = {"seconds": round(min(seconds), 4), "value": round(value.item(), 6), "faster": round(faster, 1)}
        print(f"{name:8} {min(seconds):8.4f} s  {value.item():.6f}  {faster:6.1f}x")
    print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
