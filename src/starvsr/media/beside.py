"""What a source says beside its pictures, as kinds and values: views, projection, time code, captions and the rest."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence

from av.container import InputContainer
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from starvsr.media.messages import AFD, CAPTIONS
from starvsr.media.orientation import Orientation, orientation_of
from starvsr.media.sidedata import side_data_of
from starvsr.types import VideoInfo

logger = logging.getLogger(__name__)

STEREO, PROJECTION, TIME_CODE = "3D packing", "projection", "time code"
CROPPING = "Frame Cropping"
"""libav's name of the side data."""

# libav's packings, and their names in Matroska: left view first, right view first.
_PACKINGS = {
    1: ("left_right", "right_left"),
    2: ("top_bottom", "bottom_top"),
    4: ("checkerboard_lr", "checkerboard_rl"),
    6: ("row_interleaved_lr", "row_interleaved_rl"),
    7: ("col_interleaved_lr", "col_interleaved_rl"),
}
# Views of which only one is in a decoded frame (alternating, MVC, MV-HEVC), and what is not said.
_OTHER_PACKINGS = {3: "separate views", 8: "of unknown packing"}
# libav's kinds of projection.
PROJECTIONS = ("equirectangular", "cubemap", "tiled equirectangular")
HALF = "half equirectangular"
WHOLE, QUARTER = 1 << 32, 1 << 30
"""Of a projection's bounds."""
_OTHER_PROJECTIONS = {3: HALF, 4: "rectilinear", 5: "fisheye", 6: "immersive"}
# Where two views lie once their picture is mirrored, and once it is turned clockwise by 90 degrees.
_MIRRORED = {"left_right": "right_left", "right_left": "left_right"}
_QUARTER_TURN = {
    "left_right": "top_bottom",
    "top_bottom": "right_left",
    "right_left": "bottom_top",
    "bottom_top": "left_right",
}
# What no container can say of a packing or projection.
_CUT, _TURNED = ", of which a part is cut off", ", turned"
# What has no place in any output: libav's types, and libav's names of what only its description has.
_UNHELD = {
    Type.ICC_PROFILE: "ICC profile",
    Type.AMBIENT_VIEWING_ENVIRONMENT: "ambient viewing environment",
}
_UNHELD_NAMES = {
    "LCEVC": "LCEVC enhancement layer",
    "3D Reference Displays Info": "3D reference displays",
}


def beside_of(
    container: InputContainer,
    stream: VideoStream,
    frame: VideoFrame | None,
    described: Mapping[str, str],
    crop: Sequence[int] = (0, 0, 0, 0),
) -> tuple[tuple[str, str], ...]:
    """Kinds and values of what a file, one of its streams and its first frame say.

    described: the stream's side data by libav's description. crop: hidden columns left and right and rows above and
    below. Packing and projection are those of the cropped, upright picture.
    """
    sides = side_data_of(frame) if frame is not None else []
    found = dict(_of_frame(sides))
    if frame is not None:
        found |= _as_shown(found, crop, (frame.width, frame.height), orientation_of(frame))
    found |= {kind: "yes" for name, kind in _UNHELD_NAMES.items() if name in described}
    tagged = _said_timecode(stream.metadata) or _said_timecode(container.metadata)
    if said := tagged or _timecode_of(sides):
        found[TIME_CODE] = said
    return tuple(found.items())


def crop_of(described: Mapping[str, str], width: int, height: int) -> tuple[int, int, int, int]:
    """Hidden columns left and right and rows above and below of a frame of this size, by libav's description."""
    numbers = described.get(CROPPING, "").split("/")
    if len(numbers) != 4 or not all(number.isascii() and number.isdigit() for number in numbers):
        return (0, 0, 0, 0)
    left, right, above, below = map(int, numbers)
    if left + right >= width or above + below >= height:
        logger.warning("the crop %s is ignored: it would hide the whole picture", "/".join(numbers))
        return (0, 0, 0, 0)
    return left, right, above, below


def value_of(info: VideoInfo, kind: str) -> str:
    """What the source says of a kind; empty if nothing."""
    return dict(info.beside).get(kind, "")


def unheld(info: VideoInfo) -> list[str]:
    """Kinds that no output can hold."""
    names = [*_UNHELD.values(), *_UNHELD_NAMES.values()]
    return [kind for kind, _ in info.beside if kind in names]


def _of_frame(sides: Sequence[SideData]) -> Iterator[tuple[str, str]]:
    for side in sides:
        data = bytes(side)
        if side.type == Type.STEREO3D and (packing := _packing(data)):
            yield STEREO, packing
        elif side.type == Type.SPHERICAL:
            yield PROJECTION, _projection(data)
        elif side.type == Type.A53_CC:
            yield CAPTIONS, "A/53, in the pictures"
        elif side.type == Type.AFD and data:
            yield AFD, str(data[0] & 15)
        elif side.type in _UNHELD:
            yield _UNHELD[side.type], "yes"


