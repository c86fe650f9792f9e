"""Convolutions of few pixels as one matrix product.

At the UNet's lowest level a frame has about twenty pixels and a convolution 15 million weights. oneDNN reorders the
weights first, which takes longer than the convolution: on one core of an EPYC with AVX-512 it reached 45 GFLOP/s for 80
pixels, while the product of their patches with the weights in their existing order reached 185
(`benchmarks/linear.py`).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from starvsr.models.linear import goes_through_onednn, linear

FEW_PIXELS = 768
MANY_WEIGHTS = 2**20


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
) -> Tensor:
    """`torch.conv2d` for x of `n c h w` and weight of `k c r s`, both preferably channels-last."""
    n, _, h, w = x.shape
    if (
        n * h * w <= FEW_PIXELS
        and weight.numel() >= MANY_WEIGHTS
        and tuple(stride) == (1, 1)
        and goes_through_onednn(x, weight)
    ):
        return _product(x, weight, bias, padding)
    return F.conv2d(x, weight, bias, stride, padding)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]) -> Tensor:
    r, s = weight.shape[2:]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    # Views: `n h w c r s`, and channels-last weights in their own order.
    patches = padded.unfold(1, r, 1).unfold(2, s, 1)
    rows = patches.permute(0, 1, 2, 4, 5, 3).flatten(3)
    return linear(rows, weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)
