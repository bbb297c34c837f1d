from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn

from mclip.geometry import rot6d_to_matrix as numpy_rot6d_to_matrix
from mclip.nn import dct, losses, paper
from mclip.nn.dct import cosines
from mclip.nn.layers import additive_mask, patch_mask, positions
from mclip.nn.model import MotionClip
from mclip.nn.rotations import joint_positions, rot6d_to_matrix
from mclip.recipe import ARCHITECTURES, ModelConfig
from mclip.skeleton.smpl import forward_kinematics

SMALL = ModelConfig(latent=24, width=16, feedforward=32, encoder_layers=2, decoder_layers=2, heads=2, dropout=0.0)


def build(**changes: object) -> MotionClip:
    torch.manual_seed(0)
    return MotionClip(ModelConfig(**{**{f: getattr(SMALL, f) for f in SMALL.__slots__}, **changes})).eval()


def windows(batch: int, frames: int) -> torch.Tensor:
    return torch.randn(batch, frames, 25, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 5, 12])
def test_shapes_for_any_length(architecture: str, patch: int, frames: int) -> None:
    model = build(architecture=architecture, patch=patch)
    mask = torch.ones(3, frames, dtype=torch.bool)
    latent = model.encode(windows(3, frames), mask)
    assert latent.shape == (3, 24)
    torch.testing.assert_close(latent.norm(dim=-1), torch.ones(3))
    assert model.decode(latent, mask).shape == (3, frames, 25, 6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("patch", [1, 3])
def test_padding_changes_nothing(architecture: str, patch: int) -> None:
    model = build(architecture=architecture, patch=patch)
    x, frames = windows(2, 14), 8
    mask = torch.ones(2, 14, dtype=torch.bool)
    mask[:, frames:] = False
    short = torch.ones(2, frames, dtype=torch.bool)
    with torch.no_grad():
        padded, plain = model.encode(x, mask), model.encode(x[:, :frames], short)
        torch.testing.assert_close(padded, plain, atol=1e-5, rtol=0)
        # What stands in the padding is not looked at either.
        x[:, frames:] = 1e3
        torch.testing.assert_close(model.encode(x, mask), plain, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.decode(plain, mask)[:, :frames], model.decode(plain, short), atol=1e-5, rtol=0)


def test_the_encoder_equals_torchs_own_transformer() -> None:
    """A second implementation: torch.nn.TransformerEncoder with the same weights."""
    model = build(normalize=False)
    assert isinstance(model.encoder, paper.MotionEncoder)
    assert isinstance(model.decoder, paper.MotionDecoder)
    reference = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, 0.0, activation="gelu", batch_first=True), 2, enable_nested_tensor=False
    ).eval()
    pairs: Any = zip(model.encoder.layers, reference.layers, strict=True)
    for ours, theirs in pairs:
        theirs.load_state_dict(
            {
                "self_attn.in_proj_weight": ours.attention.qkv.weight,
                "self_attn.in_proj_bias": ours.attention.qkv.bias,
                "self_attn.out_proj.weight": ours.attention.out.weight,
                "self_attn.out_proj.bias": ours.attention.out.bias,
                "linear1.weight": ours.feedforward[0].weight,
                "linear1.bias": ours.feedforward[0].bias,
                "linear2.weight": ours.feedforward[3].weight,
                "linear2.bias": ours.feedforward[3].bias,
                "norm1.weight": ours.attention_norm.weight,
                "norm1.bias": ours.attention_norm.bias,
                "norm2.weight": ours.feedforward_norm.weight,
                "norm2.bias": ours.feedforward_norm.bias,
            }
        )
    x, mask = windows(2, 9), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    with torch.no_grad():
        h = torch.cat(
            [model.encoder.tokens.expand(2, -1, -1), model.encoder.embed((x * mask[..., None, None]).flatten(2))], 1
        )
        h = h + positions(11, 16)
        keep = torch.cat([torch.ones(2, 2, dtype=torch.bool), mask], 1)
        expected = model.encoder.latent(reference(h, src_key_padding_mask=~keep)[:, 0])
        torch.testing.assert_close(model.encode(x, mask), expected, atol=1e-5, rtol=1e-5)


def test_the_decoder_equals_torchs_own_transformer() -> None:
    """Cross-attention over one token is a linear map: torch.nn.TransformerDecoder agrees, with any query and key."""
    model = build(normalize=False)
    assert isinstance(model.encoder, paper.MotionEncoder)
    assert isinstance(model.decoder, paper.MotionDecoder)
    reference = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(16, 2, 32, 0.0, activation="gelu", batch_first=True), 2
    ).eval()
    with torch.no_grad():
        pairs: Any = zip(model.decoder.layers, reference.layers, strict=True)
        for ours, theirs in pairs:
            theirs.self_attn.in_proj_weight.copy_(ours.attention.qkv.weight)
            theirs.self_attn.in_proj_bias.copy_(ours.attention.qkv.bias)
            theirs.self_attn.out_proj.load_state_dict(ours.attention.out.state_dict())
            theirs.multihead_attn.in_proj_weight[32:].copy_(ours.memory[0].weight)
            theirs.multihead_attn.in_proj_bias[32:].copy_(ours.memory[0].bias)
            theirs.multihead_attn.out_proj.load_state_dict(ours.memory[1].state_dict())
            theirs.linear1.load_state_dict(ours.feedforward[0].state_dict())
            theirs.linear2.load_state_dict(ours.feedforward[3].state_dict())
            theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
            theirs.norm2.load_state_dict(ours.memory_norm.state_dict())
            theirs.norm3.load_state_dict(ours.feedforward_norm.state_dict())
        z = torch.randn(2, 24)
        queries = positions(9, 16).expand(2, -1, -1)
        expected = model.decoder.features(reference(queries, model.decoder.memory(z)[:, None])).view(2, 9, 25, 6)
        torch.testing.assert_close(model.decode(z, torch.ones(2, 9, dtype=torch.bool)), expected, atol=1e-5, rtol=1e-5)


