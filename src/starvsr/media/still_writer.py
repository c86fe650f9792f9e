"""Still pictures as output: a format's limits, the raw rows that a segment leaves, and the finished file.

Pillow writes 8 bits, and libav PNG of 16, which Pillow does not have for colours. Of TIFF, Pillow writes the directory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from starvsr.errors import OutputError
from starvsr.media.color import Pixels
from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import complete_or_absent, written_errors
from starvsr.media.pixfmt import is_hdr, layout_of
from starvsr.media.quantize import to_levels
from starvsr.media.removal import Right
from starvsr.media.still import FORMATS, STILL, still_facts
from starvsr.options import DEFAULT_FPS, EncodeOptions, StreamOptions
from starvsr.types import ColorInfo, VideoInfo


@dataclass(frozen=True)
class Format:
    """What a format of pictures can hold."""

    name: str
    """Pillow's."""
    most_px: int
    """Longest side."""
    alpha: bool = True
    gray: bool = True
    deep: bool = False
    """Whether it holds 16 bits."""
    tags: bool = True
    """Whether it holds a colour profile and Exif."""
    quality: int | None = None
    """By default, 1 to 100; None where nothing is lost."""
    save: tuple[tuple[str, Any], ...] = ()
    """More arguments for Pillow."""


_JPEG = Format("JPEG", 65500, alpha=False, quality=95, save=(("subsampling", 0),))
_TIFF = Format("TIFF", 65535, deep=True)
OF_SUFFIX = {
    ".png": Format("PNG", 65535, deep=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format("WEBP", 16383, gray=False, quality=95),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": Format("BMP", 65535, alpha=False, tags=False),
    ".avif": Format("AVIF", 65535, gray=False, quality=90, save=(("subsampling", "4:4:4"),)),
}
"""By file name extension."""

_LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_ICC_TAG = 34675
# TIFF's codes of a compression, of a predictor, and of an extra channel.
_DEFLATE, _STEPS, _STRAIGHT_ALPHA = 8, 2, 2
# Compressed at once.
_ROWS = 64
_SIGNATURE_AND_HEADER = 33
# Exif's tags up to here describe how a TIFF file is laid out, but for these.
_LAYOUT_END = 400
_DESCRIBING = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316)
# Thumbnails and sampling, and copies of what is kept elsewhere or said to be left out.
_OF_OTHER_PIXELS = (*range(512, 533), 700, 33723, 34377, _ICC_TAG, 37724)
_SIDES = (0xA002, 0xA003)


def still_settings(
    options: EncodeOptions, target: Path, info: VideoInfo, width: int, height: int
) -> EncoderSettings:
    """The settings of a picture of this size. Raises OutputError for what it cannot hold, and for options of video."""
    form = OF_SUFFIX[target.suffix.lower()]
    Image.init()
    if form.name not in Image.SAVE:
        raise OutputError(
            f"{target.name}: this build of Pillow writes no {form.name}: give another extension"
        )
    _check_options(options, target, form)
    if max(width, height) > form.most_px:
        raise OutputError(
            f"{target.name}: {form.name} has at most {form.most_px} pixels a side, and it would be {width}x{height}: "
            f"give --max-resolution {form.most_px}, or an output that ends in .png"
        )
    if is_hdr(info):
        raise OutputError(
            f"{target.name}: one picture of HDR is not written: give {target.stem}-%06d.png, or a video such as "
            f"{target.stem}.mkv"
        )
    source = layout_of(info.pix_fmt)
    channels = (1 if source.gray and form.gray else 3) + (source.alpha and form.alpha)
    pix_fmt = FORMATS[channels, 16 if form.deep and source.depth > 8 else 8]
    return EncoderSettings(
        codec=form.name.lower(),
        container=STILL,
        pix_fmt=pix_fmt,
        width=width,
        height=height,
        options=options.extra,
        color=ColorInfo(matrix=0, range=2),
        time_base=(info.time_base.numerator, info.time_base.denominator),
        source_times=True,
        frame_rate=(DEFAULT_FPS.numerator, DEFAULT_FPS.denominator),
    )


def _check_options(options: EncodeOptions, target: Path, form: Format) -> None:
    given = {
        "--codec": options.codec not in ("auto", form.name.lower()),
        "--crf": options.crf is not None,
        "--preset": options.preset is not None,
        "--pix-fmt": options.pix_fmt != "auto",
    }
    flags = [flag for flag, is_given in given.items() if is_given]
    if flags:
        raise OutputError(
            f"{target.name}: {' and '.join(flags)} would have no effect on a picture: leave it out"
            + ("" if form.quality is None else "; -e quality=90 chooses the quality")
        )
    for key, value in options.extra:
        if key != "quality" or form.quality is None:
            raise OutputError(
                f"{target.name}: -e {key}={value} is not an option of {form.name}: "
                + ("leave it out" if form.quality is None else "give -e quality=N, or leave it out")
            )
        if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 100):
            raise OutputError(f"-e quality={value} is not allowed: give 1 to 100")


