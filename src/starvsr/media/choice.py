"""Which of a file's video streams is the film, and which streams belong to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from starvsr.errors import InputError, UsageError
from starvsr.media.decode import readable_packets
from starvsr.media.source import broken_picture, is_cover, open_source
from starvsr.types import VideoInfo

# Packets read to find out which streams are stills: seconds of a few interleaved streams.
_LEAST_PACKETS, _MOST_PACKETS, _MOST_BYTES = 60, 600, 1 << 25
# Bounded, as Python does not convert numbers of thousands of digits.
_DURATION_TAG = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,9})?)")
_MICROSECOND = Fraction(1, 1_000_000)
# A stream with fewer frames than another by more than this factor is a few stills beside a film.
_FAR_FEWER = 10
# A stream that is shorter than the longest one by more than this factor is an extra, such as a clip beside the film.
_MUCH_SHORTER = 2


def choose_stream(container: InputContainer, path: Path, number: int | None = None) -> VideoStream:
    """The video stream that is restored: the one asked for, else the film.

    number: index among the file's video streams, as in ffmpeg's `v:N`. The film is no cover picture, tile or few stills
    where another stream is more, and of several streams a default one, a long one, the largest, the first, in this
    order. Raises InputError if there is none, UsageError for a number that the file does not have.
    """
    videos = container.streams.video
    if number is not None:
        return _asked(videos, path, number)
    films = [each for each in videos if not is_cover(each)]
    if not films:
        raise InputError(_none(container, path))
    whole = [each for each in films if not each.disposition & Disposition.dependent]
    if not whole:
        raise InputError(
            f"{path}: its picture is a grid of {len(films)} tiles, which is not supported: convert it to one "
            "picture first"
        )
    known = [each for each in whole if each.codec_context is not None]
    if not known:
        raise InputError(f"{path}: this libav has no decoder for its video stream")
    if len(known) == 1:
        return known[0]
    packets, length = _packets(known, path), _duration_s(container, known)

    def worth(stream: VideoStream) -> tuple[bool | int | float, ...]:
        return (
            packets[stream.index] > 0,
            packets[stream.index] > 1
            and packets[stream.index] * _FAR_FEWER >= max(packets.values())
            and not stream.disposition & Disposition.still_image,
            bool(stream.disposition & Disposition.default),
            length[stream.index] * _MUCH_SHORTER >= max(length.values()),
            stream.codec_context.width * stream.codec_context.height,
            length[stream.index],
        )

    # Of equals, `max` returns the first.
    return max(known, key=worth)


def film_stream(container: InputContainer, info: VideoInfo) -> VideoStream:
    """The video stream that was chosen when the file was probed. Raises InputError if the file has changed."""
    if info.stream_index < len(container.streams):
        stream = container.streams[info.stream_index]
        if isinstance(stream, VideoStream):
            return stream
    raise InputError(
        f"{info.path} has no video stream {info.stream_index} any more: has it changed since?"
    )


def tagged_duration_s(stream: Stream) -> float | None:
    """Seconds of a stream by the tag that writers of Matroska add, which has only the file's; None without one."""
    text = next((text for key, text in stream.metadata.items() if key.lower() == "duration"), "")
    said = _DURATION_TAG.fullmatch(text)
    return said and 3600 * int(said[1]) + 60 * int(said[2]) + float(said[3])


def foreign_streams(programs: Sequence[Sequence[int]], chosen: int) -> tuple[int, ...]:
    """Streams that belong to other programs of a broadcast only.

    programs: the streams of each. chosen: the video stream that is restored.
    """
    own = next((program for program in programs if chosen in program), None)
    if own is None:
        return ()
    return tuple(sorted({each for program in programs for each in program} - set(own)))


def _asked(videos: Sequence[VideoStream], path: Path, number: int) -> VideoStream:
    given = f"--video-stream {number}: {path}"
    if number >= len(videos):
        allowed = "0" if len(videos) == 1 else f"0 to {len(videos) - 1}"
        count = f"only {len(videos)} video stream{'s' * (len(videos) > 1)}"
        have = count if videos else "no video stream"
        raise UsageError(
            f"{given} has {have}: " + (f"give {allowed}" if videos else "leave it out")
        )
    stream = videos[number]
    if is_cover(stream):
        raise UsageError(
            f"{given}: this stream is a cover picture: give another one, or leave it out"
        )
    if stream.codec_context is None:
        raise InputError(f"{given}: this libav has no decoder for this stream: give another one")
    return stream


def _none(container: InputContainer, path: Path) -> str:
    if container.streams.video:
        return f"{path} contains no video, only a cover picture: give a video"
    if container.streams.audio:
        return f"{path} contains no video, only audio: give a video"
    return broken_picture(path) or f"{path} contains no video stream: give a video"


def _packets(streams: Sequence[VideoStream], path: Path) -> dict[int, int]:
    """How many packets each stream has, by an mp4's index, else among the file's first packets."""
    listed = {each.index: len(each.index_entries) for each in streams}
    if (
        all(listed.values())
        and max(listed.values()) > 1
        and "mp4" in streams[0].container.format.name
    ):
        return listed
    found: Counter[int] = Counter()
    count = size = 0
    with open_source(path) as container:
        wanted = [container.streams[each.index] for each in streams]
        for packet in readable_packets(container, *wanted, one_by_one=True):
            found[packet.stream_index] += 1
            count, size = count + 1, size + packet.size
            enough = count >= _LEAST_PACKETS and all(found[each.index] > 1 for each in streams)
            if enough or count >= _MOST_PACKETS or size >= _MOST_BYTES:
                break
    return {each.index: found[each.index] for each in streams}


def _duration_s(container: InputContainer, streams: Sequence[VideoStream]) -> dict[int, float]:
    """Seconds of each stream by the header; the file's for one that is not said."""
    whole = float((container.duration or 0) * _MICROSECOND)
    found = {}
    for stream in streams:
        # Of Matroska's streams libav may give one the file's duration.
        if tagged := tagged_duration_s(stream):
            found[stream.index] = tagged
        elif stream.duration and stream.time_base:
            found[stream.index] = float(stream.duration * stream.time_base)
        else:
            found[stream.index] = whole
    return found
