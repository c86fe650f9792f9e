"""Facts from a video file's header and first frame."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from starvsr.errors import InputError, UsageError
from starvsr.media.beside import beside_of, crop_of
from starvsr.media.choice import choose_stream, foreign_streams, tagged_duration_s
from starvsr.media.clock import true_rate
from starvsr.media.decode import FrameDecoder, lacks_side_data, native_frame, readable_packets
from starvsr.media.described import describe_file
from starvsr.media.graph import frame_aspect
from starvsr.media.hdr import hdr_of
from starvsr.media.orientation import orientation_of
from starvsr.media.sequence import is_sequence, source_numbers
from starvsr.media.siting import said_siting
from starvsr.media.source import is_cover, open_source
from starvsr.media.still import is_still, still_info
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
# What is read to see which of several rates is true.
_MOST_TIMES, _MOST_BYTES = 100, 2**24
# No codec shows a frame later than so many others that follow it in the file.
_MOST_REORDERED = 16
_WITHOUT_TIMES = int(cast("int", Flags.no_timestamps.value))


def probe(path: Path, fps: Fraction | None = None, video_stream: int | None = None) -> VideoInfo:
    """Read a video file's header, and decode its first frame; or a still picture (see `media.still`).

    fps: frames per second of an image sequence or a raw stream. video_stream: index among the video streams; None is
    the film. Raises InputError if the file is missing, not readable, not media, or contains no video; UsageError for
    the fps of a file that has times, or a stream that it does not have.
    """
    if is_still(path):
        check_asked(path, fps, video_stream)
        return still_info(path)
    return _probe_video(path, fps, video_stream)


def _probe_video(path: Path, fps: Fraction | None, video_stream: int | None) -> VideoInfo:
    with open_source(path) as container:
        stream = choose_stream(container, path, video_stream)
        times = _FirstTimes()
        frame = _first_frame(container, stream, times)
        marked = _marked(path, stream, frame)
        described = describe_file(container)
        sides = described.sides.get(stream.index, {})
        pix_fmt = frame.format.name if frame else stream.codec_context.pix_fmt
        width, height = (frame.width, frame.height) if frame else (stream.width, stream.height)
        if not pix_fmt or not width or not height:
            raise InputError(undecodable(path, stream.index))
        crop = crop_of(sides, width, height)
        size = width - crop[0] - crop[1], height - crop[2] - crop[3]
        info = VideoInfo(
            path=path,
            container=container.format.name,
            stream_index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            pix_fmt=pix_fmt,
            bit_depth=bit_depth(pix_fmt),
            **_upright(stream, marked, *size),
            time_base=stream.time_base or _MICROSECOND,
            frame_rate=None,
            stated_rates=_stated_rates(stream),
            duration_s=_duration_s(container, stream),
            header_frames=stream.frames,
            interlaced=stream.codec_context.field_order > _PROGRESSIVE
            or bool(frame and frame.interlaced_frame),
            color=_color(stream, frame, described.streams.get(stream.index, "")),
            streams=tuple(
                _describe(each, described.streams.get(each.index, "")) for each in container.streams
            ),
            chapters=len(container.chapters()),
            hdr=hdr_of(marked, sides),
            crop=crop,
            beside=beside_of(container, stream, marked, sides, crop),
            foreign=foreign_streams(described.programs, stream.index),
        )
        if is_sequence(path) and not path.exists():
            return _timed(info, fps or DEFAULT_FPS)
        # Reads on, so it comes last.
        rate = true_rate(times.read_on(container, stream), info.time_base, info.stated_rates)
        _check_rate(container, stream, path, fps, rate)
    info = replace(info, frame_rate=rate)
    return info if fps is None else _at_rate(info, fps)


def check_asked(path: Path, fps: Fraction | None, video_stream: int | None) -> None:
    """Raise what `probe` raises for these, by the header alone."""
    if fps is None and video_stream is None:
        return
    if is_still(path):
        if fps is not None or video_stream:
            flag = "--fps" if fps is not None else f"--video-stream {video_stream}"
            raise UsageError(f"{flag}: {path} is one picture; leave it out")
        return
    with open_source(path) as container:
        if video_stream is not None:
            choose_stream(container, path, video_stream)
        if fps is not None and (path.exists() or not is_sequence(path)):
            _check_raw(container, path)


def _check_rate(
    container: InputContainer,
    stream: VideoStream,
    path: Path,
    fps: Fraction | None,
    rate: Fraction | None,
) -> None:
    """Warn of a rate that nobody states. Raises UsageError for the fps of a file that has times."""
    if fps is not None:
        _check_raw(container, path)
    elif _lacks_rate(container, stream):
        logger.warning(
            "%s states no frame rate: it is read at %s frames per second; --fps sets another one",
            path,
            rate,
        )


def _lacks_rate(container: InputContainer, stream: VideoStream) -> bool:
    """Whether libav made up the rate of a bare stream."""
    return bool(container.format.flags & _WITHOUT_TIMES) and not stream.codec_context.framerate


def _check_raw(container: InputContainer, path: Path) -> None:
    if not container.format.flags & _WITHOUT_TIMES:
        raise UsageError(
            f"--fps is for image sequences and raw streams: {path} has times; leave it out"
        )


def _upright(
    stream: VideoStream, frame: VideoFrame | None, width: int, height: int
) -> dict[str, Any]:
    """Displayed size, rotation and sample aspect of decoded frames of this size, once they are cropped."""
    turned = orientation_of(frame)
    aspect = stream.sample_aspect_ratio or (frame_aspect(frame) if frame else Fraction(1))
    if turned.swaps_sides:
        width, height, aspect = height, width, 1 / aspect
    return {
        "width": width,
        "height": height,
        "rotation": turned.clockwise,
        "sample_aspect": aspect,
    }


def _at_rate(info: VideoInfo, fps: Fraction) -> VideoInfo:
    """The facts of a raw stream at the rate that `--fps` gives."""
    # All times of a raw stream are libav's own, at this rate.
    base = info.time_base * (info.frame_rate or DEFAULT_FPS) / fps
    return replace(info, time_base=base, frame_rate=fps, stated_rates=(fps,))


def _stated_rates(stream: VideoStream) -> tuple[Fraction, ...]:
    """What libav guesses, what the container states or libav counted, and what the stream itself states."""
    rates = (stream.guessed_rate, stream.average_rate, stream.codec_context.framerate)
    return tuple(dict.fromkeys(rate for rate in rates if rate))


class _FirstTimes:
    """Collects the times of the first packets."""

    def __init__(self) -> None:
        self.streams: Sequence[Stream] = ()
        self._times: list[int] = []
        self._next = self._length = self._bytes = 0

    def packet(self, packet: Packet[Stream]) -> None:
        """A packet of the video; without a time, it follows the one before."""
        if packet.is_discard:
            return
        stamp = packet.pts if packet.pts is not None else packet.dts
        self._times.append(self._next if stamp is None else stamp)
        # libav gives later packets of a stream that states no rate one tick.
        lasts = packet.duration or 0
        self._length = lasts if 2 * lasts >= self._length else self._length
        self._next = self._times[-1] + self._length
        self._bytes += packet.size

    def read_on(self, container: InputContainer, stream: VideoStream) -> list[int]:
        """Times of as many frames as show the rate, ascending."""
        for packet in readable_packets(container, stream):
            self.packet(packet)
            if len(self._times) >= _MOST_TIMES or self._bytes >= _MOST_BYTES:
                # What is shown between the last ones is still to come.
                return sorted(set(self._times))[: -min(_MOST_REORDERED, len(self._times) // 2)]
        return sorted(set(self._times))


def _timed(info: VideoInfo, fps: Fraction) -> VideoInfo:
    """Facts about a sequence, whose demuxer counts frames."""
    count = len(source_numbers(info.path))
    return replace(
        info,
        time_base=1 / fps,
        frame_rate=fps,
        stated_rates=(fps,),
        duration_s=float(count / fps),
        header_frames=count,
    )


def bit_depth(pix_fmt: str) -> int:
    """Bits per component of a pixel format, without alpha."""
    parts = VideoFormat(pix_fmt).components
    return max((part.bits for part in parts if not part.is_alpha), default=8)


def _first_frame(
    container: InputContainer, stream: VideoStream, times: _FirstTimes
) -> VideoFrame | None:
    decoder = FrameDecoder(
        container, stream, one_thread=True, most_packets=_MOST_PACKETS, watch=times
    )
    return next(iter(decoder), None)


def _marked(path: Path, stream: VideoStream, frame: VideoFrame | None) -> VideoFrame | None:
    """The first frame with what the container says of it."""
    codec = stream.codec_context.codec.canonical_name
    if frame is None or not lacks_side_data(codec, frame.format.name):
        return frame
    with open_source(path) as container:
        same = next(each for each in container.streams.video if each.index == stream.index)
        return native_frame(container, same)


def _duration_s(container: InputContainer, stream: Stream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    length_s = tagged_duration_s(stream)
    if length_s is None and container.duration:
        length_s = float(container.duration * _MICROSECOND)
    if length_s is None or "matroska" not in container.format.name:
        return length_s
    if any(key.startswith("_STATISTICS") for key in stream.metadata):
        # mkvmerge's tag is the stream's own length.
        return length_s
    # Both are counted from the clock's 0, wherever the first frame is.
    return max(0.0, length_s - float((stream.start_time or 0) * (stream.time_base or 0)))


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
