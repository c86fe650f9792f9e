"""Converts text subtitles from one codec to another, line by line, with libav's decoders and encoders."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from starvsr.media.source import is_text

logger = logging.getLogger(__name__)

# In a line of ASS, the text follows this many commas.
_COMMAS = 8
# `\r` would say it shorter, but libav's mov_text keeps the style of the line before.
_NEW_LINE = r"\N{\b0\i0\u0}"
# Tags and entities in WebVTT that are plain text in ASS; libav's encoder passes them through.
_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}


def add_texts(output: OutputContainer, codec: str, source: Stream) -> SubtitleStream:
    """Add a stream for subtitles converted to `codec`. Raises ValueError if the output does not support it.

    source: must be `is_text`.
    """
    decoder = source.codec_context
    assert isinstance(decoder, SubtitleCodecContext) and is_text(source)
    # Only an open decoder knows the styles.
    decoder.open(strict=False)
    stream = output.add_stream(codec)
    assert isinstance(stream, SubtitleStream)
    encoder = stream.codec_context
    assert isinstance(encoder, SubtitleCodecContext)
    encoder.subtitle_header = decoder.subtitle_header or _plain_header()
    encoder.time_base = source.time_base or Fraction(1, 1000)
    return stream


def _plain_header() -> bytes | None:
    """Styles for a file without any: those that libav gives plain text."""
    plain = av.CodecContext.create("subrip", "r")
    assert isinstance(plain, SubtitleCodecContext)
    plain.open()
    return plain.subtitle_header


def lines_of(packet: Packet[Any]) -> list[str]:
    """What a packet of a source that is `is_text` shows, as events of ASS; nothing, with a warning, if damaged."""
    try:
        decoded = packet.stream.codec_context.decode2(packet)
        return [rect.ass.decode("utf-8", "replace") for rect in decoded or () if _has_text(rect)]
    except (av.FFmpegError, OSError) as error:
        _warn(float((packet.pts or 0) * packet.time_base), error)
        return []


def encoded(lines: list[str], stream: Stream, start: Fraction) -> Packet[Any] | None:
    """Lines that are shown together, for a stream from `add_texts`, without times; None if there is nothing to show.

    start: seconds, for the warning where one cannot be encoded and is left out.
    """
    try:
        return _encoded(lines, stream) if lines else None
    except (av.FFmpegError, OSError) as error:
        _warn(float(start), error)
    good = [line for line in lines if _can_encode(line, stream)]
    return encoded(good, stream, start) if len(good) < len(lines) else None


def _can_encode(line: str, stream: Stream) -> bool:
    try:
        return _encoded([line], stream) is not None
    except (av.FFmpegError, OSError):
        return False


def _encoded(lines: list[str], stream: Stream) -> Packet[Any] | None:
    encoder = stream.codec_context
    assert isinstance(encoder, SubtitleCodecContext)
    # Typesetters put the same text on several layers. A style ends with its line.
    texts = dict.fromkeys(line.split(",", _COMMAS)[-1] for line in lines)
    front = lines[0].removesuffix(next(iter(texts)))
    line = front + _NEW_LINE.join(texts)
    if encoder.name == "webvtt":
        line = line.translate(_ESCAPES)
    made: Packet[Any] = encoder.encode_subtitle(SubtitleSet.create(line.encode(), 0, 0))
    return made if made.size else None


def _warn(start: float, error: Exception) -> None:
    logger.warning("a subtitle at %.3f s is left out: it cannot be converted (%s)", start, error)


Cue = tuple[Fraction, Fraction, list[str]]
"""Start and length in seconds, and the lines."""


class OneAtATime:
    """Cues that may overlap as ones that do not: where the lines that are shown change, a new one begins.

    mp4's samples follow each other: its muxer would begin an overlapping one, and all that follow it, late.
    """

    def __init__(self) -> None:
        self._shown: list[tuple[Fraction | None, list[str]]] = []
        """When lines end; None: with the next."""
        self._at = Fraction(0)

    def add(self, cue: Cue) -> Iterator[Cue]:
        """What is complete now that this one begins; one that comes too late is shown from now on.

        A length of 0 is an unknown one.
        """
        start, length, lines = cue
        yield from self._until(start)
        self._shown = [each for each in self._shown if each[0] is not None]
        self._at = max(self._at, start)
        self._shown.append((self._at + length if length else None, lines))

    def ended(self, time: Fraction) -> Iterator[Cue]:
        """What has ended at a time before which no line begins any more."""
        while (end := self._next_end()) is not None and end <= time:
            yield from self._until(end)

    def rest(self) -> Iterator[Cue]:
        """What is complete after the last one."""
        while (end := self._next_end()) is not None:
            yield from self._until(end)
        if self._shown:
            yield self._at, Fraction(0), self._lines()
        self._shown = []

    def _next_end(self) -> Fraction | None:
        return min((end for end, _ in self._shown if end is not None), default=None)

    def _until(self, time: Fraction) -> Iterator[Cue]:
        while self._shown and self._at < time:
            end = min([time, *(end for end, _ in self._shown if end is not None)])
            yield self._at, end - self._at, self._lines()
            self._at = end
            self._shown = [each for each in self._shown if each[0] is None or each[0] > end]

    def _lines(self) -> list[str]:
        return [line for _, lines in self._shown for line in lines]


def _has_text(rect: object) -> bool:
    return isinstance(rect, AssSubtitle) and bool(rect.ass)
