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
# The parameter of PyTorch's bicubic kernel.
_CUBIC = -0.75


def upsample(frames: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """`t c h w` in [-1, 1] to `size` (rows, columns) by `bilinear` or `bicubic` without antialiasing, clamped."""
    return functional.interpolate(frames, size=size, mode=mode, align_corners=False).clamp_(-1, 1)


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """`t c h w` in [-1, 1] at another size (rows, columns), bicubic with antialiasing where it is smaller, clamped."""
    if tuple(frames.shape[2:]) == size:
        return frames
    return functional.interpolate(
        frames, size=size, mode="bicubic", align_corners=False, antialias=True
    ).clamp_(-1, 1)


def upsample_rows(
    frames: Tensor, size: tuple[int, int], mode: str, rows: tuple[int, int]
) -> Tensor:
    """Rows (first, exclusive end) of what `upsample` gives, to 1e-5, in the memory that they take."""
    height = frames.shape[2]
    at = (torch.arange(*rows, dtype=torch.float64) + 0.5) * (height / size[0]) - 0.5
    if mode == "bilinear":
        at = at.clamp(min=0)
    first, part = at.floor().long(), (at - at.floor())[:, None]
    tall = torch.zeros(())
    for tap, weight in _taps(part.to(frames), mode):
        tall = tall + weight * frames[:, :, (first + tap).clamp(0, height - 1)]
    # Of the same height, rows stay as they are.
    return upsample(tall, (rows[1] - rows[0], size[1]), mode)


def _taps(part: Tensor, mode: str) -> list[tuple[int, Tensor]]:
    """Neighbours of a position and their weights, for its fraction (0..1) between two of them."""
    if mode == "bilinear":
        return [(0, 1 - part), (1, part)]
    a = _CUBIC

    def far(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    weights = (far(part + 1), near(part), near(1 - part), far(2 - part))
    return list(zip((-1, 0, 1, 2), weights, strict=True))


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
