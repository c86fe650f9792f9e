"""Which pixel format the output is encoded in."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, cast

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from starvsr.errors import OutputError, did_you_mean
from starvsr.options import DEFAULT_CODEC, EncodeOptions
from starvsr.types import VideoInfo

DEEP_CODEC = "libx265"
"""For HDR, and for more than 8 bits in files for players."""
PIX_FMT_KINDS = ("auto", "compatible", "source")
"""Ways to choose a pixel format; any other value of `--pix-fmt` is its name."""
HDR_BITS = 10
"""Fewer bits show banding on HDR curves."""
_PQ, _HLG = 16, 18
_USUAL_ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")
# What people call an encoder, where libav has no encoder of that name; in lower case, without dots and dashes.
_COMMON_NAMES = {
    **dict.fromkeys(("x264", "avc", "h264"), "libx264"),
    **dict.fromkeys(("x265", "h265"), "libx265"),
    **dict.fromkeys(("svtav1", "svt"), "libsvtav1"),
    **dict.fromkeys(("prores422", "proreshq"), "prores_ks"),
    "vpx": "libvpx-vp9",
}
# The most bits that browsers, phones and televisions decode, all of them in 4:2:0 only; other codecs are for editing.
_PLAYED_BITS = {"h264": 8, "hevc": 10, "av1": 10, "vp9": 10, "vp8": 8}
# Containers that are written for them, by libav's name.
_FOR_PLAYERS = ("mp4", "mov", "webm")
# Encoders whose point is to keep RGB.
_RGB_ENCODERS = ("libx264rgb",)
_SAMPLINGS = {(1, 0): "4:2:2", (1, 1): "4:2:0"}


class Layout(NamedTuple):
    """The relevant properties of a pixel format."""

    rgb: bool
    gray: bool
    alpha: bool
    depth: int
    """Bits per component, without alpha."""
    chroma_shift: tuple[int, int]
    """Halvings of the chroma planes: columns, rows."""
    planes: int


@lru_cache(maxsize=256)
def layout_of(pix_fmt: str) -> Layout:
    """Depth, family and subsampling of a pixel format by name. Raises ValueError for an unknown name."""
    described = VideoFormat(pix_fmt, 64, 64)
    parts = described.components
    colors = [part for part in parts if not part.is_alpha]
    chroma = [part for part in parts if part.is_chroma]
    shift = (0, 0)
    if chroma:
        shift = (6 - chroma[0].width.bit_length() + 1, 6 - chroma[0].height.bit_length() + 1)
    # A palette's colours have alpha too.
    rgb = described.is_rgb or described.has_palette
    return Layout(
        rgb=rgb,
        gray=not rgb and len(colors) == 1,
        alpha=len(colors) < len(parts) or described.has_palette,
        depth=max((part.bits for part in colors), default=8),
        chroma_shift=shift,
        planes=1 + max((part.plane for part in parts), default=0),
    )


def is_subsampled(pix_fmt: str) -> bool:
    """Whether chroma has fewer columns or rows than luma, so that sizes must be even."""
    return layout_of(pix_fmt).chroma_shift != (0, 0)


def is_hdr(info: VideoInfo) -> bool:
    """Whether samples are on an HDR curve."""
    return info.color.transfer in (_PQ, _HLG)


def _meant(name: str) -> str:
    common = _COMMON_NAMES.get(name.lower().replace(".", "").replace("-", ""))
    return f"did you mean {common}? " if common else did_you_mean(name, _USUAL_ENCODERS)


def find_encoder(name: str) -> Codec:
    """A video encoder of this libav build. Raises OutputError."""
    try:
        codec = Codec(name, "w")
    except UnknownCodecError as error:
        raise OutputError(
            f"--codec {name} is not a video encoder of this libav build: {_meant(name)}"
            "try libx264, libx265, libsvtav1, libvpx-vp9, ffv1 or prores_ks"
        ) from error
    if codec.type != "video":
        raise OutputError(f"--codec {name} encodes {codec.type}, not video: try libx264")
    return codec


def choose_pix_fmt(options: EncodeOptions, info: VideoInfo, container: str = "matroska") -> str:
    """The pixel format to encode in: the requested one, or the encoder's nearest to the source's.

    `source` never reduces depth or chroma resolution if the encoder has a format with both, and takes the smallest such
    format; the family (RGB or YUV) is kept if possible, and alpha if encoder and container (libav's muxer) can. Grey
    becomes 4:2:0, since few players show monochrome video. `auto` is the same, but 4:2:0 in files for browsers and
    phones; `compatible` is 4:2:0 everywhere, with 8 bits in H.264 and at most 10 in others. Raises OutputError if the
    encoder does not exist or does not support the format.
    """
    codec = find_encoder(options.codec)
    names = [each.name for each in codec.video_formats or ()]
    if options.pix_fmt not in PIX_FMT_KINDS:
        _check_asked(options, names)
        return options.pix_fmt
    source = layout_of(info.pix_fmt)
    if is_hdr(info):
        source = source._replace(depth=max(source.depth, HDR_BITS))
    usable = [name for name in names if _usable(name) and not layout_of(name).alpha]
    if source.alpha and _holds_alpha(codec, container):
        usable += [name for name in names if _usable(name) and layout_of(name).alpha]
    usable = _played(options, codec, usable, container)
    usable.sort(key=lambda name: (*_losses(source, layout_of(name)), names.index(name)))
    for name in usable:
        # Encoders list formats with alpha that not every build of them supports.
        if not layout_of(name).alpha or _opens(codec.name, name):
            return name
    raise OutputError(
        f"--codec {options.codec} supports no pixel format that starvsr can write: give another --codec"
    )


def _played(options: EncodeOptions, codec: Codec, names: list[str], container: str) -> list[str]:
    """Those of an encoder's formats that players decode, if these are wanted; otherwise all."""
    most = _PLAYED_BITS.get(codec.canonical_name)
    coarse = [name for name in names if layout_of(name).chroma_shift == (1, 1)]
    if options.pix_fmt == "compatible":
        chosen = [name for name in coarse if layout_of(name).depth <= (most or 8)]
        if not chosen:
            raise OutputError(
                f"--pix-fmt compatible is 4:2:0, which the encoder {codec.name} does not support: "
                "give --pix-fmt source, or another --codec"
            )
        return chosen
    by_players = options.pix_fmt == "auto" and container in _FOR_PLAYERS and most is not None
    return coarse if by_players and codec.name not in _RGB_ENCODERS else names


def encode_notes(
    asked: EncodeOptions, info: VideoInfo, codec: str, pix_fmt: str, container: str
) -> list[str]:
    """What of the chosen encoder and pixel format is not the source's, or not what players decode; a line each.

    asked: with `auto` where no encoder was requested.
    """
    if asked.pix_fmt not in PIX_FMT_KINDS:
        return []
    notes, layout = [], layout_of(pix_fmt)
    if asked.codec == "auto" and codec == DEEP_CODEC:
        what = "HDR" if is_hdr(info) else f"the source's depth ({layout.depth} bits)"
        notes.append(
            f"{what} is encoded in HEVC ({codec} {pix_fmt}), as players expect: --codec {DEFAULT_CODEC} gives H.264"
        )
    kept = choose_pix_fmt(replace(asked, codec=codec, pix_fmt="source"), info, container)
    if _is_coarser(layout, layout_of(kept)):
        notes.append(
            f"chroma becomes {_SAMPLINGS[layout.chroma_shift]} ({pix_fmt}), which browsers and phones decode: "
            f"--pix-fmt source keeps {kept}"
        )
    elif _is_coarser(layout, layout_of(info.pix_fmt)):
        notes.append(
            f"chroma becomes {_SAMPLINGS[layout.chroma_shift]} ({pix_fmt}): {codec} supports no more; "
            "--codec ffv1 in .mkv keeps it"
        )
    elif asked.codec == "auto" and _is_rarely_played(codec, layout):
        notes.append(
            f"most browsers and phones do not decode {codec} {pix_fmt}: --pix-fmt compatible is for them"
        )
    return notes


def size_notes(
    wanted: tuple[int, int], size: tuple[int, int], codec: str, pix_fmt: str
) -> list[str]:
    """The note that a pixel format's even sides changed a size, columns and rows."""
    if wanted == size:
        return []
    formats = [each.name for each in find_encoder(codec).video_formats or ()]
    advice = ": --pix-fmt yuv444p keeps odd ones" if "yuv444p" in formats else ""
    return [
        f"the size is {size[0]}x{size[1]}, not {wanted[0]}x{wanted[1]}, since {pix_fmt} has even sides only{advice}"
    ]


def _is_coarser(layout: Layout, source: Layout) -> bool:
    if source.gray or layout.rgb or layout.chroma_shift not in _SAMPLINGS:
        return False
    return sum(layout.chroma_shift) > (0 if source.rgb else sum(source.chroma_shift))


def _is_rarely_played(codec: str, layout: Layout) -> bool:
    most = _PLAYED_BITS.get(find_encoder(codec).canonical_name)
    return most is not None and (layout.chroma_shift != (1, 1) or layout.depth > most)


def _holds_alpha(codec: Codec, container: str) -> bool:
    """VP9's alpha is a second picture beside the first, which other containers do not support."""
    return codec.canonical_name not in ("vp8", "vp9") or container in ("matroska", "webm")


@lru_cache(maxsize=64)
def _opens(codec: str, pix_fmt: str) -> bool:
    """Whether an encoder supports a pixel format that it lists."""
    context = cast("VideoCodecContext", VideoCodecContext.create(codec, "w"))
    context.width = context.height = 64
    context.pix_fmt, context.time_base = pix_fmt, Fraction(1, 25)
    try:
        context.open()
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True


def _check_asked(options: EncodeOptions, names: list[str]) -> None:
    if options.pix_fmt not in names:
        allowed = ", ".join(name for name in names if _usable(name))
        raise OutputError(
            f"--pix-fmt {options.pix_fmt} is not a format of {options.codec}: "
            f"{did_you_mean(options.pix_fmt, names)}give auto or one of {allowed}"
        )
    if not _usable(options.pix_fmt):
        raise OutputError(
            f"--pix-fmt {options.pix_fmt} cannot be written by starvsr: give auto or a YUV or RGB format"
        )


def _usable(name: str) -> bool:
    layout = layout_of(name)
    described = VideoFormat(name)
    # The "j" formats are an older way to signal full range, which is a tag.
    plain = (
        not name.startswith("yuvj") and not described.has_palette and not described.is_bit_stream
    )
    return plain and layout.depth >= 8 and not layout.gray and _in_memory(name)


def _in_memory(name: str) -> bool:
    # GPU formats describe no components.
    return bool(VideoFormat(name).components) and "f16" not in name and "f32" not in name


def _losses(source: Layout, layout: Layout) -> tuple[int, ...]:
    wanted = (1, 1) if source.gray else (0, 0) if source.rgb else source.chroma_shift
    over = [have - want for have, want in zip(layout.chroma_shift, wanted, strict=True)]
    return (
        int(source.alpha and not layout.alpha),
        max(0, source.depth - layout.depth),
        sum(max(0, each) for each in over),
        int(layout.rgb != source.rgb),
        max(0, layout.depth - source.depth),
        sum(max(0, -each) for each in over),
        # Of two equivalent formats, the planar one.
        -layout.planes,
    )