def format_of(settings: EncoderSettings) -> Format:
    """The format of a picture's settings."""
    return next(form for form in OF_SUFFIX.values() if form.name.lower() == settings.codec)


def holds_profile(settings: EncoderSettings, icc: bytes) -> bool:
    """Whether a picture keeps a colour profile, which must be one of its own colour space."""
    wanted = b"GRAY" if layout_of(settings.pix_fmt).gray else b"RGB "
    return format_of(settings).tags and icc[16:20] == wanted


def levels_of(pixels: Pixels, pix_fmt: str) -> npt.NDArray[Any]:
    """Pixels (height, width, 3 or 4), 0..65535, as levels of one of `FORMATS`, in its order and the machine's bytes.

    Dithered by position: rows from a multiple of 8 on get what they get in the whole picture.
    """
    layout = layout_of(pix_fmt)
    if layout.gray:
        grey = np.rint(pixels[..., :3] @ _LUMA).clip(0, 65535).astype(np.uint16)[..., None]
        pixels = np.concatenate([grey, pixels[..., 3:]], axis=2)
    levels = to_levels(pixels, layout.depth)
    return levels if layout.depth == 16 else levels.astype(np.uint8)


class StillPart:
    """Writes the rows of one picture to a raw file, which exists only after the `with` block ends without an error."""

    def __init__(self, path: Path, settings: EncoderSettings) -> None:
        self._path, self._settings = path, settings
        self._rows = 0
        self._file = complete_or_absent(path, right=Right.FORM)

    def __enter__(self) -> StillPart:
        temporary = self._file.__enter__()
        try:
            with written_errors(self._path):
                self._out: BinaryIO = temporary.open("xb")
        except BaseException as error:
            self._give_up(error)
            raise
        return self

    def write(self, pixels: Pixels, pts: int, duration: int, *again: tuple[int, int]) -> None:
        """Append rows: uint16 (rows, width, 3 or 4), 0..65535. All times are ignored. Raises OutputError."""
        levels = levels_of(pixels, self._settings.pix_fmt)
        with written_errors(self._path):
            self._out.write(np.ascontiguousarray(levels).data)
        self._rows += len(levels)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                with written_errors(self._path):
                    self._out.close()
                if self._rows != self._settings.height:
                    raise ValueError(f"{self._rows} rows of {self._settings.height} were written")
            except BaseException as failure:
                self._give_up(failure)
                raise
            self._file.__exit__(None, None, None)
        else:
            with suppress(OSError):
                self._out.close()
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        with suppress(type(error)):
            self._file.__exit__(type(error), error, error.__traceback__)


def write_still(
    part: Path,
    info: VideoInfo,
    target: Path,
    settings: EncoderSettings,
    streams: StreamOptions,
    *,
    work_dir: Path | None,
    provenance: str,
    on_complete: Callable[[Path], None] | None,
    overwrite: bool,
) -> None:
    """Encode a finished part as a picture, with the source's colour profile and Exif where the format has them.

    The file appears under its name when it is complete. provenance: for Exif's `Software`. Raises OutputError,
    InputError if the source can no longer be read.
    """
    form, layout = format_of(settings), layout_of(settings.pix_fmt)
    channels = next(count for (count, _), name in FORMATS.items() if name == settings.pix_fmt)
    kind = np.uint8 if layout.depth == 8 else np.uint16
    shape = (settings.height, settings.width, channels)
    with written_errors(target):
        levels = np.memmap(part, kind, "r", shape=shape)
    tags = _tags(info, settings, streams, provenance) if form.tags else {}
    whole = complete_or_absent(target, work_dir, on_complete, replace=overwrite)
    with whole as temporary, written_errors(target):
        if form.name == "TIFF":
            with temporary.open("xb") as file:
                _write_tiff(file, levels, tags)
            return
        if layout.depth == 16:
            with temporary.open("xb") as file:
                file.write(_deep_png(levels, settings.pix_fmt, tags))
            return
        more = {**dict(form.save), **tags}
        if form.quality is not None:
            more["quality"] = int(dict(settings.options).get("quality", form.quality))
        image = Image.frombuffer(
            _MODES[channels], shape[1::-1], levels, "raw", _MODES[channels], 0, 1
        )
        with temporary.open("x+b") as file:
            try:
                image.save(file, form.name, **more)
            except ValueError as error:
                raise OutputError(f"{target} cannot be written: {error}") from error


