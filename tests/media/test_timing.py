"""Times of the output: even ones, durations, decode times, and what a container allows."""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starvsr.errors import OutputError
from starvsr.media.timing import (
    Timeline,
    check_times,
    decode_times,
    durations,
    packet_times,
    timeline,
)
from starvsr.types import VideoIndex
from tests.conftest import video_info
from tests.media.clips import Audio, Clip, make, picture
from tests.media.jobs import offsets, opened, times, upscale


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


def even(pts: list[int], tick: Fraction, rate: Fraction, container: str) -> Timeline:
    info = video_info(time_base=tick)
    index = VideoIndex(tuple(pts), tuple(durations(pts, pts[-1] - pts[-2])), (0,), ())
    return timeline(info, index, 0, len(pts), rate, container)


MS, FILM = Fraction(1, 1000), Fraction(24000, 1001)
ROUNDED = [round(number * 1000 / FILM) for number in range(48)]


@pytest.mark.parametrize("start", [0, 83])
@pytest.mark.parametrize("cut", [round, int])
def test_constant_times_become_even(start: int, cut: type[int]) -> None:
    """Matroska rounds times to milliseconds, FLV cuts them off."""
    pts = [start + cut(number * 1000 / FILM) for number in range(48)]
    for container in ("mp4", "mov"):
        times = even(pts, MS, FILM, container)
        assert times.unit == Fraction(1, 24000)
        assert set(times.durations) == {1001}
        assert [b - a for a, b in pairwise(times.pts)] == [1001] * 47
        away = [abs(a * MS - b * times.unit) for a, b in zip(pts, times.pts, strict=True)]
        assert max(away) <= MS


@pytest.mark.parametrize(
    ("pts", "tick", "rate", "container"),
    [
        (ROUNDED, MS, FILM, "matroska"),
        ([0, 40, 80, 120], MS, Fraction(25), "mp4"),
        ([number * 1001 for number in range(9)], Fraction(1, 24000), FILM, "mp4"),
        ([*ROUNDED, ROUNDED[-1] + 100], MS, FILM, "mp4"),
        ([*ROUNDED[:20], *ROUNDED[21:]], MS, FILM, "mov"),
    ],
    ids=["matroska", "fits", "own base", "variable", "a frame missing"],
)
def test_other_times_stay(pts: list[int], tick: Fraction, rate: Fraction, container: str) -> None:
    times = even(pts, tick, rate, container)
    assert (times.unit, list(times.pts)) == (tick, pts)


def test_a_small_rate_has_a_fine_clock() -> None:
    """The first frame's time needs one."""
    times = even([83, 116, 150, 183], MS, Fraction(30), "mp4")
    assert times.unit == Fraction(1, 15360)
    assert abs(times.pts[0] * times.unit - Fraction(83, 1000)) < Fraction(1, 10_000)


def test_a_last_frame_that_was_cut_stays_short() -> None:
    lasting = durations(ROUNDED, 11)
    index = VideoIndex(tuple(ROUNDED), tuple(lasting), (0,), trimmed=(0, 31, 0))
    times = timeline(video_info(time_base=MS), index, 0, 48, FILM, "mp4")
    assert times.durations[-1] * times.unit == pytest.approx(0.011, abs=1e-4)


def test_a_held_last_frame_stays_held() -> None:
    index = VideoIndex(tuple(ROUNDED), tuple(durations(ROUNDED, 2000)), (0,), ())
    times = timeline(video_info(time_base=MS), index, 0, 48, FILM, "mp4")
    assert times.durations[-1] * times.unit == 2 and set(times.durations[:-1]) == {1001}


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=40, unique=True).map(sorted),
    st.integers(1, 3000),
    st.integers(0, 4),
    st.randoms(use_true_random=False),
)
def test_packets_last_as_long_as_frames(
    pts: list[int], last: int, depth: int, random: Random
) -> None:
    """The sample table of an mp4 ends where its last frame does, wherever that one is decoded."""
    order = list(range(len(pts)))
    for at in range(0, len(order) - depth, depth + 1):
        group = order[at : at + depth + 1]
        random.shuffle(group)
        order[at : at + depth + 1] = group
    frames = Timeline(MS, pts, durations(pts, last))
    packets = packet_times(frames, order, "mp4")
    dts = [time for _, time, _ in packets]
    assert all(a < b for a, b in pairwise(dts))
    assert all(time <= shown for shown, time, _ in packets)
    assert max(shown + lasts for shown, _, lasts in packets) == pts[-1] + last
    end, begin = dts[-1] + packets[-1][2], dts[0]
    # It may be longer, where the first frames are further apart than the last, but not shorter.
    assert end - begin >= pts[-1] + last - pts[0]


