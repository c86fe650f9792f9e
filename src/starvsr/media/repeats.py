"""Frames that show the picture of the frame before them again, found in the pass over the whole video."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from starvsr.media.graph import bytes_of
from starvsr.media.orientation import orientation_of

# Rows that are compared first: frames that differ at all mostly differ there.
_SOME_ROWS = 16


class RepeatDetector:
    """Takes the frames of a video in order; keeps one of them."""

    def __init__(self, how: str) -> None:
        """how: `exact` or `near`."""
        self._last: VideoFrame | None = None
        self._frames = 0
        self._repeats: list[int] = []

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        if self._last is not None and is_same(self._last, frame):
            self._repeats.append(self._frames)
        else:
            self._last = frame
        self._frames += 1

    def found(self, cuts: Collection[int]) -> tuple[int, ...]:
        """Indices of frames that repeat the one before, ascending, never one that begins a shot."""
        begun = set(cuts)
        return tuple(number for number in self._repeats if number not in begun)


def is_same(one: VideoFrame, other: VideoFrame) -> bool:
    """Whether two frames have the same samples, and mean the same by them."""
    if _meaning(one) != _meaning(other):
        return False
    pairs = [(_rows(one, n), _rows(other, n)) for n in range(len(one.planes))]
    some = (slice(None, None, max(1, len(pairs[0][0]) // _SOME_ROWS)), slice(None))
    if any(not np.array_equal(a[some], b[some]) for a, b in pairs):
        return False
    if any(not np.array_equal(a, b) for a, b in pairs):
        return False
    return orientation_of(one) == orientation_of(other)


def _meaning(frame: VideoFrame) -> tuple[object, ...]:
    return (
        frame.format.name,
        frame.width,
        frame.height,
        frame.colorspace,
        frame.color_range,
        frame.color_primaries,
        frame.color_trc,
    )


def _rows(frame: VideoFrame, number: int) -> npt.NDArray[np.uint8]:
    """The bytes of one of a frame's planes (rows, bytes of a row), without what pads a row."""
    plane = frame.planes[number]
    return bytes_of(plane)[:, : _bytes_of_row(frame, plane, number)]


def _bytes_of_row(frame: VideoFrame, plane: VideoPlane, number: int) -> int:
    described = frame.format
    if len(frame.planes) == 1:
        return -(-plane.width * described.padded_bits_per_pixel // 8)
    inside = [part for part in described.components if part.plane == number]
    if not inside or described.has_palette:
        return plane.line_size
    return plane.width * sum(-(-part.bits // 8) for part in inside)
