"""Losses of models that restore in one step: between their picture and the truth, and of the motion they estimate."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor

from starvsr.models.recurrent import warp
from starvsr.train.config import PixelLossConfig

Terms = dict[str, Tensor]
"""Means over a micro-batch, of which `loss` is what is trained on; the rest, without a gradient, is for the log."""

_CHARBONNIER = 1e-3
_SMOOTHNESS = 0.002
_SHARPENED_SIGMA_PX = 1.5
# Taps to either side.
_SHARPENED_REACH = 5


def pixel_losses(picture: Tensor, truth: Tensor, config: PixelLossConfig) -> Terms:
    """Losses of restored pictures, both `b 3 t h w` float32 in [-1, 1], picture not clamped."""
    if config.sharpen:
        truth = sharpened(truth, config.sharpen)
    difference = picture - truth
    if config.kind == "l1":
        pixel = difference.abs().mean()
    elif config.kind == "mse":
        pixel = difference.square().mean()
    else:
        pixel = _charbonnier(difference)
    terms = {"pixel": pixel}
    loss = config.weight * pixel
    if config.fft:
        spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="ortho"))
        terms["fft"] = spectrum.abs().mean()
        loss = loss + config.fft * terms["fft"]
    if config.temporal and difference.shape[2] > 1:
        terms["temporal"] = difference.diff(dim=2).abs().mean()
        loss = loss + config.temporal * terms["temporal"]
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def sharpened(pictures: Tensor, amount: float) -> Tensor:
    """Pictures `b c t h w` in [-1, 1] with their fine detail 1 + `amount` times as strong, clamped (unsharp mask)."""
    rows, columns = (_blur(side).to(pictures) for side in pictures.shape[-2:])
    blurred = rows @ pictures @ columns.T
    return (pictures + amount * (pictures - blurred)).clamp(-1, 1)


@lru_cache(maxsize=4)
def _blur(side: int) -> Tensor:
    """The matrix (side, side) that blurs a line by a Gaussian, its ends continued."""
    places = torch.arange(side)
    matrix = torch.zeros(side, side)
    for tap in range(-_SHARPENED_REACH, _SHARPENED_REACH + 1):
        weight = math.exp(-0.5 * (tap / _SHARPENED_SIGMA_PX) ** 2)
        read = (places + tap).clamp(0, side - 1)
        matrix.index_put_((places, read), torch.tensor(weight), accumulate=True)
    return matrix / matrix.sum(1, keepdim=True)


def motion_loss(z: Tensor, flows: Tensor) -> Tensor:
    """How far frames, each reduced to a pixel per latent element, are from the frames before them moved by `flows`.

    z: a pixel-unshuffled latent `b (3 n) f h w`; flows: `b 2 (f - 1) h w`. A Charbonnier distance, so that what cannot
    be followed counts little, and a slight preference for smooth motion.
    """
    reduced = rearrange(z.detach(), "b (c n) f h w -> b c n f h w", c=3).mean(2)
    now = rearrange(reduced[:, :, 1:], "b c f h w -> (b f) c h w")
    before = rearrange(reduced[:, :, :-1], "b c f h w -> (b f) c h w")
    flow = rearrange(flows, "b c f h w -> (b f) c h w")
    rough = flow.diff(dim=-1).abs().mean() + flow.diff(dim=-2).abs().mean()
    return _charbonnier(warp(before, flow) - now) + _SMOOTHNESS * rough


def _charbonnier(difference: Tensor) -> Tensor:
    return (difference.square() + _CHARBONNIER**2).sqrt().mean()
