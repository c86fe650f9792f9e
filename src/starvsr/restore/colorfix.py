"""Colour fix: a diffusion model drifts in tone, so each output frame takes its tone from the input.

Frames are `t c h w` in [-1, 1], of any floating dtype; a result is float32 in [-1, 1], clamped. The arithmetic is
float32 on the scale 0..1, as published, because `VARIANCE_FLOOR` belongs to that scale.
"""

from __future__ import annotations

from itertools import product
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.options import ColorFix

COLOR_FIXES = get_args(ColorFix)

VARIANCE_FLOOR = 1e-5
WAVELET_LEVELS = 5
TAPS = (0.25, 0.5, 0.25)


def apply_color_fix(name: str, target: Tensor, low: Tensor, upsampled: Tensor) -> Tensor:
    """Fixes `target` (t c h w) by the fix called `name`, one of `COLOR_FIXES`, against the source it works with:
    `adain` against `low` (t c h' w'), the input as it came; `wavelet` against `upsampled` (t c h w).

    target: already clamped to [-1, 1], as for the published fixes. `none` returns it itself.
    Raises ValueError for other names and for shapes that do not fit.
    """
    if name == "adain":
        return adain(target, low)
    if name == "wavelet":
        return wavelet(target, upsampled)
    if name == "none":
        return target
    raise ValueError(f"colour fix must be one of {', '.join(COLOR_FIXES)}, got {name!r}")


def adain(target: Tensor, source: Tensor) -> Tensor:
    """Gives each channel of each `target` frame (t c h w) the mean and standard deviation that it has in `source`
    (t c h' w'), whose size may differ: Huang and Belongie (2017), equation 8.

    Raises ValueError if the numbers of frames or channels differ.
    """
    _check(target, source, target.shape[:2] == source.shape[:2])
    frames = _unit(target)
    mean, std = _statistics(frames)
    source_mean, source_std = _statistics(_unit(source))
    return _signed(frames.sub_(mean).div_(std).mul_(source_std).add_(source_mean))


def wavelet(target: Tensor, source: Tensor) -> Tensor:
    """Takes the low frequencies from `source` and the high ones from `target`, both t c h w.

    The split is an a-trous wavelet decomposition in five levels, the kernel dilated by 1, 2, 4, 8, 16. Its details
    telescope: they sum to the image less the last blur. Raises ValueError if the shapes differ.
    """
    _check(target, source, target.shape == source.shape)
    frames = _unit(target)
    # Plane by plane takes half the time of whole frames: a plane stays in the cache while it is blurred.
    for i, j in product(*map(range, frames.shape[:2])):
        low = _low_frequencies(_unit(source[i, j]))
        frames[i, j].sub_(_low_frequencies(frames[i, j])).add_(low)
    return _signed(frames)


def _check(target: Tensor, source: Tensor, fits: bool) -> None:
    if target.ndim != 4 or source.ndim != 4 or not fits:
        shapes = f"target {tuple(target.shape)}, source {tuple(source.shape)}"
        raise ValueError(f"colour fix needs t c h w frames that correspond, got {shapes}")


def _unit(frames: Tensor) -> Tensor:
    """A copy on the scale 0..1 in float32; halves are widened first, and float64 loses nothing before the shift.

    From here on everything is in place: at full size a fresh tensor costs ten times the arithmetic on it.
    """
    wide = frames.to(torch.promote_types(frames.dtype, torch.float32))
    return (wide + 1).div_(2).float()


def _signed(frames: Tensor) -> Tensor:
    return frames.mul_(2).sub_(1).clamp_(-1, 1)


def _statistics(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over rows and columns, each (t c 1 1)."""
    # A single pixel has no unbiased variance; it has no contrast either.
    correction = 1 if frames.shape[2] * frames.shape[3] > 1 else 0
    var = frames.var(dim=(2, 3), correction=correction, keepdim=True)
    return frames.mean(dim=(2, 3), keepdim=True), (var + VARIANCE_FLOOR).sqrt()


def _low_frequencies(plane: Tensor) -> Tensor:
    for level in range(WAVELET_LEVELS):
        plane = _blur(plane, 2**level)
    return plane


def _blur(plane: Tensor, dilation: int) -> Tensor:
    """Convolves a plane (h w) with the outer product of `TAPS`, `dilation` pixels apart; border pixels are repeated."""
    h, w = plane.shape
    padded = F.pad(plane[None], (dilation,) * 4, mode="replicate")[0]
    blurred = torch.zeros_like(plane)
    # Shifted sums: on a CPU a quarter of the time of a dilated depthwise convolution, and the same bits.
    for i, j in product(range(3), repeat=2):
        shifted = padded[i * dilation : i * dilation + h, j * dilation : j * dilation + w]
        blurred.add_(shifted, alpha=TAPS[i] * TAPS[j])
    return blurred
