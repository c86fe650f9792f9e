"""Still pictures for tests."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Image.init()
HAS_AVIF = "AVIF" in Image.SAVE
MAKER, TAKEN, LATITUDE = 0x010F, 0x9003, 1
EXIF, GPS, SIDES = 0x8769, 0x8825, (0xA002, 0xA003)


def samples(channels: int, kind: type[np.unsignedinteger[Any]] = np.uint8) -> npt.NDArray[Any]:
    """A smooth picture with another value everywhere, 48 rows of 64 pixels."""
    rows, columns = np.mgrid[:48, :64]
    planes = (rows * 5, columns * 4, 255 - rows - columns, 60 + 2 * rows + columns)
    picture = np.stack(planes[:channels], axis=-1).astype(kind)
    return picture * kind(257) + rows[..., None].astype(kind) if kind is np.uint16 else picture


@cache
def profile() -> bytes:
    """A colour profile of sRGB, which says when it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int = 1) -> Image.Exif:
    """What a camera says: its maker, when, where, and how it was held."""
    said = Image.Exif()
    said[MAKER], said[0x0112] = "Maker", orientation
    said[EXIF] = {TAKEN: "2020:01:01 00:00:00", SIDES[0]: 64, SIDES[1]: 48}
    said[GPS] = {LATITUDE: "N"}
    # As it is read from a file.
    again = Image.Exif()
    again.load(said.tobytes())
    return again


def save(path: Path, mode: str = "RGB", **more: Any) -> Path:
    """A picture of 8 bits in one of Pillow's modes, in the format of its name."""
    image = Image.fromarray(samples(4 if mode in ("RGBA", "LA") else 3)).convert(mode)
    image.save(path, **more)
    return path


def deep(path: Path, channels: int) -> Path:
    """A picture of 16 bits, by libav."""
    codec, order = ("png", "be") if path.suffix == ".png" else ("tiff", "le")
    name = {1: "gray16", 3: "rgb48", 4: "rgba64"}[channels] + order
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 64, 48, name
    context.time_base = Fraction(1, 25)
    picture = samples(channels, np.uint16)
    frame = av.VideoFrame.from_ndarray(picture[..., 0] if channels == 1 else picture, name)
    path.write_bytes(b"".join(map(bytes, [*context.encode(frame), *context.encode(None)])))
    return path
