"""Times of the output: a duration and a decode time for every frame, and what containers can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from operator import add
from pathlib import Path

from starvsr.errors import OutputError
from starvsr.media.clock import is_constant
from starvsr.media.encoder import container_of
from starvsr.media.fields import MadeIndex
from starvsr.types import VideoIndex, VideoInfo

TABLES = ("mp4", "mov")
"""Muxers that state durations in decode order, and an edit list."""
# They have 31 bits for a duration.
_NARROW_TICKS = (1 << 31) - 1
LEAST_SCALE = 10_000
"""Ticks per second, finer than any audible or visible offset."""

_PacketTimes = tuple[int, int, int]


def durations(pts: Sequence[int], last_ticks: int) -> list[int]:
    """Display time of each frame in ticks: until the next one; `last_ticks` (at least 1) for the last."""
    steps = [b - a for a, b in pairwise(pts)]
    return [*steps, max(1, last_ticks)]


@dataclass(frozen=True)
class Timeline:
    """When frames are shown."""

    unit: Fraction
    """Seconds per tick."""
    pts: Sequence[int]
    durations: Sequence[int]


def timeline(
    info: VideoInfo, index: VideoIndex, first: int, last: int, rate: Fraction, container: str
) -> Timeline:
    """Times of frames first..last-1 for libav's muxer `container`.

    They are the source's. mp4 and mov have a clock of their own: frames that lie within a tick of the source's clock
    of a constant `rate`, which that clock cannot express, are put exactly there. Ticks of film and of single fields
    may be parts of the source's.
    """
    pts, lasting = index.pts[first:last], index.durations[first:last]
    step = 1 / (rate * info.time_base)
    within = Fraction(index.parts if isinstance(index, MadeIndex) else 1)
    if (
        container not in TABLES
        or step.denominator == 1
        or not is_constant(pts, info.time_base, rate, within)
    ):
        return Timeline(info.time_base, pts, lasting)
    scale, length = rate.numerator, rate.denominator
    while scale < LEAST_SCALE:
        scale, length = 2 * scale, 2 * length
    unit = Fraction(1, scale)
    begins = round(pts[0] * info.time_base / unit)
    even = [begins + number * length for number in range(len(pts))]
    held = round(lasting[-1] * info.time_base / unit)
    is_held = index.trimmed[1] or 2 * lasting[-1] > 3 * step
    return Timeline(unit, even, durations(even, held if is_held else length))


def packet_times(times: Timeline, frames: Sequence[int], container: str) -> list[_PacketTimes]:
    """Presentation time, decode time and duration of every packet, in ticks; frames: in decode order, from 0.

    In mp4 and mov a packet lasts until the next one is decoded, so the last one's duration makes the sum that of
    the frames, wherever it is shown.
    """
    pts = [times.pts[frame] for frame in frames]
    lasting = [times.durations[frame] for frame in frames]
    dts = decode_times(pts)
    if container in TABLES:
        begins, ends = min(pts), max(map(add, pts, lasting))
        dts[-1] = max(dts[-1], pts[-1] - (begins - dts[0]))
        least = lasting[-1] if pts[-1] == max(pts) else 1
        lasting[-1] = max(least, dts[0] + ends - begins - dts[-1])
    return list(zip(pts, dts, lasting, strict=True))


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
    if container_of(target) in TABLES and ticks > _NARROW_TICKS:
        raise OutputError(
            f"{target.name}: frame {longest} is shown for longer than a {target.suffix} file allows, perhaps because "
            "a time in the input is wrong: give an output that ends in .mkv, or leave the frame out by --start or --end"
        )
