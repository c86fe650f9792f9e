"""Classifier-free guidance with rescale.

It acts on the result of one call (then statistics span what that call sees) or of all windows
(then the halves are blended before the rescale, whose statistics span them all).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def guide(v_pos: Tensor, v_neg: Tensor, *, scale: float, rescale: float) -> Tensor:
    """`v = v_neg + scale (v_pos - v_neg)`, times `rescale std(v_pos) / std(v) + 1 - rescale`.

    Predictions (b ...) of one shape, at least two elements a sample. The rescale (Lin et al., 2023, section 3.4), 0 to
    1, undoes the growth of contrast under strong guidance; its standard deviations are one a sample.
    """
    v = v_neg + scale * (v_pos - v_neg)
    if rescale == 0:
        return v
    std_pos, std = _std(v_pos), _std(v)
    # A flat prediction has no contrast to restore.
    ratio = torch.where(std > 0, std_pos / std, 1.0)
    return v * (rescale * ratio + (1 - rescale)).to(v.dtype)


def dynamic_scale(t: int, *, steps: int, scale: float) -> float:
    """CogVideoX's "dynamic" guidance scale: `1 + scale (1 - cos(pi ((steps - t) / steps)^5)) / 2`.

    It is 1 .. 1 + `scale`. As published, t is the time, 999 and below, where a step's number seems to be meant, so it
    jumps from step to step; the weights are used with that.
    """
    return 1 + scale * (1 - math.cos(math.pi * ((steps - t) / steps) ** 5)) / 2


def _std(v: Tensor) -> Tensor:
    """Unbiased standard deviation of each sample, float32 (b 1 ...): squares of half-precision values overflow."""
    return v.float().std(dim=tuple(range(1, v.ndim)), correction=1, keepdim=True)
