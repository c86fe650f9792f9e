"""Deinterlacing with libavfilter's bwdif, one frame out for every frame in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from av.error import BlockingIOError, EOFError
from av.filter import Graph
from av.video.frame import VideoFrame

from starvsr.errors import InputError
from starvsr.media.graph import linked
from starvsr.media.pixfmt import layout_of
from starvsr.types import VideoIndex, VideoInfo

CONTEXT_FRAMES = 2
"""Frames on either side that a frame depends on: one, and one more since the filter treats its first and last
frames differently."""

# The filter's minimum plane size.
_LEAST_ROWS, _LEAST_COLUMNS = 4, 3


def frames_to_deinterlace(info: VideoInfo, index: VideoIndex, asked: str) -> str:
    """Which frames are deinterlaced, in the filter's terms: `all`, `interlaced` (flagged ones), or `none`.

    asked: `auto`, `on` or `off`. Raises InputError if the video is too small for the filter.
    """
    if asked == "off" or (asked == "auto" and not index.interlaced_frames):
        return "none"
    across, down = layout_of(info.pix_fmt).chroma_shift
    sideways = info.rotation in (90, 270)
    width, height = (info.height, info.width) if sideways else (info.width, info.height)
    if -(-height >> down) < _LEAST_ROWS or -(-width >> across) < _LEAST_COLUMNS:
        raise InputError(
            f"{info.path}: {width}x{height} is too small to be deinterlaced: give --deinterlace off"
        )
    return "all" if asked == "on" else "interlaced"


def deinterlaced(frames: Iterator[VideoFrame], which: str) -> Iterator[VideoFrame]:
    """Returns as many frames as it receives, in the same formats, one later; their times are not preserved.

    which: `all` or `interlaced`, as `frames_to_deinterlace` says.
    """
    graph: Graph | None = None
    kind: tuple[object, ...] = ()
    # The filter gets every frame: if it passed progressive ones itself, the frame after them would depend on where
    # decoding began.
    whole: deque[VideoFrame | None] = deque()
    for number, frame in enumerate(frames):
        here = _kind(frame)
        if graph is None or here != kind:
            # After a size change in mid-stream, there are no neighbours of the old size.
            yield from _rest(graph, whole)
            graph, kind = linked(frame, [("bwdif", "mode=send_frame")], frame.format.name), here
        whole.append(None if which == "all" or frame.interlaced_frame else frame)
        frame.pts = number
        graph.vpush(frame)
        yield from _pulled(graph, whole)
    yield from _rest(graph, whole)


def _kind(frame: VideoFrame) -> tuple[object, ...]:
    return (frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range)


def _rest(graph: Graph | None, whole: deque[VideoFrame | None]) -> Iterator[VideoFrame]:
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph, whole)


def _pulled(graph: Graph, whole: deque[VideoFrame | None]) -> Iterator[VideoFrame]:
    with suppress(BlockingIOError, EOFError):
        while True:
            made = graph.vpull()
            yield whole.popleft() or made
