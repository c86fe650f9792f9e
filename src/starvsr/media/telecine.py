"""Finding film in video: runs of frames whose fields repeat as in a pull-down, or whose times do.

Hard pull-down writes four film frames as ten fields, five frames of video: in every five frames one top field and one
bottom field are seen twice. So the difference of a field from the previous one of its parity has a minimum at every
fifth frame, and the frames between the two repeats are made of two film frames, which combs. Where all of this holds
without an exception it is film; a camera's fields never repeat. The numbers are measured on a few columns, in the pass
that makes the index, and do not depend on flags or on where a segment begins. Those of libavfilter's `fieldmatch` and
`decimate` do, and the latter drops one of five frames of whatever it is given.

Soft pull-down only shows the film frames for three and for two fields in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from starvsr.media.graph import bytes_of
from starvsr.media.pixfmt import layout_of

CYCLE = 5
"""Frames of video to four of film."""
# Columns that are measured, at least.
_COLUMNS = 128
# Frames of video per second, between which a pull-down of film can be.
_RATES = (25.5, 31)
# Frames on each side among which a field's difference is high or low, and the place of the high one among all in order.
_AROUND, _HIGH = 4, 6
# A field repeats up to this share of the way from low to high, if high is so many times low and so many levels more.
_REPEAT_SHARE, _MOVING_RATIO, _STILL = 0.4, 1.5, 0.05
# A frame that is repeated whole differs by this share of the high difference at most.
_SAME_SHARE = 0.15
# What is neither may be a repeat up to so many times the usual repeat.
_QUIET_RATIO = 2.0
# How much less a frame may comb with another bottom field if it is of one film frame, and must if it is of two; and in
# which share of the cycles.
_CLEAN_SHARE, _MIXED_SHARE, _MOST = 0.015, 0.002, 0.75
# How much more than the frames of a whole cycle one beside it may comb that belongs to it.
_COMBING_RATIO = 1.25
# Cycles that show the pull-down, where the frames between two repeats comb and where they do not.
_LEAST_CYCLES = {"auto": (4, np.inf), "on": (2, 5)}
# Frames shown for three and two fields in turn, at least; how far a step may be from that, and a tick at most, seconds.
_LEAST_SOFT, _NEAR_S, _COARSE_S = 12, 0.0015, 0.0011
_FIELDS_S = (Fraction(1001, 60000), Fraction(1, 60))

Plane = npt.NDArray[np.int16]
Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Film(NamedTuple):
    """A run of frames that four film frames in five were spread over by pull-down."""

    first: int
    last: int
    """The first frame of the first whole cycle, and the exclusive end of the last one."""
    top_repeat: int
    bottom_repeat: int
    """Frames of these numbers modulo 5 repeat the top, or the bottom, field of the frame before them."""
    lead: int = 0
    rest: int = 0
    """Frames before `first` that are the end of a cycle, and from `last` on that are the beginning of one."""


def may_have_film(asked: str, frame_rate: Fraction | None) -> bool:
    """Whether fields are worth measuring. asked: `auto`, `on` or `off`."""
    if asked == "auto":
        return frame_rate is None or _RATES[0] < frame_rate < _RATES[1]
    return asked == "on"


class FieldMeter:
    """Takes the frames of a video in order; keeps the fields of one and five numbers per frame."""

    def __init__(self) -> None:
        self._last: tuple[Plane, Plane] | None = None
        self._repeats: list[tuple[float, float]] = []
        """Difference of the top and the bottom field from the previous frame's, in 8-bit levels."""
        self._combing: list[list[float]] = []
        """Of the top field with the bottom field of the same, the previous and the next frame."""

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        self.add_luma(_luma(frame))

    def add_luma(self, rows: npt.NDArray[np.uint8]) -> None:
        """Take the next frame as its luma (rows, columns), 0..255."""
        some = rows[: len(rows) // 2 * 2, :: max(1, rows.shape[1] // _COLUMNS)].astype(np.int16)
        tops, bottoms = np.ascontiguousarray(some[0::2]), np.ascontiguousarray(some[1::2])
        last, self._last = self._last, (tops, bottoms)
        self._combing.append([_combing(tops, bottoms), np.inf, np.inf])
        if last is None or last[0].shape != tops.shape:
            self._repeats.append((np.nan, np.nan))
            return
        self._repeats.append((_mean(tops - last[0]), _mean(bottoms - last[1])))
        self._combing[-1][1] = _combing(tops, last[1])
        self._combing[-2][2] = _combing(last[0], bottoms)

    def film(self, pts: Sequence[int], base: Fraction, asked: str) -> tuple[Film, ...]:
        """The runs of telecined frames, in order, which do not overlap.

        pts: times of all frames that were taken, in ticks of `base`; where frames usually follow each other at another
        rate than 30 a second, none is film. asked: `auto` wants more proof than `on`, which also takes repeats of whole
        frames.
        """
        if len(pts) < 2 * CYCLE:
            return ()
        steps = np.diff(np.asarray(pts, np.float64), prepend=pts[0])
        usual = float(np.median(steps[1:]))
        if not _RATES[0] < 1 / (usual * base) < _RATES[1]:
            return ()
        repeats = np.array(self._repeats)
        gaps = (np.abs(steps - usual) > usual / 2) | np.isnan(repeats[:, 0])
        gaps[0] = False
        tops, bottoms = np.nan_to_num(repeats).T
        evidence = _Evidence(_Marks(tops), _Marks(bottoms), np.array(self._combing), gaps)
        found: list[_Run] = []
        for top, offset in product(range(CYCLE), range(1 if asked == "auto" else 0, CYCLE)):
            found += evidence.runs(top, (top + offset) % CYCLE, *_LEAST_CYCLES[asked])
        return tuple(_apart(found, len(pts)))

    def settled(self, cuts: Sequence[int], film: Sequence[Film]) -> tuple[int, ...]:
        """The cuts, those in film before the frame whose top field is the first of a shot; in frames of two shots, the
        difference from the frame before alone does not tell."""
        inside = {n for each in film for n in range(each.first - each.lead, each.last + each.rest)}

        def change(number: int) -> float:
            return self._repeats[number][0] if number < len(self._repeats) else 0.0

        moved = (
            max(range(cut - 1, cut + 2), key=change) if cut > 1 and cut in inside else cut
            for cut in cuts
        )
        return tuple(dict.fromkeys(moved))


@dataclass(frozen=True)
class _Run:
    """Film that was found, and what speaks for it."""

    film: Film
    cycles: int
    """That show the pull-down."""
    gain: float
    """How much less the frames between two repeats comb with the fields that belong together."""


def _apart(found: list[_Run], frames: int) -> Iterator[Film]:
    """Of runs that overlap the one with the most proof, with the rest of a cycle at both ends where it is free."""
    kept: list[Film] = []

    def rank(run: _Run) -> tuple[float, ...]:
        # Of the same frames, fields that repeat apart say more than whole frames.
        film = run.film
        return -run.cycles, film.top_repeat == film.bottom_repeat, -run.gain, film.first

    for run in sorted(found, key=rank):
        film = run.film
        if all(film.last <= other.first or other.last <= film.first for other in kept):
            kept.append(film)
    kept.sort(key=lambda film: film.first)
    taken = 0
    for film, following in zip(kept, [*(film.first for film in kept), frames][1:], strict=False):
        lead, rest = min(film.lead, film.first - taken), min(film.rest, following - film.last)
        yield film._replace(lead=lead, rest=rest)
        taken = film.last + rest


def _luma(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    layout = layout_of(frame.format.name)
    if layout.depth != 8 or layout.rgb or not (layout.gray or layout.planes > 1):
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    return bytes_of(plane)[:, : plane.width]


def _mean(difference: Plane) -> float:
    return float(np.abs(difference).sum(dtype=np.int64)) / difference.size


def _combing(tops: Plane, bottoms: Plane) -> float:
    """How far a row is from the two beside it, which are of the other field."""
    return _mean(2 * bottoms[:-1] - tops[:-1] - tops[1:]) / 2 if len(tops) > 1 else 0.0


class _Marks:
    """Which fields of one parity repeat the one before, and which move."""

    def __init__(self, values: Numbers) -> None:
        padded = np.pad(values, _AROUND, mode="reflect")
        near = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1), axis=1)
        low, high = near[:, 0], near[:, _HIGH]
        seen = high > _MOVING_RATIO * low + _STILL
        with np.errstate(invalid="ignore"):
            small = values <= low + _REPEAT_SHARE * (high - low)
        self.values = values
        self.repeats: Flags = seen & small
        self.moves: Flags = seen & ~small
        self.same: Flags = self.repeats & (values <= _SAME_SHARE * high)
        """Which differ so little from the one before that they are nothing but a repeat."""

    def contradicts(self, phase: int) -> Flags:
        """The frames at which a repeat is due and is not there."""
        due = np.arange(len(self.values)) % CYCLE == phase
        usual = self.values[due & self.repeats]
        most = _QUIET_RATIO * float(np.median(usual)) + _STILL if len(usual) else 0.0
        quiet: Flags = ~self.repeats & ~self.moves & (self.values > most)
        contrary: Flags = due & (self.moves | quiet)
        return contrary


