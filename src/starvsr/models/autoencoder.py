"""Autoencoders: between pixels and the latent that the network works on."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


class Autoencoder(Protocol):
    """What `restore` asks of an autoencoder. Frames are `b c t h w` RGB in [-1, 1], latents `b c t h w`."""

    @property
    def factor(self) -> int:
        """Pixels per latent element, each way."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def context_frames(self) -> int:
        """Frames on either side that a frame's code or picture depends on; 0 if it depends on none."""

    def encode(self, frames: Tensor) -> Tensor:
        """`b 3 t h w -> b latent_channels t h/factor w/factor`; h and w must be multiples of `factor`."""

    def decode(self, latent: Tensor) -> Tensor:
        """`b latent_channels t h w -> b 3 t h*factor w*factor`, not clamped."""


class PixelUnshuffle:
    """Lossless: every `factor` x `factor` square of pixels becomes one latent element.

    Channels run colour, row, column, as in `torch.nn.functional.pixel_unshuffle`.
    """

    def __init__(self, factor: int = 4) -> None:
        if factor < 1:
            raise ValueError(f"factor {factor} must be at least 1")
        self.factor = factor
        self.latent_channels = 3 * factor**2
        self.context_frames = 0

    def encode(self, frames: Tensor) -> Tensor:
        """`b 3 t h w -> b 3*factor^2 t h/factor w/factor`; `ValueError` where the sizes do not divide."""
        if frames.ndim != 5 or frames.shape[1] != 3:
            raise ValueError(f"frames must be b 3 t h w, and are {tuple(frames.shape)}")
        b, _, _, h, w = frames.shape
        if h % self.factor or w % self.factor:
            raise ValueError(
                f"frames of {h}x{w} (rows x columns) must be multiples of {self.factor}"
            )
        latent = F.pixel_unshuffle(rearrange(frames, "b c t h w -> (b t) c h w"), self.factor)
        return rearrange(latent, "(b t) c h w -> b c t h w", b=b)

    def decode(self, latent: Tensor) -> Tensor:
        """`b 3*factor^2 t h w -> b 3 t h*factor w*factor`, exactly what was encoded."""
        if latent.ndim != 5 or latent.shape[1] != self.latent_channels:
            raise ValueError(
                f"a latent must be b {self.latent_channels} t h w, and is {tuple(latent.shape)}"
            )
        frames = F.pixel_shuffle(rearrange(latent, "b c t h w -> (b t) c h w"), self.factor)
        return rearrange(frames, "(b t) c h w -> b c t h w", b=latent.shape[0])
