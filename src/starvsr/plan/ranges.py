"""Which frames a range of time selects, and how long those at its ends are shown."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from fractions import Fraction

from starvsr.errors import UsageError
from starvsr.options import RangeOptions
from starvsr.plan.windows import Span
from starvsr.types import VideoIndex, VideoInfo

HELD_S = Fraction(1, 5)
"""A frame that is shown for longer is a held picture, which a range may begin or end within; others stay whole."""

# What a range has of a held picture is no frame if it is as short as this: a time typed by a person is rounded.
_ROUNDING_S = Fraction(1, 50)


def frame_range(info: VideoInfo, index: VideoIndex, options: RangeOptions) -> Span:
    """Absolute indices (first, exclusive end) of the selected frames.

    A frame belongs to its start time; a held picture also to the start of a range within it (see `cut_to_range`).
    Raises UsageError if no frame is selected.
    """
    start, end = _bounds(options)

    def at(seconds: float) -> int:
        # Half a tick of tolerance: 0.04 s typed by a person means the frame at 1/25 s.
        return bisect_left(index.pts, origin_of(index) + seconds / float(info.time_base) - 0.5)

    rounding = _ROUNDING_S / info.time_base
    first = at(start)
    if _left_of_held(info, index, first - 1, start) > rounding:
        first -= 1
    last = index.frames if end is None else at(end)
    if end is not None and (left := _left_of_held(info, index, last - 1, end)):
        last -= index.durations[last - 1] - left <= rounding
    if options.frames is not None:
        last = min(last, first + options.frames)
    if first >= last:
        length = float((index.pts[-1] + index.durations[-1] - origin_of(index)) * info.time_base)
        raise UsageError(
            "no frame is in the range of --start, --end and --duration, or --at: "
            f"the video is {length:.3f} s long; give an earlier start"
        )
    return first, last


def cut_to_range(info: VideoInfo, index: VideoIndex, options: RangeOptions) -> VideoIndex:
    """The index with held pictures at the ends of `frame_range` shown from its start, or until its end.

    `frame_range` has the same frames of it.
    """
    first, last = frame_range(info, index, options)
    start, end = _bounds(options)
    pts, lasting = list(index.pts), list(index.durations)
    left = _left_of_held(info, index, first, start)
    early = lasting[first] - left if left else 0
    late = 0 if end is None else _left_of_held(info, index, last - 1, end)
    if not early and not late:
        return index
    pts[first] += early
    lasting[first] -= early
    lasting[last - 1] = max(1, lasting[last - 1] - late)
    return dataclasses.replace(
        index,
        pts=tuple(pts),
        durations=tuple(lasting),
        # Decoded frames are still found by the times that they have in the file.
        stamps=index.stamps or index.pts,
        trimmed=(early, late, 0 if first else index.trimmed[2] + early),
    )


def origin_of(index: VideoIndex) -> int:
    """The time from which ranges count, in ticks: where the video begins, also if a range cut its first frame."""
    return index.pts[0] - index.trimmed[2]


def _bounds(options: RangeOptions) -> tuple[float, float | None]:
    """Start and end, seconds from the first frame."""
    start = options.start_s or 0.0
    return start, start + options.duration_s if options.duration_s is not None else options.end_s


def _left_of_held(info: VideoInfo, index: VideoIndex, number: int, seconds: float) -> int:
    """Ticks that a held picture is still shown at a time within it; 0 for others and outside."""
    if not 0 <= number < index.frames or index.durations[number] * info.time_base <= HELD_S:
        return 0
    tick = origin_of(index) + round(seconds / float(info.time_base))
    behind = index.pts[number] + index.durations[number]
    return behind - tick if index.pts[number] < tick < behind else 0
