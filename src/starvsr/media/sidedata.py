"""Side data of decoded frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame

from starvsr.media.graph import VideoGraph

# PyAV returns nothing for a frame with a type that it has no name for, such as EXIF; libav has this many by now.
_NAMELESS = sorted(set(range(40)) - {cast("int", kind.value) for kind in Type})


def side_data_of(frame: VideoFrame) -> list[SideData]:
    """The side data of a frame, except types that PyAV does not know."""
    # PyAV's stub calls this container a dict of names.
    try:
        return list(cast("Iterable[SideData]", frame.side_data))
    except ValueError:
        pass
    deletions = [("sidedata", f"mode=delete:type={number}") for number in _NAMELESS]
    pts = frame.pts
    frame.pts = 0
    known = VideoGraph(frame, deletions, frame.format.name).run(frame)
    frame.pts = pts
    return list(cast("Iterable[SideData]", known.side_data))
