"""Colour: the matrix and range of a video, and exact conversion between its samples and 16-bit RGB.

Pixels passed between modules are uint16 RGB, 0 black to 65535 white, on the source's transfer curve (PQ and
HLG too: nothing is linearised or tone-mapped). Samples below black or above white of a limited-range source are
clipped. libswscale converts, with exact rounding and full chroma interpolation; this module corrects the rest:

- its 16-bit RGB has white at 65280 (limited range) or a little more (full range), not at 65535;
- its conversion to full-range YUV puts neutral grey half a level too low, so full range is stretched here from
  limited range at 16 bits.

Output with fewer than 16 bits is dithered (see `quantize`; 8-bit limited-range YUV by libswscale, in the same way).
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from starvsr.errors import InputError
from starvsr.media.graph import VideoGraph
from starvsr.media.hdr import check_dolby_vision
from starvsr.media.pixfmt import Layout, choose_pix_fmt, is_subsampled, layout_of
from starvsr.media.quantize import (
    fill,
    limited_to,
    repeated_bits,
    samples_of,
    to_depth,
    to_levels,
)
from starvsr.media.siting import LEFT, SITINGS, carried_siting, usual_siting
from starvsr.types import ColorInfo, VideoInfo

__all__ = [
    "FromRgb",
    "Pixels",
    "ToRgb",
    "choose_pix_fmt",
    "is_subsampled",
    "output_color",
    "resolve_color",
]

Pixels = npt.NDArray[np.uint16]

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
# ISO/IEC 23091-2 matrix codes that libswscale knows, with its names for them.
_MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
# Subsamplings that libav supports up to 16 bits, by chroma shift (columns, rows).
_SAMPLINGS = {(0, 0): "444", (1, 0): "422", (1, 1): "420"}
_JPEG_MATRIX = 5
# Codecs whose pictures are BT.601 by definition, or by design where they have no sign for it, whatever their size.
_BT601_CODECS = re.compile(
    "mjpegb?|ljpeg|amv|sp5x|thp|webp|mpeg1video|h261|h263[ip]?|flv1|rv[12]0|svq[13]|vp[34578]|vp6[af]?|theora"
)
# Encoders whose decoders treat everything as limited range.
_LIMITED_CODECS = ("prores", "prores_aw", "prores_ks", "mpeg1video", "mpeg2video", "mpeg4")


def resolve_color(info: VideoInfo) -> ColorInfo:
    """The source's colour with matrix and range always set.

    Without a tag, the matrix is BT.709 if the frame has more than 576 lines or at least 1280 columns and its codec
    is not BT.601 by definition, and BT.601 otherwise, as in players (libav itself would assume BT.601 for every size,
    which shows the many untagged HD files wrong). A range without a tag is limited; RGB and grey are full. Raises
    InputError for Dolby Vision without a base layer (`hdr.check_dolby_vision`), and for a
    matrix that cannot be converted (YCgCo, ICtCp, constant luminance).
    """
    check_dolby_vision(info)
    color, layout = info.color, layout_of(info.pix_fmt)
    if layout.rgb:
        return replace(color, matrix=0, range=FULL)
    # VP8 has no sign for another one, whatever a container says; libvpx, its decoder with alpha, tags nothing.
    matrix = _JPEG_MATRIX if info.codec == "vp8" else color.matrix
    if matrix in (0, UNSPECIFIED):
        matrix = _usual_matrix(info)
    if matrix not in _MATRICES:
        raise InputError(
            f"{info.path}: its colour matrix (code {matrix} of ISO/IEC 23091-2) is not supported: "
            "convert it to BT.709 or BT.2020 first"
        )
    full_by_format = info.pix_fmt.startswith("yuvj") or (layout.gray and color.range != LIMITED)
    full = full_by_format or color.range == FULL
    return replace(
        color,
        matrix=matrix,
        range=FULL if full else LIMITED,
        # libswscale would treat all of them as centred.
        chroma_location=(color.chroma_location or usual_siting(info.codec))
        if is_subsampled(info.pix_fmt)
        else 0,
    )


def _usual_matrix(info: VideoInfo) -> int:
    width, height = info.width, info.height
    if (min(width, height) > 576 or max(width, height) >= 1280) and not _BT601_CODECS.fullmatch(
        info.codec
    ):
        return 1
    return 5 if height == 576 else 6


def output_color(info: VideoInfo, pix_fmt: str, codec: str) -> ColorInfo:
    """The output's colour, as converted and tagged.

    The source's, with matrix and range always explicit (players guess them by size, and the size changes).
    RGB becomes BT.709 limited if the encoder supports YUV only. JPEG is full range and BT.601 by definition, ProRes and
    MPEG are limited range; so are the rare 4:1:1, 4:1:0 and 4:4:0.
    """
    said = info.color.chroma_location if is_subsampled(info.pix_fmt) else 0
    siting = carried_siting(said, info.codec, codec) if is_subsampled(pix_fmt) else 0
    color = replace(resolve_color(info), chroma_location=siting)
    if layout_of(pix_fmt).rgb:
        return replace(color, matrix=0, range=FULL)
    if color.matrix == 0:
        color = replace(color, matrix=1, range=LIMITED)
    if codec == "mjpeg":
        return replace(color, matrix=_JPEG_MATRIX, range=FULL)
    if codec in _LIMITED_CODECS or layout_of(pix_fmt).chroma_shift not in _SAMPLINGS:
        return replace(color, range=LIMITED)
    return color


class ToRgb:
    """Converts decoded frames of one video to pixels of one size."""

    def __init__(self, info: VideoInfo, width: int, height: int, *, alpha: bool = False) -> None:
        """width, height: of the pixels, before any rotation; frames of another size are scaled to it.

        alpha: add a fourth channel, 0 transparent to 65535 opaque.
        """
        self._color = resolve_color(info)
        self._size, self._alpha = (width, height), alpha
        self._graphs: dict[tuple[str, int, int], tuple[VideoGraph, VideoGraph | None]] = {}

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Pixels (height, width, 3 or 4), uint16, 0..65535, C order. The frame's colour tags are overwritten."""
        layout = layout_of(frame.format.name)
        full = self._color.range == FULL or layout.rgb
        frame.colorspace = 0 if layout.rgb else self._color.matrix or 1
        frame.color_range = FULL if full else LIMITED
        # With transfer and primaries tags, libswscale would refuse codes it does not know.
        frame.color_trc = frame.color_primaries = UNSPECIFIED
        key = (frame.format.name, frame.width, frame.height)
        if key not in self._graphs:
            # A stream that keeps changing its format must not fill memory.
            graphs = self._graph(frame, full), self._alpha_graph(frame) if self._alpha else None
            self._graphs = {key: graphs}
        colors, alpha = self._graphs[key]
        pixels = _spread(colors.run(frame).to_ndarray(), layout, full)
        if not self._alpha:
            return pixels
        return np.dstack([pixels, _opacity(alpha.run(frame) if alpha else None, pixels)])

    def _graph(self, frame: VideoFrame, full: bool) -> VideoGraph:
        layout = layout_of(frame.format.name)
        scale = f"{self._scale()}:out_range=pc:in_range={'pc' if full or layout.gray else 'tv'}"
        if not layout.rgb:
            scale += f":in_color_matrix={_MATRICES[self._color.matrix or 1]}"
            if is_subsampled(frame.format.name):
                scale += f":in_chroma_loc={SITINGS[self._color.chroma_location or LEFT]}"
        # 8-bit RGB is copied as it is; a detour through 16 bits would not be exact.
        wanted = "rgb24" if layout.rgb and layout.depth <= 8 else "rgb48le"
        return VideoGraph(frame, [("scale", scale)], wanted)

    def _alpha_graph(self, frame: VideoFrame) -> VideoGraph | None:
        layout = layout_of(frame.format.name)
        if not layout.alpha:
            return None
        planes = [("format", "rgba")] if VideoFormat(frame.format.name).has_palette else []
        scale = f"{self._scale()}:in_range=pc:out_range=pc"
        wanted = "gray" if layout.depth == 8 else f"gray{layout.depth}le"
        return VideoGraph(frame, [*planes, ("extractplanes", "a"), ("scale", scale)], wanted)

    def _scale(self) -> str:
        width, height = self._size
        return f"{width}:{height}:flags={_FLAGS}"


