"""A chain of libavfilter filters for frames of one kind, and the memory of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

# Denominator in which a sample aspect is measured.
_ASPECT_UNIT = 10_000


def linked(like: VideoFrame, filters: Sequence[tuple[str, str]], pix_fmt: str) -> Graph:
    """A chain of filters (names and arguments) for frames such as `like`.

    pix_fmt: of the output frames.
    """
    graph = Graph()
    last = graph.add(
        "buffer",
        f"video_size={like.width}x{like.height}:pix_fmt={like.format.name}:time_base=1/25"
        f":colorspace={int(like.colorspace)}:range={int(like.color_range)}",
    )
    for name, arguments in [*filters, ("format", pix_fmt), ("buffersink", "")]:
        added = graph.add(name, arguments)
        last.link_to(added)
        last = added
    graph.configure(auto_buffer=False)
    return graph


def bytes_of(plane: VideoPlane) -> npt.NDArray[np.uint8]:
    """A plane's memory: rows, and bytes of a row with its padding."""
    size = plane.height * plane.line_size
    return np.frombuffer(memoryview(plane), np.uint8)[:size].reshape(plane.height, -1)


class VideoGraph:
    """Runs frames of one size, format and colour through filters, one in, one out."""

    def __init__(self, like: VideoFrame, filters: Sequence[tuple[str, str]], pix_fmt: str) -> None:
        """like: a frame such as `run` will receive; the rest is as for `linked`."""
        self._graph = linked(like, filters, pix_fmt)

    def run(self, frame: VideoFrame) -> VideoFrame:
        """The filtered frame."""
        self._graph.vpush(frame)
        return self._graph.vpull()


class AspectTag:
    """Tags frames with a sample aspect, which some encoders read from there and not from their context."""

    def __init__(self, aspect: Fraction) -> None:
        self._aspect = aspect
        self._graph: VideoGraph | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame with the aspect; colour and samples are unchanged. pts is not preserved."""
        if self._aspect == 1:
            return frame
        if self._graph is None:
            arguments = f"sar={self._aspect.numerator}/{self._aspect.denominator}:max=65535"
            self._graph = VideoGraph(frame, [("setsar", arguments)], frame.format.name)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        return self._graph.run(frame)


def frame_aspect(frame: VideoFrame) -> Fraction:
    """A frame's sample aspect, width over height; 1 if it has none.

    PyAV has no field for it, but the scale filter can multiply a frame's width by it.
    """
    if frame.width < 4:
        # Too narrow for libswscale to multiply its width.
        return Fraction(1)
    scale = f"round({_ASPECT_UNIT}*max(sar\\,0.001)):2:flags=neighbor:eval=frame"
    tags = frame.colorspace, frame.color_range
    try:
        # libswscale would refuse unusual tags, which do not matter here.
        frame.colorspace, frame.color_range = 2, 0
        width = VideoGraph(frame, [("scale", scale)], "gray").run(frame).width
    finally:
        frame.colorspace, frame.color_range = tags
    return Fraction(width, _ASPECT_UNIT).limit_denominator(255)
