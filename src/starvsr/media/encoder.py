"""Encoder, container and settings of the output: requested or default, and tested once."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.codec.codec import Capabilities
from av.container import OutputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from starvsr.errors import OutputError
from starvsr.media.color import output_color
from starvsr.media.graph import AspectTag, frame_aspect
from starvsr.media.hdr import check_hdr, hdr_options
from starvsr.media.limits import check_quality, check_size, holds
from starvsr.media.pixfmt import DEEP_CODEC, choose_pix_fmt, find_encoder, is_hdr, layout_of
from starvsr.media.priority import usual_priority
from starvsr.media.sequence import ENCODERS, STILLS, is_sequence
from starvsr.media.siting import siting_options
from starvsr.media.still import STILL
from starvsr.options import (
    DEFAULT_CODEC,
    DEFAULT_CRF,
    DEFAULT_PRESET,
    EncodeOptions,
)
from starvsr.types import ColorInfo, VideoInfo

logger = logging.getLogger(__name__)

# libav's muxer for each file name extension that keeps frame times, chapters and copied streams.
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".nut": "nut",
}
# For image sequences, which have no container.
WITH_FRONT = ("mp4", "mov")
"""libav's muxers that can write the index in front of the data."""
IMAGES = "image2"
# libvpx counts in these ticks, and does not give back finer times.
_FINEST_S = Fraction(1, 10_000_000)
# The same everywhere, since the encoded bits depend on it; they must not depend on the machine's core count.
_THREADS = 4
# One encoder, for two kinds of pixels.
_X264 = ("libx264", "libx264rgb")
# Encoders that would otherwise target a bit rate, whatever the content: constant quantiser 2 (118 is one step).
_QUANTISED = ("mpeg4", "mpeg2video", "mpeg1video", "mjpeg")
_HARDWARE = Capabilities.hardware.value | Capabilities.hybrid.value
_ALWAYS = {
    # The macroblock tree reads uninitialised memory on small frames, and with AVX-512 on all in which the number of
    # blocks in a row is no multiple of 16: the same frames then give another stream every time.
    **{name: {"mbtree": "0"} for name in _X264},
    # Closed groups of pictures, and one frame thread: the output depends on the number of threads.
    "libx265": {"x265-params": "log-level=error:open-gop=0:frame-threads=2"},
    # Version 3 has checksums and slices that decode in parallel.
    "ffv1": {"level": "3", "slicecrc": "1", "slices": "16"},
    **{name: {"rc": "constqp", "qp": "17"} for name in ("h264_nvenc", "hevc_nvenc")},
    **{name: {"flags": "+qscale", "global_quality": "236"} for name in _QUANTISED},
}
# Where frames are one block wide, x265 reads uninitialised memory: the same frames then differ from run to run.
_SMALL_PX = 32_768
_SMALL = {"libx265": {"x265-params": "ctu=32"}}


@dataclass(frozen=True)
class EncoderSettings:
    """All settings that decide how frames are encoded; plain data, so `dataclasses.asdict` is JSON."""

    codec: str
    """The encoder's name in libav."""
    container: str
    """libav's muxer of the output."""
    pix_fmt: str
    width: int
    height: int
    options: tuple[tuple[str, str], ...]
    """Encoder options as key and value."""
    color: ColorInfo
    """Of the output; matrix and range are always set."""
    time_base: tuple[int, int]
    """Seconds per tick of the encoder's times, as numerator and denominator."""
    source_times: bool
    """Whether these are the source's times; an encoder that refuses their time base gets frame numbers."""
    frame_rate: tuple[int, int]
    """Frames per second that the encoder receives, as numerator and denominator."""
    threads: int = _THREADS

    @property
    def alpha(self) -> bool:
        """Whether frames have a fourth channel."""
        return layout_of(self.pix_fmt).alpha

    @property
    def part_container(self) -> str:
        """libav's muxer of part files: the output's, or one that supports the same and any frame number as a time."""
        return {IMAGES: "mov", "nut": "matroska"}.get(self.container, self.container)

    @property
    def stream_container(self) -> str:
        """libav's muxer that must support the stream: the output's, but for images the one of their parts."""
        return self.part_container if self.container == IMAGES else self.container

    @property
    def part_suffix(self) -> str:
        """File name extension of part files, with the dot."""
        if self.container == STILL:
            return ".raw"
        return next(suffix for suffix, name in CONTAINERS.items() if name == self.part_container)


