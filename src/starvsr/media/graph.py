"""A chain of libavfilter filters for frames that are all of one kind."""

from __future__ import annotations

from collections.abc import Sequence

from av.filter import Graph
from av.video.frame import VideoFrame


class VideoGraph:
    """Runs frames of one size, format and colour through filters, one in, one out."""

    def __init__(self, like: VideoFrame, filters: Sequence[tuple[str, str]], pix_fmt: str) -> None:
        """like: a frame such as `run` will get. filters: names and arguments. pix_fmt: of the frames that come out."""
        graph = Graph()
        source = graph.add(
            "buffer",
            f"video_size={like.width}x{like.height}:pix_fmt={like.format.name}:time_base=1/25"
            f":colorspace={int(like.colorspace)}:range={int(like.color_range)}",
        )
        last = source
        for name, arguments in [*filters, ("format", pix_fmt)]:
            added = graph.add(name, arguments)
            last.link_to(added)
            last = added
        sink = graph.add("buffersink")
        last.link_to(sink)
        graph.configure(auto_buffer=False)
        self._graph = graph

    def run(self, frame: VideoFrame) -> VideoFrame:
        """The frame that the filters make of this one."""
        self._graph.vpush(frame)
        return self._graph.vpull()
