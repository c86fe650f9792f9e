"""Times: repaired presentation times and decode times."""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starvsr.errors import OutputError
from starvsr.media.timing import (
    check_times,
    decode_times,
    durations,
    nominal_ticks,
    repair_pts,
)
from starvsr.types import VideoIndex
from tests.conftest import video_info


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        ([0, 10, 20], [0, 10, 20]),
        ([5, 7, 100, 101], [5, 7, 100, 101]),
        ([0, None, 20], [0, 10, 20]),
        ([None, None, 20], [0, 10, 20]),
        ([None, None], [0, 10]),
        ([0, 10, None, None], [0, 10, 20, 30]),
        ([0, 10, 10, 30], [0, 10, 20, 30]),
        ([0, 10, 5, 30], [0, 10, 20, 30]),
        ([0, 3, 3, 4], [0, 3, 4, 5]),
        ([0, 10, 10, 900, 910], [0, 10, 20, 900, 910]),
        ([1000, 1010, 0, 10], [1000, 1010, 1020, 1030]),
        ([-20, -10, 0], [-20, -10, 0]),
    ],
)
def test_repair(raw: list[int | None], repaired: list[int]) -> None:
    assert repair_pts(raw, 10) == repaired


@given(st.lists(st.one_of(st.none(), st.integers(-1000, 1000)), min_size=1, max_size=60))
def test_repaired_times_rise(raw: list[int | None]) -> None:
    times = repair_pts(raw, 7)
    assert len(times) == len(raw)
    assert all(a < b for a, b in pairwise(times))


@given(st.lists(st.integers(-1000, 1000), min_size=1, unique=True).map(sorted))
def test_good_times_stay(times: list[int]) -> None:
    assert repair_pts(times, 7) == times


def test_nominal_ticks() -> None:
    tick = Fraction(1, 1000)
    assert nominal_ticks([0, 40, 80, 200, None], None, tick) == 40
    assert nominal_ticks([7], Fraction(50), tick) == 20
    assert nominal_ticks([], None, tick) == 40
    assert nominal_ticks([3], Fraction(10**6), tick) == 1


def test_durations() -> None:
    assert durations([0, 10, 40], 20) == [10, 30, 20]
    assert durations([5], 0) == [1]


@pytest.mark.parametrize(
    ("pts", "dts"),
    [
        ([0, 10, 20], [0, 10, 20]),
        ([0, 30, 10, 20], [-10, 0, 10, 20]),
        ([0, 40, 20, 10, 30], [-20, -10, 0, 10, 20]),
        ([7], [7]),
    ],
)
def test_decode_times(pts: list[int], dts: list[int]) -> None:
    assert decode_times(pts) == dts


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=50, unique=True))
def test_decode_times_rise_and_lead(pts: list[int]) -> None:
    times = decode_times(pts)
    assert all(a < b for a, b in pairwise(times))
    assert all(dts <= shown for dts, shown in zip(times, pts, strict=True))


@pytest.mark.parametrize(
    ("base", "ticks", "target", "said"),
    [
        (Fraction(1, 1000), 1 << 31, "o.mp4", "frame 1 is shown for longer than a .mp4 file"),
        (Fraction(3, 1000), 1 << 30, "o.mov", "frame 1 is shown for longer than a .mov file"),
        (Fraction(1, 1000), (1 << 31) - 1, "o.mp4", None),
        (Fraction(1, 1000), 1 << 40, "o.mkv", None),
    ],
)
def test_frames_too_far_apart(base: Fraction, ticks: int, target: str, said: str | None) -> None:
    info = video_info(time_base=base)
    index = VideoIndex((0, 40, 40 + ticks), (40, ticks, 40), (0,), ())
    with pytest.raises(OutputError, match=said) if said else nullcontext():
        check_times(info, index, 0, 3, Path(target))
    # What is not written does not matter.
    check_times(info, index, 2, 3, Path(target))
