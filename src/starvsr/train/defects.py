"""Defects of recordings that no blur, noise or codec explains: fields, analogue colour, film grain, sharpening.

Each works on frames `3 h w` in [0, 1], and gives float32 in that range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from starvsr.restore.sharpen import sharpened
from starvsr.train.codecs import RGB_FROM_YUV, YUV_FROM_RGB
from starvsr.train.kernels import Kernel, blur

FIELDS = ("weave", "blend", "bob")
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Chroma:
    """How an analogue recorder spoils colour, whose bandwidth is a fraction of luma's."""

    shift_x: float = 0.0
    """Columns that colour lies to the right of luma."""
    shift_y: float = 0.0
    """Rows that it lies below."""
    bleed: float = 0.0
    """Standard deviation of its horizontal blur, pixels."""

    def __post_init__(self) -> None:
        if self.bleed < 0:
            raise ValueError(f"chroma bleed {self.bleed} must be 0 or more")


@dataclass(frozen=True)
class Sharpening:
    """An unsharp mask, as cameras, players and authoring add it: halos, and stronger noise."""

    amount: float
    sigma: float = 1.0
    """Pixels."""

    def __post_init__(self) -> None:
        if self.amount < 0 or self.sigma <= 0:
            raise ValueError(
                f"sharpening of {self.amount} at {self.sigma} px needs an amount of 0 or more and a sigma above 0"
            )


def interlaced(frames: Iterable[Tensor], kind: str) -> Iterator[Tensor]:
    """Frames whose odd rows were recorded a frame earlier, deinterlaced badly.

    kind: `weave` leaves both fields as they are (combs where something moves), `blend` averages them (ghosts), `bob`
    repeats the rows of one field, the other one in the next frame (stairs that bob). The first frame has one time.
    """
    before: Tensor | None = None
    for number, frame in enumerate(frames):
        woven = frame.clone()
        if before is not None:
            woven[:, 1::2] = before[:, 1::2]
        before = frame
        if kind == "blend":
            woven = _blended(woven)
        elif kind == "bob":
            woven = _one_field(frame, number % 2)
        yield woven


def _blended(frame: Tensor) -> Tensor:
    """Each row with half of its neighbours."""
    rows = torch.cat([frame[:, :1], frame, frame[:, -1:]], dim=1)
    return (rows[:, :-2] + 2 * frame + rows[:, 2:]) / 4


def _one_field(frame: Tensor, parity: int) -> Tensor:
    rows = torch.arange(frame.shape[1])
    # The nearest row of the field, above where there is one.
    kept = (rows - (rows - parity) % 2).clamp_(min=parity if frame.shape[1] > parity else 0)
    return frame[:, kept]


def spoil_chroma(frame: Tensor, chroma: Chroma) -> Tensor:
    """Blur and shift the colour of a frame; luma stays where it is, unless the result leaves the range."""
    yuv = torch.tensordot(YUV_FROM_RGB.to(frame), frame, dims=1)
    color = yuv[1:]
    if chroma.bleed:
        # Along columns only: a thin Gaussian is one row of taps.
        size = 2 * round(3 * chroma.bleed) + 1
        color = blur(color, Kernel("gaussian", size, chroma.bleed, _THIN_PX))
    for dim, shift in ((1, chroma.shift_y), (2, chroma.shift_x)):
        color = _shifted(color, dim, shift)
    rgb: Tensor = torch.tensordot(RGB_FROM_YUV.to(frame), torch.cat([yuv[:1], color]), dims=1)
    return rgb.clamp_(0, 1)


_THIN_PX = 0.1


def _shifted(planes: Tensor, dim: int, shift: float) -> Tensor:
    """Planes `c h w` moved by a fraction of pixels, the border repeated."""
    side = planes.shape[dim]
    places = torch.arange(side) - shift
    low = places.floor()
    below, above = (planes.index_select(dim, (low + i).long().clamp_(0, side - 1)) for i in (0, 1))
    share = (places - low).to(planes)
    shape = [1, 1, 1]
    shape[dim] = side
    return torch.lerp(below, above, share.reshape(shape))


def add_grain(
    frame: Tensor, amount: float, size: float, *, gray: bool, rng: np.random.Generator
) -> Tensor:
    """Film grain: blurred noise, strongest in mid-tones.

    amount: standard deviation in 8-bit levels at medium grey. size: standard deviation of a grain, pixels.
    """
    shape = (1 if gray else 3, *frame.shape[1:])
    noise = torch.from_numpy(rng.standard_normal(shape, np.float32))
    grain = blur(noise, Kernel("gaussian", 2 * max(1, round(3 * size)) + 1, size, size))
    grain = grain / grain.std().clamp(min=1e-6)
    light = (frame * torch.tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
    return (frame + grain * (amount / 255) * 4 * light * (1 - light)).clamp_(0, 1)


def sharpen(frame: Tensor, sharpening: Sharpening, strength: float = 1.0) -> Tensor:
    """A frame under its unsharp mask; strength: multiplies the amount."""
    amount = sharpening.amount * strength
    return (sharpened(frame * 2 - 1, amount, sigma=sharpening.sigma) + 1) / 2
