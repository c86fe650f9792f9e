"""Losses of models that restore in one step: between output and ground truth, and of the estimated motion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from starvsr.models.warping import warp
from starvsr.restore.sharpen import sharpened
from starvsr.train.config import PixelLossConfig

Terms = dict[str, Tensor]
"""Means over a micro-batch, of which `loss` is what is trained on; the rest, without a gradient, is for the log."""

_CHARBONNIER = 1e-3
_SMOOTHNESS = 0.002
_SHARPENED_SIGMA_PX = 1.5
_NEIGHBOURS = 16


def pixel_target(truth: Tensor, config: PixelLossConfig) -> Tensor:
    """What a picture is compared with, of the same shape as the truth, `b 3 t h w`; sharpening may leave its range."""
    if not config.sharpen:
        return truth
    return sharpened(truth, config.sharpen, sigma=_SHARPENED_SIGMA_PX)


def pixel_losses(picture: Tensor, target: Tensor, config: PixelLossConfig, block: int) -> Terms:
    """Losses of restored pictures, both `b 3 t h w` float32 in [-1, 1], picture not clamped.

    block: side of what the decoder makes of a latent element, pixels; it divides both sides.
    """
    difference = picture - target
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
    if config.lattice:
        terms["lattice"] = lattice_loss(difference, block)
        loss = loss + config.lattice * terms["lattice"]
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def lattice_loss(difference: Tensor, block: int) -> Tensor:
    """How much a difference `b c t h w` depends on the place inside blocks of `block` x `block` pixels.

    The mean over a neighbourhood of blocks is taken for each place; its mean distance from that of all places. Pictures
    have no such lattice, and a network that makes them block by block gets one from an adversary.
    """
    frames = rearrange(difference, "b c t h w -> (b t) c h w")
    places = rearrange(frames, "n c (h p) (w q) -> n (c p q) h w", p=block, q=block)
    size = min(_NEIGHBOURS, *places.shape[-2:])
    means = F.avg_pool2d(places, size, stride=max(1, size // 2))
    means = rearrange(means, "n (c p) h w -> n c p h w", p=block * block)
    return (means - means.mean(2, keepdim=True)).abs().mean()


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
