"""Exif of a picture as far as it can be written again: some editors write tags of types that these do not have."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

_GROUPS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# What Pillow raises for values and offsets that make no sense; which, depends on the tag.
_WRONG = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(EOFError, RuntimeError, struct.error),
)


def writable_exif(image: Image.Image) -> tuple[Image.Exif, bool]:
    """All tags of an open picture that can be written, held in memory, and whether others were left out."""
    try:
        exif = image.getexif()
        for group in _GROUPS:
            if group in exif:
                exif.get_ifd(group)
        # Rational numbers of TIFF's kind are checked only when they are written.
        exif.tobytes()
    except _WRONG:
        return _writable(image), True
    return exif, False


def _writable(image: Image.Image) -> Image.Exif:
    kept = Image.Exif()
    try:
        source = image.getexif()
        tags = list(source)
    except _WRONG:
        return kept
    for tag in tags:
        try:
            value = dict(source.get_ifd(tag)) if tag in _GROUPS else source[tag]
        except _WRONG:
            continue
        if isinstance(value, Mapping):
            value = {key: each for key, each in value.items() if _can_write(tag, {key: each})}
        if value != {} and _can_write(tag, value):
            kept[tag] = value
    return kept


def _can_write(tag: int, value: Any) -> bool:
    alone = Image.Exif()
    alone[tag] = value
    try:
        return bool(alone.tobytes())
    except _WRONG:
        return False