def _opacity(frame: VideoFrame | None, pixels: Pixels) -> Pixels:
    """Alpha of a grey frame as 0..65535; opaque if it has none."""
    if frame is None:
        return np.full(pixels.shape[:2], 65535, np.uint16)
    depth = layout_of(frame.format.name).depth
    levels = samples_of(frame.planes[0], depth).astype(np.float64)
    return np.rint(levels * (65535 / ((1 << depth) - 1))).astype(np.uint16)


def _spread(array: npt.NDArray[Any], layout: Layout, full: bool) -> Pixels:
    """Scale libswscale's RGB, whose white level depends on its source, to 0..65535."""
    if layout.rgb:
        # 8 bits are already exact; deeper formats already fill 16 bits.
        if layout.depth <= 8:
            array = np.multiply(array, 257, dtype=np.uint16)
        rgb: Pixels = np.ascontiguousarray(array, np.uint16)
        return rgb
    if layout.gray and not full:
        grey: Pixels = _limited_grey()[array]
        return grey
    # Samples were shifted up, to white at 65536 - (1 << 16 - depth): their own bits fill the gap.
    shift = layout.depth if full else 8
    clipped: Pixels = np.minimum(array, 65536 - (1 << 16 - shift))
    clipped += clipped >> shift
    return clipped


@lru_cache(maxsize=1)
def _limited_grey() -> Pixels:
    """Table for limited-range grey, which libswscale treats as full range."""
    levels = np.arange(65536, dtype=np.float64) / 256
    return np.rint(np.clip((levels - 16) / 219, 0, 1) * 65535).astype(np.uint16)