@dataclass(frozen=True)
class _Evidence:
    """What was measured of all frames."""

    tops: _Marks
    bottoms: _Marks
    combing: Numbers
    gaps: Flags
    """Frames before which time does not go on as usual."""

    def runs(self, top: int, bottom: int, least: int, alone: float) -> Iterator[_Run]:
        """Runs of whole cycles whose fields repeat at these frames modulo `CYCLE`.

        least: cycles that show it, if the frames between two repeats comb. alone: if they do not.
        """
        start, places = cycle_of(top, bottom)
        count = (len(self.gaps) - start) // CYCLE
        bad: Flags = self.tops.contradicts(top) | self.bottoms.contradicts(bottom) | self.gaps

        def by_cycle(flags: Flags) -> Flags:
            return flags[start : start + count * CYCLE].reshape(count, CYCLE)

        shown: Flags = np.logical_not(by_cycle(bad).any(axis=1))
        for marks, place in zip((self.tops, self.bottoms), places, strict=True):
            repeats = marks.same if top == bottom else marks.repeats
            shown = shown & by_cycle(repeats)[:, place] & by_cycle(marks.moves).any(axis=1)
        for first, last in _spans([not any(cycle) for cycle in by_cycle(bad).tolist()]):
            inside = first + np.flatnonzero(shown[first:last])
            if len(inside) < least:
                continue
            began, ended = (start + int(cycle) * CYCLE for cycle in (inside[0], inside[-1] + 1))
            film = Film(began, ended, top, bottom)
            gain, is_usual = self._gain(places, (start + inside * CYCLE).tolist())
            if (gain > _MIXED_SHARE and is_usual) or (len(inside) >= alone and gain > -np.inf):
                yield _Run(self._extended(film, bad), len(inside), gain)

    def _gain(self, repeats: tuple[int, int], cycles: list[int]) -> tuple[float, bool]:
        """How much less the frames between two repeats comb with another bottom field, as a share, and whether that is
        so in most cycles; minus infinity if other frames do. cycles: where they begin."""
        saved, combing = np.zeros(len(cycles)), 0.0
        for place, (top, bottom) in enumerate(zip(*_numbers(repeats), strict=True)):
            own, *others = self.combing[[cycle + place for cycle in cycles]].T
            less = max((own - other for other in others), key=lambda each: float(each.sum()))
            if top != bottom:
                saved, combing = saved + less, combing + float(own.sum())
            elif _is_usual(less) and less.sum() > _CLEAN_SHARE * own.sum():
                return -np.inf, False
        return float(saved.sum()) / combing if combing else 0.0, _is_usual(saved)

    def _extended(self, film: Film, bad: Flags) -> Film:
        """With the parts of a cycle before and behind it that go with it."""
        clean = [top == bottom for top, bottom in film_places(film)]
        own = self.combing[:, 0]

        def fits(number: int, cycle: int) -> bool:
            near = own[cycle : cycle + CYCLE][clean]
            usual = _COMBING_RATIO * float(np.median(near))
            place = (number - film.first) % CYCLE
            return not bad[number] and (not clean[place] or float(own[number]) <= usual)

        lead, rest = 0, 0
        while lead < min(CYCLE - 1, film.first) and not self.gaps[film.first - lead]:
            if not fits(film.first - lead - 1, film.first):
                break
            lead += 1
        while rest < min(CYCLE - 1, len(bad) - film.last):
            if not fits(film.last + rest, film.last - CYCLE):
                break
            rest += 1
        return film._replace(lead=lead, rest=rest)


