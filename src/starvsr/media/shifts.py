"""Which steps of a source's streams are its clock's, and how much later that makes what follows."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from starvsr.media.steps import Break, Track, Watch

# A step back of the pictures by more frames than this is the clock's; a smaller one is a wrong time.
_BACK_FRAMES = 8
# Sound that steps back without the pictures does so by more.
_BACK_ALONE_S = 1
# What ffmpeg takes for a discontinuity too; transport streams may not pause for a second.
_AHEAD_S = 10
# Streams that step together begin anew within this time of each other, and this far from each other in the file.
_TOGETHER_S, _INTERLEAVING_S = 3, 10
# A step may have others between the first and the last stream that makes it.
_RECENT_GROUPS = 3
# Less sound than this beyond the last picture does not delay the pictures that follow.
_OVERLAP_S = Fraction(1, 10)

Shift = tuple[int, int, Fraction | None]
"""As in `VideoIndex.shifts`."""


@dataclass(frozen=True)
class Steps:
    """What `Watch` found."""

    frames: tuple[tuple[int, Fraction], ...]
    """From a frame on, how much later its source's time is shown, seconds."""
    wild: frozenset[int]
    """Frames with a wrong time."""
    shifts: tuple[Shift, ...]
    """The same for the packets of other streams."""
    lengths: tuple[Fraction, ...]
    """How far the clock stepped each time, seconds."""
    kept: tuple[Fraction, ...] = ()
    """Gaps in which no stream plays, and which stay, seconds."""


def decided(watch: Watch, nominal: int) -> Steps:
    """What a whole source's steps mean.

    A step back is the clock's. A jump ahead by more than 10 s is the clock's too unless another stream plays through
    it, which would make it a held picture, or a pause of the sound; where there is no other stream, only in
    containers that record a running clock; never in containers whose times are sums of durations. A step that a stream
    alone takes back at once is a wrong time. nominal: usual ticks of a frame.
    """
    return _Decision(watch, nominal).steps()


