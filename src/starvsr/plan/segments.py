"""How a video is cut into segments: at shot changes, and where a shot has too many pictures to be in memory at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from starvsr.options import WindowOptions
from starvsr.plan.pictures import picture_number, shown_spans
from starvsr.plan.windows import Span, even_spans
from starvsr.types import VideoIndex


@dataclass(frozen=True)
class Segment:
    """Consecutive frames of one shot that are restored as a unit: core plus the frames shared with neighbours."""

    index: int
    first: int
    """Absolute index of the first restored frame."""
    last: int
    """Absolute exclusive end of the restored frames."""
    head: int
    """First frames, shared with the previous segment."""
    tail: int
    """Last frames, shared with the next segment."""
    picture: int
    """Absolute number of the first picture (see `plan.pictures`)."""
    pictures: int
    """Pictures that are restored: its frames, but for those that repeat the one before."""

    @property
    def frames(self) -> int:
        """Number of frames that show restored pictures."""
        return self.last - self.first

    @property
    def core(self) -> Span:
        """Absolute indices of the frames that only this segment restores."""
        return self.first + self.head, self.last - self.tail


def shots_of(options: WindowOptions, index: VideoIndex, span: Span) -> list[tuple[Span, ...]]:
    """The pictures of every shot, each as the frames (first, exclusive end) that show it."""
    first, last = span
    by_shot = options.scene_detect and not options.parity
    inside = [cut for cut in index.cuts if by_shot and first < cut < last]
    bounds = itertools.pairwise([first, *inside, last])
    return [shown_spans(index.repeats, start, stop) for start, stop in bounds]


def segments_of(
    shots: Sequence[Sequence[Span]], longest: int, context: int, repeats: Sequence[int]
) -> tuple[Segment, ...]:
    """The segments of shots as from `shots_of`, in whole pictures.

    longest: pictures of a segment at most, `least_segment(context)` or more. context: pictures that neighbours share.
    repeats: `VideoIndex.repeats`.
    """
    segments: list[Segment] = []
    for shot in shots:
        # Where each picture begins, and behind them the end.
        at = [*(first for first, _ in shot), shot[-1][1]]
        spans = shot_spans(len(shot), longest, context)
        for place, (a, b) in enumerate(spans):
            head = at[a + context] - at[a] if place > 0 else 0
            tail = at[b] - at[b - context] if place + 1 < len(spans) else 0
            number = picture_number(repeats, at[a])
            segments.append(Segment(len(segments), at[a], at[b], head, tail, number, b - a))
    return tuple(segments)


def least_segment(context: int) -> int:
    """The shortest segment with a frame between its two seams."""
    return 2 * context + 1


def shot_spans(length: int, longest: int, context: int) -> tuple[Span, ...]:
    """Spans that share `context` frames and have others too: of even lengths, or where that cannot be, all but the
    last as long as they may be."""
    stride = longest - context
    count = max(1, -(-(length - context) // stride))
    if (length - context) // count > context or count <= 2:
        return even_spans(length, longest, context)
    return tuple((i * stride, min(length, i * stride + longest)) for i in range(count))
