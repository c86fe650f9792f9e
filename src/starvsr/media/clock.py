"""What time every packet and frame of a source has, whatever its container says or leaves out.

A table of what each container states, and what of it is believed, is in `docs/fidelity.md`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import itemgetter
from statistics import median_low
from typing import TYPE_CHECKING, Any

from av.packet import Packet

from starvsr.media.shifts import Shift, Steps
from starvsr.types import VideoIndex, VideoInfo

if TYPE_CHECKING:
    from av.container.core import Chapter

# Rates that cameras and broadcasts use, where no header says a better one.
_USUAL_RATES = (
    *(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)),
    *map(Fraction, (24, 25, 30, 48, 50, 60, 100, 120)),
)
# A stated average may differ from that of the frames by what a held picture or a lost frame makes.
_MOST_OFF = Fraction(1, 10)
# Of the rate between the first and the last frame, in turn; libav's integers have 32 bits.
_DENOMINATORS = (100, 10_000, 1_000_000)
# An average this near to a usual rate is that.
_NEARLY = Fraction(1, 200)
# Containers that state every frame's own duration.
_WITH_DURATIONS = ("mov", "gif", "apng")
# A header that has a last picture held for longer is wrong.
_HELD_S = 60
# A frame that is shown for longer than this many others is a held picture, which says nothing of the rate.
_HELD = 10


def frame_times(
    stamps: Sequence[int | None],
    lengths: Sequence[int],
    nominal: int,
    base: Fraction,
    steps: Steps,
) -> list[int]:
    """Strictly ascending times, one per frame in presentation order, in ticks of `base`; good ones are unchanged.

    stamps: the times that the decoder gives, `in_order` where the container gives times in decode order. lengths: the
    frames' own durations, 0 if unknown. nominal: the usual one.

    - Where the clock steps, times are moved as `steps` says.
    - Without any times, frames follow each other by their durations.
    - Frames without a time, or with one that does not ascend, are spread evenly between their good neighbours, but
      not further apart than the nominal frame time; at the ends they continue at that spacing.
    - If there are fewer ticks than frames, times advance by one tick each until there is room again.
    """
    if all(stamp is None for stamp in stamps):
        # libav gives later packets of a stream that states no rate one tick.
        lasting = (length if 2 * length >= nominal else nominal for length in lengths[:-1])
        return [0, *accumulate(lasting)]
    times = list(stamps)
    for frame in steps.wild:
        times[frame] = None
    for (first, seconds), (last, _) in pairwise([*steps.frames, (len(times), Fraction(0))]):
        ticks = round(seconds / base)
        times[first:last] = [None if time is None else time + ticks for time in times[first:last]]
    return _repaired(times, nominal)


def rises(stamps: Sequence[int | None]) -> bool:
    """Whether no known time falls."""
    known = [stamp for stamp in stamps if stamp is not None]
    return all(a <= b for a, b in pairwise(known))


def in_order(stamps: Sequence[int | None]) -> list[int | None]:
    """The known times in ascending order."""
    ordered = iter(sorted(stamp for stamp in stamps if stamp is not None))
    return [None if stamp is None else next(ordered) for stamp in stamps]


def begun_later(stamps: Sequence[int | None], nominal: int) -> list[int | None]:
    """Times whose first picture was decoded before others, and is shown after them: right before the second one."""
    first, *others = stamps
    following = next((stamp for stamp in others if stamp is not None), None)
    return [first if following is None else following - nominal, *others]


def counted_times(stamps: Sequence[int | None], delay: int, nominal: int) -> list[int | None]:
    """Times of a container that only counts pictures, without the delay that libav adds for their reordering.

    libav has the last one follow by its duration, which in AVI is a tick.
    """
    times = [None if stamp is None else stamp - delay for stamp in stamps]
    *_, before, last = (None, None, *times)
    if before is not None and last is not None:
        times[-1] = max(last, before + nominal)
    return times


def reorder_depth(stamps: Sequence[int | None]) -> int:
    """How many pictures at most are decoded between one's decoding and its display. stamps: in decode order's times."""
    known = [stamp for stamp in stamps if stamp is not None]
    places = {stamp: place for place, stamp in enumerate(sorted(known))}
    return max((places[stamp] - place for place, stamp in enumerate(known)), default=0)


def _repaired(times: Sequence[int | None], nominal: int) -> list[int]:
    good = _rising(times)
    places = [i for i, pts in enumerate(good) if pts is not None]
    made: list[int] = []
    for i, pts in enumerate(good):
        wanted = pts if pts is not None else _between(good, places, i, nominal)
        made.append(max(wanted, made[-1] + 1) if made else wanted)
    return made


def _rising(times: Sequence[int | None]) -> list[int | None]:
    good: list[int | None] = []
    last: int | None = None
    for time in times:
        rises = time is not None and (last is None or time > last)
        good.append(time if rises else None)
        last = time if rises else last
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


def nominal_ticks(
    stamps: Sequence[int | None],
    lengths: Sequence[int],
    frame_rate: Fraction | None,
    base: Fraction,
) -> int:
    """Usual display time of a frame in ticks, at least 1: the median step, else by the rate of the first packets, else
    its duration.

    stamps, lengths: as for `frame_times`, where times in decode order are sorted already.
    """
    known = [(number, stamp) for number, stamp in enumerate(stamps) if stamp is not None]
    near = [b - a for (i, a), (j, b) in pairwise(known) if b > a and j == i + 1]
    if near:
        return median_low(near)
    # Frames may be missing in between.
    steps = [round(Fraction(b - a, j - i)) for (i, a), (j, b) in pairwise(known) if b > a]
    stated = [round(1 / (frame_rate * base))] if frame_rate else []
    if guesses := [*stated, *([median_low(steps)] if steps else [])]:
        return max(1, min(guesses))
    return median_low(
        [length for length in lengths if length > 0] or [round(Fraction(1, 25) / base)]
    )


def last_length(info: VideoInfo, stated: int, nominal: int, left: int = 0) -> int:
    """Ticks for which the last frame is shown: what the file states of it, unless it is a default that is wrong.

    left: from its time to the end of the stream by the header; 0 if unknown. An mp4 states durations in decode order,
    so that of a picture that is held may stand at another one.
    """
    kind = info.container.partition(",")[0]
    longest = _HELD_S / info.time_base
    if kind == "mov" and 3 * max(stated, nominal) < 2 * left <= 2 * longest:
        return left
    return stated if stated > 0 and (kind in _WITH_DURATIONS or 2 * stated > nominal) else nominal


def true_rate(
    times: Sequence[int], base: Fraction, stated: Iterable[Fraction | None]
) -> Fraction | None:
    """Frames per second of ascending times (ticks of `base`); None if nothing is known.

    stated: the rates by the headers, the most trusted first. If all times lie within a tick of a constant rate, it is
    that: a plain one that is stated or usual, another stated one, or the one of the first and last frame. Otherwise it
    is the stated one nearest to the average, unless that is far off; then one from which only some frames are missing,
    a usual one that is the average nearly, or the average. Pictures that are held do not count in an average.
    """
    said = [rate for rate in stated if rate]
    if len(times) < 2:
        return min(said, default=None)
    whole = (len(times) - 1) / ((times[-1] - times[0]) * base)
    plain = [rate for rate in said if rate.denominator in (1, 1001)]
    near_whole = (whole.limit_denominator(most) for most in _DENOMINATORS)
    for rates in ((*plain, *_USUAL_RATES), (*said, *near_whole)):
        for within in (Fraction(1, 2), Fraction(1)):
            for rate in rates:
                if abs(rate - whole) < whole * _MOST_OFF and is_constant(times, base, rate, within):
                    return rate
    steps = [b - a for a, b in pairwise(times)]
    usual = median_low(steps)
    counted = [step for step in steps if step <= _HELD * usual]
    average = len(counted) / (sum(counted) * base)
    near = min(said, key=lambda rate: abs(rate - average), default=average)
    if abs(near - average) <= average * _MOST_OFF:
        return near
    fits = [rate for rate in said if _fills_gaps(steps, usual, base * rate)]
    usual_rate = min(_USUAL_RATES, key=lambda rate: abs(rate - average))
    if abs(usual_rate - average) <= average * _NEARLY:
        fits.append(usual_rate)
    return fits[0] if fits else average.limit_denominator(100)


def _fills_gaps(steps: Sequence[int], usual: int, per_tick: Fraction) -> bool:
    """Whether times are those of a constant rate, in frames per tick, with frames missing here and there."""
    return round(usual * per_tick) == 1 and all(
        abs(step - round(step * per_tick) / per_tick) <= 1 for step in steps
    )


def is_constant(
    times: Sequence[int], base: Fraction, rate: Fraction, within: Fraction = Fraction(1)
) -> bool:
    """Whether all times are at most `within` ticks, and a quarter of a frame, from where a constant rate has them."""
    step = 1 / (rate * base)
    over, under = step.numerator, step.denominator
    least = most = times[0] * under
    room = min(2 * within, step / 2) * under
    for number, time in enumerate(times):
        place = time * under - number * over
        least, most = min(least, place), max(most, place)
        if most - least > room:
            return False
    return True


def with_true_rate(info: VideoInfo, index: VideoIndex) -> VideoInfo:
    """What the header says, with the rate of the frames that were found."""
    return replace(info, frame_rate=true_rate(index.pts, info.time_base, info.stated_rates))


class Clock:
    """Moves the times of packets to where they are shown, while they go by in the container's order."""

    def __init__(self, shifts: Sequence[Shift]) -> None:
        self._shifts: dict[int, list[Shift]] = {}
        for shift in shifts:
            self._shifts.setdefault(shift[0], []).append(shift)
        self._numbers = dict.fromkeys(self._shifts, 0)
        self._ends: dict[int, int] = {}

    def move(self, packet: Packet[Any]) -> None:
        """Give the next packet of its stream its true time; it must have been seen by the index in the same place."""
        stream = packet.stream_index
        shifts = self._shifts.get(stream)
        if shifts is None:
            return
        number = self._numbers[stream]
        self._numbers[stream] = number + 1
        place = bisect_right(shifts, number, key=itemgetter(1))
        if place:
            self._shift(packet, shifts[place - 1][2])
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            self._ends[stream] = stamp + (packet.duration or 0)

    def _shift(self, packet: Packet[Any], seconds: Fraction | None) -> None:
        if seconds is None:
            packet.pts = packet.dts = self._ends.get(packet.stream_index)
            return
        ticks = round(seconds / packet.time_base)
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks


def shown_chapters(chapters: list[Chapter], info: VideoInfo, index: VideoIndex) -> list[Chapter]:
    """Chapters of the source, moved with the pictures where its clock steps."""
    shifts = [shift for shift in index.shifts if shift[0] == info.stream_index]
    if not shifts:
        return chapters

    def shown(ticks: int, base: Fraction) -> int:
        return round(_shown(ticks * base, shifts, info, index) / base)

    made: list[Chapter] = []
    for chapter in chapters:
        base = chapter["time_base"] or Fraction(1, 1000)
        start, end = shown(chapter["start"], base), shown(chapter["end"], base)
        made.append({**chapter, "start": start, "end": end, "time_base": base})
    return made


def _shown(time: Fraction, shifts: Sequence[Shift], info: VideoInfo, index: VideoIndex) -> Fraction:
    """When a time of the source's clock is shown: the first time, if there are several."""
    moved = Fraction(0)
    for _, frame, seconds in shifts:
        ends = index.pts[frame] * info.time_base
        if time + moved < ends:
            break
        moved = seconds or Fraction(0)
        # What the clock jumps over is shown nowhere.
        time = max(time, ends - moved)
    return time + moved