def container_of(target: Path) -> str:
    """libav's muxer for a file name, `image2` for an image sequence, or `still` for one picture. Raises OutputError."""
    suffix = target.suffix.lower()
    if is_sequence(target):
        if suffix in ENCODERS:
            return IMAGES
    elif suffix in STILLS:
        return STILL
    if suffix not in CONTAINERS:
        given = f"the extension {suffix}" if suffix else "a name without an extension"
        raise OutputError(
            f"{target.name}: {given} is not supported: give one of {', '.join(CONTAINERS)}, %06d.png for images, or "
            f"for one picture one of {', '.join(STILLS)}"
        )
    return CONTAINERS[suffix]


def with_codec(options: EncodeOptions, target: Path, info: VideoInfo) -> EncodeOptions:
    """The options with a concrete encoder for `auto`: H.264, or HEVC for HDR and, in mp4 and mov, more than 8 bits; for
    WebM VP9, or AV1 if the source is deeper and opaque; for images the one of their extension. A codec's name becomes
    that of its encoder.

    Raises OutputError for an unknown encoder, an extension without a container, and an encoder that does not match the
    images.
    """
    container = container_of(target)
    if container == STILL:
        return options
    if container == IMAGES:
        wanted = ENCODERS[target.suffix.lower()]
        if options.codec not in ("auto", wanted):
            raise OutputError(
                f"--codec {options.codec} is not for {target.suffix} images: leave it out, or give {wanted}"
            )
        return replace(options, codec=wanted)
    if options.codec != "auto":
        # libav takes names of codecs too, such as hevc; everything here is by encoder.
        return replace(options, codec=find_encoder(options.codec).name)
    if container != "webm":
        # Televisions and phones decode 10 bits in HEVC only, and show HDR in nothing else.
        deep = (is_hdr(info) and container != "nut") or (
            info.bit_depth > 8 and container in ("mp4", "mov")
        )
        known = deep and DEEP_CODEC in av.codecs_available
        return replace(options, codec=DEEP_CODEC if known else DEFAULT_CODEC)
    # Not every build of libvpx supports more than 8 bits, and AV1 has no alpha.
    deep = is_hdr(info) or (info.bit_depth > 8 and not layout_of(info.pix_fmt).alpha)
    return replace(options, codec="libsvtav1" if deep else "libvpx-vp9")


def check_encoder(
    options: EncodeOptions, target: Path, info: VideoInfo, width: int, height: int
) -> EncoderSettings:
    """Resolve the encode options for an output of this size, and open the encoder once to test them.

    Writes nothing. Raises OutputError if the encoder, its options, the pixel format, the size or the container
    are incompatible, and InputError if the source's colours cannot be converted.
    """
    container = container_of(target)
    options = with_codec(options, target, info)
    pix_fmt = choose_pix_fmt(options, info, container)
    rate = info.frame_rate or Fraction(25)
    base = info.time_base
    settings = EncoderSettings(
        codec=options.codec,
        container=container,
        pix_fmt=pix_fmt,
        width=width,
        height=height,
        options=(),
        color=output_color(info, pix_fmt, options.codec),
        time_base=(base.numerator, base.denominator),
        source_times=True,
        frame_rate=(rate.numerator, rate.denominator),
    )
    check_hdr(info, options.codec, pix_fmt)
    if not holds(settings.stream_container, settings.codec):
        raise _cannot_hold(settings, target)
    check_size(settings.codec, settings.stream_container, width, height)
    own = _own_options(settings, info)
    defaults, asked = _default_options(options, own), _asked_options(options, own)
    check_quality(settings.codec, options)
    settings = replace(settings, options=tuple({**defaults, **asked}.items()))
    settings, unused = _try_open(settings, info, target)
    for key in unused:
        if key in asked:
            flag = f"--{key} " if key in ("crf", "preset") else f"-e {key}="
            raise OutputError(
                f"{flag}{asked[key]} is not an option of the encoder {options.codec}: leave it out"
            )
    kept = tuple((key, value) for key, value in settings.options if key not in unused)
    settings = replace(settings, options=kept)
    if info.sample_aspect != 1:
        _check_aspect(settings, target, info)
    return settings


