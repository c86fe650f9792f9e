"""Plain upsampling to the output size: what the restoration starts from, and what `--blend` mixes in."""

from __future__ import annotations

from functools import cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

# Bilinear and bicubic interpolation reach two pixels to either side.
_REACH = 2


def upsample(frames: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """`t c h w` in [-1, 1] to `size` (rows, columns) by `bilinear` or `bicubic` without antialiasing, clamped."""
    return functional.interpolate(frames, size=size, mode=mode, align_corners=False).clamp_(-1, 1)


def upsample_unshuffled(frames: Tensor, factor: int, padded: tuple[int, int], mode: str) -> Tensor:
    """`pixel_unshuffle` by `factor` of the frames upsampled by `factor`, without making the large picture.

    frames: `t c h w` in [-1, 1]. padded: rows and columns of the result, at least h and w; the picture is
    repeated at its lower and right border as `replicate` padding of its pixels would. Returns
    `t (c factor factor) H W`: the same as `upsample`, padding and unshuffling one after the other to 1e-5, in a
    fifth of the time.
    """
    t, c, h, w = frames.shape
    one_channel = rearrange(frames, "t c h w -> (t c) 1 h w")
    bordered = functional.pad(one_channel, (_REACH,) * 4, mode="replicate")
    phases = functional.conv2d(bordered, _phase_kernels(factor, mode).to(frames)).clamp_(-1, 1)
    if (h, w) != padded:
        grown = phases.new_empty(t * c, factor**2, *padded)
        grown[..., :h, :w] = phases
        phases = grown
        cells = rearrange(phases, "n (a b) h w -> n a b h w", a=factor)
        cells[..., h:, :w] = cells[:, -1:, :, h - 1 : h, :w]
        cells[..., w:] = cells[:, :, -1:, :, w - 1 : w]
    return rearrange(phases, "(t c) p h w -> t (c p) h w", t=t)


@cache
def _phase_kernels(factor: int, mode: str) -> Tensor:
    """One 5x5 kernel for each of the factor x factor output pixels of an input pixel, read off an impulse."""
    taps = 2 * _REACH + 1
    impulse = torch.zeros(1, 1, 2 * taps - 1, 2 * taps - 1)
    impulse[..., taps - 1, taps - 1] = 1.0
    response = functional.interpolate(impulse, scale_factor=factor, mode=mode, align_corners=False)
    cells = rearrange(response[0, 0], "(i a) (j b) -> (a b) 1 i j", a=factor, b=factor)
    # The pixel at offset k sees the impulse through the tap at -k.
    near = slice(taps - 1 - _REACH, taps + _REACH)
    return cells[..., near, near].flip(-1, -2).contiguous()
