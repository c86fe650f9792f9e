"""Still pictures as input, each one frame: read by Pillow, or by libav where there are more than 8 bits."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from starvsr.errors import InputError
from starvsr.media.color import Pixels, ToRgb
from starvsr.media.deadline import within_deadline
from starvsr.media.exif import writable_exif
from starvsr.media.orientation import Orientation
from starvsr.media.pixfmt import is_hdr, layout_of
from starvsr.media.sequence import STILL_SUFFIXES, UNREAD_SUFFIXES
from starvsr.media.source import broken_picture, open_source
from starvsr.options import DEFAULT_FPS
from starvsr.types import ColorInfo, StreamInfo, VideoIndex, VideoInfo

STILL = "still"
"""The container of a picture, as source and as output."""
FORMATS = {
    **{(channels, 8): name for channels, name in enumerate(("gray", "ya8", "rgb24", "rgba"), 1)},
    **{
        (channels, 16): f"{name}le"
        for channels, name in enumerate(("gray16", "ya16", "rgb48", "rgba64"), 1)
    },
}
"""The pixel format of so many channels of so many bits."""

_KINDS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "AVIF")
_PAGED = ("TIFF", "MPO")
_HEIC = re.compile(rb"....ftyp(?:hei[cxms]|mif1)", re.DOTALL)
# What Pillow's plugins raise for broken files; AVIF's a RuntimeError.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, RuntimeError),
    *(struct.error, zlib.error),
)
_ORIENTATION = ExifTags.Base.Orientation
# Of PNG's header, the byte that says the bits of a sample.
_PNG_DEPTH_AT = 24
_BITS_PER_SAMPLE, _X_RESOLUTION = 258, 282
# By Exif's number.
_ORIENTATIONS = {
    1: Orientation(),
    2: Orientation(0, mirrored=True),
    3: Orientation(180),
    4: Orientation(180, mirrored=True),
    5: Orientation(270, mirrored=True),
    6: Orientation(90),
    7: Orientation(90, mirrored=True),
    8: Orientation(270),
}
USUAL_PRIMARIES = (1, 2)
"""Of sRGB and BT.709, or unsaid."""


@dataclass(frozen=True)
class Facts:
    """What a picture says beside its pixels."""

    kind: str
    """Pillow's name of the format."""
    mode: str
    """Pillow's name of its kind of pixels."""
    icc: bytes
    """Its colour profile; empty if there is none, or it is not one of the pixels that are read."""
    exif: Image.Exif
    dpi: tuple[float, float] | None
    pages: int
    """Pictures in the file."""
    primaries: int = 2
    """ISO/IEC 23091-2's code; 2 if unsaid."""
    turned: bool = False
    """Whether it is shown otherwise than it is stored."""
    others: tuple[str, ...] = ()
    """What else is in it and not read."""


def is_still(path: Path) -> bool:
    """Whether a file is one picture, by its extension and its content; not if it moves, or is of HDR, as AVIF may be.

    Raises InputError for HEIC, for too many pixels, and for a file that hangs.
    """
    return within_deadline(path, lambda: _is_still(path))


def still_info(path: Path) -> VideoInfo:
    """Facts about a picture, which is decoded for them. Raises InputError if it cannot be."""
    pixels, depth = within_deadline(path, lambda: _read(path))
    with _opened(path) as image:
        codec = str(image.format).lower()
    height, width, channels = pixels.shape
    return replace(
        _BARE,
        path=path,
        codec=codec,
        pix_fmt=FORMATS[channels, depth],
        bit_depth=depth,
        width=width,
        height=height,
        streams=(StreamInfo(0, "video", codec),),
    )


def still_index() -> VideoIndex:
    """The index of a picture: one frame."""
    return VideoIndex(pts=(0,), durations=(1,), keyframe_pts=(0,))


def read_still(info: VideoInfo, *, alpha: bool = False) -> Pixels:
    """The picture, upright, as uint16 RGB (height, width, 3), 0..65535; scaled if `info` has another size.

    alpha: add a fourth channel, 0 transparent to 65535 opaque. Raises InputError if it cannot be read.
    """
    array, depth = within_deadline(info.path, lambda: _read(info.path))
    colours = array[..., : -1 if array.shape[2] in (2, 4) else None]
    pixels = np.empty((*array.shape[:2], 4 if alpha else 3), np.uint16)
    pixels[..., :3] = colours
    if alpha:
        pixels[..., 3] = array[..., -1] if array.shape[2] in (2, 4) else (1 << depth) - 1
    if depth == 8:
        pixels *= 257
    if pixels.shape[:2] == (info.height, info.width):
        return pixels
    frame = VideoFrame.from_ndarray(pixels, "rgba64le" if alpha else "rgb48le")
    scale = ToRgb(_of_frame(info.path, frame), info.width, info.height, alpha=alpha)
    return scale(frame)


def still_facts(path: Path) -> Facts:
    """What a picture says beside its pixels. Raises InputError if it cannot be read."""
    return within_deadline(path, lambda: _facts(path))


