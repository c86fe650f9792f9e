"""Frames made of the fields of decoded frames: two fields woven, or one interpolated by libavfilter's bwdif."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import numpy as np
from av.error import BlockingIOError, EOFError
from av.filter import Graph
from av.video.frame import VideoFrame

from starvsr.media.fields import Source
from starvsr.media.graph import VideoGraph, bytes_of, linked

# An interpolated frame depends on so many frames on either side: one, and one more since the filter treats its first
# and last frames differently.
_CONTEXT_FRAMES = 2


def decoded_span(sources: Sequence[Source], frames: int) -> tuple[int, int]:
    """The decoded frames, of so many, that frames depend on: first, exclusive end."""
    spans = [
        (min(each.top, each.bottom) - beside, max(each.top, each.bottom) + beside + 1)
        for each in sources
        for beside in (0 if each.field is None else _CONTEXT_FRAMES,)
    ]
    return max(0, min(first for first, _ in spans)), min(frames, max(last for _, last in spans))


def made_frames(
    decoded: Iterable[VideoFrame], number: int, sources: Sequence[Source]
) -> Iterator[VideoFrame]:
    """One frame for every source, in the format of the decoded ones; times are not preserved.

    decoded: the frames of `decoded_span`, the first of which has this number.
    """
    wanted = deque(sources)
    fields = _Fields(number, sources)
    kept: dict[int, VideoFrame] = {}

    def ready() -> Iterator[VideoFrame]:
        while wanted and (made := _made(wanted[0], kept, fields)) is not None:
            yield made
            wanted.popleft()
        least = min((min(each.top, each.bottom) for each in wanted), default=0)
        for passed in [each for each in kept if each < least]:
            del kept[passed]
        fields.forget(least)

    for place, frame in enumerate(decoded, number):
        kept[place] = frame
        fields.add(frame)
        yield from ready()
    fields.end()
    yield from ready()


def _made(source: Source, kept: dict[int, VideoFrame], fields: _Fields) -> VideoFrame | None:
    """None if a frame that it needs has not come yet."""
    if source.field is not None:
        return fields.made.get((source.top, source.field))
    if source.top not in kept or source.bottom not in kept:
        return None
    top, bottom = kept[source.top], kept[source.bottom]
    return top if top is bottom else _woven(top, bottom)


def _woven(top: VideoFrame, bottom: VideoFrame) -> VideoFrame:
    """A copy of `top` with the bottom field of the other frame, of the same kind."""
    top.pts = 0
    frame = VideoGraph(top, [("copy", "")], top.format.name).run(top)
    for plane, own, other in zip(frame.planes, top.planes, bottom.planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        for each, start in ((own, 0), (other, 1)):
            width = min(plane.line_size, each.line_size)
            rows[start::2, :width] = bytes_of(each)[start::2, :width]
        plane.update(rows.tobytes())
    return frame


class _Fields:
    """Whole frames interpolated from fields, if any is wanted.

    The filter gets every frame: if it passed progressive ones itself, the frame after them would depend on where
    decoding began.
    """

    def __init__(self, number: int, sources: Sequence[Source]) -> None:
        self.made: dict[tuple[int, int], VideoFrame] = {}
        """By decoded frame and field."""
        self._per_frame = max(
            (each.field + 1 for each in sources if each.field is not None), default=0
        )
        self._graph: Graph | None = None
        self._kind: tuple[object, ...] = ()
        self._given = self._taken = number * self._per_frame

    def add(self, frame: VideoFrame) -> None:
        """Take the next decoded frame, whose pts is lost."""
        if not self._per_frame:
            return
        kind = (frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range)
        if self._graph is None or kind != self._kind:
            # After a size change in mid-stream, there are no neighbours of the old size.
            self.end()
            mode = "mode=send_frame" if self._per_frame == 1 else "mode=send_field"
            self._graph, self._kind = linked(frame, [("bwdif", mode)], frame.format.name), kind
        frame.pts, self._given = self._given, self._given + 1
        self._graph.vpush(frame)
        self._pull(self._graph)

    def end(self) -> None:
        """Make what is left."""
        if self._graph is not None:
            self._graph.vpush(None)
            self._pull(self._graph)

    def forget(self, least: int) -> None:
        """Drop what is made of frames before this one."""
        for passed in [each for each in self.made if each[0] < least]:
            del self.made[passed]

    def _pull(self, graph: Graph) -> None:
        with suppress(BlockingIOError, EOFError):
            while True:
                self.made[divmod(self._taken, self._per_frame)] = graph.vpull()
                self._taken += 1
