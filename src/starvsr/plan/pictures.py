"""Which frames show the same picture, so that it is restored once; without repeats every frame is one picture.

frames      0 1 2 3 4 5        repeats (2, 3)
pictures    0 1 1 1 2 3        a picture has the absolute number that its first frame has without the repeats
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from starvsr.plan.windows import Span


def picture_number(repeats: Sequence[int], frame: int) -> int:
    """The absolute number of the picture that a frame shows. repeats: `VideoIndex.repeats`."""
    return frame - bisect_right(repeats, frame)


def shown_spans(repeats: Sequence[int], first: int, last: int) -> tuple[Span, ...]:
    """For every picture of frames `first`..`last` - 1, the frames (first, exclusive end) that show it.

    The first frame begins a picture even where it repeats one before the range.
    """
    again = set(repeats[bisect_right(repeats, first) : bisect_left(repeats, last)])
    starts = [frame for frame in range(first, last) if frame not in again]
    return tuple(zip(starts, [*starts, last][1:], strict=True))
