"""Orientation: the display matrix as one of the eight ways to rotate and mirror a frame."""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from starvsr.media.sidedata import side_data_of

Pixels = npt.NDArray[np.uint16]


class Orientation(NamedTuple):
    """How a decoded frame is brought upright: mirrored first, then rotated."""

    clockwise: int = 0
    """Degrees: 0, 90, 180 or 270."""
    mirrored: bool = False
    """Whether left and right are swapped before rotating."""

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height are swapped."""
        return self.clockwise in (90, 270)

    def apply(self, pixels: Pixels) -> Pixels:
        """A decoded frame (rows, columns, channels) brought upright, C order."""
        if self.mirrored:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(np.rot90(pixels, -self.clockwise // 90))


def orientation_of(frame: VideoFrame | None) -> Orientation:
    """The orientation of a frame by its display matrix; upright if it has none.

    Other angles are rounded to the nearest multiple of 90.
    """
    if frame is None:
        return Orientation()
    for data in side_data_of(frame):
        if data.type == Type.DISPLAYMATRIX:
            return from_matrix(struct.unpack("=9i", bytes(data)[:36]))
    return Orientation()


def from_matrix(matrix: tuple[int, ...]) -> Orientation:
    """The orientation of a display matrix: 9 integers, row by row, as in an mp4 track header.

    A point (x, y) of the frame, y down, is shown at (a x + c y, b x + d y), where a, b are the matrix's first
    two elements and c, d its fourth and fifth.
    """
    a, b, _, c, d = matrix[:5]
    mirrored = a * d - b * c < 0
    # The unit vector to the right, before any mirroring, is shown in this direction.
    x, y = (-a, -b) if mirrored else (a, b)
    if x == 0 and y == 0:
        return Orientation()
    degrees = math.degrees(math.atan2(y, x))
    return Orientation(round(degrees / 90) % 4 * 90, mirrored)
