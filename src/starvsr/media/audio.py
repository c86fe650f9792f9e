"""Re-encoded audio: encoder settings, and packets that keep every sample at its original time."""

from __future__ import annotations

import io
import logging
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.format import AudioFormat
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from starvsr.errors import OutputError, did_you_mean
from starvsr.media.span import Span

logger = logging.getLogger(__name__)

# Transparent for every current lossy encoder; lossless ones ignore it.
_BITS_PER_CHANNEL = 96_000
# Vorbis and Opus layouts, which encoders that are strict about layouts accept.
_COMMON_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
# Significant bits per sample of each format that PyAV can build from arrays.
_SAMPLE_BITS = {"u8": 8, "s16": 16, "flt": 24, "s32": 32, "dbl": 32}
# Times in files are rounded to ticks; a larger difference is a gap or an overlap.
_JITTER_TICKS, _JITTER_S = 2, Fraction(1, 1000)
# So many frames after one tell whether its difference lasts: recorders also state times that vary by milliseconds.
_LOOKED_AT = 8
# What a larger difference that lasts is without doubt; a smaller one of the last frames, which too few follow, is none.
_GAP_S, _FEW = Fraction(1, 20), 2
_SILENCE_SAMPLES = 16_384
_USUAL = ("copy", "none", "aac", "libopus", "flac", "libmp3lame")


@dataclass(frozen=True)
class AudioSettings:
    """All settings that decide how samples are encoded."""

    codec: str
    """The encoder's name in libav."""
    rate: int
    """Samples per second."""
    layout: str
    """Channel layout, by libav's name."""
    sample_format: str
    read_as: str = ""
    """The layout that is read from the output, if it is another one."""


def find_audio_encoder(name: str) -> Codec:
    """An audio encoder of this libav build. Raises OutputError."""
    try:
        codec = Codec(name, "w")
    except UnknownCodecError as error:
        raise OutputError(
            f"--audio {name} is not an audio encoder of this libav build: "
            f"{did_you_mean(name, _USUAL)}give copy, none, or one such as aac, libopus or flac"
        ) from error
    if codec.type != "audio":
        raise OutputError(f"--audio {name} encodes {codec.type}, not audio: try aac")
    return codec


def audio_settings(name: str, stream: Stream, container: str) -> AudioSettings | None:
    """How the encoder `name` should encode a stream for libav's muxer `container`; None if it cannot.

    The source's rate, layout and depth are kept if the encoder supports them. An unsupported rate becomes the next
    higher one, a layout that is not read again as it was (AAC's 5.1(side)) the one behind instead of at the side, an
    unsupported one the common one with as many channels. Raises OutputError if there is no such encoder.
    """
    codec = find_audio_encoder(name)
    context = stream.codec_context
    if not isinstance(context, AudioCodecContext) or not context.sample_rate or codec.experimental:
        return None
    sample_format = _sample_format(codec, context.format)
    if sample_format is None:
        return None
    rate = _rate(codec, context.sample_rate)
    wanted = AudioSettings(name, rate, context.layout.name, sample_format)
    for layout in dict.fromkeys((wanted.layout, wanted.layout.removesuffix("(side)"))):
        if _read_layout(replace(wanted, layout=layout), container) == layout:
            return replace(wanted, layout=layout)
    for layout in (wanted.layout, *_COMMON_LAYOUTS):
        settings = replace(wanted, layout=layout)
        channels = av.AudioLayout(layout).nb_channels
        if channels == context.layout.nb_channels and _opens(settings, container):
            return replace(settings, read_as=_read_layout(settings, container) or "")
    return None


def _rate(codec: Codec, rate: int) -> int:
    allowed = codec.audio_rates or [rate]
    return min((each for each in allowed if each >= rate), default=max(allowed))


def _sample_format(codec: Codec, source: AudioFormat | None) -> str | None:
    bits = _bits(source.name) if source else 16
    names = [each.name for each in codec.audio_formats or () if _bits(each.name)]
    return min(names, key=lambda name: (max(0, bits - _bits(name)), _bits(name)), default=None)


def _bits(sample_format: str) -> int:
    return _SAMPLE_BITS.get(sample_format.removesuffix("p"), 0)


def _opens(settings: AudioSettings, container: str) -> bool:
    try:
        with av.open(io.BytesIO(), "w", format=container) as scratch:
            add_audio(scratch, settings)
            scratch.start_encoding()
    except (av.FFmpegError, ValueError, OSError):
        return False
    return True