class _Decision:
    """One source's."""

    def __init__(self, watch: Watch, nominal: int) -> None:
        self._watch = watch
        self._usual = nominal * watch.video.base

    def _set_right(self) -> list[tuple[Break, Break]]:
        """The steps taken back at once that no other stream makes, which are wrong times; others become steps."""
        wild = []
        for first, back in self._watch.wild:
            if any(self._belongs(each, [first]) for each in self._watch.breaks):
                self._watch.breaks += [first, back]
            else:
                wild.append((first, back))
        return wild

    def steps(self) -> Steps:
        """What was decided."""
        wrong = self._set_right()
        groups, kept = self._of_clock()
        video = self._watch.video.stream
        frames: list[tuple[int, Fraction]] = []
        shifts: list[Shift] = []
        moved: dict[int, Fraction] = {}
        lengths: list[Fraction] = []
        with_pictures: list[tuple[Break, Fraction]] = []
        for group in groups:
            total = self._total(group, moved)
            lengths.append(moved.get(group[0].stream, Fraction(0)) - total)
            for each in group:
                moved[each.stream] = total
                if each.stream == video:
                    frames.append((each.at, total))
                    with_pictures.append((group[0], total))
                else:
                    shifts.append((each.stream, each.at, total))
            if any(each.stream == video for each in group):
                shifts += self._begun_after(group, moved)
        for index in self._watch.sparse:
            shifts += self._sparse_shifts(index, with_pictures)
        shifts.sort(key=_place)
        wild: set[int] = set()
        for first, back in wrong:
            if first.stream == video:
                wild |= set(range(first.at, back.at))
            else:
                past = [
                    each[2] for each in shifts if each[0] == first.stream and each[1] <= first.at
                ]
                shifts += [
                    (first.stream, first.at, None),
                    (first.stream, back.at, past[-1] if past else Fraction(0)),
                ]
        shifts.sort(key=_place)
        return Steps(tuple(frames), frozenset(wild), tuple(shifts), tuple(lengths), kept)

    def _groups(self) -> list[list[Break]]:
        """Steps of different streams that are one of the file's clock, in the file's order."""
        groups: list[list[Break]] = []
        for each in sorted(self._watch.breaks, key=lambda found: found.position):
            for group in reversed(groups[-_RECENT_GROUPS:]):
                if self._belongs(each, group):
                    group.append(each)
                    break
            else:
                groups.append([each])
        return groups

    @staticmethod
    def _belongs(each: Break, group: list[Break]) -> bool:
        first = group[0]
        progress = each.ends.get(first.stream, first.after) - first.after
        return (
            all(each.stream != other.stream for other in group)
            and (each.after < each.before) == (first.after < first.before)
            and abs(each.after - first.after) <= _TOGETHER_S
            and progress <= _INTERLEAVING_S
        )

    def _of_clock(self) -> tuple[list[list[Break]], tuple[Fraction, ...]]:
        """Steps of the clock, and the gaps of the pictures that are none although no other stream plays through."""
        clock: list[list[Break]] = []
        kept: list[Fraction] = []
        for group in self._groups():
            first = group[0]
            has_video = any(each.stream == self._watch.video.stream for each in group)
            if first.after < first.before:
                most = max(each.before - each.after for each in group)
                if most > (_BACK_FRAMES * self._usual if has_video else _BACK_ALONE_S):
                    clock.append(group)
            elif first.after - first.before > _AHEAD_S and not self._is_played(group):
                if self._watch.closes_gaps and (
                    self._watch.is_running or not self._is_alone(group)
                ):
                    clock.append(group)
                elif has_video:
                    kept.append(first.after - first.before)
        return clock, tuple(kept)

    def _others_than(self, group: list[Break]) -> list[Track]:
        stepped = {each.stream for each in group}
        return [track for track in self._watch.tracks.values() if track.stream not in stepped]

    def _is_alone(self, group: list[Break]) -> bool:
        behind = (track.ends > group[0].position for track in self._others_than(group))
        return len(group) == 1 and not any(behind)

    def _is_played(self, group: list[Break]) -> bool:
        return any(self._plays_through(track, group[0]) for track in self._others_than(group))

    @staticmethod
    def _plays_through(track: Track, step: Break) -> bool:
        seconds = track.bucket * track.base
        begins, ends = ceil(step.before / seconds), int(step.after // seconds)
        return any(bucket in track.buckets for bucket in range(begins + 1, ends))

    def _total(self, group: list[Break], moved: dict[int, Fraction]) -> Fraction:
        """How much later the source's times are shown after a step: the streams go on where the last one ended."""
        needed = {
            each.stream: each.before + moved.get(each.stream, Fraction(0)) - each.after
            for each in group
        }
        if self._watch.video.stream in needed:
            last = next(each for each in group if each.stream == self._watch.video.stream)
            needed[self._watch.video.stream] += last.count * self._usual
        most = max(needed.values())
        pictures = needed.get(self._watch.video.stream, most)
        total = pictures if most - pictures <= _OVERLAP_S else most
        base = self._watch.video.base
        return ceil(total / base) * base

    def _begun_after(self, group: list[Break], moved: dict[int, Fraction]) -> list[Shift]:
        """Shifts of streams that begin only after the step."""
        total = moved[self._watch.video.stream]
        begun = [
            track.stream
            for track in self._watch.tracks.values()
            if track.begins > group[0].position
            and track.stream not in {each.stream for each in group}
        ]
        moved.update(dict.fromkeys(begun, total))
        return [(stream, 0, total) for stream in begun]

    def _sparse_shifts(self, index: int, clock_steps: list[tuple[Break, Fraction]]) -> list[Shift]:
        """A subtitle belongs to the pictures that it is nearer to in time, before the step or after it."""
        shifts: list[Shift] = []
        last = Fraction(0)
        for packet in self._watch.sparse[index]:
            passed = sum(step.position < packet.position for step, _ in clock_steps)
            if passed and packet.now is not None:
                before = clock_steps[passed - 1][0].before
                passed -= abs(packet.time - before) < abs(packet.time - packet.now)
            total = clock_steps[passed - 1][1] if passed else Fraction(0)
            if total != last:
                shifts.append((index, packet.number, total))
                last = total
        return shifts


def _place(shift: Shift) -> tuple[int, int]:
    return shift[:2]
