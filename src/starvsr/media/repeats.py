"""Frames that show the picture of the frame before them again, found in the pass over the whole video."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from starvsr.media.graph import bytes_of
from starvsr.media.holds import HoldMeter
from starvsr.media.orientation import orientation_of

# Rows that are compared first: frames that differ at all mostly differ there.
_SOME_ROWS = 16


class RepeatDetector:
    """Takes the frames of a video in order; keeps one of them, and of `near` what `HoldMeter` does."""

    def __init__(self, how: str) -> None:
        """how: `exact`, the same samples; `near`, those too that compression alone has made differ."""
        self._holds = HoldMeter() if how == "near" else None
        self._last: VideoFrame | None = None
        self._frames = 0
        self._equal: list[int] = []

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        if self._last is not None and is_same(self._last, frame):
            self._equal.append(self._frames)
        else:
            self._last = frame
        if self._holds is not None:
            self._holds.add(frame)
        self._frames += 1

    def found(self, cuts: Collection[int]) -> tuple[int, ...]:
        """Indices of frames that repeat the one before, ascending. cuts: frames that begin a shot, which never do."""
        held = self._holds.held(cuts) if self._holds is not None else ()
        return tuple(sorted({*self._equal, *held}.difference(cuts)))

    def equal(self, cuts: Collection[int]) -> tuple[int, ...]:
        """Those of `found` that have the same samples, which is what `exact` finds."""
        return tuple(sorted(set(self._equal).difference(cuts)))


def is_same(one: VideoFrame, other: VideoFrame) -> bool:
    """Whether two frames have the same samples, and mean the same by them."""
    if _meaning(one) != _meaning(other):
        return False
    pairs = [(_rows(one, number), _rows(other, number)) for number in range(len(one.planes))]
    for step in (max(1, one.height // _SOME_ROWS), 1):
        if not all(np.array_equal(a[::step], b[::step]) for a, b in pairs):
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
    if frame.format.has_palette and number:
        return np.frombuffer(memoryview(plane), np.uint8)[None]
    return bytes_of(plane)[:, : _bytes_of_row(frame, plane, number)]


def _bytes_of_row(frame: VideoFrame, plane: VideoPlane, number: int) -> int:
    described = frame.format
    if len(frame.planes) == 1:
        return -(-plane.width * described.padded_bits_per_pixel // 8)
    inside = [part for part in described.components if part.plane == number]
    return plane.width * sum(-(-part.bits // 8) for part in inside)