def _read_layout(settings: AudioSettings, container: str) -> str | None:
    """The layout that is read from a file with a little silence of these settings; None if it cannot be written.

    AAC has no number for 5.1(side), for one, and what it says instead few decoders know.
    """
    file = io.BytesIO()
    channels = av.AudioLayout(settings.layout).nb_channels
    silence = np.zeros((1, channels * _SILENCE_SAMPLES), np.float32)
    try:
        with av.open(file, "w", format=container) as scratch:
            stream = add_audio(scratch, settings)
            frame = AudioFrame.from_ndarray(silence, "flt", settings.layout)
            frame.sample_rate, frame.pts = settings.rate, 0
            frame.time_base = Fraction(1, settings.rate)
            scratch.mux([*stream.encode(frame), *stream.encode(None)])
        file.seek(0)
        with av.open(file, "r") as written:
            return next(written.decode(audio=0)).layout.name
    except (av.FFmpegError, ValueError, OSError, StopIteration):
        return None


def _rounding(ticks: Fraction) -> Fraction:
    """`ticks` minus the nearest whole number, halves rounded up: -1/2 to 1/2."""
    return ticks - math.floor(ticks + Fraction(1, 2))


def add_audio(output: OutputContainer, settings: AudioSettings) -> AudioStream:
    """Add a stream with a configured encoder, not opened yet. Raises ValueError if the container cannot hold it."""
    stream = output.add_stream(settings.codec, rate=settings.rate)
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    context.layout = settings.layout
    context.format = settings.sample_format
    context.bit_rate = _BITS_PER_CHANNEL * context.layout.nb_channels
    stream.time_base = context.time_base = Fraction(1, settings.rate)
    return stream


def _tick(frame: AudioFrame) -> Fraction:
    return frame.time_base or Fraction(1, frame.sample_rate)


def _length(frame: AudioFrame) -> Fraction:
    return Fraction(frame.samples, frame.sample_rate)


def _rounding_of(frame: AudioFrame) -> Fraction:
    """By how much its time may be wrong for rounding alone, seconds."""
    return _JITTER_TICKS * _tick(frame) + _JITTER_S


