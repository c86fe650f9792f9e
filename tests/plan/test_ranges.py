"""Which frames a range selects, and that held pictures are cut where it begins and ends."""

from __future__ import annotations

import dataclasses

import pytest

from starvsr.errors import UsageError
from starvsr.options import RangeOptions
from starvsr.plan.ranges import cut_to_range, frame_range
from starvsr.types import VideoIndex
from tests.conftest import video_index, video_info

Shown = list[tuple[int, int]]
"""Begin and length of frames, ticks."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (RangeOptions(), (0, 100)),
        (RangeOptions(start_s=1), (25, 100)),
        (RangeOptions(start_s=1, duration_s=0.4), (25, 35)),
        (RangeOptions(start_s=0.04, end_s=0.12), (1, 3)),
        (RangeOptions(start_s=3.9, frames=50), (98, 100)),
        (RangeOptions(frames=7), (0, 7)),
        (RangeOptions(end_s=99), (0, 100)),
    ],
)
def test_frame_range(options: RangeOptions, expected: tuple[int, int]) -> None:
    for first_pts in (0, 6400, -1024):
        assert frame_range(video_info(), video_index(first_pts=first_pts), options) == expected


def test_a_range_without_frames_is_refused() -> None:
    with pytest.raises(UsageError, match=r"4\.000 s long"):
        frame_range(video_info(), video_index(), RangeOptions(start_s=5))


def held(first_pts: int = 0) -> VideoIndex:
    """Frames 0 to 3 of 512 ticks (0.04 s), 4 of 80 (3.2 s), 5 to 7 of one; then 8, held for 25."""
    lengths = [512] * 4 + [80 * 512] + [512] * 3 + [25 * 512]
    times = [first_pts + sum(lengths[:number]) for number in range(len(lengths))]
    return VideoIndex(tuple(times), tuple(lengths), (first_pts,))


@pytest.mark.parametrize("first_pts", [0, 6400])
@pytest.mark.parametrize(
    ("options", "selected", "shown"),
    [
        # Within the held picture, which begins at 0.16 s and is shown until 3.36 s.
        (RangeOptions(start_s=1, duration_s=1), (4, 5), [(12800, 12800)]),
        (RangeOptions(start_s=3.2), (4, 9), [(40960, 2048), (44544, 12800)]),
        (RangeOptions(end_s=1), (0, 5), [(0, 512), (2048, 10752)]),
        (RangeOptions(start_s=0.08, end_s=4), (2, 9), [(1024, 512), (44544, 6656)]),
        (RangeOptions(start_s=1, frames=2), (4, 6), [(12800, 30208), (43008, 512)]),
        # At its ends, and so near to them that a time was rounded.
        (RangeOptions(start_s=0.16, end_s=3.36), (4, 5), [(2048, 40960)]),
        (RangeOptions(start_s=3.35), (5, 9), [(43008, 512), (44544, 12800)]),
        # So near after its beginning that it is not meant.
        (RangeOptions(end_s=0.17), (0, 4), [(0, 512), (1536, 512)]),
        # All frames, some of them in part.
        (RangeOptions(end_s=4), (0, 9), [(0, 512), (44544, 6656)]),
        # Other frames stay whole.
        (RangeOptions(start_s=0.1, end_s=0.15), (3, 4), [(1536, 512)]),
    ],
)
def test_held_pictures_are_cut(
    options: RangeOptions, selected: tuple[int, int], shown: Shown, first_pts: int
) -> None:
    index = held(first_pts)
    assert frame_range(video_info(), index, options) == selected
    cut = cut_to_range(video_info(), index, options)
    pairs = list(zip(cut.pts, cut.durations, strict=True))
    first, last = selected
    assert pairs[first] == (first_pts + shown[0][0], shown[0][1])
    assert pairs[last - 1] == (first_pts + shown[-1][0], shown[-1][1])
    inner = slice(first + 1, last - 1)
    assert pairs[inner] == list(zip(index.pts, index.durations, strict=True))[inner]
    assert frame_range(video_info(), cut, options) == selected
    late = index.pts[last - 1] + index.durations[last - 1] - sum(pairs[last - 1])
    assert cut.trimmed[:2] == (cut.pts[first] - index.pts[first], late)
    # The file is read as it was.
    assert (cut.stamps or cut.pts) == index.pts
    uncut = dataclasses.replace(
        cut,
        pts=index.pts,
        durations=index.durations,
        stamps=(),
        trimmed=(0, 0, 0),
    )
    assert uncut == index


def test_a_range_within_the_first_picture() -> None:
    index = VideoIndex((0, 40960), (40960, 512), (0,))
    options = RangeOptions(start_s=1.5)
    assert frame_range(video_info(), index, options) == (0, 2)
    cut = cut_to_range(video_info(), index, options)
    assert (cut.pts, cut.durations, cut.trimmed) == (
        (19200, 40960),
        (21760, 512),
        (19200, 0, 19200),
    )
    assert frame_range(video_info(), cut, options) == (0, 2)
    assert cut_to_range(video_info(), cut, options).pts == cut.pts
