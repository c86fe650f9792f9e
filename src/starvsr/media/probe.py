"""Facts from a video file's header and first frame."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from starvsr.errors import InputError, UsageError
from starvsr.media.beside import beside_of, crop_of
from starvsr.media.choice import choose_stream, foreign_streams
from starvsr.media.decode import FrameDecoder
from starvsr.media.described import describe_file
from starvsr.media.graph import frame_aspect
from starvsr.media.hdr import hdr_of
from starvsr.media.orientation import orientation_of
from starvsr.media.sequence import is_sequence, source_numbers
from starvsr.media.siting import said_siting
from starvsr.media.source import is_cover, open_source
from starvsr.media.undecodable import undecodable
from starvsr.options import DEFAULT_FPS
from starvsr.types import ColorInfo, StreamInfo, VideoInfo

logger = logging.getLogger(__name__)

# A recording that begins in the middle of a group of pictures decodes from its first keyframe on, which is
# seconds away at most; a file that needs more has nothing to show.
_MOST_PACKETS = 1000
# libav's code of field order; greater ones are interlaced.
_PROGRESSIVE = 1
_MICROSECOND = Fraction(1, 1_000_000)


def probe(path: Path, fps: Fraction | None = None, video_stream: int | None = None) -> VideoInfo:
    """Read a video file's header, and decode its first frame.

    fps: frames per second of an image sequence. video_stream: index among the video streams; None is the film.
    Raises InputError if the file is missing, not readable, not media, or contains no video; UsageError for the fps of
    a file that has its own, or a stream that it does not have.
    """
    with open_source(path) as container:
        stream = choose_stream(container, path, video_stream)
        frame = _first_frame(container, stream)
        described = describe_file(container)
        sides = described.sides.get(stream.index, {})
        pix_fmt = frame.format.name if frame else stream.codec_context.pix_fmt
        width, height = (frame.width, frame.height) if frame else (stream.width, stream.height)
        if not pix_fmt or not width or not height:
            raise InputError(undecodable(path, stream.index))
        crop = crop_of(sides, width, height)
        width, height = width - crop[0] - crop[1], height - crop[2] - crop[3]
        turned = orientation_of(frame)
        aspect = stream.sample_aspect_ratio or (frame_aspect(frame) if frame else Fraction(1))
        if turned.swaps_sides:
            width, height, aspect = height, width, 1 / aspect
        info = VideoInfo(
            path=path,
            container=container.format.name,
            stream_index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            pix_fmt=pix_fmt,
            bit_depth=bit_depth(pix_fmt),
            width=width,
            height=height,
            rotation=turned.clockwise,
            sample_aspect=aspect,
            time_base=stream.time_base or _MICROSECOND,
            frame_rate=stream.average_rate or stream.guessed_rate,
            duration_s=_duration_s(container, stream),
            header_frames=stream.frames,
            interlaced=stream.codec_context.field_order > _PROGRESSIVE
            or bool(frame and frame.interlaced_frame),
            color=_color(stream, frame, described.streams.get(stream.index, "")),
            streams=tuple(
                _describe(each, described.streams.get(each.index, "")) for each in container.streams
            ),
            chapters=len(container.chapters()),
            hdr=hdr_of(frame, sides),
            crop=crop,
            beside=beside_of(container, stream, frame, sides),
            foreign=foreign_streams(described.programs, stream.index),
        )
    if is_sequence(path) and not path.exists():
        return _timed(info, fps or DEFAULT_FPS)
    if fps is not None:
        raise UsageError(f"--fps is for image sequences: {path} has its own times; leave it out")
    return info


def _timed(info: VideoInfo, fps: Fraction) -> VideoInfo:
    """Facts about a sequence, whose demuxer counts frames."""
    count = len(source_numbers(info.path))
    return replace(
        info,
        time_base=1 / fps,
        frame_rate=fps,
        duration_s=float(count / fps),
        header_frames=count,
    )


def bit_depth(pix_fmt: str) -> int:
    """Bits per component of a pixel format, without alpha."""
    parts = VideoFormat(pix_fmt).components
    return max((part.bits for part in parts if not part.is_alpha), default=8)


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    decoder = FrameDecoder(container, stream, one_thread=True, most_packets=_MOST_PACKETS)
    return next(iter(decoder), None)


def _duration_s(container: InputContainer, stream: Stream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return float(container.duration * _MICROSECOND)
    return None


def _color(stream: VideoStream, frame: VideoFrame | None, described: str) -> ColorInfo:
    header = stream.codec_context
    siting = said_siting(described, header.pix_fmt)
    if frame is None:
        return ColorInfo(
            header.colorspace, header.color_range, header.color_primaries, header.color_trc, siting
        )
    # The container's tags take precedence in libav too: its decoders use them unless the bitstream has its own.
    return ColorInfo(
        matrix=_first_set(frame.colorspace, header.colorspace, unset=2),
        range=_first_set(frame.color_range, header.color_range, unset=0),
        primaries=_first_set(frame.color_primaries, header.color_primaries, unset=2),
        transfer=_first_set(frame.color_trc, header.color_trc, unset=2),
        chroma_location=siting,
    )


def _first_set(*codes: int, unset: int) -> int:
    return next((int(code) for code in codes if code != unset), unset)


def _describe(stream: Stream, described: str) -> StreamInfo:
    context = stream.codec_context
    # Without a decoder PyAV has no name either, for which some of its streams raise AttributeError.
    codec = context.codec.canonical_name if context else getattr(stream, "name", None) or ""
    if stream.type == "data" and (said := re.match(r"Data: (\w+)(?: \((\w+) /)?", described)):
        # Of the kinds that libav has one name for, the container's own.
        codec = (said[2] or "") if said[1] in ("none", "bin_data") else said[1]
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        codec=codec,
        language=stream.language or "",
        detail=_detail(stream),
    )


def _detail(stream: Stream) -> str:
    context = stream.codec_context
    if stream.type == "attachment":
        return str(stream.metadata.get("filename", ""))
    if is_cover(stream):
        return "cover picture"
    if isinstance(context, AudioCodecContext):
        return f"{context.layout.name} {context.sample_rate} Hz"
    if isinstance(context, VideoCodecContext):
        return f"{context.width}x{context.height} {context.pix_fmt}"
    return str(stream.metadata.get("title", ""))
