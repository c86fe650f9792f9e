"""Frames of a video by their absolute index, whatever the file does to seeking."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import partial

import av
from av.video.frame import VideoFrame

from starvsr.errors import InputError
from starvsr.media.choice import film_stream
from starvsr.media.color import Pixels, ToRgb
from starvsr.media.deadline import within_deadline
from starvsr.media.decode import FrameDecoder, lacks_side_data, native_frame
from starvsr.media.deinterlace import decoded_span, made_frames
from starvsr.media.fields import MadeIndex
from starvsr.media.hwaccel import open_for
from starvsr.media.orientation import orientation_of
from starvsr.media.source import open_source
from starvsr.media.still import STILL, read_still
from starvsr.types import VideoIndex, VideoInfo

logger = logging.getLogger(__name__)

# Keyframes tried, each further back, before the video is read from its start.
_MOST_SEEKS = 3


def read_frames(
    info: VideoInfo,
    index: VideoIndex,
    first: int,
    last: int,
    *,
    alpha: bool = False,
    repeats: bool = True,
) -> Generator[Pixels, None, None]:
    """Yield frames first..last-1 of the video, upright, as uint16 RGB (height, width, 3), 0..65535, C order.

    alpha: add a fourth channel, 0 transparent to 65535 opaque. repeats: whether those in `index.repeats` too, which
    the first one never is.
    The same frame has the same pixels whatever `first` is: decoding starts at a keyframe at or before it, frames
    shown before that keyframe (an open group of pictures) are not used, and every frame's time is
    compared with the index. If that fails, reading starts further back, and finally at the start, where frames
    are counted as the index counted them. Keeps one frame and the decoder's own. The file is closed when the
    generator ends or is closed. Raises InputError if the file has changed since it was indexed,
    ValueError if the range is not inside 0..index.frames.
    """
    if not 0 <= first <= last <= index.frames:
        raise ValueError(f"frames {first}..{last} are not inside 0..{index.frames}")
    if info.container == STILL:
        yield from (read_still(info, alpha=alpha) for _ in range(first, last))
        return
    upright = _Upright(info, alpha=alpha)
    passed = frozenset(() if repeats else index.repeats) - {first}
    at = first
    for start in _starts(_decoded_index(index), _decoded_span(index, first, last)[0]):
        try:
            for frame in _read_from(info, index, start, (at, last)):
                if at not in passed:
                    yield upright(frame)
                at += 1
        except _Astray as error:
            logger.debug("%s: %s; reading from further back", info.path, error)
        if at == last:
            return
    raise InputError(
        f"{info.path} has fewer frames than when it was indexed: has it changed since?"
    )


class _Astray(Exception):
    """Decoding from a keyframe does not give the indexed frames."""


def _starts(index: VideoIndex, first: int) -> Iterator[int | None]:
    """Keyframe times to start from as the decoder gives them, the best first; None is the start of the file."""
    end = bisect_right(index.keyframe_pts, index.pts[first]) if first < index.frames else 0
    # A file with one keyframe at its start needs no seeking, and where a time occurs twice it cannot be found.
    if not index.stamps or len(set(index.stamps)) == index.frames:
        for pts in reversed(index.keyframe_pts[max(1, end - _MOST_SEEKS) : end]):
            yield index.stamps[bisect_left(index.pts, pts)] if index.stamps else pts
    yield None


def _decoded_index(index: VideoIndex) -> VideoIndex:
    return index.decoded if isinstance(index, MadeIndex) else index


def _decoded_span(index: VideoIndex, first: int, last: int) -> tuple[int, int]:
    """The decoded frames that frames first..last-1 depend on."""
    if not isinstance(index, MadeIndex) or first == last:
        return first, last
    return decoded_span(index.sources[first:last], index.decoded.frames)


def _read_from(
    info: VideoInfo, index: VideoIndex, start: int | None, span: tuple[int, int]
) -> Iterator[VideoFrame]:
    at, last = _decoded_span(index, *span)
    with closing(_decoded(info, _decoded_index(index), start, at, last)) as frames:
        if isinstance(index, MadeIndex):
            yield from made_frames(frames, at, index.sources[slice(*span)])
        else:
            yield from frames


def _decoded(
    info: VideoInfo, index: VideoIndex, start: int | None, at: int, last: int
) -> Generator[VideoFrame, None, None]:
    with open_for(info) as container:
        stream = film_stream(container, info)
        if start is not None:
            try:
                within_deadline(info.path, partial(container.seek, start, stream=stream), container)
            except (av.FFmpegError, OSError) as error:
                raise _Astray(f"seeking failed: {error}") from error
        decoder = FrameDecoder(container, stream, one_thread=index.lost_frames > 0)
        frames = iter(decoder) if start is None else _checked(decoder, index, start, at)
        first = 0 if start is None else at
        for number, frame in enumerate(frames, start=first):
            if number >= at:
                yield frame
            if number + 1 >= last:
                return


def _checked(decoder: FrameDecoder, index: VideoIndex, start: int, at: int) -> Iterator[VideoFrame]:
    """Frames from `at` on, found by time after a seek. Raises _Astray at the first that is not as indexed."""
    expected: int | None = None
    stamps = index.stamps or index.pts
    for frame in decoder:
        pts = frame.pts if frame.pts is not None else frame.dts
        if expected is None:
            # What is shown before the keyframe may lack what it refers to, whatever its own time is.
            if pts is not None and (pts < start or (index.stamps and pts != start)):
                continue
            expected = at + 1 if pts is None else _number(stamps, pts, is_sorted=not index.stamps)
            if expected > at:
                raise _Astray(f"sought {start}, came to {pts}")
        if stamps[expected] != pts:
            raise _Astray(f"frame {expected} should be at {stamps[expected]}, not {pts}")
        if expected >= at:
            yield frame
        expected += 1
        if expected == index.frames:
            return


def _number(stamps: Sequence[int | None], pts: int, *, is_sorted: bool) -> int:
    return bisect_left(stamps, pts) if is_sorted else stamps.index(pts)  # type: ignore[type-var]


class _Upright:
    """Converts decoded frames to cropped, upright pixels of the probed size."""

    def __init__(self, info: VideoInfo, *, alpha: bool) -> None:
        self._info, self._alpha = info, alpha
        self._converters: dict[bool, ToRgb] = {}
        self._turned = None
        if lacks_side_data(info.codec, info.pix_fmt):
            with open_source(info.path) as container:
                marked = native_frame(container, film_stream(container, info))
                self._turned = orientation_of(marked)

    def __call__(self, frame: VideoFrame) -> Pixels:
        turned = orientation_of(frame) if self._turned is None else self._turned
        left, right, above, below = self._info.crop
        sideways = turned.swaps_sides
        if sideways not in self._converters:
            width, height = self._info.width, self._info.height
            width, height = (height, width) if sideways else (width, height)
            size = width + left + right, height + above + below
            self._converters[sideways] = ToRgb(self._info, *size, alpha=self._alpha)
        pixels = self._converters[sideways](frame)
        rows, columns = pixels.shape[:2]
        return turned.apply(pixels[above : rows - below, left : columns - right])
