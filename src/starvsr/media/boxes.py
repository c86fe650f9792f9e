"""The top-level structure of a container file, which shows truncation that libav does not report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# Box types that an mp4 or mov can begin with; anything else is another format.
_FIRST_TYPES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot")
# Brands of AVIF and HEIF, stills and sequences.
_PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
_EBML_HEADER, _EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class Box(NamedTuple):
    """One top-level part of a file; `end` may be past the end of the file."""

    kind: bytes
    start: int
    end: int


def boxed(kind: bytes, content: bytes) -> bytes:
    """A box of an mp4 or mov."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def is_cut(path: Path) -> bool:
    """Whether an mp4, mov, Matroska or RIFF file is shorter than its structure says.

    False for other formats and for live recordings, which store no length. Raises OSError if it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        boxes = _outer_boxes(file, size) or _ebml_elements(file) or _riff_chunk(file)
    return bool(boxes) and boxes[-1].end > size


def is_picture(path: Path) -> bool:
    """Whether a file says that it is AVIF or HEIF. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS


def lacks_index(path: Path) -> bool:
    """Whether a file is an mp4 or mov without a complete `moov` box. Raises OSError if it cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        boxes = _outer_boxes(file, size)
    return bool(boxes) and not any(box.kind == b"moov" and box.end <= size for box in boxes)


def read_index(path: Path) -> tuple[int, bytes]:
    """Place and bytes of an mp4's or mov's `moov` box; no bytes if it has none. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        moov = next((box for box in _outer_boxes(file, size) if box.kind == b"moov"), None)
        if moov is None:
            return 0, b""
        file.seek(moov.start)
        return moov.start, file.read(moov.end - moov.start)


def whole_length(path: Path) -> int | None:
    """Bytes of an mp4 or mov up to the end of its last complete box if another one is truncated, else None.

    Raises OSError if the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        boxes = _outer_boxes(file, size)
    return boxes[-1].start if boxes and boxes[-1].end > size else None


def _outer_boxes(file: BinaryIO, size: int) -> list[Box]:
    boxes = list(_walk(file, size))
    return boxes if boxes and boxes[0].kind in _FIRST_TYPES else []


def _walk(file: BinaryIO, size: int) -> Iterator[Box]:
    start = 0
    while start < size:
        file.seek(start)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if len(header) < 8:
            # Less than a header is left: the next box is truncated.
            yield Box(kind, start, size + 1)
            return
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - start
        if length < 8 or not kind.isascii():
            return
        yield Box(kind, start, start + length)
        start += length


def _ebml_elements(file: BinaryIO) -> list[Box]:
    """The header and the segment of a Matroska file whose segment has a size."""
    file.seek(0)
    head = file.read(4096)
    header_length, body = _ebml_size(head, 4)
    if head[:4] != _EBML_HEADER or header_length is None:
        return []
    start = body + header_length
    length, body = _ebml_size(head, start + 4)
    if head[start : start + 4] != _EBML_SEGMENT or length is None:
        return []
    return [Box(_EBML_HEADER, 0, start), Box(_EBML_SEGMENT, start, body + length)]


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int]:
    """An element's size (None if unknown) and the position after it."""
    if at >= len(data) or not data[at]:
        return None, at
    extra = 8 - data[at].bit_length()
    number = int.from_bytes(data[at : at + 1 + extra], "big") & ((1 << 7 * (extra + 1)) - 1)
    unknown = number == (1 << 7 * (extra + 1)) - 1
    return (None if unknown else number), at + 1 + extra


def _riff_chunk(file: BinaryIO) -> list[Box]:
    file.seek(0)
    head = file.read(12)
    length = int.from_bytes(head[4:8], "little")
    # Writers that never returned to the header leave 0 or all ones.
    if head[:4] != b"RIFF" or head[8:12] != b"AVI " or length in (0, 0xFFFFFFFF):
        return []
    return [Box(b"RIFF", 0, 8 + length)]
