"""Which fields of the decoded frames each frame of a job is made of, and when it is shown."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

from starvsr.errors import InputError
from starvsr.media.pixfmt import layout_of
from starvsr.media.telecine import CYCLE, Film, film_fields, soft_film
from starvsr.media.timecode import counted_by
from starvsr.options import LookOptions
from starvsr.types import VideoIndex, VideoInfo

# The minimum plane size of libavfilter's bwdif.
_LEAST_ROWS, _LEAST_COLUMNS = 4, 3
# Film frames fall on quarters of a frame of video, fields on halves.
_PARTS = 4
# Of film, and of fields.
_RATES = (Fraction(24000, 1001), Fraction(24), Fraction(50), Fraction(60000, 1001), Fraction(60))
# What milliseconds make of a rate.
_ROUNDING = Fraction(1, 20)


class Source(NamedTuple):
    """What one frame is made of."""

    top: int
    """The decoded frame that its top field is taken from."""
    bottom: int
    """The decoded frame that its bottom field is taken from."""
    field: int | None = None
    """0 or 1: the frame is interpolated from this field of `top`, by the order in which they are shown."""


@dataclass(frozen=True)
class MadeIndex(VideoIndex):
    """The frames that a job makes of decoded frames: times, durations and cuts are those of the former."""

    decoded: VideoIndex = field(default_factory=lambda: VideoIndex((), (), ()))
    """The decoded frames, in ticks of the stream."""
    parts: int = 1
    """Ticks of the made frames' times in one of the stream's."""
    sources: tuple[Source, ...] = ()
    """What every frame is made of, in an order in which no earlier decoded frame is needed again."""


Made = tuple[int, Source]
"""A frame's time in `_PARTS` of a tick, and what it is made of."""


@dataclass(frozen=True)
class FieldPlan:
    """What is done about fields."""

    film: tuple[Film, ...]
    soft: tuple[tuple[int, int], ...]
    """Runs of frames (first, exclusive end) that are shown evenly."""
    interpolated: frozenset[int]
    """Decoded frames of which a field becomes a whole frame."""
    both: bool
    """Whether each of their two fields does."""

    @property
    def in_film(self) -> int:
        """Number of decoded frames in hard pull-down."""
        return sum(film.last + film.rest - film.first + film.lead for film in self.film)


def plan_fields(info: VideoInfo, index: VideoIndex, look: LookOptions) -> FieldPlan:
    """What the options mean for this video. Raises InputError if it is too small to be deinterlaced."""
    film = tuple(Film(*each) for each in index.film) if look.detelecine != "off" else ()
    within = {n for each in film for n in range(each.first - each.lead, each.last + each.rest)}
    whole: Sequence[int] = range(index.frames)
    chosen = {
        "off": (),
        "on": whole,
        "auto": index.interlaced,
        "field": index.interlaced or whole,
    }[look.deinterlace]
    wanted = frozenset(chosen) - within
    if wanted:
        _check_size(info)
    soft = soft_film(index.pts, info.time_base) if look.detelecine != "off" else ()
    soft = tuple(run for run in soft if within.isdisjoint(range(*run)))
    return FieldPlan(film, soft, wanted, look.deinterlace == "field")


def _check_size(info: VideoInfo) -> None:
    across, down = layout_of(info.pix_fmt).chroma_shift
    sideways = info.rotation in (90, 270)
    width, height = (info.height, info.width) if sideways else (info.width, info.height)
    if -(-height >> down) < _LEAST_ROWS or -(-width >> across) < _LEAST_COLUMNS:
        raise InputError(
            f"{info.path}: {width}x{height} is too small to be deinterlaced: give --deinterlace off"
        )


