"""H.264 whose pictures are coded as two fields, which no encoder at hand writes: 32x32, flat or skipped."""

from __future__ import annotations

# slice_type, the value that says that all slices of the picture are alike.
_SLICES = {"P": 5, "B": 6, "I": 7}
# Of a field.
_MACROBLOCKS = 2
_INTRA_PCM, _PCM_BYTES = 25, 384
# A recovery point at this very picture.
_RECOVERY_POINT = bytes([6, 1, 0b11000100, 0x80])


class _Bits:
    def __init__(self) -> None:
        self._bits = ""

    def fixed(self, length: int, *values: int) -> None:
        self._bits += "".join(f"{value:0{length}b}" for value in values)

    def golomb(self, *values: int) -> None:
        for value in values:
            self.fixed(2 * (value + 1).bit_length() - 1, value + 1)

    def align(self) -> None:
        self._bits += "0" * (-len(self._bits) % 8)

    def payload(self) -> bytes:
        self.fixed(1, 1)
        self.align()
        return int(self._bits, 2).to_bytes(len(self._bits) // 8, "big")


def _unit(kind: int, importance: int, payload: bytes) -> bytes:
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros == 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([importance << 5 | kind]) + bytes(escaped)


def _headers() -> bytes:
    sequence, picture = _Bits(), _Bits()
    sequence.fixed(8, 77, 0, 30)
    # Numbers of frames have 4 bits, places in the order of display 8; one reference frame; two pairs of macroblocks.
    sequence.golomb(0, 0, 0, 4, 1)
    sequence.fixed(1, 0)
    sequence.golomb(1, 0)
    sequence.fixed(1, 0, 0, 1, 0, 0)
    picture.golomb(0, 0)
    picture.fixed(1, 0, 0)
    picture.golomb(0, 1, 1)
    picture.fixed(1, 0, 0, 0)
    picture.golomb(0, 0, 0)
    picture.fixed(1, 0, 0, 0)
    return _unit(7, 3, sequence.payload()) + _unit(8, 3, picture.payload())


def _field(kind: str, number: int, place: int, *, idr: bool = False) -> bytes:
    """One field. number: of its frame among the reference frames; place: in the order in which fields are shown."""
    bits = _Bits()
    bits.golomb(0, _SLICES[kind], 0)
    bits.fixed(4, number % 16)
    bits.fixed(1, 1, place % 2)
    if idr:
        bits.golomb(0)
    bits.fixed(8, place % 256)
    bits.fixed(1, *{"I": (), "P": (0, 0), "B": (1, 0, 0, 0)}[kind])
    if kind != "B":
        bits.fixed(1, *((0, 0) if idr else (0,)))
    bits.golomb(0)
    if kind == "I":
        for _ in range(_MACROBLOCKS):
            bits.golomb(_INTRA_PCM)
            bits.align()
            bits.fixed(8, *[100 + number] * _PCM_BYTES)
    else:
        bits.golomb(_MACROBLOCKS)
    return _unit(5 if idr else 1, 0 if kind == "B" else 3, bits.payload())


def field_coded(groups: int, *, opens: bool, recovery_points: bool = True) -> tuple[bytes, int]:
    """A stream of groups of I, P and B frames, and the number of its frames.

    opens: also the first group begins with two B frames that refer to what is before it. Every packet is a field.
    """
    data, shown, number = b"", 0, 0
    for group in range(groups):
        closed = group == 0 and not opens
        early = 0 if closed else 2
        data += _headers()
        if recovery_points and not closed:
            data += _unit(6, 0, _RECOVERY_POINT)
        at = 2 * (shown + early)
        data += _field("I", number, at, idr=closed) + _field("P", number, at + 1)
        number += 1
        for place in range(2 * shown, at):
            data += _field("B", number, place)
        shown += early + 1
        for _ in range(3):
            later = 2 * shown + 2
            data += _field("P", number, later) + _field("P", number, later + 1)
            number += 1
            data += _field("B", number, later - 2) + _field("B", number, later - 1)
            shown += 2
    return data, shown
