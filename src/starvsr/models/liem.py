"""LIEM, STAR's local information enhancement module: a gate per token before global attention.

The paper's eqs. 3-4: `F_O = G(L(F_I) F_I) + F_I` with `L(x) = sigmoid(conv([max_c(x), mean_c(x)]))`, where `G` is
the layer norm and attention that follow. The released weights have 7x7 kernels where the paper prints 3x3, and the
features in the order max, mean.

A layer norm follows every gate, and a positive gate `g` per token passes a layer norm only through its epsilon:
`LN(g x; eps) = LN(x; eps / g^2)`. At unit variance and eps = 1e-5 that is 5 % of a token at g = 0.01 and 0.05 % at
g = 0.1. So the gates matter only where they close, and gating and normalising can be fused.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class SpatialGate(nn.Conv2d):
    """Gate of a spatial transformer: a 7x7 convolution over each frame's map of token statistics, no bias."""

    def __init__(self) -> None:
        super().__init__(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x is `n h w c`; gives the gate `n h w 1`, in (0, 1)."""
        statistics = rearrange(_statistics(x), "n h w s -> n s h w")
        gate = F.conv2d(statistics, self.weight, padding=self.padding)
        return torch.sigmoid(rearrange(gate, "n 1 h w -> n h w 1"))


class FrameGate(nn.Linear):
    """Gate of a temporal transformer: a weighted sum of each token's two statistics, no bias."""

    def __init__(self) -> None:
        super().__init__(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x is `... c`; gives the gate `... 1`, in (0, 1)."""
        return torch.sigmoid(F.linear(_statistics(x), self.weight))


def _statistics(x: Tensor) -> Tensor:
    """Maximum and mean over the channels of every token: `... c -> ... 2`."""
    # torch finds a maximum in half precision one by one on the CPU; both are the same to the bit this way.
    wide = x.float() if x.device.type == "cpu" else x
    return torch.stack([wide.amax(-1), wide.mean(-1)], dim=-1).to(x.dtype)