class FromRgb:
    """Converts pixels of one size to frames for an encoder."""

    def __init__(self, width: int, height: int, pix_fmt: str, color: ColorInfo) -> None:
        """color: of the frames, with nothing unset (see `output_color`)."""
        self._size, self._pix_fmt, self._color = (width, height), pix_fmt, color
        self._layout = layout_of(pix_fmt)
        self._graph: VideoGraph | None = None
        self._arranged: VideoGraph | None = None

    def __call__(self, pixels: Pixels) -> VideoFrame:
        """A frame of `pix_fmt` from pixels (height, width, 3), uint16, 0..65535; pts is not set.

        A fourth channel is for formats with alpha; without it, their frames are opaque.
        """
        width, height = self._size
        channels = (3, 4) if self._layout.alpha else (3,)
        allowed = [(height, width, count) for count in channels]
        if pixels.shape not in allowed or pixels.dtype != np.uint16:
            raise ValueError(
                f"pixels must be uint16 {' or '.join(map(str, allowed))}, not {pixels.dtype} {pixels.shape}"
            )
        if self._layout.alpha and pixels.shape[2] == 3:
            opaque = np.full((height, width, 1), 65535, np.uint16)
            pixels = np.concatenate([pixels, opaque], axis=2)
        frame = self._rgb(pixels) if self._layout.rgb else self._yuv(pixels)
        frame.colorspace = self._color.matrix
        frame.color_range = self._color.range
        frame.color_primaries = self._color.primaries
        frame.color_trc = self._color.transfer
        return frame

    def _rgb(self, pixels: Pixels) -> VideoFrame:
        depth = self._layout.depth
        levels = to_levels(pixels, depth)
        if depth == 8:
            name = "rgba" if self._layout.alpha else "rgb24"
            frame = VideoFrame.from_ndarray(levels.astype(np.uint8), name)
        else:
            name = "rgba64le" if self._layout.alpha else "rgb48le"
            frame = VideoFrame.from_ndarray(repeated_bits(levels, depth), name)
        if self._pix_fmt == name:
            return frame
        _tag(frame, 0, FULL)
        if self._graph is None:
            self._graph = VideoGraph(
                frame, [("scale", f"flags={_FLAGS}:in_range=pc:out_range=pc")], self._pix_fmt
            )
        return self._graph.run(frame)

    def _yuv(self, pixels: Pixels) -> VideoFrame:
        depth = self._layout.depth
        full = self._color.range == FULL
        # libswscale dithers 8 bits itself; it would only round deeper formats and full range.
        by_hand = (
            full or self._layout.alpha or (depth > 8 and self._layout.chroma_shift in _SAMPLINGS)
        )
        colors = pixels[..., :3]
        # libswscale's white is 65280.
        scaled = colors >> 8
        np.subtract(colors, scaled, out=scaled)
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(scaled), "rgb48le")
        _tag(frame, 0, FULL)
        if self._graph is None:
            scale = (
                f"flags={_FLAGS}:in_range=pc:out_range=tv:out_color_matrix={_MATRICES[self._color.matrix]}"
                f":out_chroma_loc={SITINGS[self._color.chroma_location or LEFT]}"
            )
            wanted = _planar(self._layout.chroma_shift, 16) if by_hand else self._pix_fmt
            self._graph = VideoGraph(frame, [("scale", scale)], wanted)
        made = self._graph.run(frame)
        return self._quantized(made, pixels) if by_hand else made

    def _quantized(self, limited: VideoFrame, pixels: Pixels) -> VideoFrame:
        """A frame of the requested depth and range from one of 16 bits and limited range."""
        depth, alpha = self._layout.depth, self._layout.alpha
        name = _planar(self._layout.chroma_shift, depth, alpha=alpha)
        frame = VideoFrame(*self._size, name)
        tables = limited_to(depth, full=self._color.range == FULL)
        for plane, wide, table in zip(frame.planes[:3], limited.planes, tables, strict=True):
            fill(plane, to_depth(table[samples_of(wide, 16)], depth), depth)
        if alpha:
            fill(frame.planes[3], to_levels(pixels[..., 3], depth), depth)
        if name == self._pix_fmt:
            return frame
        # The same samples, interleaved differently; tagged as limited, so that nothing is scaled.
        _tag(frame, self._color.matrix, LIMITED)
        if self._arranged is None:
            self._arranged = VideoGraph(
                frame, [("scale", "in_range=tv:out_range=tv")], self._pix_fmt
            )
        return self._arranged.run(frame)


def _planar(chroma_shift: tuple[int, int], depth: int, *, alpha: bool = False) -> str:
    """The planar YUV format of a depth, by chroma shift (columns, rows)."""
    return f"yuv{'a' * alpha}{_SAMPLINGS[chroma_shift]}p" + (f"{depth}le" if depth > 8 else "")


def _tag(frame: VideoFrame, matrix: int, color_range: int) -> None:
    frame.colorspace, frame.color_range = matrix, color_range
    frame.color_trc = frame.color_primaries = UNSPECIFIED
    frame.pts, frame.time_base = 0, Fraction(1, 25)
