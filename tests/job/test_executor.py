"""The order in which several workers take a job's segments."""

from __future__ import annotations

from starvsr.job.executor import handing_order
from starvsr.plan.segments import Segment


def segments(*lengths: int) -> list[Segment]:
    """One after the other."""
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    return [
        Segment(number, start, start + length, 0, 0, start, length)
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def test_the_beginning_comes_in_order_and_the_last_rounds_from_the_longest_on() -> None:
    lengths = [5, 9, 7, 1, 2, 3, 4, 9, 6, 8, 3]
    order = handing_order(segments(*lengths), workers=2)
    assert [segment.index for segment in order] == [0, 1, 2, 7, 9, 8, 6, 5, 10, 4, 3]


def test_every_segment_is_handed_out_once() -> None:
    for count in (0, 1, 7):
        given = segments(*range(1, count + 1))
        order = handing_order(given, workers=3)
        assert sorted(order, key=lambda segment: segment.index) == given
