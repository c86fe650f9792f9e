"""Small clips to degrade."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def moving_clip(frames: int = 3, height: int = 64, width: int = 80, seed: int = 0) -> Tensor:
    """Smooth random colours that move by two pixels a frame: `t 3 h w` in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=generator)
    still = F.interpolate(coarse, size=(height, width), mode="bicubic")[0].clamp(0, 1)
    return torch.stack([still.roll(2 * number, dims=2) for number in range(frames)])


def psnr(got: Tensor, wanted: Tensor) -> float:
    """Decibels, of values in [0, 1]."""
    return float(-10 * torch.log10((got - wanted).square().mean()))
