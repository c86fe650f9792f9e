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

    start: seconds, for the warning where they cannot be encoded and are left out.
    """
    encoder = stream.codec_context
    assert isinstance(encoder, SubtitleCodecContext)
    if not lines:
        return None
    line = r"\N".join([lines[0], *(each.split(",", _COMMAS)[-1] for each in lines[1:])])
    if encoder.name == "webvtt":
        line = line.translate(_ESCAPES)
    try:
        made: Packet[Any] = encoder.encode_subtitle(SubtitleSet.create(line.encode(), 0, 0))
    except (av.FFmpegError, OSError) as error:
        _warn(float(start), error)
        return None
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
        self._shown: list[tuple[Fraction, list[str]]] = []
        """When lines end."""
        self._at = Fraction(0)

    def add(self, cue: Cue) -> Iterator[Cue]:
        """What is complete now that this one begins."""
        start, length, lines = cue
        yield from self._until(start)
        self._at = max(self._at, start)
        if length:
            self._shown.append((start + length, lines))

    def rest(self) -> Iterator[Cue]:
        """What is complete after the last one."""
        yield from self._until(None)

    def _until(self, start: Fraction | None) -> Iterator[Cue]:
        while self._shown and (start is None or self._at < start):
            ends = [end for end, _ in self._shown]
            end = min(ends) if start is None else min(*ends, start)
            if end > self._at:
                yield self._at, end - self._at, [line for _, each in self._shown for line in each]
            self._at = max(self._at, end)
            self._shown = [each for each in self._shown if each[0] > end]


def _has_text(rect: object) -> bool:
    return isinstance(rect, AssSubtitle) and bool(rect.ass)
