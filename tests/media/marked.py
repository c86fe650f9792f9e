"""Files with what PyAV cannot write: boxes in an mp4's sample entry, elements of a Matroska's video, two programs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from av.packet import Packet
from av.stream import Disposition

from starvsr.media.elements import VIDEO, element, inserted
from tests.media.clips import Clip, make

_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
# Bytes of a sample description before its first entry, which itself is not searched.
_HEADER = 8


def with_box(path: Path, kind: bytes, content: bytes) -> Path:
    """Append a box to the first video's sample entry of an mp4 or mov whose index lies last."""
    data = bytearray(path.read_bytes())
    box = struct.pack(">I4s", 8 + len(content), kind) + content
    start, end = 0, len(data)
    for step in _ENTRY:
        start, end = _find(data, start, end, step)
        struct.pack_into(">I", data, start, end - start + len(box))
        start += 8
    entry = start + _HEADER
    (length,) = struct.unpack_from(">I", data, entry)
    struct.pack_into(">I", data, entry, length + len(box))
    data[entry + length : entry + length] = box
    path.write_bytes(data)
    return path


def _find(data: bytearray, start: int, end: int, kind: bytes) -> tuple[int, int]:
    while start < end:
        length, found = struct.unpack_from(">I4s", data, start)
        if found == kind:
            return start, start + length
        start += length
    raise ValueError(f"no box {kind!r}")


def with_elements(path: Path, *elements: tuple[int, bytes]) -> Path:
    """Append elements to a small Matroska file's video."""
    added = b"".join(element(key, content) for key, content in elements)
    path.write_bytes(inserted(path.read_bytes(), VIDEO, added))
    return path


def cropped(path: Path, left: int, right: int, above: int, below: int) -> Path:
    """The mark of hidden columns and rows, in an .mkv of any size or an .mp4 of 64x48."""
    if path.suffix == ".mkv":
        sides = zip((0x54CC, 0x54DD, 0x54BB, 0x54AA), (left, right, above, below), strict=True)
        return with_elements(path, *((key, bytes([side])) for key, side in sides))
    # Width, height, and the centre's distance from the frame's, each as a fraction.
    numbers = (64 - left - right, 1, 48 - above - below, 1, left - right, 2, above - below, 2)
    return with_box(path, b"clap", struct.pack(">8i", *numbers))


def dolby_vision(path: Path, profile: int, compatible: int) -> Path:
    """The configuration record of Dolby Vision in an mp4, level 6 with a base layer."""
    bits = profile << 9 | 6 << 3 | 0b101
    record = bytes([1, 0]) + struct.pack(">H", bits) + bytes([compatible << 4]) + bytes(19)
    return with_box(path, b"dvcC" if profile <= 7 else b"dvvC", record)


def joined(path: Path, *clips: Clip, dispositions: Sequence[int] = ()) -> Path:
    """One file with the streams of several clips."""
    parts = [make(path.with_name(f"part{i}.mkv"), clip) for i, clip in enumerate(clips)]
    opened = [av.open(str(part)) for part in parts]
    with av.open(str(path), "w") as output:
        packets: list[Packet[Any]] = []
        for number, source in enumerate(opened):
            copies = {}
            for stream in source.streams:
                copies[stream.index] = output.add_stream_from_template(stream, opaque=True)
                if dispositions:
                    copies[stream.index].disposition = Disposition(dispositions[number])
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[packet.stream_index]
                    packets.append(packet)
        for packet in sorted(packets, key=lambda each: (each.dts or 0) * each.time_base):
            output.mux(packet)
    for source in opened:
        source.close()
    return path


def two_programs(path: Path, *clips: Clip) -> Path:
    """A transport stream with a program for each clip, which lie one behind the other."""
    streams, entries = [], b""
    for number, clip in enumerate(clips, 1):
        options = {
            "mpegts_service_id": str(number),
            "mpegts_pmt_start_pid": str(0x100 * number),
            "mpegts_start_pid": str(0x1000 + 0x100 * number),
            "muxrate": "0",
        }
        part = make(path.with_name(f"program{number}.ts"), Clip(**{**vars(clip), "muxer": options}))
        data = part.read_bytes()
        streams.append([data[at : at + 188] for at in range(0, len(data), 188)])
        entries += struct.pack(">HH", number, 0xE000 | 0x100 * number)
    section = struct.pack(">BHHBBB", 0, 0xB000 | 9 + len(entries), 1, 0xC1, 0, 0) + entries
    table = b"\x47\x40\x00\x10\x00" + section + struct.pack(">I", _crc(section))
    packets = [table.ljust(188, b"\xff")]
    for stream in streams:
        # Without its own table of programs.
        packets += [each for each in stream if each[1] & 31 or each[2] not in (0, 17)]
    path.write_bytes(b"".join(packets))
    return path


def _crc(data: bytes) -> int:
    """CRC-32 as in MPEG-2 systems."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc
