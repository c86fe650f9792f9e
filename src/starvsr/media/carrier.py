"""A stream's header with what only a container says of its pictures, for muxers, which PyAV cannot tell it directly.

libav's muxers write what the template of a stream knows. So the template is a Matroska file in memory: the encoded
stream's header and first frame, with elements inserted as Matroska defines them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from starvsr.media.beside import (
    HALF,
    PROJECTION,
    PROJECTIONS,
    QUARTER,
    STEREO,
    projection_numbers,
    value_of,
)
from starvsr.media.elements import VIDEO, element, find_element, inserted
from starvsr.media.encoder import EncoderSettings
from starvsr.media.hdr import hdr_options
from starvsr.media.removal import Right, write_over
from starvsr.media.sample_entry import entry_boxes, has_place, reserve_entry, write_entry
from starvsr.types import VideoInfo

# Identifiers of elements: a video's views and shown size; projection with kind, details and angles.
_SHOWN = (0x54B0, 0x54BA)
_STEREO, _PROJECTION, _KIND, _DETAILS = 0x53B8, 0x7670, 0x7671, 0x7672
_ANGLES = (0x7673, 0x7674, 0x7675)
# Colour, with both light levels, and the mastering display with its ten numbers in the order of `HdrInfo.display`.
_COLOUR, _LIGHT, _DISPLAY = 0x55B0, (0x55BC, 0x55BD), 0x55D0
_NUMBERS = (*range(0x55D1, 0x55D9), 0x55DA, 0x55D9)
# By StereoMode.
_STEREO_MODES = (
    *("mono", "left_right", "bottom_top", "top_bottom", "checkerboard_rl", "checkerboard_lr"),
    *("row_interleaved_rl", "row_interleaved_lr", "col_interleaved_rl", "col_interleaved_lr"),
    *("anaglyph_cyan_red", "right_left", "anaglyph_green_magenta", "block_lr", "block_rl"),
)
# What the muxers of libav take of these; Matroska's takes all.
_PACKINGS = {
    "matroska": _STEREO_MODES,
    "webm": ("left_right", "right_left", "top_bottom", "bottom_top"),
}
_IN_BOXES = ("mp4", "mov")
# The tracks lie in a file's first bytes.
_HEADER = 1 << 20
# Muxers that write the light of HDR.
_LIT = ("matroska", "webm", "mp4", "mov")


def holds(info: VideoInfo, kind: str, container: str) -> bool:
    """Whether an output of libav's muxer of this name can hold the source's 3D packing or projection."""
    value = value_of(info, kind)
    if container in _IN_BOXES:
        return has_place(kind, value)
    if kind == STEREO:
        return value in _PACKINGS.get(container, ())
    return container in _PACKINGS and (value == HALF or projection_numbers(value)[0] in PROJECTIONS)


def holds_light(container: str) -> bool:
    """Whether libav's muxer of this name can write the mastering display and content light level."""
    return container in _LIT


def muxer_options(info: VideoInfo, settings: EncoderSettings) -> dict[str, str]:
    """Options without which libav's muxer would not write it as `write_marks` needs it."""
    elements, _ = _elements(info, settings)
    # A checksum would be of a size that is not kept.
    return {"write_crc32": "0"} if elements and settings.container in _PACKINGS else {}


def reserve_marks(video: Stream, info: VideoInfo, settings: EncoderSettings) -> None:
    """Make room for what `write_marks` writes, before the header of an output is written."""
    reserve_entry(video, _boxes(info, settings))


def write_marks(info: VideoInfo, settings: EncoderSettings, path: Path) -> None:
    """Write or mend what the muxer does not write rightly in a complete file. Raises OSError, OutputError.

    In an mp4 and mov these are boxes. In Matroska the shown size is that of one view, which libav's muxer takes for
    square samples.
    """
    write_entry(path, _boxes(info, settings), settings.container)
    two_views = settings.container in _PACKINGS and holds(info, STEREO, settings.container)
    if two_views and info.sample_aspect != 1:
        _write_aspect(info.sample_aspect, path)


