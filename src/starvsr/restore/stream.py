"""Frames one by one, restored frames as soon as they are final: the segments of a job without its files.

What is kept are the frames of one run or, where runs are whole segments, of one segment, and the frames that two
segments share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from operator import index
from typing import Any

from torch import Tensor

from starvsr.plan.segments import shot_spans
from starvsr.plan.windows import Span
from starvsr.restore.levels import (
    Frame,
    Kind,
    Levels,
    copied,
    crossfade,
    frames_to_tensor,
    tensor_to_frames,
)
from starvsr.restore.velocity import Carried

_FLUSHED = "the stream was flushed"
_FAILED = "the stream was left in the middle of its work, or by an error"


@dataclass(frozen=True)
class Course:
    """How frames of one size are restored."""

    longest: int
    """Frames of the longest segment."""
    context: int
    """Frames that neighbouring segments share."""
    is_causal: bool
    """Whether a run is the same whatever comes after it, and however its segment is divided."""
    runs: Callable[[int, int], tuple[Span, ...]]
    """The runs of a segment of these frames (first, exclusive end)."""
    restore: Callable[[Tensor, int, Carried], Iterator[Tensor]]
    """Restores a run (`t c h w` float32 in [-1, 1], the number of its first frame, and what its segment carries) and
    yields its pictures (`c H W` in [-1, 1])."""


@dataclass
class _Segment:
    """The segment whose frames are coming."""

    first: int
    last: int
    """Exclusive end; in a shot of unknown length the latest possible."""
    head: int
    """First frames, which the segment before has restored too."""
    tail: int
    """Last frames, which the next segment restores too, if there is one."""
    runs: deque[Span] | None
    """Those that are not restored yet; None while it is unknown how the segment is divided."""
    carried: Carried = field(default_factory=Carried)


@dataclass
class _Shot:
    """The shot whose frames are coming."""

    spans: Iterator[Span]
    """Its next segments."""
    end: int | None
    """Exclusive; None if unknown."""


class FrameStream:
    """Restores frames that are handed over one by one; `Restorer.open_stream` makes one, for one video.

        stream = restorer.open_stream(scale=2)
        for frame in camera:
            for picture in stream.push(frame):
                show(picture)
        for picture in stream.flush():
            show(picture)

    A frame is held until its window is complete: of `nano` some frames, of STAR's networks a segment (`starvsr plan`
    says how long). The last frames of a segment wait for the first ones of the next, which restore them again.

    Segments have even lengths where the length of the shot is known, from `cuts` and `length`, as `upscale_video` makes
    them with repeats `off`, and the frames are the same to the last bit. In a shot of unknown length they are as long
    as they may be, and the frames are those of a job with such segments.
    """

    def __init__(
        self,
        begin: Callable[[int, int], Course],
        *,
        cuts: Iterable[int] = (),
        length: int | None = None,
    ) -> None:
        """begin: tells the course for frames of so many rows and columns. Raises ValueError for cuts or a length that
        cannot be, TypeError where they are no integers."""
        self._begin = begin
        self._length = None if length is None else index(length)
        self._cuts = deque(map(index, cuts))
        """Those that are to come."""
        if any(a >= b for a, b in zip((0, *self._cuts), self._cuts, strict=False)):
            raise ValueError("cuts must be increasing numbers of frames above 0")
        if length is not None and length < 0:
            raise ValueError(f"length must be 0 or more, got {length}")
        self._course: Course | None = None
        self._form: tuple[tuple[int, ...], Kind] | None = None
        self._shot = _Shot(iter(()), None)
        self._segment = _Segment(0, 0, 0, 0, deque())
        self._taken = 0
        self._held: deque[Levels] = deque()
        """Frames that are still needed; the last one is that before `_taken`."""
        self._shared: deque[Frame] = deque()
        """What the segment before made of the frames that it shares with this one."""
        self._tail: deque[Frame] = deque()
        """Restored frames that may yet be crossfaded with the next segment's."""
        self._closed = ""
        """Why no frame can come."""

    def push(self, frames: Any, *, cut: bool = False) -> list[Any]:
        """Take a frame, or several (a list, `t h w 3`, `t 3 h w`), and return those that are final now, in order.

        frames: as for `Restorer.stream`. cut: whether the first of them begins a new shot. Raises TypeError or
        ValueError for other frames, for frames of another size or type than the ones before, and for more than
        `length`; then none was taken. After any other error, such as MemoryLimitError, the stream is at its end.
        """
        several = isinstance(frames, list | tuple) or getattr(frames, "ndim", 0) == 4
        checked = self._checked(frames if several else [frames])
        given: list[Any] = []
        while checked:
            given += self._open(self._take(checked.popleft(), cut=cut))
            cut = False
        return given

    def flush(self) -> list[Any]:
        """Return the frames that are left; the stream is at its end. Raises ValueError if `length` is not reached."""
        return list(self._open(self._end(), then=_FLUSHED))

    def over(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Restore all frames of an iterator; raises as `push` and `flush`."""
        for frame in frames:
            checked = self._checked([frame])
            # Nothing of it is needed while others are restored.
            del frame
            yield from self._open(self._take(checked.popleft(), cut=False))
        yield from self._open(self._end(), then=_FLUSHED)

    def _checked(self, frames: Iterable[object]) -> deque[Levels]:
        """Copies of frames that fit what came before. Raises TypeError, ValueError."""
        if self._closed:
            raise ValueError(f"{self._closed}: open another one")
        checked: deque[Levels] = deque()
        form = self._form
        for number, frame in enumerate(frames, self._taken):
            if number == self._length:
                raise ValueError(f"frame {number} is one more than the length of {self._length}")
            levels, kind = copied(frame)
            if form is None:
                self._course = self._begin(*levels.shape[:2])
            form = form or (levels.shape, kind)
            if levels.shape != form[0]:
                sizes = (f"{shape[1]}x{shape[0]}" for shape in (levels.shape, form[0]))
                raise ValueError(
                    f"frame {number} is {' and the ones before are '.join(sizes)}: resize it, or open another stream"
                )
            if kind != form[1]:
                raise TypeError(f"frame {number} is of {kind}, and the ones before of {form[1]}")
            checked.append(levels)
        self._form = form
        return checked

    def _open(self, work: Iterator[Frame], *, then: str = "") -> Iterator[Any]:
        """The frames of a step of the work, in the caller's form. then: why the stream is closed behind it; an error
        closes it too."""
        if self._closed:
            raise ValueError(f"{self._closed}: open another one")
        self._closed = _FAILED
        for frame in work:
            assert self._form is not None
            yield self._form[1].of(frame)
        self._closed = then

    def _take(self, frame: Levels, *, cut: bool) -> Iterator[Frame]:
        """Take the next frame; yields what is final."""
        number = self._taken
        if self._cuts and self._cuts[0] == number:
            self._cuts.popleft()
            cut = True
        if number == 0 or cut:
            yield from self._end_shot()
            self._begin_shot(number)
        elif number == self._segment.last:
            self._begin_segment()
        self._held.append(frame)
        self._taken += 1
        yield from self._restore_complete()

    def _end(self) -> Iterator[Frame]:
        """Yield what is left."""
        yield from self._end_shot()
        if self._length is not None and self._taken < self._length:
            raise ValueError(
                f"the frames end after {self._taken}, and the length was said to be {self._length}"
            )

    def _begin_shot(self, first: int) -> None:
        course = self._known_course()
        ends = [end for end in (*islice(self._cuts, 1), self._length) if end is not None]
        end = min(ends, default=None)
        if end is None:
            stride = course.longest - course.context
            spans: Iterable[Span] = ((start, start + course.longest) for start in count(0, stride))
        else:
            spans = shot_spans(end - first, course.longest, course.context)
        self._shot = _Shot(((first + a, first + b) for a, b in spans), end)
        self._held.clear()
        self._begin_segment()

    def _begin_segment(self) -> None:
        """Begin the next segment of the shot."""
        course, shot = self._known_course(), self._shot
        first, last = next(shot.spans)
        runs: deque[Span] | None = None
        if shot.end is not None or course.is_causal:
            runs = deque(course.runs(first, last))
        tail = 0 if last == shot.end else course.context
        self._shared, self._tail = self._tail, deque()
        self._segment = _Segment(first, last, len(self._shared), tail, runs)

    def _end_shot(self) -> Iterator[Frame]:
        """Restore the rest of a shot, whose last segment may be shorter than it was thought to be."""
        segment, taken = self._segment, self._taken
        segment.tail = 0
        yield from self._tail
        self._tail.clear()
        segment.last = taken
        if segment.runs is not None:
            segment.runs = deque((a, min(b, taken)) for a, b in segment.runs if a < taken)
        yield from self._restore_complete()

    def _restore_complete(self) -> Iterator[Frame]:
        """Restore the runs all of whose frames are there."""
        segment = self._segment
        if segment.runs is None and segment.last == self._taken:
            segment.runs = deque(self._known_course().runs(segment.first, segment.last))
        while segment.runs and segment.runs[0][1] <= self._taken:
            yield from self._restore(segment, *segment.runs.popleft())

    def _restore(self, segment: _Segment, first: int, last: int) -> Iterator[Frame]:
        """Restore a run; yields its frames but for those that the next segment restores too."""
        begin = self._taken - len(self._held)
        frames = frames_to_tensor(list(islice(self._held, first - begin, last - begin)))
        for _ in range(begin, min(last, segment.last - segment.tail)):
            self._held.popleft()
        pictures = self._known_course().restore(frames, first, segment.carried)
        for number, picture in enumerate(pictures, first):
            (frame,) = tensor_to_frames(picture[None])
            if number < segment.first + segment.head:
                old = self._shared.popleft()
                frame = crossfade(old, frame, number - segment.first, segment.head)
            if number < segment.last - segment.tail:
                yield frame
            else:
                self._tail.append(frame)

    def _known_course(self) -> Course:
        assert self._course is not None
        return self._course
