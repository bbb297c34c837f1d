"""The auto-encoder: an encoder of windows to latents and a decoder back, in one of two architectures."""

from __future__ import annotations

from torch import Tensor, nn

from mclip.nn import dct, paper
from mclip.recipe import ModelConfig


class MotionClip(nn.Module):
    """Encoder and decoder. The text teacher is no part of it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: paper.MotionEncoder | dct.MotionEncoder
        self.decoder: paper.MotionDecoder | dct.MotionDecoder
        if config.architecture == "paper":
            self.encoder, self.decoder = paper.MotionEncoder(config), paper.MotionDecoder(config)
        else:
            self.encoder, self.decoder = dct.MotionEncoder(config), dct.MotionDecoder(config)

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """Latents (B, D) of features x (B, T, 25, 6) with mask (B, T), true where real."""
        return self.encoder(x, mask)  # type: ignore[no-any-return]

    def decode(self, z: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, 25, 6) of latents z (B, D) at the frames where mask (B, T) is true."""
        return self.decoder(z, mask)  # type: ignore[no-any-return]
