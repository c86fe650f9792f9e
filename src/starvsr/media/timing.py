"""Times of frames: repairing errors in files, and a decode time for every packet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low

from starvsr.errors import OutputError
from starvsr.media.encoder import container_of
from starvsr.types import VideoIndex, VideoInfo

# A larger step back, in nominal frame times, is a clock reset, not a wrong timestamp.
_RESET_FRAMES = 8
# Muxers with 31 bits for a frame's duration.
_NARROW_TIMES, _NARROW_TICKS = ("mp4", "mov"), (1 << 31) - 1


def nominal_ticks(
    raw_pts: Sequence[int | None], frame_rate: Fraction | None, time_base: Fraction
) -> int:
    """Usual display time of a frame in ticks, at least 1: the median step, else by the header's frame rate."""
    known = [pts for pts in raw_pts if pts is not None]
    steps = [b - a for a, b in pairwise(known) if b > a]
    if steps:
        return median_low(steps)
    if frame_rate:
        return max(1, round(1 / (frame_rate * time_base)))
    return max(1, round(Fraction(1, 25) / time_base))


def repair_pts(raw_pts: Sequence[int | None], nominal: int) -> list[int]:
    """Strictly ascending times, one per frame in presentation order; good ones are unchanged.

    - After a clock reset in mid-stream (a large step back), times continue one nominal frame time later.
    - Frames without a time, or with one that does not ascend, are spread evenly between their good neighbours, but
      not further apart than the nominal frame time; at the ends they continue at that spacing.
    - If there are fewer ticks than frames, times advance by one tick each until there is room again.
    """
    good = _trusted(raw_pts, nominal)
    places = [i for i, pts in enumerate(good) if pts is not None]
    times: list[int] = []
    for i, pts in enumerate(good):
        wanted = pts if pts is not None else _between(good, places, i, nominal)
        times.append(max(wanted, times[-1] + 1) if times else wanted)
    return times


def _trusted(raw_pts: Sequence[int | None], nominal: int) -> list[int | None]:
    good: list[int | None] = []
    offset = 0
    last: int | None = None
    for raw in raw_pts:
        pts = None if raw is None else raw + offset
        if pts is not None and last is not None and pts <= last:
            if last - pts > _RESET_FRAMES * nominal:
                offset += last + nominal - pts
                pts = last + nominal
            else:
                pts = None
        good.append(pts)
        last = last if pts is None else pts
    return good


def _between(good: Sequence[int | None], places: Sequence[int], i: int, nominal: int) -> int:
    where = bisect_left(places, i)
    before = places[where - 1] if where else None
    behind = places[where] if where < len(places) else None
    start = good[before] if before is not None else None
    end = good[behind] if behind is not None else None
    if start is not None and end is not None and before is not None and behind is not None:
        return start + min(
            (end - start) * (i - before) // (behind - before), (i - before) * nominal
        )
    if start is not None and before is not None:
        return start + (i - before) * nominal
    if end is not None and behind is not None:
        return end - (behind - i) * nominal
    return i * nominal


def durations(pts: Sequence[int], last_ticks: int) -> list[int]:
    """Display time of each frame in ticks: until the next one; `last_ticks` (at least 1) for the last."""
    steps = [b - a for a, b in pairwise(pts)]
    return [*steps, max(1, last_ticks)]


def decode_times(pts: Sequence[int]) -> list[int]:
    """Decode times for packets, given their presentation times in decode order.

    Strictly ascending and never after the packet's own presentation time. They are the sorted presentation
    times, delayed by the stream's greatest reorder depth; the first ones continue that backwards, so they can
    be earlier than the first presentation time. The times must be distinct.
    """
    ordered = sorted(pts)
    rank = {value: place for place, value in enumerate(ordered)}
    depth = max((i - rank[value] for i, value in enumerate(pts)), default=0)
    step = max(1, ordered[1] - ordered[0]) if len(ordered) > 1 else 1
    lead = [ordered[0] - (depth - i) * step for i in range(min(depth, len(ordered)))]
    return [*lead, *ordered[: len(ordered) - len(lead)]]


def check_times(info: VideoInfo, index: VideoIndex, first: int, last: int, target: Path) -> None:
    """Raise OutputError if frames first..last-1 are further apart than the output's container supports."""
    longest = max(range(first, last), key=index.durations.__getitem__)
    ticks = index.durations[longest] * info.time_base.numerator
    if container_of(target) in _NARROW_TIMES and ticks > _NARROW_TICKS:
        raise OutputError(
            f"{target.name}: frame {longest} is shown for longer than a {target.suffix} file allows, perhaps because "
            "a time in the input is wrong: give an output that ends in .mkv, or leave the frame out by --start or --end"
        )