def _own_options(settings: EncoderSettings, info: VideoInfo) -> dict[str, str]:
    """Options that are always set: for independent parts, and the source's dynamic range and chroma location."""
    codec = settings.codec
    own = {**_ALWAYS.get(codec, {}), **siting_options(settings.color.chroma_location, codec)}
    small = _SMALL.get(codec, {}) if settings.width * settings.height <= _SMALL_PX else {}
    for key, text in (*small.items(), *hdr_options(codec, info.hdr).items()):
        own[key] = f"{own[key]}:{text}" if key in own else text
    return own


def _default_options(options: EncodeOptions, own: dict[str, str]) -> dict[str, str]:
    """Default options; an encoder without such an option does not get it."""
    chosen = {"crf": str(DEFAULT_CRF), **own}
    if options.codec in _X264:
        chosen["preset"] = DEFAULT_PRESET
    return chosen


def _asked_options(options: EncodeOptions, own: dict[str, str]) -> dict[str, str]:
    asked: dict[str, str] = {}
    if options.crf is not None:
        asked["crf"] = f"{options.crf:g}"
    if options.preset is not None:
        asked["preset"] = options.preset
    asked.update(options.extra)
    for key in own.keys() & asked.keys():
        if key.endswith("-params"):
            asked[key] = f"{own[key]}:{asked[key]}"
    return asked


def _cannot_hold(settings: EncoderSettings, target: Path) -> OutputError:
    return OutputError(
        f"{target.name}: a {target.suffix} file cannot contain video of the encoder {settings.codec}: "
        "give another --codec"
        + (", or an output that ends in .mkv" if target.suffix.lower() != ".mkv" else "")
    )


def _try_open(
    settings: EncoderSettings, info: VideoInfo, target: Path
) -> tuple[EncoderSettings, list[str]]:
    """The settings with a time base that the encoder supports, and the options that it does not know."""
    failures: list[Exception] = []
    for attempt in _clocks(settings):
        try:
            return attempt, _opened(attempt, info, target)
        except (av.FFmpegError, ValueError, OSError) as error:
            failures.append(error)
    failure = failures[0]
    with suppress(av.FFmpegError, ValueError, OSError):
        usual = replace(settings, time_base=(1, 25), source_times=False, frame_rate=(25, 1))
        _opened(usual, info, target)
        raise OutputError(
            f"the encoder {settings.codec} does not support the frame rate {float(Fraction(*settings.frame_rate)):g}: "
            f"give --codec {DEFAULT_CODEC}"
        )
    listed = " ".join(f"{key}={value}" for key, value in settings.options)
    advice = "check --codec, --pix-fmt, --preset, --crf and -e"
    if is_hardware(settings.codec):
        advice = (
            f"check the device and its driver, or give --codec {DEFAULT_CODEC}; otherwise {advice}"
        )
    raise OutputError(
        f"the encoder {settings.codec} refuses {settings.width}x{settings.height} {settings.pix_fmt} with {listed} "
        f"({reason_of(failure)}): {advice}"
    ) from failure


def _clocks(settings: EncoderSettings) -> Iterator[EncoderSettings]:
    """The settings with every time base to try: the source's, frame numbers, and these at a rounded rate."""
    if Fraction(*settings.time_base) >= _FINEST_S:
        yield settings
    rate = Fraction(*settings.frame_rate)
    for tried in (rate, rate.limit_denominator(1001) or rate):
        number, of = tried.numerator, tried.denominator
        yield replace(settings, time_base=(of, number), source_times=False, frame_rate=(number, of))