def _is_usual(numbers: Numbers) -> bool:
    """Whether most of them are above 0."""
    return int(np.count_nonzero(numbers > 0)) >= _MOST * len(numbers)


def _spans(good: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Where it is true without a break: first, exclusive end."""
    first = 0
    for value, group in groupby(good):
        last = first + sum(1 for _ in group)
        if value:
            yield first, last
        first = last


def cycle_of(top_repeat: int, bottom_repeat: int) -> tuple[int, tuple[int, int]]:
    """Where cycles begin, modulo `CYCLE`, so that no film frame is in two; and the places of the repeats in them."""
    offset = (bottom_repeat - top_repeat) % CYCLE
    later = bottom_repeat if offset <= 2 else top_repeat
    start = (later + 1) % CYCLE
    return start, ((top_repeat - start) % CYCLE, (bottom_repeat - start) % CYCLE)


def _numbers(repeats: tuple[int, int]) -> tuple[list[int], list[int]]:
    """The film frame, 0 to 3, of the top and of the bottom field at every place of a cycle."""
    top, bottom = repeats
    return (
        [place - (place >= top) for place in range(CYCLE)],
        [place - (place >= bottom) for place in range(CYCLE)],
    )


def film_places(film: Film) -> list[tuple[int, int]]:
    """The film frame, 0 to 3, of the top and of the bottom field at every place of a cycle."""
    return list(zip(*_numbers(cycle_of(film.top_repeat, film.bottom_repeat)[1]), strict=True))


def film_fields(top_repeat: int, bottom_repeat: int) -> tuple[tuple[int, int], ...]:
    """For each film frame of a cycle, the places in it of a top and a bottom field: of one frame if there is one."""
    tops, bottoms = _numbers(cycle_of(top_repeat, bottom_repeat)[1])
    found = []
    for number in range(CYCLE - 1):
        both = [p for p in range(CYCLE) if tops[p] == bottoms[p] == number]
        found.append((both[0], both[0]) if both else (tops.index(number), bottoms.index(number)))
    return tuple(found)


def soft_film(pts: Sequence[int], time_base: Fraction) -> tuple[tuple[int, int], ...]:
    """Runs of frames (first, exclusive end) that are shown for three and two fields in turn, with an even number of
    them, so that they can be shown evenly."""
    steps = np.diff(np.asarray(pts, np.float64)) * float(time_base)
    found: list[tuple[int, int]] = []
    if time_base > _COARSE_S:
        return ()
    for field_s, longer in product(map(float, _FIELDS_S), (0, 1)):
        fields = np.where(np.arange(len(steps)) % 2 == longer, 3, 2)
        near = np.abs(steps - fields * field_s) < _NEAR_S
        for first, last in _spans(near.tolist()):
            last -= (last - first) % 2
            free = all(last <= other[0] or other[1] <= first for other in found)
            if last - first >= _LEAST_SOFT and free:
                found.append((first, last))
    return tuple(sorted(found))
