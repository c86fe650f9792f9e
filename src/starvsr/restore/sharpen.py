"""Sharpening by an unsharp mask: `--sharpen`, and the truth that a network may be trained towards.

The mask is linear. So a network that predicts the mean, trained on a sharpened truth, predicts the sharpened mean: one
network serves every strength.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_REACH = 3
"""Deviations of the Gaussian to either side, where it is cut off."""

_LUMA = (0.2126, 0.7152, 0.0722)
"""BT.709."""


def sharpened(pictures: Tensor, amount: float, *, sigma: float) -> Tensor:
    """Pictures `... h w` in [-1, 1] with detail finer than `sigma` pixels 1 + `amount` times as strong, clamped."""
    return torch.lerp(_blurred(pictures, sigma), pictures, 1 + amount).clamp_(-1, 1)


def sharpen_luma_(pictures: Tensor, amount: float, *, sigma: float) -> Tensor:
    """RGB pictures `t 3 h w` in [-1, 1], in place: as `sharpened`, but of luma alone, so that coloured noise stays as
    weak as it is; not clamped."""
    for picture in pictures:
        luma = sum(weight * plane for weight, plane in zip(_LUMA, picture, strict=True))
        picture.add_(luma.sub_(_blurred(luma, sigma)), alpha=amount)
    return pictures


def _blurred(pictures: Tensor, sigma: float) -> Tensor:
    """By a Gaussian with a deviation of `sigma` pixels, borders continued."""
    return _along(_along(pictures, -1, sigma), -2, sigma)


def _along(pictures: Tensor, dim: int, sigma: float) -> Tensor:
    """One dimension's part of it. A sum of shifted pictures, which takes an eighth of a convolution's time."""
    reach = math.ceil(_REACH * sigma)
    weights = [math.exp(-0.5 * (tap / sigma) ** 2) for tap in range(-reach, reach + 1)]
    side = pictures.shape[dim]
    places = torch.arange(-reach, side + reach, device=pictures.device).clamp_(0, side - 1)
    bordered = pictures.index_select(dim, places)
    total = torch.zeros_like(pictures)
    for tap, weight in enumerate(weights):
        total.add_(bordered.narrow(dim, tap, side), alpha=weight / sum(weights))
    return total
