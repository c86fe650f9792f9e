"""Ways to break a file, each drawn from a seeded generator."""

from __future__ import annotations

import math
import random
import re
import struct
from collections.abc import Callable

from tests.fuzz.sources import SOURCES, TITLE_MARKER

Mutation = Callable[[bytearray, random.Random], None]

_HEADER_BYTES = 1500
_MAGICS = (
    *(b"\0\0\0\x20ftypisom", b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01", b"RIFF\0\xff\0\0AVI LIST"),
    *(b"FLV\x01\x05\0\0\0\x09", b"\0\0\x01\xba\x44\0\4\0", b"OggS\0\2", b"GIF89a\xff\xff\xff\xff"),
    *(
        b"YUV4MPEG2 W65535 H65535 F0:0\nFRAME\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\2",
    ),
    *(
        b"#EXTM3U\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"<?xml?>",
    ),
    *(b"BM\xff\xff\xff\x7f", b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3", b"\0" * 16),
)
_ENDINGS = (
    *(".mp4", ".mkv", ".avi", ".ts", ".mpg", ".flv", ".gif", ".png", ".yuv", ".y4m", ".h264"),
    *(".txt", ".srt", ".m3u8", ".ffconcat", ".mp3", ".jpg", ".sdp", ".ivf", ".obu", ".bin", ""),
)
_INTEGERS = (0, 1, 2, 0x7F, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NUMBERS = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-300, 1e300, 1e18)
_HOSTILE_TEXTS = (
    b"\x1b[2J\x1b]0;owned\x07\x1b[31m",
    b"\xff\xfe\xc3\x28\xed\xa0\x80 invalid",
    b"a\nerror: not me\r\nb\x08\x08\x7f\x00",
    "\u202egnp.\u2066 \x9b31m\u2028".encode(),
    b"%s%n%06d ${HOME} `id` [bold]",
)
_FIELDS: tuple[tuple[bytes, int, int], ...] = (
    # mp4: name of a box or sample entry, distance from it to a number, bytes of the number.
    *((b"tkhd", 80, 4), (b"tkhd", 84, 4), (b"tkhd", 44, 4), (b"mdhd", 16, 4), (b"mdhd", 20, 4)),
    *((b"mvhd", 16, 4), (b"mvhd", 20, 4), (b"stts", 8, 4), (b"stts", 12, 4), (b"stts", 16, 4)),
    *((b"ctts", 8, 4), (b"ctts", 16, 4), (b"stsz", 8, 4), (b"stsz", 12, 4), (b"stco", 8, 4)),
    *((b"stco", 12, 4), (b"stsc", 8, 4), (b"stsc", 16, 4), (b"elst", 8, 4), (b"elst", 12, 4)),
    *((b"elst", 16, 4), (b"avc1", 28, 2), (b"avc1", 30, 2), (b"avc1", -4, 4), (b"mp4a", 28, 4)),
    *((b"mp4a", 20, 2), (b"moov", -4, 4), (b"trak", -4, 4), (b"udta", -4, 4), (b"mdat", -4, 4)),
    *((b"pasp", 4, 4), (b"pasp", 8, 4), (b"trun", 8, 4), (b"trun", 12, 4), (b"tfhd", 16, 4)),
    # Matroska: identifier, then a size that is kept: width, height, time scale, durations, sampling rate.
    *(
        (b"\xb0\x81", 2, 1),
        (b"\xba\x81", 2, 1),
        (b"\x2a\xd7\xb1\x83", 4, 3),
        (b"\x23\xe3\x83\x84", 4, 4),
    ),
    *(
        (b"\xb5\x88", 2, 8),
        (b"\x44\x89\x88", 3, 8),
        (b"\xe7\x81", 2, 1),
        (b"\x16\x54\xae\x6b", 4, 8),
    ),
    *((b"\x1f\x43\xb6\x75", 4, 8), (b"\x45\xb9", 2, 1), (b"\x61\xa7", 2, 1)),
    # AVI: main header, stream header, picture header; FLV's and GIF's sizes; MPEG's sequence header.
    *((b"avih", 8, 4), (b"avih", 40, 4), (b"avih", 44, 4), (b"strh", 28, 4), (b"strh", 32, 4)),
    *((b"strf", 12, 4), (b"strf", 16, 4), (b"strf", 8, 4), (b"LIST", 4, 4), (b"idx1", 4, 4)),
    *((b"width", 6, 8), (b"height", 6, 8), (b"duration", 9, 8), (b"framerate", 10, 8)),
    *((b"GIF89a", 6, 2), (b"GIF89a", 8, 2), (b"\0\0\1\xb3", 4, 3), (b"\0\0\1\xb3", 7, 1)),
    *((b"IHDR", 4, 4), (b"IHDR", 8, 4), (b"IHDR", 12, 1), (b"FRAME", -3, 2)),
)


def _flip(data: bytearray, draw: random.Random, start: int, end: int) -> None:
    for _ in range(draw.choice((1, 3, 10, 50))):
        place = draw.randrange(start, max(start + 1, end))
        if place < len(data):
            data[place] ^= 1 << draw.randrange(8)


def _header_bits(data: bytearray, draw: random.Random) -> None:
    _flip(data, draw, 0, min(len(data), _HEADER_BYTES))


def _index_bits(data: bytearray, draw: random.Random) -> None:
    """In an mp4's `moov`; other formats have what they have of an index at their end."""
    start = data.find(b"moov")
    _flip(
        data,
        draw,
        *((start, start + _HEADER_BYTES) if start >= 0 else (len(data) * 9 // 10, len(data))),
    )


def _payload_bits(data: bytearray, draw: random.Random) -> None:
    _flip(data, draw, min(len(data) - 1, 64), len(data))


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _piece(data: bytearray, draw: random.Random) -> tuple[int, int]:
    start = draw.randrange(len(data))
    return start, min(len(data), start + draw.choice((1, 4, 100, 1000)))


def _lose(data: bytearray, draw: random.Random) -> None:
    start, end = _piece(data, draw)
    del data[start:end]


def _repeat(data: bytearray, draw: random.Random) -> None:
    start, end = _piece(data, draw)
    data[end:end] = data[start:end] * draw.choice((1, 2, 40))


def _swap(data: bytearray, draw: random.Random) -> None:
    length = draw.choice((4, 100, 700))
    one, other = sorted(draw.randrange(max(1, len(data) - length)) for _ in range(2))
    if other - one >= length:
        first, second = data[one : one + length], data[other : other + length]
        data[one : one + length], data[other : other + length] = second, first


def _overwrite(data: bytearray, draw: random.Random) -> None:
    start, end = _piece(data, draw)
    fill = draw.choice((b"\0", b"\xff", b""))
    data[start:end] = fill * (end - start) or draw.randbytes(end - start)


def _wrong_header(data: bytearray, draw: random.Random) -> None:
    magic = draw.choice(_MAGICS)
    data[: len(magic) if draw.random() < 0.5 else 0] = magic


def _field(data: bytearray, draw: random.Random) -> None:
    """A number that the format means to be a size, a rate, a time or a count."""
    for _ in range(draw.choice((1, 2, 4))):
        there = [field for field in _FIELDS if data.find(field[0]) >= 0]
        if not there:
            return _header_bits(data, draw)
        name, distance, length = draw.choice(there)
        places = [found.start() for found in re.finditer(re.escape(name), data)]
        start = max(0, draw.choice(places) + distance)
        data[start : start + length] = _number(length, draw)


def _number(length: int, draw: random.Random) -> bytes:
    if length == 8 and draw.random() < 0.7:
        return struct.pack(">d", draw.choice(_NUMBERS))
    value = draw.choice(_INTEGERS) & ((1 << 8 * length) - 1)
    return value.to_bytes(length, draw.choice(("big", "little")))


def _texts(data: bytearray, draw: random.Random) -> None:
    """Titles and names, at their old length: every format says it somewhere."""
    marker, at = TITLE_MARKER.encode(), 0
    while (at := data.find(marker, at)) >= 0:
        text = draw.choice(_HOSTILE_TEXTS)
        data[at : at + len(marker)] = text.ljust(len(marker), b"~")[: len(marker)]
        at += len(marker)


def _nothing(data: bytearray, draw: random.Random) -> None:
    """The sources themselves are hostile enough, or have another file's ending."""


MUTATIONS: dict[str, Mutation] = {
    "header bits": _header_bits,
    "index bits": _index_bits,
    "payload bits": _payload_bits,
    "cut": _cut,
    "lose": _lose,
    "repeat": _repeat,
    "swap": _swap,
    "overwrite": _overwrite,
    "wrong header": _wrong_header,
    "field": _field,
    "texts": _texts,
    "nothing": _nothing,
}
# What is met most in hostile files, and hurts most.
_OFTEN = ("field", "field", "header bits")


def broken(seed: int, whole: dict[str, tuple[str, bytes]]) -> tuple[str, str, bytes]:
    """What was done (for people), a file name and the content of the broken file of this seed.

    whole: file name ending and content of each of `SOURCES`, by name.
    """
    draw = random.Random(seed)
    names, ways = list(SOURCES), [*MUTATIONS, *_OFTEN]
    # Every source in turn, and with each the next mutation the next time.
    source, way = names[seed % len(names)], ways[(seed + seed // len(names)) % len(ways)]
    chosen = [way, *draw.choices(ways, k=draw.choice((0, 0, 1)))]
    ending, content = whole[source]
    data = bytearray(content)
    for each in chosen:
        if data:
            MUTATIONS[each](data, draw)
    if chosen == ["nothing"] or draw.random() < 0.1:
        ending = draw.choice((ending, *_ENDINGS))
    return f"{source}: {', '.join(chosen)}", f"in{ending}", bytes(data)
