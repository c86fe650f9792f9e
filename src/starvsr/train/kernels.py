"""Blur kernels of the degradation: Gaussians of several shapes, and the sinc of an ideal low-pass filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the transform's size: products of small primes are fast.
_FAST_MULTIPLE = 32

SHAPES = ("gaussian", "generalized", "plateau", "sinc")


@dataclass(frozen=True)
class Kernel:
    """A drawn blur kernel; `taps` computes its values."""

    shape: str
    """`gaussian`; `generalized`, a Gaussian whose exponent is raised to `beta`; `plateau`, `1 / (1 + d^beta)` of the
    same squared distance d; or `sinc`, which rings."""
    size: int
    """Odd number of rows and columns."""
    sigma_x: float = 1.0
    """Pixels along the first axis; `sinc` has none."""
    sigma_y: float = 1.0
    """Pixels along the second; as `sigma_x` where the kernel is isotropic."""
    angle: float = 0.0
    """Of the first axis, radians from the columns' direction."""
    beta: float = 1.0
    cutoff: float = math.pi
    """Of `sinc`: radians per pixel."""

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"kernel shape {self.shape!r} must be one of {', '.join(SHAPES)}")
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"kernel size {self.size} must be odd and at least 1")


@lru_cache(maxsize=128)
def taps(kernel: Kernel, widen: float = 1.0) -> Tensor:
    """The kernel's numbers (size, size), float32, which sum to 1.

    widen: multiplies the sigmas, and divides a sinc's cutoff.
    """
    half = kernel.size // 2
    offsets = torch.arange(-half, half + 1, dtype=torch.float64)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    if kernel.shape == "sinc":
        values = _jinc(torch.hypot(x, y), min(math.pi, kernel.cutoff / widen))
    else:
        cos, sin = math.cos(kernel.angle), math.sin(kernel.angle)
        along, across = x * cos + y * sin, y * cos - x * sin
        squared = (along / (kernel.sigma_x * widen)) ** 2 + (across / (kernel.sigma_y * widen)) ** 2
        if kernel.shape == "plateau":
            values = 1 / (1 + squared**kernel.beta)
        else:
            exponent = 1.0 if kernel.shape == "gaussian" else kernel.beta
            values = torch.exp(-0.5 * squared**exponent)
    return (values / values.sum()).float()


def _jinc(radius: Tensor, cutoff: float) -> Tensor:
    """The circular ideal low-pass filter: `cutoff J1(cutoff r) / (2 pi r)`."""
    values: Tensor = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    values[radius == 0] = cutoff**2 / (4 * math.pi)
    return values


def blur(frame: Tensor, kernel: Kernel, widen: float = 1.0) -> Tensor:
    """A frame `c h w` under a kernel; border pixels are repeated. A sinc's result may leave the frame's range.

    Convolved by Fourier transform: the largest kernels take no longer than the smallest.
    """
    reach = kernel.size - 1
    padded = F.pad(frame[:, None], (reach // 2,) * 4, mode="replicate")[:, 0]
    rows, columns = (-(-side // _FAST_MULTIPLE) * _FAST_MULTIPLE for side in padded.shape[1:])
    # Symmetric about its centre, so convolution is correlation.
    response = torch.fft.rfft2(taps(kernel, widen).to(frame), s=(rows, columns))
    wide: Tensor = torch.fft.irfft2(
        torch.fft.rfft2(padded, s=(rows, columns)) * response, s=(rows, columns)
    )
    # Wrapped-around samples land before the part that is used.
    return wide[:, reach : reach + frame.shape[1], reach : reach + frame.shape[2]].contiguous()