def _packing(data: bytes) -> str:
    """Matroska's name of a packing of two views in libav's AVStereo3D; empty if there is one view."""
    kind, flags = struct.unpack("=2i", data[:8])
    if kind in _OTHER_PACKINGS:
        return _OTHER_PACKINGS[kind]
    return _PACKINGS[kind][flags & 1] if kind in _PACKINGS else ""


def _projection(data: bytes) -> str:
    """libav's AVSphericalMapping: its kind and, unless all are 0, its angles (degrees), bounds and padding."""
    kind, *numbers = struct.unpack("=I3i5I", data[:36])
    name = PROJECTIONS[kind] if kind < len(PROJECTIONS) else _OTHER_PROJECTIONS.get(kind, "unknown")
    numbers[:3] = [number / 65536 for number in numbers[:3]]
    return f"{name} at {' '.join(f'{number:.10g}' for number in numbers)}" if any(numbers) else name


def projection_numbers(text: str) -> tuple[str, list[float]]:
    """Kind, and yaw, pitch, roll, bounds (left, top, right, bottom) and padding of a projection's value."""
    kind, _, numbers = text.partition(" at ")
    return kind, [float(number) for number in numbers.split()] if numbers else [0.0] * 8


def _as_shown(
    found: Mapping[str, str], crop: Sequence[int], size: tuple[int, int], turned: Orientation
) -> Iterator[tuple[str, str]]:
    """Packing and projection once a decoded frame of this size is cropped and brought upright."""
    packing, projection = found.get(STEREO, ""), found.get(PROJECTION, "")
    if any(crop) and projection:
        projection = _marked(projection, _CUT) if packing else _cropped(projection, crop, size)
    # Two halves stay halves if as much is cut off on both sides.
    ends = crop[2:] if packing in ("top_bottom", "bottom_top") else crop[:2]
    if any(crop) and (packing not in _QUARTER_TURN or ends[0] != ends[1]):
        packing = _marked(packing, _CUT)
    if turned != Orientation():
        projection = _marked(projection, _TURNED)
        packing = (
            _turned(packing, turned) if packing in _QUARTER_TURN else _marked(packing, _TURNED)
        )
    yield from (
        (kind, text) for kind, text in ((STEREO, packing), (PROJECTION, projection)) if text
    )


def _turned(packing: str, turned: Orientation) -> str:
    packing = _MIRRORED.get(packing, packing) if turned.mirrored else packing
    for _ in range(turned.clockwise // 90):
        packing = _QUARTER_TURN[packing]
    return packing


def _marked(said: str, mark: str) -> str:
    """A packing or projection, if there is one, of another name."""
    name, at, numbers = said.partition(" at ")
    return name and f"{name}{mark}{at}{numbers}"


def _cropped(projection: str, crop: Sequence[int], size: tuple[int, int]) -> str:
    """A projection of which the picture shows less; the bounds are fractions of the whole sphere."""
    name, (*angles, left, above, right, below, padding) = projection_numbers(projection)
    if name == HALF:
        left = right = QUARTER
    elif "equirectangular" not in name:
        return _marked(projection, _CUT)
    wide, high = (WHOLE - left - right) / size[0], (WHOLE - above - below) / size[1]
    bounds = (
        left + crop[0] * wide,
        above + crop[2] * high,
        right + crop[1] * wide,
        below + crop[3] * high,
    )
    numbers = (*angles, *map(round, bounds), padding)
    return f"{PROJECTIONS[2]} at {' '.join(f'{number:.10g}' for number in numbers)}"


def _said_timecode(tags: Mapping[str, str]) -> str:
    return next((value for key, value in tags.items() if key.lower() == "timecode"), "")


def _timecode_of(sides: Sequence[SideData]) -> str:
    """The time code in the picture stream; empty if there is none, or one of 0, which encoders write unasked."""
    for side in sides:
        data = bytes(side)
        if side.type == Type.S12M_TIMECODE and len(data) >= 8:
            number = struct.unpack("=I", data[4:8])[0]
            parts = [number & 0x3F, number >> 8 & 0x7F, number >> 16 & 0x7F, number >> 24 & 0x3F]
            # Decimal digits of four bits each.
            return _timecode([10 * (part >> 4) + (part & 15) for part in parts], number >> 30 & 1)
        if side.type == Type.GOP_TIMECODE and len(data) >= 8:
            number = struct.unpack("=q", data[:8])[0]
            parts = [number >> 19 & 31, number >> 13 & 63, number >> 6 & 63, number & 63]
            if any(parts):
                return _timecode(parts, number >> 24 & 1)
    return ""


def _timecode(parts: Sequence[int], drop: int) -> str:
    hours, minutes, seconds, frames = parts
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if drop else ':'}{frames:02}"
