"""YUV4MPEG2, raw frames in sequence, for programs that accept nothing else from a pipe.

libav's muxer takes the sample aspect and chroma location from where PyAV cannot set them, so the header, which is
one line, is written here.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.video.codeccontext import VideoCodecContext

from starvsr.errors import OutputError
from starvsr.media.encoder import EncoderSettings
from starvsr.media.pixfmt import is_hdr
from starvsr.types import VideoIndex, VideoInfo

_SUBSAMPLINGS = ("420", "422", "444")
_DEPTHS = (9, 10, 12, 14, 16)
_NAMES = {f"yuv{kind}p": kind for kind in _SUBSAMPLINGS} | {
    f"yuv{kind}p{depth}le": f"{kind}p{depth}" for kind in _SUBSAMPLINGS for depth in _DEPTHS
}
"""The format's names of libav's pixel formats. It has grey too, which is written as 4:2:0 everywhere."""
# The only name that signals the chroma location, where it is unless an encoder can signal another one.
_LEFT = {"420": "420mpeg2"}


def check_y4m(
    info: VideoInfo, index: VideoIndex, settings: EncoderSettings, first: int, last: int
) -> None:
    """Raise OutputError for what y4m does not support in frames first..last-1: times, HDR, alpha, RGB."""
    advice = "--container nut or mkv"
    if is_hdr(info):
        raise OutputError(f"y4m cannot signal HDR, and players would show it wrong: give {advice}")
    if settings.pix_fmt not in _NAMES:
        raise OutputError(
            f"y4m does not support {settings.pix_fmt}: give a --pix-fmt such as yuv444p, or {advice}"
        )
    rate = Fraction(*settings.frame_rate)
    step = 1 / (rate * info.time_base)
    begins = index.pts[first] - index.trimmed[0]
    for frame in range(first + 1, last):
        if abs(index.pts[frame] - begins - (frame - first) * step) > step / 2:
            raise OutputError(
                f"y4m has one frame rate and no times, and frame {frame} is not where {rate} frames per second would "
                f"put it: give {advice}"
            )


def write_y4m(source: Path, settings: EncoderSettings, aspect: Fraction, out: BinaryIO) -> None:
    """Decode a file that was written by `settings`, and write its frames. aspect: of a sample. Raises OSError."""
    color, name = settings.color, _NAMES[settings.pix_fmt]
    full = "FULL" if color.range == 2 else "LIMITED"
    rate = ":".join(map(str, settings.frame_rate))
    out.write(
        f"YUV4MPEG2 W{settings.width} H{settings.height} F{rate} Ip A{aspect.numerator}:{aspect.denominator} "
        f"C{_LEFT.get(name, name)} XCOLORRANGE={full}\n".encode()
    )
    packer = VideoCodecContext.create("rawvideo", "w")
    packer.width, packer.height, packer.pix_fmt = settings.width, settings.height, settings.pix_fmt
    packer.time_base = Fraction(1, 1000)
    with av.open(str(source)) as container:
        for frame in container.decode(video=0):
            for packet in packer.encode(frame):
                out.write(b"FRAME\n")
                out.write(bytes(packet))
