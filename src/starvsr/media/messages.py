"""Captions and format descriptions in the picture stream: from decoded frames into encoded packets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from av.packet import Packet
from av.sidedata.sidedata import Type
from av.stream import Stream
from av.video.frame import VideoFrame

from starvsr.media.sidedata import has_any, side_data_of

CAPTIONS, AFD = "closed captions", "active format"
_WANTED = (Type.A53_CC, Type.AFD)
# A message of ITU-T T.35: country, provider, and the identifiers of ATSC A/53.
_PROVIDER = b"\xb5\x00\x31"
_CAPTIONS, _AFD = _PROVIDER + b"GA94", _PROVIDER + b"DTG1"
# Of three bytes each; their number has 5 bits.
_MOST_CAPTIONS = 31 * 3

Insert = Callable[[bytes, Sequence[bytes]], bytes]


def messages_of(frame: VideoFrame) -> list[bytes]:
    """A frame's A/53 captions and active format description as messages of ITU-T T.35."""
    try:
        if not has_any(frame, _WANTED):
            return []
    except ValueError:
        # A type without a name; `side_data_of` copes, slowly.
        pass
    found: list[bytes] = []
    for side in side_data_of(frame):
        data = bytes(side)
        if side.type == Type.A53_CC:
            found += _captions(data)
        elif side.type == Type.AFD and data:
            found.append(_AFD + bytes([0x41, 0xF0 | data[0] & 15]))
    return found


def _captions(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data) - len(data) % 3, _MOST_CAPTIONS):
        part = data[start : start + _MOST_CAPTIONS]
        part = part[: len(part) - len(part) % 3]
        yield _CAPTIONS + bytes([3, 0x40 | len(part) // 3, 0xFF]) + part + b"\xff"


def kinds_of(messages: Sequence[tuple[int, bytes]]) -> list[str]:
    """Which kinds there are among the messages of an index."""
    kinds = {CAPTIONS: _CAPTIONS, AFD: _AFD}
    return [
        kind
        for kind, start in kinds.items()
        if any(message.startswith(start) for _, message in messages)
    ]


def with_messages(
    packets: Iterator[tuple[Fraction, int, Packet[Any]]],
    frames: Sequence[int],
    messages: Sequence[tuple[int, bytes]],
    stream: Stream,
) -> Iterator[tuple[Fraction, int, Packet[Any]]]:
    """Video packets for a muxer with the messages of their frames, as far as the stream's codec has a place for them.

    frames: of each packet. messages: frames and messages.
    """
    context = stream.codec_context
    insert = inserter(context.codec.canonical_name, context.extradata) if messages else None
    if insert is None:
        yield from packets
        return
    of_frame: dict[int, list[bytes]] = defaultdict(list)
    for frame, message in messages:
        of_frame[frame].append(message)
    for frame, (time, order, packet) in zip(frames, packets, strict=False):
        if frame in of_frame:
            packet = _replaced(packet, insert(bytes(packet), of_frame[frame]))
        yield time, order, packet


def _replaced(packet: Packet[Any], data: bytes) -> Packet[Any]:
    made: Packet[Any] = Packet(data)
    made.stream, made.time_base = packet.stream, packet.time_base
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    made.is_keyframe = packet.is_keyframe
    return made


def inserter(codec: str, extradata: bytes | None) -> Insert | None:
    """What puts messages into a packet of a codec (libav's name), before its picture; None if it has no place for them.

    extradata: of the packets' stream. Packets that it does not understand are returned unchanged.
    """
    if codec == "av1":
        return _into_obus
    if codec not in ("h264", "hevc"):
        return None
    hevc = codec == "hevc"
    # A record in front says how long the lengths are; without it there are start codes.
    at = 21 if hevc else 4
    width = (
        (extradata[at] & 3) + 1 if extradata and extradata[0] == 1 and len(extradata) > at else 0
    )

    def insert(data: bytes, messages: Sequence[bytes]) -> bytes:
        place = _first_picture(data, width, hevc=hevc)
        if place is None:
            return data
        units = [_unit(message, hevc=hevc) for message in messages]
        added = b"".join(
            (len(each).to_bytes(width, "big") if width else b"\0\0\0\1") + each for each in units
        )
        return data[:place] + added + data[place:]

    return insert


def _first_picture(data: bytes, width: int, *, hevc: bool) -> int | None:
    """Where the first slice begins, with its length or start code."""
    at = 0
    while at < len(data):
        if width:
            begins, length = at + width, int.from_bytes(data[at : at + width], "big")
        else:
            code = data.find(b"\0\0\1", at)
            if code < 0:
                return None
            # The longer form of the start code begins with one more zero.
            at = code - 1 if code > at and data[code - 1] == 0 else code
            begins, length = code + 3, 0
        if begins >= len(data):
            return None
        kind = data[begins] >> 1 & 63 if hevc else data[begins] & 31
        if kind < 32 if hevc else 1 <= kind <= 5:
            return at
        at = begins + length
    return None


def _unit(message: bytes, *, hevc: bool) -> bytes:
    """A message as a supplemental enhancement information unit, without length or start code."""
    size = len(message)
    payload = bytes([4, *[255] * (size // 255), size % 255]) + message + b"\x80"
    escaped = bytearray(b"\x4e\x01" if hevc else b"\x06")
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(escaped)


def _into_obus(data: bytes, messages: Sequence[bytes]) -> bytes:
    """An AV1 packet with its messages before the first frame."""
    at = 0
    # Sequence header, temporal delimiter, metadata and padding come before it.
    while at < len(data) and data[at] >> 3 & 15 in (1, 2, 5, 15) and data[at] & 2:
        extended = data[at] >> 2 & 1
        size, begins = _leb128(data, at + 1 + extended)
        at = begins + size
    if at >= len(data):
        return data
    added = b"".join(
        b"\x2a" + _as_leb128(len(message) + 2) + b"\x04" + message + b"\x80" for message in messages
    )
    return data[:at] + added + data[at:]


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number, and the position after it."""
    number = 0
    for place in range(8):
        byte = data[at + place] if at + place < len(data) else 0
        number |= (byte & 127) << 7 * place
        if not byte & 128:
            return number, at + place + 1
    return number, at + 8


def _as_leb128(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])