def _tags(
    info: VideoInfo, settings: EncoderSettings, streams: StreamOptions, provenance: str
) -> dict[str, Any]:
    """What is written beside the pixels, as Pillow's arguments."""
    tags: dict[str, Any] = {}
    exif = Image.Exif()
    if info.container == STILL:
        facts = still_facts(info.path)
        if holds_profile(settings, facts.icc):
            tags["icc_profile"] = facts.icc
        if facts.dpi is not None:
            tags["dpi"] = facts.dpi
        if streams.metadata:
            exif = _described(facts.exif, settings.width, settings.height)
    if provenance:
        exif[ExifTags.Base.Software] = provenance
    if len(exif):
        tags["exif"] = exif
    return tags


def _described(source: Image.Exif, width: int, height: int) -> Image.Exif:
    """Exif of an upright picture of another size: without the layout of the source's file, its turn, its thumbnail."""
    exif = Image.Exif()
    exif.load(source.tobytes())
    for tag in tuple(exif):
        of_layout = tag < _LAYOUT_END and tag not in _DESCRIBING
        if of_layout or tag in _OF_OTHER_PIXELS:
            del exif[tag]
    stated = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
    for tag, side in zip(_SIDES, (width, height), strict=True):
        if tag in stated:
            stated[tag] = side
    if ExifTags.Base.Orientation in source:
        exif[ExifTags.Base.Orientation] = 1
    return exif


def _deep_png(levels: npt.NDArray[np.uint16], pix_fmt: str, tags: dict[str, Any]) -> bytes:
    """A PNG file of 16 bits."""
    height, width = levels.shape[:2]
    context = VideoCodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = width, height, f"{pix_fmt[:-2]}be"
    context.time_base, context.options = 1 / DEFAULT_FPS, {"pred": "mixed"}
    frame = VideoFrame(width, height, context.pix_fmt)
    (plane,) = frame.planes
    rows = np.zeros((height, plane.line_size), np.uint8)
    rows[:, : levels[0].nbytes] = levels.astype(">u2").view(np.uint8).reshape(height, -1)
    plane.update(rows.tobytes())
    try:
        packets = [*context.encode(frame), *context.encode(None)]
    except av.FFmpegError as error:
        raise OutputError(f"libav cannot encode the picture: {error}") from error
    return _tagged_png(b"".join(map(bytes, packets)), tags)


def _tagged_png(content: bytes, tags: dict[str, Any]) -> bytes:
    """A PNG file with more chunks after its header."""
    chunks = b""
    if "icc_profile" in tags:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(tags["icc_profile"]))
    if "exif" in tags:
        chunks += _chunk(b"eXIf", tags["exif"].tobytes().removeprefix(b"Exif\0\0"))
    if "dpi" in tags:
        per_metre = (round(each / 0.0254) for each in tags["dpi"])
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    return content[:_SIGNATURE_AND_HEADER] + chunks + content[_SIGNATURE_AND_HEADER:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_tiff(file: BinaryIO, levels: npt.NDArray[Any], tags: dict[str, Any]) -> None:
    """A TIFF file of 8 or 16 bits, compressed in one strip, since not every Pillow writes the places of several."""
    height, width, channels = levels.shape
    compressor, content = zlib.compressobj(), []
    for top in range(0, height, _ROWS):
        rows = levels[top : top + _ROWS]
        steps = rows.copy()
        steps[:, 1:] -= rows[:, :-1]
        content.append(compressor.compress(steps.astype(steps.dtype.newbyteorder("<")).tobytes()))
    content.append(compressor.flush())
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    exif: Image.Exif = tags.get("exif", Image.Exif())
    for tag, value in exif.items():
        directory[tag] = value
    for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if group in exif:
            directory[group] = dict(exif.get_ifd(group))
    directory[TiffImagePlugin.IMAGEWIDTH], directory[TiffImagePlugin.IMAGELENGTH] = width, height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (8 * levels.itemsize,) * channels
    directory[TiffImagePlugin.COMPRESSION] = _DEFLATE
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if channels < 3 else 2
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    directory[TiffImagePlugin.ROWSPERSTRIP] = height
    # Pillow counts from the directory's end.
    directory[TiffImagePlugin.STRIPOFFSETS] = 0
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = sum(map(len, content))
    directory[TiffImagePlugin.PREDICTOR] = _STEPS
    if channels in (2, 4):
        directory[TiffImagePlugin.EXTRASAMPLES] = _STRAIGHT_ALPHA
    if "icc_profile" in tags:
        directory.tagtype[_ICC_TAG] = TiffTags.UNDEFINED
        directory[_ICC_TAG] = tags["icc_profile"]
    if "dpi" in tags:
        directory[TiffImagePlugin.RESOLUTION_UNIT] = 2
        directory[TiffImagePlugin.X_RESOLUTION], directory[TiffImagePlugin.Y_RESOLUTION] = tags[
            "dpi"
        ]
    directory.save(file)
    file.writelines(content)
