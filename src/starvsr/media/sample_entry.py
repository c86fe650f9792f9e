"""3D packing and projection as boxes in the sample entry of an mp4's or mov's film.

libav's mov muxer writes none of them, and its mp4 muxer not all. So the track's name is written with as many bytes more
as the boxes take; once the file is complete, these bytes move from the name to the entry, and nothing else moves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from av.stream import Stream

from starvsr.errors import OutputError
from starvsr.media.beside import HALF, PROJECTION, PROJECTIONS, STEREO, projection_numbers, value_of
from starvsr.media.boxes import boxed, read_index
from starvsr.media.removal import Right, write_over
from starvsr.types import VideoInfo

_PACKINGS = {"top_bottom": 1, "left_right": 2}
"""By their numbers in `st3d`."""
# Apple's codes of the projections that have no numbers.
_APPLE = {
    HALF: b"hequ",
    "rectilinear": b"rect",
    "fisheye": b"fish",
    "immersive": b"prim",
}
# The way from the index to a track's handler and to its sample entries, whose list begins after two numbers.
_HANDLER, _ENTRIES = (b"mdia", b"hdlr"), (b"mdia", b"minf", b"stbl", b"stsd")
_SHARED, _BEFORE_ENTRIES = 2, 8
# Where a handler's kind and name are in its box; in a mov the name begins with its length.
_KIND_AT, _NAME_AT, _MOST_NAME = 16, 32, 255
_USUAL_NAME = "VideoHandler"
_PADDING = "."


def has_place(kind: str, value: str) -> bool:
    """Whether a box has a place for a 3D packing or projection."""
    if kind == STEREO:
        return value in _PACKINGS
    return projection_numbers(value)[0] in PROJECTIONS or value in _APPLE


def entry_boxes(info: VideoInfo, scale: float) -> bytes:
    """The boxes of what the source says; scale: of its size, for a cube's padding in pixels."""
    made, packing, projection = b"", value_of(info, STEREO), value_of(info, PROJECTION)
    if has_place(STEREO, packing):
        made += boxed(b"st3d", bytes(4) + bytes([_PACKINGS[packing]]))
    if projection in _APPLE:
        made += boxed(b"vexu", boxed(b"proj", boxed(b"prji", bytes(4) + _APPLE[projection])))
    elif has_place(PROJECTION, projection):
        made += _spherical(projection, scale)
    return made


def _spherical(value: str, scale: float) -> bytes:
    name, (*angles, left, above, right, below, padding) = projection_numbers(value)
    head = struct.pack(">I3i", 0, *(round(angle * 65536) for angle in angles))
    if name == "cubemap":
        kind = boxed(b"cbmp", struct.pack(">3I", 0, 0, round(padding * scale)))
    else:
        kind = boxed(b"equi", struct.pack(">5I", 0, *map(int, (above, below, left, right))))
    # Its header may name the program that made it.
    return boxed(b"sv3d", boxed(b"svhd", bytes(5)) + boxed(b"proj", boxed(b"prhd", head) + kind))


def reserve_entry(video: Stream, boxes: bytes) -> None:
    """Give an output's film a name that is longer by the boxes, before its header is written."""
    if boxes:
        said = (text for key, text in video.metadata.items() if key.lower() == "handler_name")
        name = next(said, _USUAL_NAME)
        if len(name.encode()) + len(boxes) > _MOST_NAME:
            name = _USUAL_NAME
        video.metadata["handler_name"] = name + _PADDING * len(boxes)


def write_entry(path: Path, boxes: bytes, container: str) -> None:
    """Write them into the complete file of this muxer. Raises OSError, and OutputError if their place is not found."""
    if not boxes:
        return
    place, index = read_index(path)
    for track in _inner(index, 0) if index else ():
        way, (*_, handler) = _way(index, track, _ENTRIES), _way(index, track, _HANDLER)
        padding = index.rfind(
            _PADDING.encode() * len(boxes), handler, handler + _size(index, handler)
        )
        if index[handler + _KIND_AT :][:4] == b"vide" and padding >= 0:
            entry = way[-1] + 8 + _BEFORE_ENTRIES
            end = entry + _size(index, entry)
            data = bytearray(index)
            _grow(data, handler, -len(boxes))
            if container == "mov":
                data[handler + _NAME_AT] -= len(boxes)
            # Those that contain both keep their size.
            for box in (*way[_SHARED:], entry):
                _grow(data, box, len(boxes))
            data = data[:padding] + data[padding + len(boxes) : end] + boxes + data[end:]
            write_over(path, place + handler, bytes(data[handler:end]), Right.TEMPORARY)
            return
    raise OutputError(f"{path}: its index has no place for the 3D packing or the projection")


def _way(index: bytes, start: int, kinds: Sequence[bytes]) -> list[int]:
    """Where the boxes of these kinds begin, each in the one before; 0 for those that are not there."""
    way = [start]
    for kind in kinds:
        inner = _inner(index, way[-1]) if way[-1] else ()
        way.append(next((at for at in inner if index[at + 4 : at + 8] == kind), 0))
    return way


def _inner(index: bytes, start: int) -> Iterator[int]:
    """Where the boxes in a box begin."""
    at, end = start + 8, start + _size(index, start)
    while at + 8 <= end:
        yield at
        at += max(8, _size(index, at))


def _size(index: bytes | bytearray, start: int) -> int:
    return int.from_bytes(index[start : start + 4], "big")


def _grow(data: bytearray, start: int, more: int) -> None:
    struct.pack_into(">I", data, start, _size(data, start) + more)
