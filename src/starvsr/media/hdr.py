"""High dynamic range: a source's metadata besides its colour tags, and how encoders receive it.

The curve itself (PQ, HLG) is a colour tag, and samples stay on it from the decoder to the encoder.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Mapping

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from starvsr.errors import InputError, OutputError
from starvsr.media.pixfmt import HDR_BITS, find_encoder, is_hdr, layout_of
from starvsr.media.sidedata import side_data_of
from starvsr.types import HdrInfo, VideoInfo

# Dynamic metadata is valid for the source's own frames and size only.
_DYNAMIC = {
    Type.DOVI_RPU_BUFFER: "Dolby Vision",
    Type.DOVI_METADATA: "Dolby Vision",
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
}
_DOVI, _DOVI_HEADER = "DOVI configuration record", 17
# Profiles without a base layer that other players show, and those where its compatibility says so.
_ALONE, _ALONE_WITHOUT = (1, 3, 5), (10, 20)
# Units of the standard and of encoder options: chromaticity, and luminance in candela per square metre.
_CHROMATICITY, _LUMINANCE = 50_000, 10_000


def hdr_of(frame: VideoFrame | None, described: Mapping[str, str]) -> HdrInfo:
    """A frame's mastering display, content light level and kinds of dynamic metadata.

    described: side data of its stream by libav's description.
    """
    vision = _dolby_vision(described.get(_DOVI, ""))
    if frame is None:
        return HdrInfo(dolby_vision=vision)
    sides = side_data_of(frame)
    display: tuple[int, ...] = ()
    light: tuple[int, ...] = ()
    for side in sides:
        if side.type == Type.MASTERING_DISPLAY_METADATA:
            display = _display(bytes(side))
        elif side.type == Type.CONTENT_LIGHT_LEVEL:
            light = struct.unpack("=2I", bytes(side)[:8])
            # Encoders take 16 bits.
            light = light if max(light) < 2**16 else ()
        elif side.type == Type.DOVI_METADATA:
            vision = vision or _profile_of(bytes(side))
    dynamic = dict.fromkeys(_DYNAMIC[side.type] for side in sides if side.type in _DYNAMIC)
    if vision:
        dynamic.setdefault("Dolby Vision")
    return HdrInfo(display, light, tuple(dynamic), vision)


def _dolby_vision(record: str) -> tuple[int, ...]:
    """Profile and compatibility of a configuration record, as libav describes it; empty without one."""
    found = re.search(r"profile: (\d+),.*compatibility id: (\d+)", record)
    return (int(found[1]), int(found[2])) if found else ()


def _profile_of(data: bytes) -> tuple[int, ...]:
    """Profile and compatibility by a frame's own metadata (libav's AVDOVIMetadata), as libav guesses them for HEVC."""
    header = int.from_bytes(data[:8], sys.byteorder)
    if len(data) < header + _DOVI_HEADER:
        return ()
    profile, full_range, depth = data[header + 4], data[header + 10], data[header + 13]
    enhanced = data[header + 15] and not data[header + 16]
    if profile == 0:
        return (5, 0) if full_range else ()
    if not enhanced:
        return (8, 1)
    return (7, 6) if depth == 12 else (4, 2)


def _display(data: bytes) -> tuple[int, ...]:
    """The ten numbers of `HdrInfo.display` from libav's AVMasteringDisplayMetadata; empty if they are invalid."""
    *numbers, has_primaries, has_luminance = struct.unpack("=22i", data[:88])
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    if not (has_primaries and has_luminance and all(bottom for _, bottom in pairs)):
        return ()
    units = [_CHROMATICITY] * 8 + [_LUMINANCE] * 2
    values = tuple(
        round(top * unit / bottom) for (top, bottom), unit in zip(pairs, units, strict=True)
    )
    *chromaticities, least, most = values
    sound = all(0 <= value <= _CHROMATICITY for value in chromaticities)
    return values if sound and 0 <= least < most < 2**31 else ()


def hdr_options(codec: str, hdr: HdrInfo) -> dict[str, str]:
    """Options that make an encoder write the static metadata; empty if there is none or it has no such option."""
    light = ",".join(map(str, hdr.light))
    if codec == "libsvtav1":
        names, display = ("mastering-display", "content-light"), _display_text(hdr, decimal=True)
        key = "svtav1-params"
    elif codec in ("libx264", "libx265"):
        names = (
            ("mastering-display", "cll") if codec == "libx264" else ("master-display", "max-cll")
        )
        key, display = f"{codec[3:]}-params", _display_text(hdr, decimal=False)
    else:
        return {}
    values = zip(names, (display, light), strict=True)
    text = ":".join(f"{name}={value}" for name, value in values if value)
    return {key: text} if text else {}


def _display_text(hdr: HdrInfo, *, decimal: bool) -> str:
    """Mastering display in the syntax of x264, x265 and SVT-AV1, of which the last takes decimal numbers."""
    if not hdr.display:
        return ""
    units = [_CHROMATICITY] * 8 + [_LUMINANCE] * 2
    written = [
        f"{number / unit:.6f}" if decimal else str(number)
        for number, unit in zip(hdr.display, units, strict=True)
    ]
    pairs = [f"({a},{b})" for a, b in zip(written[:8:2], written[1:8:2], strict=True)]
    red, green, blue, white = pairs
    return f"G{green}B{blue}R{red}WP{white}L({written[9]},{written[8]})"


def is_supported(hdr: HdrInfo) -> bool:
    """Whether there is no Dolby Vision, or one with a base layer on a usual curve."""
    if not hdr.dolby_vision:
        return True
    profile, compatible = hdr.dolby_vision
    return profile not in _ALONE and not (profile in _ALONE_WITHOUT and not compatible)


def check_dolby_vision(info: VideoInfo) -> None:
    """Refuse Dolby Vision whose pictures are on a curve and axes of its own. Raises InputError."""
    if not is_supported(info.hdr):
        raise InputError(
            f"{info.path}: Dolby Vision profile {info.hdr.dolby_vision[0]} is not supported: its pictures are on a "
            "curve and axes of their own (IPT), without a base layer that can be restored; convert it to HDR10 first, "
            "such as with ffmpeg's filter libplacebo"
        )


def check_hdr(info: VideoInfo, codec: str, pix_fmt: str) -> None:
    """Refuse to write PQ or HLG with fewer bits than its curve needs. Raises OutputError."""
    if not is_hdr(info) or layout_of(pix_fmt).depth >= HDR_BITS:
        return
    formats = [each.name for each in find_encoder(codec).video_formats or ()]
    deep = any(layout_of(name).depth >= HDR_BITS for name in formats)
    advice = "leave --pix-fmt out" if deep else "give --codec libx265, or ffv1 for .mkv"
    raise OutputError(
        f"{codec} with {pix_fmt} has {layout_of(pix_fmt).depth} bits, in which HDR shows banding; it needs "
        f"{HDR_BITS}: {advice}"
    )
