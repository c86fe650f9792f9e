"""Matroska's elements: made, inserted into a file in memory, and found in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VIDEO = (0x18538067, 0x1654AE6B, 0xAE, 0xE0)
"""Identifiers from the segment to the first video: tracks, entry, video."""


class Element(NamedTuple):
    """An element in data; `begins` and `ends` are those of its content."""

    key: int
    start: int
    begins: int
    ends: int


def element(key: int, content: bytes) -> bytes:
    """An element, with a size of eight bytes."""
    size = (len(content) | 1 << 56).to_bytes(8, "big")
    return key.to_bytes((key.bit_length() + 7) // 8, "big") + size + content


def inserted(data: bytes, path: tuple[int, ...], added: bytes) -> bytes:
    """Data with elements appended to those at a path, whose sizes grow; a missing last one is made."""
    if not path:
        return data + added
    made, is_there = b"", False
    for each in _elements(data, 0, len(data)):
        if each.key == path[0]:
            is_there = True
            made += element(each.key, inserted(data[each.begins : each.ends], path[1:], added))
        else:
            made += data[each.start : each.ends]
    return made if is_there or len(path) > 1 else made + element(path[0], added)


def find_element(data: bytes, path: tuple[int, ...]) -> Element | None:
    """The first element at a path; None if there is none."""
    found = Element(0, 0, 0, len(data))
    for key in path:
        inner = _elements(data, found.begins, found.ends)
        match = next((each for each in inner if each.key == key), None)
        if match is None:
            return None
        found = match
    return found


def _elements(data: bytes, start: int, end: int) -> Iterator[Element]:
    while start < end:
        size_at = start + 9 - data[start].bit_length()
        if size_at >= end or not data[size_at]:
            return
        begins = size_at + 9 - data[size_at].bit_length()
        bits = 7 * (begins - size_at)
        length = int.from_bytes(data[size_at:begins], "big") & ((1 << bits) - 1)
        # A segment's size may be unknown until it ends, which it does with the data.
        ends = min(begins + length, end)
        yield Element(int.from_bytes(data[start:size_at], "big"), start, begins, ends)
        start = ends
