"""Plain upsampling to the output size: what the restoration starts from, and what `--blend` mixes in."""

from __future__ import annotations

from functools import cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

# Bilinear and bicubic interpolation reach two pixels to either side.
_REACH = 2
_COLOURS = 3


def upsample(frames: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """`t c h w` in [-1, 1] to `size` (rows, columns) by `bilinear` or `bicubic` without antialiasing, clamped."""
    return functional.interpolate(frames, size=size, mode=mode, align_corners=False).clamp_(-1, 1)


def upsample_unshuffled(frames: Tensor, factor: int, padded: tuple[int, int], mode: str) -> Tensor:
    """`pixel_unshuffle` by `factor` of the frames upsampled by `factor`, without building the large frames.

    frames: `t 3 h w` in [-1, 1]. padded: rows and columns of the result, at least h and w; the picture is
    repeated at its lower and right border as `replicate` padding of its pixels would. Returns
    `t (3 factor factor) H W` in channels-last order: the same as `upsample`, padding and unshuffling one after the
    other to 1e-5, in a fraction of the time.
    """
    h, w = frames.shape[2:]
    bordered = functional.pad(frames, (_REACH,) * 4, mode="replicate")
    bordered = bordered.contiguous(memory_format=torch.channels_last)
    phases = functional.conv2d(bordered, _phase_kernels(factor, mode).to(frames)).clamp_(-1, 1)
    if (h, w) != padded:
        grown = functional.pad(phases, (0, padded[1] - w, 0, padded[0] - h), mode="replicate")
        cells = rearrange(grown, "t (c a b) h w -> t c a b h w", a=factor, b=factor)
        cells[..., h:, :] = cells[:, :, -1:, :, h - 1 : h]
        cells[..., w:] = cells[:, :, :, -1:, :, w - 1 : w]
        phases = grown
    return phases


@cache
def _phase_kernels(factor: int, mode: str) -> Tensor:
    """One 5x5 kernel for each colour of the factor x factor output pixels of an input pixel, read off an impulse.

    `(3 factor factor) 3 5 5` and mostly zero: one convolution of all colours writes the order that networks work in,
    and takes an eighth of the time of one of each colour.
    """
    taps = 2 * _REACH + 1
    impulse = torch.zeros(1, 1, 2 * taps - 1, 2 * taps - 1)
    impulse[..., taps - 1, taps - 1] = 1.0
    response = functional.interpolate(impulse, scale_factor=factor, mode=mode, align_corners=False)
    cells = rearrange(response[0, 0], "(i a) (j b) -> (a b) 1 i j", a=factor, b=factor)
    # The pixel at offset k sees the impulse through the tap at -k.
    near = slice(taps - 1 - _REACH, taps + _REACH)
    one = cells[..., near, near].flip(-1, -2)
    each = torch.einsum("xy,piab->xpyab", torch.eye(_COLOURS), one)
    return each.flatten(0, 1).contiguous(memory_format=torch.channels_last)
