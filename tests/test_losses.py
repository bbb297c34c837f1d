"""The paper's losses, against the original's numbers and against smplx."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mclip.body.model import Body, load_body
from mclip.nn import losses
from mclip.nn.rotations import rot6d_to_matrix
from mclip.nn.vertices import VertexLoss
from mclip.recipe import VERTEX_FORMS

GOLDEN = Path(__file__).parent / "golden" / "motionclip" / "losses.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_reconstruction_and_velocity_are_the_originals(golden: dict[str, Tensor]) -> None:
    motion, made = (golden[name].permute(0, 3, 1, 2) for name in ("x", "reconstruction"))
    mask = torch.arange(motion.shape[1]) < golden["lengths"][:, None]
    assert not mask.all()
    # What a decoder says of padding does not count.
    made = torch.where(mask[..., None, None], made, 7.0)
    torch.testing.assert_close(losses.position_loss(made, motion, mask), golden["loss_rc"], atol=1e-5, rtol=0)
    torch.testing.assert_close(losses.velocity_loss(made, motion, mask), golden["loss_vel"], atol=1e-5, rtol=0)


def test_the_cosine_loss_is_the_originals(golden: dict[str, Tensor]) -> None:
    loss = losses.cosine_loss(golden["mu"], golden["features"])
    torch.testing.assert_close(loss, golden["loss_cosine"], atol=1e-5, rtol=0)


def test_cross_entropy_is_clips(golden: dict[str, Tensor]) -> None:
    """By hand, in double precision: minus the mean log softmax of the diagonal, in both directions."""
    latents, embeddings = (golden[name].double().numpy() for name in ("mu", "features"))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (latents, embeddings)]
    odds = np.exp(100 * unit[0] @ unit[1].T)
    shares = [np.diag(odds) / odds.sum(axis) for axis in (0, 1)]
    expected = -np.log(np.array(shares)).mean()
    assert losses.cross_entropy_loss(golden["mu"], golden["features"]).item() == pytest.approx(expected, abs=1e-4)
    # Two windows of one text cannot be told apart: half of each is the other's.
    same = torch.eye(4)[:1].expand(2, -1)
    assert losses.cross_entropy_loss(same, same).item() == pytest.approx(math.log(2), abs=1e-5)


def bodies() -> dict[str, Body]:
    free = load_body()
    posedirs = np.random.default_rng(0).normal(0, 0.003, (len(free.v_template), 3, 207)).astype(np.float32)
    return {"free": free, "with pose correctives": replace(free, posedirs=posedirs)}


def windows() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    target = torch.randn(2, 5, 25, 6, generator=random)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    return target + 0.2 * torch.randn(target.shape, generator=random), target, mask


@pytest.mark.parametrize("name", ["free", "with pose correctives"])
def test_the_vertex_loss_is_that_of_smplx(name: str) -> None:
    pytest.importorskip("smplx", reason="smplx comes with the extra train")
    from mclip.nn.smpl import smplx_body

    body = bodies()[name]
    prediction, target, mask = windows()
    witness = smplx_body(body)

    def vertices(features: Tensor) -> Tensor:
        rotations = rot6d_to_matrix(features[mask][:, :24])
        shape = torch.zeros(len(rotations), 10)
        posed = witness(betas=shape, global_orient=rotations[:, :1], body_pose=rotations[:, 1:], pose2rot=False)
        return posed.vertices  # type: ignore[no-any-return]

    expected = (vertices(prediction) - vertices(target)).square().mean()
    assert expected > 0.01
    torch.testing.assert_close(VertexLoss(body)(prediction, target, mask), expected, atol=1e-7, rtol=1e-5)


def test_the_gram_form_is_the_exact_loss_of_a_body_without_correctives() -> None:
    prediction, target, mask = windows()
    prediction.requires_grad_()
    exact, short = (VertexLoss(load_body(), form)(prediction, target, mask) for form in ("all", "gram"))
    torch.testing.assert_close(short, exact, atol=0, rtol=1e-5)
    slopes = [torch.autograd.grad(loss, prediction)[0] for loss in (exact, short)]
    torch.testing.assert_close(slopes[1], slopes[0], atol=1e-8, rtol=1e-4)
    assert not slopes[0][~mask].any() and not slopes[0][:, :, 24].any()


@pytest.mark.parametrize("name", ["free", "with pose correctives"])
def test_random_vertices_are_unbiased(name: str) -> None:
    body = bodies()[name]
    prediction, target, mask = windows()
    exact = VertexLoss(body)(prediction, target, mask)
    sample = VertexLoss(body, "sample", 512)
    torch.manual_seed(0)
    drawn = torch.stack([sample(prediction, target, mask) for _ in range(40)])
    assert drawn.std() > 0
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / math.sqrt(len(drawn))
    torch.manual_seed(0)
    assert torch.equal(sample(prediction, target, mask), drawn[0])
    # All of them in a random order are all of them.
    every = VertexLoss(body, "sample", len(body.v_template))
    torch.testing.assert_close(every(prediction, target, mask), exact, atol=0, rtol=1e-5)


@pytest.mark.parametrize("form", VERTEX_FORMS)
def test_the_vertex_loss_of_nothing_is_nothing(form: str) -> None:
    prediction, target, mask = windows()
    loss = VertexLoss(load_body(), form)
    assert loss(target, target, mask).item() == 0.0
    assert loss(prediction, target, torch.zeros_like(mask)).item() == 0.0