def _opened(settings: EncoderSettings, info: VideoInfo, target: Path) -> list[str]:
    """Open the encoder; returns the options that it does not know. Raises what PyAV raises, and OutputError."""
    with av.open(io.BytesIO(), "w", format=settings.stream_container) as scratch:
        stream = add_video(scratch, settings, info)
        with usual_priority():
            stream.codec_context.open()
        unused = list(stream.codec_context.options)
        try:
            # Some muxers only fail now.
            scratch.start_encoding()
        except (av.FFmpegError, ValueError, OSError) as error:
            raise _cannot_hold(settings, target) from error
    return unused


def is_hardware(codec: str) -> bool:
    """Whether an encoder runs on a device of its own. Raises OutputError for an unknown one."""
    return bool(find_encoder(codec).capabilities & _HARDWARE)


def _check_aspect(settings: EncoderSettings, target: Path, info: VideoInfo) -> None:
    """Encode one frame to memory and check that its sample aspect can be read back.

    libav's Matroska muxer takes it from a field that PyAV cannot set, so only codecs that store it in their own
    stream keep it (VP9 and AV1 do not).
    """
    file = io.BytesIO()
    with av.open(file, "w", format=settings.stream_container) as output:
        stream = add_video(output, settings, info)
        frame = AspectTag(info.sample_aspect)(empty_frame(settings))
        frame.pts, frame.time_base = 0, Fraction(*settings.time_base)
        with usual_priority():
            packets = [*stream.encode(frame), *stream.encode(None)]
        for packet in packets:
            packet.pts = packet.dts = 0
            output.mux(packet)
    file.seek(0)
    with av.open(file, "r") as written:
        (first,) = written.decode(video=0)
        aspect = written.streams.video[0].sample_aspect_ratio or frame_aspect(first)
    if aspect != info.sample_aspect:
        other = "" if settings.container == "webm" else ", or --codec libx264"
        raise OutputError(
            f"{target.name}: a {target.suffix} file cannot keep the sample aspect {info.sample_aspect} of the source "
            f"with the encoder {settings.codec}: give an output that ends in .mp4{other}"
        )


def reason_of(error: Exception) -> str:
    """What libav last said of an error, else its code as text."""
    log = getattr(error, "log", None)
    return str(log[2].strip() if log else getattr(error, "strerror", None) or error)


def empty_frame(settings: EncoderSettings) -> VideoFrame:
    """A frame of zeros."""
    frame = VideoFrame(settings.width, settings.height, settings.pix_fmt)
    # Uninitialised memory may be outside a sample's range, which crashes x264.
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.colorspace, frame.color_range = settings.color.matrix, settings.color.range
    return frame


def add_video(
    container: OutputContainer, settings: EncoderSettings, info: VideoInfo
) -> VideoStream:
    """Add a stream with a configured encoder, not opened yet."""
    # SVT-AV1 would print a page to standard error for every part, bypassing libav's logging.
    os.environ.setdefault("SVT_LOG", "1")
    stream = container.add_stream(
        settings.codec, rate=Fraction(*settings.frame_rate), options=dict(settings.options)
    )
    if not isinstance(stream, VideoStream):
        raise OutputError(f"--codec {settings.codec} does not encode video: try libx264")
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = (
        settings.width,
        settings.height,
        settings.pix_fmt,
    )
    context.time_base = Fraction(*settings.time_base)
    context.thread_count = settings.threads
    context.sample_aspect_ratio = info.sample_aspect
    tag_alpha(stream, settings)
    color = settings.color
    context.colorspace, context.color_range = color.matrix, color.range
    context.color_primaries, context.color_trc = color.primaries, color.transfer
    return stream


def tag_alpha(stream: Stream, settings: EncoderSettings) -> None:
    """Tag a stream as having alpha, which Matroska's muxer does not detect by itself."""
    if settings.alpha and settings.container in ("matroska", "webm"):
        stream.metadata["alpha_mode"] = "1"