def _is_still(path: Path) -> bool:
    suffix = path.suffix.lower()
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            front = file.read(32)
    except OSError:
        return False
    if suffix in UNREAD_SUFFIXES and _HEIC.match(front):
        raise InputError(
            f"{path} is HEIC, which is not read: convert it to .png, .jpg or .avif first, such as with heif-convert of "
            "libheif"
        )
    if suffix not in STILL_SUFFIXES:
        return False
    try:
        with _opened(path) as image:
            kind, frames = image.format, getattr(image, "n_frames", 1)
    except InputError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise
        # libav says what else it is.
        return False
    if kind not in _KINDS or (frames > 1 and kind not in _PAGED):
        return False
    return kind != "AVIF" or not is_hdr(_of_frame(path, _first_frame(path)))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture in Pillow. Raises InputError, of which the cause is what Pillow raised."""
    try:
        with warnings.catch_warnings():
            # Pillow's limit is an error at twice the pixels of which it warns.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                yield image
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InputError(
            f"{path} has more than {most / 1e6:.0f} million pixels, which is too large for one picture: cut or reduce "
            "it first"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that Pillow can read") from error
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: permission denied") from error
    except _BROKEN as error:
        raise InputError(
            f"{path} cannot be decoded ({error}): it is damaged or cut off; a picture editor may still open it"
        ) from error


def _read(path: Path) -> tuple[npt.NDArray[Any], int]:
    """The upright picture `h w c` with c of 1 (grey), 2 (grey, alpha), 3 or 4, and its bits, 8 or 16."""
    with _opened(path) as image:
        if not _is_deep(image, path):
            # Pillow turns TIFF itself then.
            image.load()
            array = np.asarray(_plain(image))
            array = array[..., None] if array.ndim == 2 else array
            return _orientation(image).apply(array), 8
        orientation, size = _orientation(image), image.size
    array = _deep(path)
    upright = orientation.apply(array)
    if size not in (array.shape[1::-1], upright.shape[1::-1]):
        raise InputError(f"{path} cannot be decoded: libav reads another size than its header says")
    return upright, 16


def _is_deep(image: Image.Image, path: Path) -> bool:
    """Whether samples have more than the 8 bits that Pillow keeps. Raises InputError for floats."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(_PNG_DEPTH_AT + 1)[_PNG_DEPTH_AT] > 8
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]
        if bits > 16 or image.mode == "F":
            raise InputError(f"{path} has samples of {bits} bits: convert it to 16 bits first")
        return bool(bits > 8)
    # Of AVIF with alpha libav gives the colours alone.
    if image.format == "AVIF" and image.mode == "RGB":
        frame = _first_frame(path)
        return layout_of(frame.format.name).depth > 8 and (frame.width, frame.height) == image.size
    return False


def _plain(image: Image.Image) -> Image.Image:
    """The picture in mode L, LA, RGB or RGBA."""
    if image.mode == "CMYK":
        return _of_inks(image)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return image.convert("L")
    if image.mode in ("L", "LA", "La"):
        return image.convert("LA")
    clear = image.has_transparency_data
    return image.convert("RGBA" if clear else "RGB")


def _of_inks(image: Image.Image) -> Image.Image:
    """CMYK as sRGB, by its profile if it has a usable one."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source, target = (
                ImageCms.getOpenProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
            )
            made = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            made = None
        if made is not None:
            return made
    return image.convert("RGB")


def _orientation(image: Image.Image) -> Orientation:
    return _ORIENTATIONS.get(image.getexif().get(_ORIENTATION, 1), Orientation())


def _says_resolution(image: Image.Image) -> bool:
    return image.format != "TIFF" or _X_RESOLUTION in image.tag_v2  # type: ignore[attr-defined]


def _first_frame(path: Path) -> VideoFrame:
    try:
        with open_source(path) as container:
            frame = next(container.decode(video=0), None)
    except av.FFmpegError as error:
        said = f"{path} cannot be decoded ({error}): it is damaged or cut off"
        raise InputError(broken_picture(path) or said) from error
    if frame is None:
        said = f"{path} cannot be decoded: libav finds no picture in it"
        raise InputError(broken_picture(path) or said)
    return frame


def _of_frame(path: Path, frame: VideoFrame) -> VideoInfo:
    """What converting a decoded frame needs to know."""
    return replace(
        _BARE,
        path=path,
        pix_fmt=frame.format.name,
        width=frame.width,
        height=frame.height,
        color=ColorInfo(
            frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc
        ),
    )


def _deep(path: Path) -> npt.NDArray[np.uint16]:
    frame = _first_frame(path)
    layout = layout_of(frame.format.name)
    convert = ToRgb(_of_frame(path, frame), frame.width, frame.height, alpha=layout.alpha)
    pixels = convert(frame)
    return pixels[..., [0, *range(3, pixels.shape[2])]] if layout.gray else pixels


def _facts(path: Path) -> Facts:
    with _opened(path) as image:
        kind = str(image.format)
        exif, lost = writable_exif(image)
        # Of a TIFF file without a resolution Pillow says one dot per inch.
        resolution = image.info.get("dpi") if _says_resolution(image) else None
        others = ["XMP"] * bool(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"))
        others += ["damaged Exif"] * lost
        others += ["comments"] * bool(getattr(image, "text", None) or image.info.get("comment"))
        return Facts(
            kind=kind,
            mode=image.mode,
            turned=_orientation(image) != Orientation(),
            icc=b"" if image.mode == "CMYK" else image.info.get("icc_profile") or b"",
            exif=exif,
            dpi=None if resolution is None else (float(resolution[0]), float(resolution[1])),
            pages=getattr(image, "n_frames", 1) if kind in _PAGED else 1,
            primaries=int(_first_frame(path).color_primaries) if kind == "AVIF" else 2,
            others=tuple(others),
        )


_BARE = VideoInfo(
    path=Path(),
    container=STILL,
    stream_index=0,
    codec="",
    pix_fmt="rgb24",
    bit_depth=8,
    width=0,
    height=0,
    rotation=0,
    sample_aspect=Fraction(1),
    time_base=1 / DEFAULT_FPS,
    frame_rate=DEFAULT_FPS,
    duration_s=float(1 / DEFAULT_FPS),
    header_frames=1,
    interlaced=False,
    color=ColorInfo(matrix=0, range=2),
    streams=(),
)
"""What is the same of all pictures."""
