"""Decoding on a GPU or media engine: whether it is available, and how a file is opened for it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer

from starvsr.errors import InputError, UsageError
from starvsr.media.choice import film_stream
from starvsr.media.decode import FrameDecoder
from starvsr.media.pixfmt import layout_of
from starvsr.media.source import open_source
from starvsr.types import VideoInfo

logger = logging.getLogger(__name__)


def usable_device(info: VideoInfo, asked: str) -> str:
    """The type of device that decodes the video, by libav's name; `none` is the CPU.

    asked: `none`, `auto` (the first that works), or a type; if that one does not work, a warning is printed. Raises
    UsageError for a type that this libav does not have.
    """
    if asked == "none":
        return asked
    known = hwdevices_available()
    if asked == "auto":
        return next((kind for kind in known if _decodes(info, kind)), "none")
    if asked not in known:
        raise UsageError(
            f"--hwaccel {asked} is not in this libav build: give none, auto or one of {', '.join(known)}"
        )
    if _decodes(info, asked):
        return asked
    logger.warning(
        "--hwaccel %s cannot decode %s %s here: the CPU decodes it",
        asked,
        info.codec,
        info.pix_fmt,
    )
    return "none"


def open_for(info: VideoInfo) -> AbstractContextManager[InputContainer]:
    """Open a video as its `hwaccel` says. Raises InputError."""
    if info.hwaccel == "none":
        return open_source(info.path)
    return open_source(info.path, HWAccel(info.hwaccel, allow_software_fallback=True))


def _decodes(info: VideoInfo, kind: str) -> bool:
    """Whether such a device decodes the first frame, with the same bits and chroma as the CPU."""
    try:
        # PyAV raises, since fallback is off, if a stream has no such decoder.
        device = HWAccel(kind, allow_software_fallback=False)
        with open_source(info.path, device) as container:
            stream = film_stream(container, info)
            frame = next(iter(FrameDecoder(container, stream, one_thread=True)), None)
    except (av.FFmpegError, InputError, OSError, RuntimeError, ValueError) as error:
        logger.debug("no decoding by %s: %s", kind, error)
        return False
    if frame is None:
        return False
    made, wanted = layout_of(frame.format.name), layout_of(info.pix_fmt)
    return (made.depth, made.chroma_shift) == (wanted.depth, wanted.chroma_shift)
