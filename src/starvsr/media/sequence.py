"""Image sequences: names such as `frames/%06d.png` that stand for one file per frame."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from starvsr.errors import InputError
from starvsr.media.deadline import libav_timeout

if TYPE_CHECKING:
    from av.container import InputContainer

ENCODERS = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".jpg": "mjpeg", ".jpeg": "mjpeg"}
"""The encoder for each extension that can be written."""
STILLS = (*ENCODERS, ".webp", ".bmp", ".avif")
"""The extensions of single pictures that can be written."""
STILL_SUFFIXES = (*STILLS, ".jpe", ".jfif")
"""The extensions of files that are read as single pictures, if they are that."""
UNREAD_SUFFIXES = (".heic", ".heif")
"""Those of pictures that cannot be read."""
_ENDINGS = (*ENCODERS, *(".bmp", ".webp", ".dpx", ".exr", ".tga", ".jp2", ".j2k", ".ppm", ".pgm"))
_PLACE = re.compile("%(?:0([0-9]{1,2}))?d")


def is_sequence(path: Path) -> bool:
    """Whether a name stands for numbered images."""
    return path.suffix.lower() in _ENDINGS and len(_PLACE.findall(path.name)) == 1


def name_of(pattern: Path) -> str:
    """A name for the video of numbered images: theirs without the number, or their folder's if nothing is left."""
    name = _PLACE.sub("", pattern.stem).strip(" .-_")
    return name or pattern.absolute().parent.name or "images"


def image_path(pattern: Path, number: int) -> Path:
    """The file of one image."""

    def digits(place: re.Match[str]) -> str:
        return f"{number:0{int(place[1] or 0)}d}"

    return pattern.with_name(_PLACE.sub(digits, pattern.name))


def numbers_of(pattern: Path) -> list[int]:
    """The numbers of the existing images, ascending. Raises OSError if the folder cannot be read."""
    before, _, behind = _PLACE.split(pattern.name)
    form = re.compile(f"{re.escape(before)}([0-9]+){re.escape(behind)}")
    files = pattern.parent.iterdir() if pattern.parent.is_dir() else ()
    found = (form.fullmatch(file.name) for file in files)
    # 7.png does not match %06d.png.
    return sorted(
        int(match[1])
        for match in found
        if match and image_path(pattern, int(match[1])).name == match[0]
    )


def source_numbers(pattern: Path) -> list[int]:
    """The numbers of an input sequence. Raises InputError if there are none or one is missing."""
    numbers = numbers_of(pattern)
    if not numbers:
        raise InputError(
            f"{pattern} does not exist: no image has a name of this form; check the name"
        )
    missing = next((at for at, number in enumerate(numbers, numbers[0]) if at != number), None)
    if missing is not None:
        raise InputError(
            f"{image_path(pattern, missing)} is missing: a sequence must have no gaps; rename the images after it"
        )
    return numbers


def open_sequence(pattern: Path) -> InputContainer:
    """All images as one video of 1 tick per frame. Raises InputError as `source_numbers`, and what libav raises."""
    # Code that reads only names needs no PyAV.
    import av

    first = source_numbers(pattern)[0]
    # libav must not interpret a per cent sign in a folder's name.
    folder = Path(os.fspath(pattern.absolute().parent).replace("%", "%%"))
    options = {
        "pattern_type": "sequence",
        "start_number": str(first),
        "start_number_range": "1",
    }
    return av.open(
        os.fspath(folder / pattern.name),
        "r",
        format="image2",
        options=options,
        timeout=libav_timeout(),
    )