def test_constant_packets_keep_their_durations() -> None:
    frames = Timeline(MS, range(0, 400, 40), [40] * 10)
    for order in ([0, 2, 1, 4, 3, 6, 5, 8, 7, 9], [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]):
        packets = packet_times(frames, order, "mp4")
        assert packets == packet_times(frames, order, "matroska")
        assert {lasts for _, _, lasts in packets} == {40}


@pytest.mark.parametrize("order", [[0, 4, 2, 1, 3], [0, 1, 2, 4, 3], [0, 1, 2, 3, 4]])
def test_last_picture_that_is_held(order: list[int]) -> None:
    frames = Timeline(Fraction(1, 100), [0, 4, 8, 12, 16], [4, 4, 4, 4, 200])
    packets = packet_times(frames, order, "mp4")
    assert packets[-1][1] + packets[-1][2] - packets[0][1] == 216
    assert max(shown + lasts for shown, _, lasts in packets) == 216


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


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
@pytest.mark.parametrize("target", ["o.mp4", "o.mov", "o.mkv"])
def test_constant_frames_are_even(tmp_path: Path, suffix: str, target: str) -> None:
    """Milliseconds cannot express 24000/1001 per second; the clock of an mp4 can."""
    pts = [round(number * Fraction(1001, 24)) for number in range(24)]
    clip = Clip(frames=24, pts=pts, time_base=MS, audio=(Audio(rate=44100),))
    made = upscale(make(tmp_path / f"a{suffix}", clip), tmp_path / target, lengths=(9,))
    steps = {b - a for a, b in pairwise(times(made))}
    assert (steps == {Fraction(1001, 24000)}) == (target != "o.mkv")
    if target != "o.mkv":
        with av.open(str(made)) as container:
            assert container.streams.video[0].average_rate == Fraction(24000, 1001)
            assert container.streams.video[0].time_base == Fraction(1, 24000)
    assert abs(offsets(made)[0] - offsets(tmp_path / f"a{suffix}")[0]) <= MS


@pytest.mark.parametrize("target", ["o.mp4", "o.mov"])
def test_sample_table_and_edit_list_agree(tmp_path: Path, target: str) -> None:
    """The last picture is held, and is not the last one that is decoded."""
    source = tmp_path / "a.gif"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("gif", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24").reformat(format="rgb8")
            frame.pts, frame.time_base, frame.duration = number * 4, Fraction(1, 100), 4
            for packet in stream.encode(frame):
                packet.duration = round((2 if number == 4 else Fraction(1, 25)) / packet.time_base)
                container.mux(packet)
    _, index = opened(source)
    assert index.durations == (4, 4, 4, 4, 200)
    made = upscale(source, tmp_path / target)
    data = made.read_bytes()
    scale, length = (data.index(b"mdhd") + at for at in (16, 20))
    ticks = int.from_bytes(data[scale : scale + 4], "big")
    assert Fraction(int.from_bytes(data[length : length + 4], "big"), ticks) == Fraction(54, 25)
    table = data.index(b"stts") + 8
    entries = [
        (int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big"))
        for at in range(
            table + 4, table + 4 + 8 * int.from_bytes(data[table : table + 4], "big"), 8
        )
    ]
    assert Fraction(sum(count * delta for count, delta in entries), ticks) == Fraction(54, 25)
    info, again = opened(made)
    assert again.durations[-1] * info.time_base == 2
