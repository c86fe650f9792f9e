"""Side data of decoded frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from av.sidedata.sidedata import SideData, SideDataContainer, Type
from av.video.frame import VideoFrame

from starvsr.media.graph import VideoGraph

# PyAV returns nothing for a frame with a type that it has no name for, such as EXIF; libav has this many by now.
_NAMELESS = set(range(40)) - {cast("int", kind.value) for kind in Type}
# PyAV 18.1 must not list these of frames of PNG: the process may be killed.
_UNREADABLE = sorted({*_NAMELESS, cast("int", Type.ICC_PROFILE.value)})
_OF_PNG = frozenset(
    ("monob", "gray", "gray16be", "ya8", "ya16be", "pal8", "rgb24", "rgb48be", "rgba", "rgba64be")
)
"""Formats that libav's decoder of PNG hands out."""


def side_data_of(frame: VideoFrame) -> list[SideData]:
    """The side data of a frame, except types that PyAV cannot read."""
    try:
        return list(_contents(frame))
    except ValueError:
        pass
    deletions = [("sidedata", f"mode=delete:type={number}") for number in _UNREADABLE]
    pts = frame.pts
    frame.pts = 0
    known = VideoGraph(frame, deletions, frame.format.name).run(frame)
    frame.pts = pts
    return list(_all(known))


def has_any(frame: VideoFrame, kinds: Iterable[Type]) -> bool:
    """Whether a frame has side data of one of these types. Raises ValueError if PyAV may be unable to read it."""
    found = {side.type for side in _contents(frame)}
    return not found.isdisjoint(kinds)


def _contents(frame: VideoFrame) -> Iterable[SideData]:
    if frame.format.name in _OF_PNG:
        raise ValueError(
            f"a frame in {frame.format.name} may have side data that PyAV must not list"
        )
    return _all(frame)


def _all(frame: VideoFrame) -> Iterable[SideData]:
    # `frame.side_data` would make a circle of references: frames would stay in memory until Python collects those.
    return cast("Iterable[SideData]", SideDataContainer(frame))  # type: ignore[call-arg]