class AudioEncoding:
    """Decodes packets of one source stream and encodes them again; every sample keeps its time.

    Gaps in the source are filled with silence and overlaps dropped, since encoders take one continuous stream.
    Samples before the start and after the end of a bounded span are dropped. The source's rate, layout and format
    may change in mid-stream.
    """

    def __init__(self, stream: AudioStream, settings: AudioSettings, span: Span) -> None:
        """stream: of the output, from `add_audio`."""
        self.stream: Stream = stream
        self._encoder = stream.codec_context
        self._settings = settings
        # Interleaved, whatever the encoder takes: PyAV fills planes for at most seven channels.
        self._format = AudioFormat(settings.sample_format).packed.name
        self._origin = span.origin
        self._first, self._end = self._bounds(span)
        self._waiting: deque[AudioFrame] = deque()
        """Frames by whose times those before them are judged."""
        self._resampler: AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None
        self._expected: Fraction | None = None
        """Time of the next source sample in seconds."""
        self._at = 0
        """Position of the next resampled sample, in output samples from time 0."""
        self._begin = 0
        """Position of the first sample passed to the encoder."""
        self._shift: Fraction | None = None
        """Offset added to times, in output ticks.

        Players skip a decoder's priming samples either exactly or, as libav does, in whole ticks of 1 ms: half way
        between, the error is small for both.
        """
        self._written: int | None = None
        """Exclusive end of the samples passed to the encoder."""

    def _bounds(self, span: Span) -> tuple[int | None, int | None]:
        if span.end is None:
            return None, None
        return self._place(span.start), self._place(span.end)

    def _place(self, time: Fraction) -> int:
        return round((time - self._origin) * self._settings.rate)

    def packets(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The encoder's packets for one packet of the source; a damaged packet is ignored."""
        try:
            frames = packet.stream.codec_context.decode(packet)
        except (av.FFmpegError, OSError) as error:
            logger.debug("an audio packet could not be decoded: %s", error)
            return
        for frame in frames:
            yield from self._follow(frame)

    def rest(self, source: Any) -> Iterator[Packet[Any]]:
        """Flush decoder, resampler and encoder. source: the stream that the packets came from."""
        try:
            frames = source.codec_context.decode(None)
        except (av.FFmpegError, OSError):
            frames = []
        for frame in [*frames, None]:
            yield from self._follow(frame)
        yield from self._end_run()
        if self._written is not None:
            yield from self._encoded(None)

    def _follow(self, frame: AudioFrame | None) -> Iterator[Packet[Any]]:
        if frame is not None:
            self._waiting.append(frame)
        while self._waiting and (frame is None or len(self._waiting) > _LOOKED_AT):
            yield from self._take(self._waiting.popleft())

    def _take(self, frame: AudioFrame) -> Iterator[Packet[Any]]:
        start = self._start(frame)
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or kind != self._kind or start != self._expected:
            yield from self._end_run()
            self._kind, self._at = kind, self._place(start)
            self._resampler = AudioResampler(
                self._format, self._settings.layout, self._settings.rate
            )
        self._expected = start + _length(frame)
        for piece in self._resampler.resample(frame):
            yield from self._write(piece)

    def _start(self, frame: AudioFrame) -> Fraction:
        """Time of a frame: exactly the expected one, unless its own and all that are waiting differ to the same side by
        more than rounding, and by more than from each other.

        Single times may be wrong: libav gives some frames of Vorbis, those between long and short blocks, a later
        one's.
        """
        expected = self._expected
        if frame.pts is None:
            return self._origin if expected is None else expected
        time = frame.pts * _tick(frame)
        if expected is None:
            return self._settled(frame, time)
        apart = self._apart(frame, expected)
        if len(apart) <= _FEW and abs(apart[0]) < _GAP_S:
            return expected
        rounding = _rounding_of(frame)
        if not (min(apart) > rounding or max(apart) < -rounding):
            return expected
        if min(map(abs, apart)) >= _GAP_S:
            return self._settled(frame, time)
        lasting = abs(median(apart)) > max(apart) - min(apart)
        return self._settled(frame, time) if lasting else expected

    def _settled(self, frame: AudioFrame, time: Fraction) -> Fraction:
        """The time of a frame that begins anew, in the middle of what the next ones say where times vary."""
        apart = [each for each in self._apart(frame, time) if abs(each) < _GAP_S]
        varies = max(map(abs, apart)) > _rounding_of(frame)
        return time + median(apart) if varies else time

    def _apart(self, frame: AudioFrame, start: Fraction) -> list[Fraction]:
        """By how much the times of a frame, and of those that are waiting, are later than if it began at `start`."""
        found = []
        for each in (frame, *self._waiting):
            if each.pts is not None:
                found.append(each.pts * _tick(each) - start)
            start += _length(each)
        return found

    def _end_run(self) -> Iterator[Packet[Any]]:
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                # PyAV passes the end mark through if there is nothing to resample.
                if piece is not None:
                    yield from self._write(piece)
        self._resampler = None

    def _write(self, piece: AudioFrame) -> Iterator[Packet[Any]]:
        begin, end = self._at, self._at + piece.samples
        self._at = end
        first = max(
            (each for each in (self._first, self._written) if each is not None), default=begin
        )
        kept = max(begin, first), end if self._end is None else min(end, self._end)
        if kept[0] >= kept[1]:
            return
        while self._written is not None and self._written < kept[0]:
            samples = min(_SILENCE_SAMPLES, kept[0] - self._written)
            yield from self._encode(self._silence(samples), self._written)
        if kept != (begin, end):
            piece = self._cut(piece, kept[0] - begin, kept[1] - begin)
        yield from self._encode(piece, kept[0])

    def _encode(self, piece: AudioFrame, place: int) -> Iterator[Packet[Any]]:
        if self._written is None:
            self._begin = place
        piece.pts, piece.time_base = place, Fraction(1, self._settings.rate)
        self._written = place + piece.samples
        yield from self._encoded(piece)

    def _encoded(self, piece: AudioFrame | None) -> Iterator[Packet[Any]]:
        for packet in self._encoder.encode(piece):
            base = self.stream.time_base or Fraction(1, self._settings.rate)
            ticks = 1 / (base * self._settings.rate)
            place = packet.pts or 0
            if self._shift is None:
                self._shift = _rounding((self._begin - place) * ticks) / 2
            # The padding of an encoder's last frame must not be heard.
            samples = min(packet.duration or 0, max(1, (self._written or 0) - place))
            packet.pts = packet.dts = round(place * ticks + self._shift)
            packet.duration = round(samples * ticks)
            packet.time_base = base
            yield packet

    def _silence(self, samples: int) -> AudioFrame:
        array = AudioFrame(self._format, self._settings.layout, samples).to_ndarray()
        return self._frame(np.full_like(array, 128 if array.dtype == np.uint8 else 0))

    def _cut(self, piece: AudioFrame, begin: int, end: int) -> AudioFrame:
        wide = piece.layout.nb_channels
        return self._frame(piece.to_ndarray()[:, begin * wide : end * wide])

    def _frame(self, array: Any) -> AudioFrame:
        frame = AudioFrame.from_ndarray(
            np.ascontiguousarray(array), self._format, self._settings.layout
        )
        frame.sample_rate = self._settings.rate
        return frame
