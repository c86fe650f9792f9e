"""Converts text subtitles from one codec to another, line by line, with libav's decoders and encoders."""

from __future__ import annotations

import logging
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


def converted(packet: Packet[Any], stream: Stream) -> Packet[Any] | None:
    """One packet's lines for a stream from `add_texts`, without times; None if there is nothing to show.

    A line that cannot be decoded or encoded is left out, with a warning.
    """
    encoder = stream.codec_context
    assert isinstance(encoder, SubtitleCodecContext)
    try:
        decoded = packet.stream.codec_context.decode2(packet)
        lines = [rect.ass.decode("utf-8", "replace") for rect in decoded or () if _has_text(rect)]
        if not lines:
            return None
        line = r"\N".join([lines[0], *(each.split(",", _COMMAS)[-1] for each in lines[1:])])
        if encoder.name == "webvtt":
            line = line.translate(_ESCAPES)
        made: Packet[Any] = encoder.encode_subtitle(SubtitleSet.create(line.encode(), 0, 0))
    except (av.FFmpegError, OSError) as error:
        logger.warning(
            "a line of subtitle stream %d at %.3f s is left out: it cannot be converted (%s)",
            packet.stream_index,
            float((packet.pts or 0) * packet.time_base),
            error,
        )
        return None
    return made if made.size else None


def _has_text(rect: object) -> bool:
    return isinstance(rect, AssSubtitle) and bool(rect.ass)