def _boxes(info: VideoInfo, settings: EncoderSettings) -> bytes:
    return (
        entry_boxes(info, settings.width / info.width) if settings.container in _IN_BOXES else b""
    )


def _write_aspect(aspect: Fraction, path: Path) -> None:
    """Multiply the shown width of a Matroska's video by the sample aspect, or divide its height if it does not fit."""
    with path.open("rb") as file:
        data = file.read(_HEADER)
    sides = [find_element(data, (*VIDEO, key)) for key in _SHOWN]
    for side, factor in zip(sides, (aspect, 1 / aspect), strict=True):
        if side is not None:
            number = round(int.from_bytes(data[side.begins : side.ends], "big") * factor)
            size = side.ends - side.begins
            if number < 1 << 8 * size:
                write_over(path, side.begins, number.to_bytes(size, "big"), Right.TEMPORARY)
                return


@contextmanager
def carrying(
    model: InputContainer, info: VideoInfo, settings: EncoderSettings
) -> Iterator[VideoStream]:
    """A template for the output's video: a part's, with what the source's container says and the output holds."""
    stream = model.streams.video[0]
    elements, colour = _elements(info, settings)
    if not elements and not colour:
        yield stream
        return
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        copy = output.add_stream_from_template(stream, opaque=True)
        packet = next(each for each in model.demux(stream) if each.size)
        packet.stream = copy
        output.mux(packet)
    data = inserted(file.getvalue(), VIDEO, elements)
    data = inserted(data, (*VIDEO, _COLOUR), colour) if colour else data
    with av.open(io.BytesIO(data)) as carrier:
        yield carrier.streams.video[0]


def _elements(info: VideoInfo, settings: EncoderSettings) -> tuple[bytes, bytes]:
    """Elements of the video and of its colour."""
    container, made = settings.container, b""
    if container in _PACKINGS and holds(info, STEREO, container):
        made += element(_STEREO, bytes([_STEREO_MODES.index(value_of(info, STEREO))]))
    if container in _PACKINGS and holds(info, PROJECTION, container):
        made += _projection(value_of(info, PROJECTION), settings.width / info.width)
    # Many readers do not look for it in H.264.
    in_stream = hdr_options(settings.codec, info.hdr) and settings.codec != "libx264"
    return made, _light(info) if holds_light(container) and not in_stream else b""


def _projection(value: str, scale: float) -> bytes:
    name, (*angles, left, above, right, below, padding) = projection_numbers(value)
    if name == HALF:
        # From a whole one, a quarter is cut off on both sides.
        left = right = QUARTER
    # A tile is Matroska's equirectangular kind, with bounds.
    kind = 2 if name == "cubemap" else 1
    details = (
        (0, 0, round(padding * scale)) if kind == 2 else (0, *map(int, (above, below, left, right)))
    )
    numbers = zip(_ANGLES, angles, strict=True)
    return element(
        _PROJECTION,
        element(_KIND, bytes([kind]))
        + element(_DETAILS, struct.pack(f">{len(details)}I", *details))
        + b"".join(element(key, struct.pack(">d", number)) for key, number in numbers),
    )


def _light(info: VideoInfo) -> bytes:
    """What belongs into the colour element."""
    units = [50_000.0] * 8 + [10_000.0] * 2
    numbers = zip(_NUMBERS[: len(info.hdr.display)], info.hdr.display, units, strict=False)
    display = b"".join(
        element(key, struct.pack(">d", number / unit)) for key, number, unit in numbers
    )
    light = zip(_LIGHT, info.hdr.light, strict=False)
    made = b"".join(element(key, number.to_bytes(4, "big")) for key, number in light)
    return made + (element(_DISPLAY, display) if display else b"")