def test_the_cosines_are_those_of_the_discrete_cosine_transform() -> None:
    """scipy's orthonormal DCT-II, of which sqrt(N) is what gives every function a mean square of one."""
    config = ModelConfig(coefficients=5, period=12, patch=2)
    functions = cosines(6, config)
    signal = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    expected = scipy.fft.dct(signal.numpy(), axis=0, norm="ortho")[:5] * math.sqrt(6)
    np.testing.assert_allclose(functions @ signal, expected, atol=1e-5)
    # Past the period they run backwards.
    torch.testing.assert_close(cosines(12, config)[:, 6:], functions.flip(1))


def test_layers_of_the_dct_architecture_equal_torchs_own_when_the_latent_says_nothing() -> None:
    """torch.nn.TransformerEncoderLayer with its norms first is the encoder's layer, and the unmodulated decoder's."""
    theirs = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    weights = {name.replace("linear1", "feedforward.0").replace("linear2", "feedforward.3"): value
               for name, value in theirs.state_dict().items()}  # fmt: skip
    names = {"self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj.": "attention.out.",
             "norm1.": "attention_norm.", "norm2.": "feedforward_norm."}  # fmt: skip
    for old, new in names.items():
        weights = {name.replace(old, new): value for name, value in weights.items()}
    encoder, decoder = dct.EncoderLayer(SMALL).eval(), dct.DecoderLayer(SMALL).eval()
    encoder.load_state_dict(weights)
    still = {f"modulation.{name}": torch.zeros_like(value) for name, value in decoder.modulation.state_dict().items()}
    decoder.load_state_dict({**weights, **still})
    keep = torch.ones(2, 9, dtype=torch.bool)
    keep[1, 6:] = False
    x, memory = torch.randn(2, 9, 16), torch.randn(2, 1, 16)
    with torch.no_grad():
        expected = theirs(x, src_key_padding_mask=~keep)
        torch.testing.assert_close(encoder(x, additive_mask(keep)), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(decoder(x, memory, additive_mask(keep)), expected, atol=1e-5, rtol=1e-5)


def test_an_untrained_dct_decoder_stands_nearly_at_rest() -> None:
    """And moves a little, differently for every latent: what training starts from."""
    model = build(architecture="dct")
    mask = torch.ones(2, 12, dtype=torch.bool)
    with torch.no_grad():
        made = model.decode(nn.functional.normalize(torch.randn(2, 24), dim=-1), mask)
    rest = torch.tensor([1.0, 0, 0, 0, 1, 0]).expand(24, 6)
    assert (made[:, :, :24] - rest).abs().mean() < 0.15
    assert made[:, :, 24].abs().mean() < 0.15
    assert made.std(dim=1).mean() > 0.01
    assert (made[0] - made[1]).abs().mean() > 0.01


def test_masks_of_patches_keep_a_token_with_any_real_frame() -> None:
    mask = torch.tensor([[True, True, True, True, False, False, False]])
    assert patch_mask(mask, 3).tolist() == [[True, True, False]]
    assert additive_mask(patch_mask(mask, 3)).flatten().tolist() == [0.0, 0.0, -math.inf]


def test_torch_and_numpy_rotations_and_kinematics_agree() -> None:
    features = windows(2, 5)
    matrices = rot6d_to_matrix(features)
    np.testing.assert_allclose(matrices, numpy_rot6d_to_matrix(features.numpy()), atol=1e-5)
    _, expected = forward_kinematics(matrices[..., :24, :, :].numpy(), features[..., 24, :3].numpy())
    np.testing.assert_allclose(joint_positions(features), expected, atol=1e-4)


def test_losses_are_zero_for_equal_motions_and_ignore_padding() -> None:
    x = windows(2, 6)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 3:] = False
    y = x.clone()
    y[0, 3:] = 100.0
    for loss in (losses.rotation_loss, losses.root_loss, losses.position_loss, losses.velocity_loss):
        assert loss(x, y, mask).item() == 0.0
    y[1, 2] += 1.0
    assert losses.rotation_loss(x, y, mask).item() == pytest.approx(1 / 9)  # one frame of nine is off by one
    # Metres: one is off by 0.95 beyond the rounded corner.
    assert losses.root_loss(x, y, mask).item() == pytest.approx(0.95 / 9)
    assert losses.velocity_loss(x, y, mask).item() == pytest.approx(2 / 7)  # two steps of seven


def test_contrast_equals_cross_entropy_when_labels_differ() -> None:
    random = torch.Generator().manual_seed(2)
    a, b = (torch.nn.functional.normalize(torch.randn(5, 8, generator=random), dim=-1) for _ in range(2))
    logits, target = a @ b.T / 0.1, torch.arange(5)
    expected = 0.5 * (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target))
    torch.testing.assert_close(losses.contrast_loss(a, b, target, 0.1), expected)
    # With every pair positive there is nothing to tell apart: the loss is log 5 at best.
    assert losses.contrast_loss(a, b, torch.zeros(5), 1e6).item() == pytest.approx(math.log(5), abs=1e-4)


def test_editing_by_nothing_changes_nothing() -> None:
    z, t = (torch.nn.functional.normalize(torch.randn(3, 8), dim=-1) for _ in range(2))
    torch.testing.assert_close(losses.edited(z, t, t), z)
    torch.testing.assert_close(losses.cosine_loss(z, z), torch.tensor(0.0), atol=1e-6, rtol=0)
