"""The sizes that encoders take, and the containers that hold their video; known before an encoder is opened."""

from __future__ import annotations

import io

import av

from starvsr.errors import OutputError
from starvsr.options import MOST_SIDE_PX

# Columns and rows that encoders take at most, where it is fewer than `MOST_SIDE_PX`.
_MOST_PX = {
    "libx264": (16384, 16384),
    "libx264rgb": (16384, 16384),
    "libsvtav1": (16384, 8704),
    "libvpx": (16383, 16383),
    "mpeg4": (8191, 8191),
    "mpeg2video": (16383, 16383),
    "mpeg1video": (4095, 4095),
    "mjpeg": (65500, 65500),
}
# Columns and rows that they take at least; of x265 with the block size of small frames.
_LEAST_PX = {"libx265": (32, 32), "libsvtav1": (4, 4), "ffv1": (4, 1)}
# Encoders to recommend where another one does not take a size, in this order.
_OTHERS = ("libx264", "libx265", "libvpx-vp9", "ffv1")


def holds(container: str, codec: str) -> bool:
    """Whether libav's muxer of a name supports video of an encoder."""
    with av.open(io.BytesIO(), "w", format=container) as output:
        try:
            output.add_stream(codec, rate=25)
        except ValueError:
            return False
    return True


def check_size(codec: str, container: str, width: int, height: int) -> None:
    """Raise OutputError for a size that an encoder does not take, with what helps.

    container: libav's muxer of the output. Some encoders print a line of their own where they are opened with it.
    """
    least, most = _least_px(codec), _most_px(codec)
    if _fits(codec, width, height):
        return
    others = [
        name
        for name in _OTHERS
        if name in av.codecs_available and _fits(name, width, height) and holds(container, name)
    ]
    other = f", or --codec {others[0]}" if others else ""
    if width < least[0] or height < least[1]:
        raise OutputError(
            f"the encoder {codec} takes at least {least[0]}x{least[1]} pixels, not {width}x{height}: give a larger "
            f"--scale{other}"
        )
    long_side = int(max(width, height) * min(most[0] / width, most[1] / height))
    raise OutputError(
        f"the encoder {codec} takes at most {most[0]}x{most[1]} pixels, not {width}x{height}: give --max-resolution "
        f"{long_side}{other}"
    )


def _least_px(codec: str) -> tuple[int, int]:
    return _LEAST_PX.get(codec, (1, 1))


def _most_px(codec: str) -> tuple[int, int]:
    return _MOST_PX.get(codec, (MOST_SIDE_PX, MOST_SIDE_PX))


def _fits(codec: str, width: int, height: int) -> bool:
    least, most = _least_px(codec), _most_px(codec)
    return least[0] <= width <= most[0] and least[1] <= height <= most[1]
