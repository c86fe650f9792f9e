"""Packets of the source's other streams for the output: copied, re-encoded or converted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream

from starvsr.media.clock import Clock
from starvsr.media.decode import is_cut_short, readable_packets
from starvsr.media.shifts import Shift
from starvsr.media.span import Span
from starvsr.media.texts import Cue, OneAtATime, encoded, lines_of

logger = logging.getLogger(__name__)

# What decoders need before the first sound that is heard.
_OPUS_PRIMING_S, _PRIMING_PACKETS = Fraction(8, 100), 2
# How far after the end of a range a badly interleaved file may still have packets of the range.
_INTERLEAVING_S = 10
# How much later than its time a file may have a text.
_TEXT_LATE_S = 2
# Of muxers that accept packets at one time.
_NONSTRICT = int(cast("int", Flags.ts_nonstrict.value))

TimedPacket = tuple[Fraction, int, "Packet[Stream]"]


class Route(Protocol):
    """Converts the packets of one stream of the source to output packets."""

    stream: Stream
    """Of the output."""

    def packets(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The output packets for one packet of the source, with the output's times."""

    def rest(self, source: Stream) -> Iterator[Packet[Any]]:
        """The remaining packets once the source's stream, given here, has ended."""


class Copying:
    """Packets with the source's data and its times, shifted to the output's clock; text may be converted.

    Packets that the source's edit list marks as not shown are left out, but for those right before the first sound
    that is heard, with which a decoder begins.
    """

    def __init__(self, stream: Stream, span: Span, *, convert: bool = False) -> None:
        """stream: of the output. convert: it has an encoder for the source's text (see `texts.add_texts`)."""
        self.stream = stream
        self._span, self._convert = span, convert
        codec = stream.codec_context
        self._cues = OneAtATime() if codec is not None and codec.name == "mov_text" else None
        # A packet of TrueHD is shorter than a tick of Matroska, whose muxer accepts equal times.
        nonstrict = stream.type == "subtitle" or stream.container.format.flags & _NONSTRICT
        self._least_step = 0 if nonstrict else 1
        self._last_dts: int | None = None
        self._priming: list[Packet[Any]] = []
        """Packets before the first one that is shown, which are not."""
        self._before: Packet[Any] | None = None
        """The last subtitle before the span whose length is unknown, which is shown until the next."""

    def packets(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The packet itself, clipped to the span if it is a subtitle; nothing if it is outside."""
        if packet.is_discard:
            if self._last_dts is None and packet.stream.type == "audio":
                self._priming = [each for each in self._priming if _primes(each, packet)]
                self._priming.append(packet)
            return
        priming = [each for each in self._priming if _primes(each, packet)]
        self._priming = []
        for each in (*priming, packet):
            yield from self._copied(each)

    def _copied(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        if is_filler(packet):
            return
        if lacks_header(packet):
            logger.debug(
                "a packet of stream %d without its header is left out", packet.stream_index
            )
            return
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            logger.debug("a packet of stream %d without a time is left out", packet.stream_index)
            return
        start, length = stamp * packet.time_base, (packet.duration or 0) * packet.time_base
        times = self._clipped(start, length, packet.stream)
        if times is None:
            lasts = packet.stream.type == "subtitle" and not length and not self._convert
            if lasts and start < self._span.start:
                self._before = packet
            return
        if not self._convert:
            yield self._placed(packet, *times)
            return
        cue = (*times, lines_of(packet))
        yield from self._converted([cue] if self._cues is None else self._cues.add(cue))

    def _converted(self, cues: Iterable[Cue]) -> Iterator[Packet[Any]]:
        for start, length, lines in cues:
            made = encoded(lines, self.stream, start)
            if made is not None:
                yield self._placed(made, start, length)

    def _placed(self, packet: Packet[Any], start: Fraction, length: Fraction) -> Packet[Any]:
        base = self._base
        dts = round((start - self._span.origin) / base)
        if self._last_dts is not None:
            # In some files copied streams go back in time, which a muxer refuses.
            dts = max(dts, self._last_dts + self._least_step)
        self._last_dts = dts
        packet.time_base = base
        packet.pts = packet.dts = dts
        packet.duration = round(length / base)
        return packet

    @property
    def _base(self) -> Fraction:
        if self.stream.time_base is None:
            raise ValueError(f"output stream {self.stream.index} has no time base")
        return self.stream.time_base

    def _clipped(
        self, start: Fraction, length: Fraction, source: Stream
    ) -> tuple[Fraction, Fraction] | None:
        if source.type == "subtitle" or self._span.end is None:
            return self._span.clipped(start, length)
        return (start, length) if self._span.start <= start < self._span.end else None

    def ended(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """What no packet after another one of the file can change: lines, and what is shown at the start."""
        if packet.pts is None:
            return
        time = packet.pts * packet.time_base
        if time >= self._span.start:
            yield from self._still_shown()
        if self._cues is not None:
            yield from self._converted(self._cues.ended(time - _TEXT_LATE_S))

    def rest(self, source: Stream) -> Iterator[Packet[Any]]:
        """The last lines, where a line's end waits for the next one's start."""
        yield from self._still_shown()
        yield from self._converted(self._cues.rest() if self._cues is not None else ())

    def _still_shown(self) -> Iterator[Packet[Any]]:
        if self._before is not None:
            packet, self._before = self._before, None
            yield self._placed(packet, self._span.start, Fraction(0))


def _primes(packet: Packet[Any], shown: Packet[Any]) -> bool:
    """Whether a packet that is not heard is right before another one, whose decoder needs it."""
    if packet.pts is None or shown.pts is None:
        return False
    context = packet.stream.codec_context
    if context is None or context.codec.lossless:
        return False
    is_opus = context.codec.canonical_name == "opus"
    most = (
        _OPUS_PRIMING_S if is_opus else _PRIMING_PACKETS * (packet.duration or 0) * packet.time_base
    )
    return bool(0 < (shown.pts - packet.pts) * packet.time_base <= most)


def is_filler(packet: Packet[Stream]) -> bool:
    """Whether a packet is an mp4 subtitle without text, which fills a gap; the muxer writes its own."""
    context = packet.stream.codec_context
    is_mov_text = context is not None and context.codec.canonical_name == "mov_text"
    return is_mov_text and bytes(packet) == b"\0\0"


def lacks_header(packet: Packet[Stream]) -> bool:
    """Whether a packet lacks its header, in AAC with a header in every packet: it is damaged.

    As a stream's first packet it would make a muxer expect raw packets and refuse the others.
    """
    context = packet.stream.codec_context
    if context is None or context.codec.canonical_name != "aac" or context.extradata:
        return False
    return int.from_bytes(bytes(packet)[:2], "big") & 0xFFF0 != 0xFFF0


def other_packets(
    source: InputContainer, routes: Mapping[int, Route], span: Span, shifts: Sequence[Shift]
) -> Iterator[TimedPacket]:
    """The output's packets of all routes (by the source's stream index), each with its time and an order.

    shifts: of the source's clock.
    """
    if not routes:
        return
    clock = Clock(shifts)
    texts = [each for each in routes.values() if isinstance(each, Copying)]
    for packet in readable_packets(source, *(source.streams[i] for i in routes)):
        clock.move(packet)
        for each in texts:
            yield from _timed(each.ended(packet), each, span)
        if is_cut_short(source, packet):
            logger.debug("a truncated packet of stream %d is left out", packet.stream_index)
            continue
        if _is_behind(packet, span):
            break
        route = routes[packet.stream_index]
        yield from _timed(route.packets(packet), route, span)
    for index, route in routes.items():
        yield from _timed(route.rest(source.streams[index]), route, span)


def _is_behind(packet: Packet[Any], span: Span) -> bool:
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or span.end is None:
        return False
    return bool(stamp * packet.time_base >= span.end + _INTERLEAVING_S)


def _timed(packets: Iterator[Packet[Any]], route: Route, span: Span) -> Iterator[TimedPacket]:
    for packet in packets:
        time = (packet.dts or 0) * packet.time_base
        packet.stream = route.stream
        yield time, 1 + route.stream.index, packet
