"""Drawings that are held for several frames, as in animation on twos, though compression makes each a little different.

Of every frame the block is measured that differs most from the frame before and from the first frame of what may be a
hold. A run of frames is a hold if all of this is true (`benchmarks/repeats.py` measures the numbers):

- every block differs by little: by no more than noise does here, and never by what can be seen,
- the changes right before and right behind the run are several times larger. What moves by itself slows down and
  speeds up again, so around its smallest changes are others nearly as small,
- and several such runs are near each other in the shot. One alone is a camera before which nothing moves for a while.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from starvsr.media.graph import bytes_of
from starvsr.media.pixfmt import layout_of

# Side of a block, samples.
_BLOCK = 8
# Mean absolute difference of a block in 8-bit levels: always noise up to the first, never above the last.
_LEAST, _MOST = 5.0, 14.0
# Noise may reach so many times the mean of the changes nearby that may be noise.
_NOISE_RATIO = 4.0
# How many times larger the changes at both ends of a hold are than those inside.
_END_RATIO = 3.0
# Frames on each side that are nearby, and holds among them at least.
_AROUND_FRAMES, _LEAST_HOLDS = 24, 5

Plane = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]


class HoldMeter:
    """Takes the frames of a video in order; keeps two of them, and two numbers per frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._last: list[Plane] = []
        self._first: list[Plane] = []
        """Of what may be a hold."""
        self._steps: list[float] = []
        """Largest difference of a block from the frame before."""
        self._apart: list[float] = []
        """The same from `_first`."""

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        self.add_planes(self._planes(frame))

    def add_planes(self, planes: list[Plane]) -> None:
        """Take the next frame as planes (rows, columns) of 8 bits; none: a frame that holds nothing."""
        step = _difference(self._last, planes)
        apart = step if self._first is self._last else _difference(self._first, planes)
        if max(step, apart) > _MOST:
            self._first = planes
        self._last = planes
        self._steps.append(step)
        self._apart.append(apart)

    def held(self, cuts: Collection[int]) -> frozenset[int]:
        """Indices of frames that hold the picture of the one before. cuts: frames that begin a shot."""
        steps = np.array(self._steps)
        changes = np.maximum(steps, self._apart)
        quiet = changes <= _noise(steps)
        bounds = [0, *sorted(cuts), len(steps)]
        found: set[int] = set()
        for begin, end in pairwise(bounds):
            quiet[begin : begin + 1] = False
            runs = [(begin + a, begin + b) for a, b in _runs(quiet[begin:end])]
            holds = sorted(hold for run in runs for hold in _holds(steps, changes, *run))
            found.update(number for a, b in _proven(holds) for number in range(a, b))
        return frozenset(found)

    def _planes(self, frame: VideoFrame) -> list[Plane]:
        layout = layout_of(frame.format.name)
        if layout.alpha:
            return []
        if layout.rgb or layout.depth != 8 or layout.planes not in (1, 3):
            frame = self._reformatter.reformat(frame, format="yuv444p" if layout.rgb else "yuv420p")
        # Copies: a decoder has only so many frames to give.
        return [bytes_of(plane)[:, : plane.width].copy() for plane in frame.planes]


def _difference(one: list[Plane], other: list[Plane]) -> float:
    """Mean absolute difference of the block that differs most, in levels; infinite for frames of different kinds."""
    if not one or [plane.shape for plane in one] != [plane.shape for plane in other]:
        return float("inf")
    return max(_largest(a, b) for a, b in zip(one, other, strict=True))


def _largest(one: Plane, other: Plane) -> float:
    apart = np.maximum(one, other)
    apart -= np.minimum(one, other)
    rows, columns = apart.shape
    apart = np.pad(apart, ((0, -rows % _BLOCK), (0, -columns % _BLOCK)))
    for axis in (0, 1):
        shape = list(apart.shape)
        shape[axis : axis + 1] = [-1, _BLOCK]
        apart = apart.reshape(shape).sum(axis + 1, dtype=np.uint16)
    return int(apart.max()) / _BLOCK**2


def _noise(steps: Numbers) -> Numbers:
    """What a block may differ by from noise, at every frame."""
    found = np.empty(len(steps))
    for number in range(len(steps)):
        nearby = steps[max(0, number - _AROUND_FRAMES) : number + _AROUND_FRAMES + 1]
        small = nearby[nearby <= _MOST]
        found[number] = small.mean() if len(small) else 0.0
    return np.clip(_NOISE_RATIO * found, _LEAST, _MOST)


def _runs(flags: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and exclusive end of every run of true flags."""
    bounds = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return zip(bounds[::2].tolist(), bounds[1::2].tolist(), strict=True)


def _holds(steps: Numbers, changes: Numbers, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The runs of frames first..last-1 between changes that are several times larger than all inside."""
    left = [(first, last)]
    while left:
        a, b = left.pop()
        if a >= b:
            continue
        largest = a + int(changes[a:b].argmax())
        ends = min(steps[a - 1], steps[b] if b < len(steps) else np.inf)
        if ends >= _END_RATIO * changes[largest]:
            yield a, b
        else:
            left += [(a, largest), (largest + 1, b)]


def _proven(holds: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Those of a shot's holds, in order, that have enough others nearby."""
    firsts, lasts = [first for first, _ in holds], [last for _, last in holds]
    for first, last in holds:
        begin = bisect_left(lasts, first - _AROUND_FRAMES)
        if bisect_right(firsts, last + _AROUND_FRAMES) - begin >= _LEAST_HOLDS:
            yield first, last
