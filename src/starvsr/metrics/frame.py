"""One frame as the metrics see it, in the forms that they share."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from starvsr.errors import InputError

Plane = npt.NDArray[np.float64]

# BT.601 as in published evaluations (MATLAB's rgb2ycbcr): black at 16, white at 235.
_BT601_LIMITED = np.array([65.481, 128.553, 24.966]) / 255


class Frame:
    """A frame; derived forms are computed once, on demand."""

    def __init__(self, pixels: npt.NDArray[np.uint16]) -> None:
        """pixels: uint16 RGB (height, width, 3), 0..65535."""
        self.pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @cached_property
    def rgb(self) -> npt.NDArray[np.uint8]:
        """8-bit RGB (height, width, 3), rounded to nearest."""
        return ((self.pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)

    @cached_property
    def luma(self) -> Plane:
        """BT.601 luma of `rgb` (height, width), 16..235, not rounded."""
        return 16.0 + self.rgb @ _BT601_LIMITED

    @cached_property
    def gray(self) -> npt.NDArray[np.uint8]:
        """BT.601 full-range grey of `rgb` (height, width), for optical flow."""
        return np.rint((self.luma - 16.0) * (255.0 / 219.0)).astype(np.uint8)


def correlate(picture: Plane, kernel: npt.NDArray[Any], margin: int = 0) -> Plane:
    """A picture filtered with the same 1-D kernel along rows and columns, where the kernel lies inside it.

    picture: (height, width). kernel: odd length k. margin: rows and columns of repeated border added around the picture
    first. Returns (height + 2 margin - k + 1, width + 2 margin - k + 1). Raises InputError if the picture is smaller
    than the kernel.
    """
    padded = np.pad(picture, margin, mode="edge") if margin else picture
    height, width = (side - len(kernel) + 1 for side in padded.shape)
    if height < 1 or width < 1:
        raise InputError(
            f"a picture of {picture.shape[1]}x{picture.shape[0]} is too small to measure: at least "
            f"{len(kernel)}x{len(kernel)} pixels are needed"
        )
    rows = np.zeros((height, padded.shape[1]))
    for offset, weight in enumerate(kernel):
        rows += weight * padded[offset : offset + height]
    both = np.zeros((height, width))
    for offset, weight in enumerate(kernel):
        both += weight * rows[:, offset : offset + width]
    return both


def gaussian(radius: int, sigma: float) -> Plane:
    """Gaussian weights at -radius..radius that sum to 1."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())
