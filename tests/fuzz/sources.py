"""Small whole files of many kinds, which `mutations` breaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media.clips import MILLISECOND, Audio, Clip, make, picture

TITLE_MARKER = "A_TITLE_THAT_IS_OVERWRITTEN"
"""Stands in titles of every file that has any, to be found by its bytes."""

# SVT-AV1 writes past libav's logging.
os.environ.setdefault("SVT_LOG", "1")

_SOUND = (Audio(seconds=0.3, title=TITLE_MARKER),)
_TAGS = {"title": TITLE_MARKER}
# Whatever a terminal would obey: colours, the window's title, the bell, a C1 control.
_ESCAPES = "\x1b[31mred\x1b]0;title\x07\b\b\x9b5n\r"


def _clip(**changes: object) -> Clip:
    plain = Clip(frames=6, width=32, height=24, options={"g": "3"}, metadata=_TAGS)
    return Clip(**{**vars(plain), **changes})


def _rich(**changes: object) -> Clip:
    return _clip(
        audio=_SOUND,
        subtitles=(("subrip", 0.0, 0.1, "one"), ("subrip", 0.1, 0.1, TITLE_MARKER)),
        chapters=((0, 0.1, TITLE_MARKER), (0.1, 0.2, "end")),
        attachments=((f"{TITLE_MARKER}.ttf", "application/x-truetype-font", b"\0\1\0\0" * 9),),
        **changes,
    )


CLIPS: dict[str, tuple[str, Clip]] = {
    "mp4": (".mp4", _clip(audio=_SOUND)),
    "faststart": (".mp4", _clip(audio=_SOUND, muxer={"movflags": "faststart"})),
    "fragmented": (".mp4", _clip(muxer={"movflags": "frag_keyframe+empty_moov"})),
    "turned": (".mp4", _clip(rotation=(90, False, False), sample_aspect=Fraction(4, 3))),
    "mov": (".mov", _clip(codec="prores_ks", pix_fmt="yuv422p10le", options={})),
    "hevc": (".mp4", _clip(codec="libx265", options={"x265-params": "log-level=none"})),
    "mkv": (".mkv", _rich()),
    "ffv1": (".mkv", _rich(codec="ffv1", options={"level": "3", "slicecrc": "1"})),
    "raw": (".mkv", _clip(codec="rawvideo", options={})),
    "huffyuv": (".avi", _clip(codec="huffyuv", pix_fmt="yuv422p", options={})),
    "webm": (".webm", _clip(codec="libvpx-vp9", audio=(Audio("libopus", seconds=0.3),))),
    "vp8": (".webm", _clip(codec="libvpx")),
    "av1": (".webm", _clip(codec="libsvtav1", width=64, height=64, options={"preset": "12"})),
    "mpeg4": (".avi", _clip(codec="mpeg4", audio=(Audio("ac3", seconds=0.3),))),
    "mjpeg": (".avi", _clip(codec="mjpeg", pix_fmt="yuvj420p")),
    "ts": (".ts", _clip(audio=_SOUND)),
    "mpeg2": (".mpg", _clip(codec="mpeg2video", time_base=Fraction(1, 25))),
    "flv": (".flv", _clip(codec="flv", time_base=MILLISECOND, audio=_SOUND[:0])),
    "wmv": (".wmv", _clip(codec="wmv2", time_base=MILLISECOND)),
    "nut": (".nut", _clip(codec="mpeg4", audio=(Audio("flac", seconds=0.3),))),
    "y4m": (".y4m", _clip(codec="wrapped_avframe", time_base=Fraction(1, 25))),
    "gif": (".gif", _clip(codec="gif", pix_fmt="rgb8", time_base=Fraction(1, 100))),
    "h264": (".h264", _clip()),
    "long-tags": (".mkv", _rich(metadata={"title": "t" * 3_000_000})),
    "many-tags": (".mp4", _clip(metadata={"comment": "x" * 2_000_000, **_TAGS})),
    "escapes": (
        ".mkv",
        _clip(
            audio=(Audio(seconds=0.3, title=_ESCAPES, language="\x1b[5"),),
            subtitles=(("subrip", 0.0, 0.1, _ESCAPES),),
            metadata={"title": _ESCAPES, _ESCAPES: "tag"},
            attachments=((_ESCAPES, "application/x-truetype-font", b"\0\1\0\0"),),
        ),
    ),
    "chapters": (
        ".mkv",
        _clip(chapters=tuple((i * 1e-3, i * 1e-3 + 9, f"\x1b[{i}m") for i in range(600))),
    ),
    "overlapping-chapters": (
        ".mp4",
        _clip(chapters=tuple((0.2 - i * 1e-3, 0.2, TITLE_MARKER) for i in range(200))),
    ),
    "far-apart": (
        ".mkv",
        _clip(time_base=MILLISECOND, pts=(0, 40, 80, 1 << 40, (1 << 40) + 40, 1 << 45)),
    ),
    "late": (
        ".mkv",
        _clip(time_base=MILLISECOND, pts=tuple((1 << 46) + 40 * i for i in range(6))),
    ),
    "far-apart-mp4": (
        ".mp4",
        _clip(pts=(0, 512, 1024, 1 << 29, (1 << 29) + 1, (1 << 29) + 2)),
    ),
    "early": (
        ".mkv",
        _clip(
            time_base=MILLISECOND,
            pts=tuple(40 * i - 90_000 for i in range(6)),
            muxer={"avoid_negative_ts": "disabled"},
        ),
    ),
    "fast": (".mp4", _clip(time_base=Fraction(1, 1_000_000), pts=tuple(range(6)))),
}

Source = Callable[[Path], Path]


def _png(path: Path) -> Path:
    with av.open(str(path), "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "rgb24"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(picture(number, 32, 24), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _with_cover(path: Path) -> Path:
    """An mp4 whose second video stream is a picture of the film."""
    plain = make(path.with_name("plain.mp4"), _clip(audio=_SOUND))
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        output.metadata.update(_TAGS)
        kept = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        cover = output.add_stream("png", rate=25)
        cover.width, cover.height, cover.pix_fmt = 32, 24, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux():
            if packet.size:
                packet.stream = kept[packet.stream_index]
                output.mux(packet)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(9, 32, 24)), "rgb24")
        output.mux([*cover.encode(frame), *cover.encode(None)])
    plain.unlink()
    return path


def _clip_source(suffix: str, clip: Clip) -> Source:
    return lambda folder: make(folder / f"clip{suffix}", clip)


SOURCES: dict[str, Source] = {
    **{name: _clip_source(suffix, clip) for name, (suffix, clip) in CLIPS.items()},
    "png": lambda folder: _png(folder / "clip.png"),
    "cover": lambda folder: _with_cover(folder / "clip.mp4"),
}
"""By name, what writes a file into an empty folder."""
