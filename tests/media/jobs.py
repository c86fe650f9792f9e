"""What a job does around its network, and what the tests of whole files compare."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from starvsr.media.index import build_index
from starvsr.media.join import join
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.writer import PartWriter, check_encoder
from starvsr.options import EncodeOptions, StreamOptions
from starvsr.types import VideoIndex, VideoInfo
from tests.media.clips import Audio, Clip, payloads

TICK = Fraction(1, 1000)


def upscale(
    source: Path,
    target: Path,
    *,
    codec: str = "libx264",
    span: tuple[int, int] | None = None,
    streams: StreamOptions | None = None,
    lengths: Sequence[int] = (5, 1, 4),
    alpha: bool = False,
    video_stream: int | None = None,
) -> Path:
    """What a job does around its network: frames read, encoded at twice the size in parts, joined."""
    info = probe(source, video_stream=video_stream)
    index = build_index(info, scene_detect=False)
    first, last = span or (0, index.frames)
    options = EncodeOptions(codec=codec, preset="veryfast" if codec.startswith("libx26") else None)
    settings = check_encoder(options, target, info, info.width * 2, info.height * 2)
    parts: list[Path] = []
    at = first
    while at < last:
        end = min(last, at + lengths[len(parts) % len(lengths)])
        parts.append(target.with_name(f"part{len(parts)}{settings.part_suffix}"))
        with PartWriter(parts[-1], settings, info, settings.width, settings.height) as writer:
            for number, frame in enumerate(
                read_frames(info, index, at, end, alpha=alpha), start=at
            ):
                large = np.ascontiguousarray(frame.repeat(2, axis=0).repeat(2, axis=1))
                writer.write(large, index.pts[number], index.durations[number])
        at = end
    join(parts, info, index, target, settings, streams or StreamOptions(), first, last)
    for part in parts:
        part.unlink()
    return target


def opened(path: Path) -> tuple[VideoInfo, VideoIndex]:
    info = probe(path)
    return info, build_index(info, scene_detect=False)


def pictures(path: Path) -> list[bytes]:
    """The samples of every frame, plane by plane, as they were encoded."""
    with av.open(str(path)) as container:
        return [_samples(frame) for frame in container.decode(video=0)]


def _samples(frame: VideoFrame) -> bytes:
    size = 1 if frame.format.components[0].bits <= 8 else 2
    found = b""
    for plane in frame.planes:
        # Rows are padded to what a decoder likes.
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        found += rows[:, : plane.width * size].tobytes()
    return found


def times(path: Path) -> list[Fraction]:
    info, index = opened(path)
    return [pts * info.time_base for pts in index.pts]


def stamps(path: Path) -> list[tuple[Fraction, Fraction]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [
        (packet.dts * packet.time_base, packet.pts * packet.time_base)
        for packet in packets
        if packet.dts is not None and packet.pts is not None
    ]


def offsets(path: Path) -> list[Fraction]:
    """Start of each audio stream after the first frame, seconds."""
    begins = times(path)[0]
    return [packets[0].start - begins for packets in payloads(path, "audio")]


RICH = Clip(
    frames=25,
    audio=(Audio("flac"),),
    subtitles=(
        ("subrip", 0.1, 0.3, "one"),
        ("subrip", 0.35, 0.3, "two"),
        ("subrip", 0.8, 0.1, "three"),
    ),
    chapters=((0, 0.5, "Start"), (0.5, 1, "End")),
    metadata={"title": "A film", "artist": "Somebody"},
    attachments=(("font.ttf", "application/x-truetype-font", b"\x00\x01\x00\x00 font" * 9),),
)
