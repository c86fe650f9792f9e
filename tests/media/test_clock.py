"""What time frames and packets have: repaired, sorted, moved; and the true rate."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from av.packet import Packet
from hypothesis import given
from hypothesis import strategies as st

from starvsr.media.clock import (
    Clock,
    frame_times,
    in_order,
    last_length,
    nominal_ticks,
    shown_chapters,
    true_rate,
    with_true_rate,
)
from starvsr.media.shifts import Steps
from starvsr.types import VideoIndex
from tests.conftest import video_info

MS = Fraction(1, 1000)
NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
CALM = Steps((), frozenset(), (), ())


def repaired(raw: list[int | None], nominal: int, steps: Steps = CALM) -> list[int]:
    return frame_times(raw, [0] * len(raw), nominal, MS, steps)


@pytest.mark.parametrize(
    ("raw", "expected"),
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
        ([-20, -10, 0], [-20, -10, 0]),
    ],
)
def test_repair(raw: list[int | None], expected: list[int]) -> None:
    assert repaired(raw, 10) == expected


@given(st.lists(st.one_of(st.none(), st.integers(-1000, 1000)), min_size=1, max_size=60))
def test_repaired_times_rise(raw: list[int | None]) -> None:
    times = repaired(raw, 7)
    assert len(times) == len(raw)
    assert all(a < b for a, b in pairwise(times))


@given(st.lists(st.integers(-1000, 1000), min_size=1, unique=True).map(sorted))
def test_good_times_stay(times: list[int]) -> None:
    assert repaired(list(times), 7) == times


def test_steps_move_frames() -> None:
    steps = Steps(((2, Fraction(1)), (4, Fraction(-1, 2))), frozenset({5}), (), ())
    raw: list[int | None] = [1000, 1010, 20, 30, 1540, 9999, 1560]
    assert repaired(raw, 10, steps) == [1000, 1010, 1020, 1030, 1040, 1050, 1060]


def test_frames_without_any_time_follow_by_their_durations() -> None:
    """Soft telecine of a raw stream: a frame lasts for two fields or three."""
    assert frame_times([None] * 4, [3, 2, 3, 2], 2, MS, CALM) == [0, 3, 5, 8]
    assert frame_times([None] * 4, [7, 0, 1, 7], 7, MS, CALM) == [0, 7, 14, 21]


def test_decode_order_is_sorted() -> None:
    assert in_order([1, 4, None, 3, 5, 2]) == [1, 2, None, 3, 4, 5]


def test_nominal_ticks() -> None:
    assert nominal_ticks([0, 40, 80, 200, None], [], None, MS) == 40
    assert nominal_ticks([7], [0], Fraction(50), MS) == 20
    assert nominal_ticks([], [], None, MS) == 40
    assert nominal_ticks([3], [], Fraction(10**6), MS) == 1
    # What lies between has no times.
    assert nominal_ticks([0, None, None, None, 160, None], [40, 40], None, MS) == 40
    assert nominal_ticks([0, None, None, 160], [], Fraction(25), MS) == 40
    assert nominal_ticks([None, None], [20, 20], None, MS) == 20
    assert nominal_ticks([None] * 5, [40, 1, 1, 1, 1], Fraction(25), MS) == 40


@pytest.mark.parametrize(
    ("container", "stated", "left", "length"),
    [
        ("flv", 1, 0, 40),
        ("matroska,webm", 0, 0, 40),
        ("matroska,webm", 41, 500, 41),
        ("gif", 3, 0, 3),
        ("mov,mp4", 40, 41, 40),
        ("mov,mp4", 40, 2000, 2000),
        ("mov,mp4", 40, 2_000_000, 40),
        ("mov,mp4", 40, -7, 40),
    ],
)
def test_last_length(container: str, stated: int, left: int, length: int) -> None:
    info = video_info(container=container, time_base=MS)
    assert last_length(info, stated, 40, left) == length


def ticks(rate: Fraction, base: Fraction, frames: int = 60, cut: Any = round) -> list[int]:
    return [cut(number / rate / base) for number in range(frames)]


PHONE = [0, 20, 40, 60, 80, 101, 120, 140, 180, 200, 221, 240, 260, 280, 300, 320]
TELECINE = [number // 2 * 83417 + number % 2 * 50050 for number in range(48)]


MPEG = Fraction(1, 90000)
LONG = ticks(Fraction(2398, 100), MPEG, 80_014)


@pytest.mark.parametrize(
    ("times", "base", "stated", "rate"),
    [
        # Guessed, by the container, by the stream itself.
        (ticks(Fraction(50), MS), MS, [50, 25, 50], 50),
        (ticks(Fraction(25), Fraction(1, 60000)), Fraction(1, 60000), [25, 60000, 25], 25),
        (ticks(NTSC, MS), MS, [60, 1000, 600], NTSC),
        (ticks(NTSC, MS, cut=int), MS, [60, 60, 60], NTSC),
        (ticks(FILM, MS), MS, [FILM, Fraction(983, 41), FILM], FILM),
        (ticks(FILM, MS, cut=int), MS, [Fraction(983, 41)], FILM),
        (ticks(Fraction(15), MS), MS, [15, 15, 1000], 15),
        (ticks(Fraction(100, 3), Fraction(1, 100)), Fraction(1, 100), [100], Fraction(100, 3)),
        (ticks(Fraction(24), MS, 12), MS, [Fraction(288, 11), 24], 24),
        # A phone's frames: the guess is the finest step, the average is the header's.
        (PHONE, Fraction(1, 600), [600, Fraction(589, 21), 30], Fraction(589, 21)),
        (PHONE, Fraction(1, 600), [600, 600], Fraction(225, 8)),
        # Film with soft telecine: the median step would be 29.97 or 19.98.
        (TELECINE, Fraction(1, 10**6), [NTSC], FILM),
        # A few frames are missing, or one picture is held.
        ([0, 1, 2, 4, 5, 7, 8, 10, 11, 12, 14], Fraction(1, 25), [25], 25),
        ([*range(0, 2000, 40), 60_000], MS, [25], 25),
        # A constant rate that nothing states, from so many frames that its exact fraction has no 32 bits.
        (LONG, MPEG, [25], Fraction(2398, 100)),
        ([0], MS, [100, 10], 10),
        (ticks(Fraction(50), MS)[::2], MS, [300], 25),
        ([], MS, [], None),
    ],
)
def test_true_rate(times: list[int], base: Fraction, stated: list[Any], rate: Any) -> None:
    assert true_rate(times, base, [Fraction(each) for each in stated]) == rate


def test_rate_of_the_index() -> None:
    info = video_info(time_base=MS, frame_rate=Fraction(1000), stated_rates=(Fraction(1000),))
    index = VideoIndex(tuple(ticks(NTSC, MS)), (33,) * 60, (0,))
    assert with_true_rate(info, index).frame_rate == NTSC


def packet_at(stream: Any, time: int | None) -> Packet[Any]:
    packet: Packet[Any] = Packet(b"x")
    packet.stream, packet.time_base, packet.duration = stream, MS, 20
    packet.pts = packet.dts = time
    return packet


def test_packets_are_moved(streams: list[Any]) -> None:
    """Each stream by its own count of packets; a wrong time is replaced."""
    one, other = streams
    clock = Clock([(1, 2, Fraction(3)), (1, 4, None), (1, 5, Fraction(-1)), (0, 1, Fraction(1))])
    moved = []
    for time in (0, 20, 40, None, 77_777, 4000, 4020):
        packet = packet_at(other, time)
        clock.move(packet)
        moved.append(packet.pts)
    assert moved == [0, 20, 3040, None, 3060, 3000, 3020]
    packets = [packet_at(one, 5), packet_at(one, 25)]
    for packet in packets:
        clock.move(packet)
    assert [(packet.pts, packet.dts) for packet in packets] == [(5, 5), (1025, 1025)]


@pytest.fixture
def streams() -> Any:
    import io

    import av

    with av.open(io.BytesIO(), "w", format="matroska") as output:
        yield [output.add_stream("flac", rate=48000), output.add_stream("flac", rate=48000)]


def chapter(start: int, end: int) -> Any:
    return {"id": 1, "start": start, "end": end, "time_base": MS, "metadata": {}}


def test_chapters_move_with_the_pictures() -> None:
    """50 frames from 0 on, 50 from 1000 s on, 50 from 0 on again."""
    shifts = ((0, 50, Fraction(-998)), (0, 100, Fraction(4)))
    index = VideoIndex(tuple(range(0, 6000, 40)), (40,) * 150, (0,), shifts=shifts)
    info = video_info(time_base=MS)
    chapters = [chapter(0, 1000), chapter(1000, 500_000), chapter(1_000_500, 1_001_000)]
    made = [(each["start"], each["end"]) for each in shown_chapters(chapters, info, index)]
    assert made == [(0, 1000), (1000, 2000), (2500, 3000)]
    still = VideoIndex(index.pts, index.durations, (0,))
    assert shown_chapters(chapters, info, still) == chapters