def made_index(info: VideoInfo, index: VideoIndex, plan: FieldPlan) -> tuple[VideoInfo, VideoIndex]:
    """The facts and the index of the frames that a plan makes of decoded frames, the same ones if it changes none.

    The time base is divided where times fall between ticks.
    """
    if not (plan.film or plan.soft or plan.interpolated):
        return info, index
    made = sorted(_made(index, plan), key=lambda each: (each[0], each[1].top))
    times = [time for time, _ in made]
    for place, (before, time) in enumerate(pairwise(times), 1):
        times[place] = max(time, before + 1)
    end = max(_PARTS * (index.pts[-1] + index.durations[-1]), times[-1] + 1)
    common = math.gcd(_PARTS, *times, end)
    pts = [time // common for time in [*times, end]]
    info = replace(
        info,
        time_base=info.time_base * common / _PARTS,
        header_frames=round(info.header_frames * len(made) / index.frames),
    )
    info = counted_by(info, _rate(info, pts))
    return info, MadeIndex(
        pts=tuple(pts[:-1]),
        durations=tuple(b - a for a, b in pairwise(pts)),
        keyframe_pts=(),
        cuts=_cuts(index.cuts, made),
        lost_frames=index.lost_frames,
        damaged_frames=index.damaged_frames,
        changing=index.changing,
        messages=tuple((_place(made, at), text) for at, text in index.messages),
        shifts=tuple(
            (stream, _place(made, at) if stream == info.stream_index else at, seconds)
            for stream, at, seconds in index.shifts
        ),
        whole=index.whole,
        repeats=_repeats(index, made),
        decoded=index,
        parts=-(-_PARTS // common),
        sources=tuple(source for _, source in made),
    )


def _made(index: VideoIndex, plan: FieldPlan) -> Iterator[Made]:
    """Every frame, by runs."""
    taken: set[int] = set()
    for film in plan.film:
        yield from _film_frames(index, film)
        taken.update(range(film.first - film.lead, film.last + film.rest))
    times = [_PARTS * pts for pts in index.pts]
    for first, last in plan.soft:
        start, length = times[first], times[last] - times[first]
        for number in range(first, last):
            times[number] = start + round(Fraction(length * (number - first), last - first))
    for number, time in enumerate(times):
        if number in taken:
            continue
        if number not in plan.interpolated:
            yield time, Source(number, number)
            continue
        yield time, Source(number, number, 0)
        if plan.both:
            yield time + _PARTS * index.durations[number] // 2, Source(number, number, 1)


def _film_frames(index: VideoIndex, film: Film) -> Iterator[Made]:
    """The film frames of a run. Of one that a cut has left a single field of, that field is interpolated."""
    fields = film_fields(film.top_repeat, film.bottom_repeat)
    begin, end = film.first - film.lead, film.last + film.rest
    steps = [b - a for a, b in pairwise(index.pts[begin:end])]
    usual = median_low(steps)
    for start in range(film.first - CYCLE, film.last + 1, CYCLE):
        at, length = _PARTS * usual, _PARTS * usual * CYCLE
        if start < film.first:
            at = _PARTS * index.pts[film.first] - length
        elif start + CYCLE < len(index.pts) and start < film.last:
            at = _PARTS * index.pts[start]
            length = _PARTS * index.pts[start + CYCLE] - at
        elif start < len(index.pts):
            at = _PARTS * index.pts[start]
            if start - CYCLE >= film.first:
                # The usual step is rounded, as the whole cycle before is not.
                length = at - _PARTS * index.pts[start - CYCLE]
        for number, (top, bottom) in enumerate(fields):
            there = [place for place in (start + top, start + bottom) if begin <= place < end]
            if not there:
                continue
            time = max(at + round(Fraction(length * number, CYCLE - 1)), _PARTS * index.pts[begin])
            whole = len(there) == 2
            yield time, Source(*there) if whole else Source(there[0], there[0], 0)


def _cuts(cuts: Sequence[int], made: Sequence[Made]) -> tuple[int, ...]:
    tops = [source.top for _, source in made]
    places = dict.fromkeys(bisect_left(tops, cut) for cut in cuts)
    return tuple(place for place in places if 0 < place < len(made))


def _repeats(index: VideoIndex, made: Sequence[Made]) -> tuple[int, ...]:
    """Frames that are made of the same pictures as the one before them; none that is interpolated, which depends on
    its neighbours."""
    repeats, cuts = index.repeats, set(_cuts(index.cuts, made))
    fields = [
        None if field is not None else tuple(n - bisect_right(repeats, n) for n in (top, bottom))
        for _, (top, bottom, field) in made
    ]
    return tuple(
        number
        for number, (before, here) in enumerate(pairwise(fields), 1)
        if here is not None and here == before and number not in cuts
    )


def _place(made: Sequence[Made], decoded: int) -> int:
    """The first frame that is made of a decoded one, or of a later one."""
    return min(bisect_left(made, decoded, key=lambda each: each[1].top), len(made) - 1)


def _rate(info: VideoInfo, pts: Sequence[int]) -> Fraction | None:
    """The rate that frames are usually shown at: the header's, or what becomes of it."""
    if info.frame_rate is None:
        return None
    usual = 1 / (median_low([b - a for a, b in pairwise(pts)]) * info.time_base)
    made = [info.frame_rate * factor for factor in (1, Fraction(4, 5), 2)]
    # Rounded times do not tell 60000/1001 from 60.
    near = [rate for rate in made if abs(rate - usual) <= usual * _ROUNDING]
    return min(near or [*made, *_RATES], key=lambda rate: abs(rate - usual))
