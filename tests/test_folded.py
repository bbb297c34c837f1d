"""The folded graphs say what the plain model says, for any weights, length and batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mclip.export.folded import folded
from mclip.export.graphs import Exportable, exportables
from mclip.nn.model import MotionClip
from mclip.recipe import ARCHITECTURES, ModelConfig
from mclip.runtime.session import Session

# (frames, batch), lengths from 1 to 300 and batches from 1 to 64.
SHAPES = ((1, 1), (1, 64), (2, 7), (59, 3), (60, 64), (61, 1), (143, 8), (300, 2))


def build(seed: int, **changes: object) -> MotionClip:
    """A small model of random weights, norms and biases included, which begin as ones and zeros."""
    torch.manual_seed(seed)
    sizes = {"latent": 48, "width": 48, "feedforward": 80, "encoder_layers": 2, "decoder_layers": 3, "heads": 4}
    model = MotionClip(ModelConfig(**{**sizes, **changes})).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or "bias" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    return model


def session_of(item: Exportable, *, optimise: bool) -> Session:
    graph = folded(item.module, item.inputs, item.output)
    assert graph is not None
    return Session(graph.SerializeToString(), item.file, "cpu", optimise=optimise)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("changes", [{}, {"patch": 4}, {"latent": 32, "normalize": False, "patch": 3}], ids=str)
@pytest.mark.parametrize("optimise", [True, False])
def test_folded_graphs_equal_the_plain_model(architecture: str, changes: dict[str, object], optimise: bool) -> None:
    for item in exportables(build(1, architecture=architecture, **changes), None, 0):
        session = session_of(item, optimise=optimise)
        for frames, batch in SHAPES:
            inputs = item.draw(batch, frames, np.random.default_rng(frames))
            with torch.inference_mode():
                expected = item.module(*map(torch.from_numpy, inputs)).numpy()
            np.testing.assert_allclose(session.run(*inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_of_one_layer_is_folded_too(architecture: str) -> None:
    for item in exportables(build(0, architecture=architecture, encoder_layers=1, decoder_layers=1), None, 0):
        inputs = item.draw(3, 20, np.random.default_rng(0))
        with torch.inference_mode():
            expected = item.module(*map(torch.from_numpy, inputs)).numpy()
        np.testing.assert_allclose(session_of(item, optimise=True).run(*inputs), expected, rtol=0, atol=1e-5)


def test_what_is_no_motion_model_is_not_folded() -> None:
    assert folded(nn.Linear(2, 2), (), exportables(build(0), None, 0)[0].output) is None
