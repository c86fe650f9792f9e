"""What is copied from the source beside the restored video: which streams, into which containers, with which tags."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from starvsr.errors import OutputError
from starvsr.media.encoder import CONTAINERS, container_of
from starvsr.media.source import is_cover, open_source
from starvsr.options import StreamOptions
from starvsr.types import VideoInfo

if TYPE_CHECKING:
    from av.container.core import Chapter

logger = logging.getLogger(__name__)

_WITH_ATTACHMENTS = ("matroska",)
# Extensions to recommend, in this order.
_RECOMMENDED = (".mkv", ".mp4", ".mov")
# What the old container or the old encoder said of itself, which no longer holds.
_STALE_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
_STALE_STARTS = ("bps", "number_of_frames", "number_of_bytes", "_statistics", "duration-")
_IMAGE_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "webp": "image/webp"}


def wants(stream: Stream, streams: StreamOptions) -> bool:
    """Whether a stream of the source, as packets, is asked for in the output."""
    if stream.type == "audio":
        return streams.audio == "copy"
    return stream.type == "subtitle" and streams.subtitles == "copy"


def check_streams(info: VideoInfo, target: Path, streams: StreamOptions) -> None:
    """Raise OutputError if the output's container cannot hold an audio or subtitle stream that is to be copied.

    Reads the source's header and writes nothing. Attachments, cover pictures and chapters that a container cannot
    hold are no error: they are left out, with a warning, when the file is written.
    """
    container = container_of(target)
    with open_source(info.path) as source:
        for stream in source.streams:
            if wants(stream, streams) and not can_hold(container, stream):
                raise OutputError(_cannot_hold(target, stream))


def can_hold(container: str, stream: Stream) -> bool:
    """Whether libav's muxer of this name takes a copy of the stream: a header with nothing else is tried."""
    output = av.open(io.BytesIO(), "w", format=container)
    try:
        output.add_stream_from_template(stream, opaque=True)
        output.start_encoding()
        output.close()
    except (av.FFmpegError, ValueError, OSError):
        return False
    return True


def _cannot_hold(target: Path, stream: Stream) -> str:
    context = stream.codec_context
    codec = context.codec.canonical_name if context else "unknown"
    better = [end for end in _RECOMMENDED if can_hold(CONTAINERS[end], stream)]
    flag = "--audio none" if stream.type == "audio" else "--subtitles none"
    advice = (
        f"give an output that ends in {' or '.join(better)}, or {flag}"
        if better
        else f"give {flag}"
    )
    return f"{target.name}: a {target.suffix} file cannot hold {stream.type} stream {stream.index} ({codec}): {advice}"


def add_copies(
    source: InputContainer, output: OutputContainer, streams: StreamOptions
) -> dict[int, Stream]:
    """Add to the output what is copied as packets; the output's streams by the source's index.

    Data streams (camera telemetry, time code) and further video streams are left out.
    """
    copies: dict[int, Stream] = {}
    for stream in source.streams:
        if not wants(stream, streams):
            if stream.type not in ("audio", "subtitle", "attachment") and not is_cover(stream):
                logger.debug("stream %d (%s) is not copied", stream.index, stream.type)
            continue
        copy = output.add_stream_from_template(stream, opaque=True)
        describe(copy, stream, streams)
        copies[stream.index] = copy
    return copies


def describe(copy: Stream, stream: Stream, streams: StreamOptions) -> None:
    """Give an output stream the disposition, the language and, where wanted, the other tags of the source's."""
    copy.disposition = stream.disposition
    tags = kept_tags(stream.metadata) if streams.metadata else {}
    if stream.language:
        tags["language"] = stream.language
    copy.metadata.update(tags)


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without those that describe the old file and not its content."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _STALE_TAGS and not key.lower().startswith(_STALE_STARTS)
    }


def add_attachments(
    info: VideoInfo, source: InputContainer, output: OutputContainer
) -> list[tuple[Stream, bytes]]:
    """Add fonts and cover pictures where the container can hold them, and warn where it cannot.

    Returns the cover pictures that are still to be written as a packet: stream and data.
    """
    pending: list[tuple[Stream, bytes]] = []
    for stream in source.streams:
        if stream.type == "attachment":
            if output.format.name in _WITH_ATTACHMENTS:
                output.add_stream_from_template(stream)
            else:
                logger.warning(
                    "attachment %s is left out: only .mkv holds attachments",
                    stream.metadata.get("filename", stream.index),
                )
        elif is_cover(stream):
            pending += _add_cover(info, stream, output)
    return pending


def _add_cover(
    info: VideoInfo, stream: Stream, output: OutputContainer
) -> list[tuple[Stream, bytes]]:
    data = _cover_data(info, stream.index)
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    image_type = _IMAGE_TYPES.get(codec)
    if data and image_type and output.format.name in _WITH_ATTACHMENTS:
        name = stream.metadata.get("filename") or f"cover.{image_type.partition('/')[2]}"
        output.add_attachment(name, image_type, data)
        return []
    if data and image_type and can_hold(output.format.name, stream):
        copy = output.add_stream_from_template(stream, opaque=True)
        copy.disposition = stream.disposition
        return [(copy, data)]
    logger.warning(
        "the cover picture (stream %d) is left out: the container cannot hold it", stream.index
    )
    return []


def _cover_data(info: VideoInfo, stream_index: int) -> bytes:
    with open_source(info.path) as source:
        for packet in source.demux(source.streams[stream_index]):
            return bytes(packet)
    return b""


def is_filler(packet: Packet[Stream]) -> bool:
    """Whether a packet is an mp4 subtitle without text, which fills a gap; the muxer makes its own."""
    context = packet.stream.codec_context
    is_text = context is not None and context.codec.canonical_name == "mov_text"
    return is_text and bytes(packet) == b"\0\0"


def lacks_header(packet: Packet[Stream]) -> bool:
    """Whether a packet of AAC with a header in every packet has none: it is damaged.

    As a stream's first packet it would make a muxer take the others for bare ones, and refuse them.
    """
    context = packet.stream.codec_context
    if context is None or context.codec.canonical_name != "aac" or context.extradata:
        return False
    return int.from_bytes(bytes(packet)[:2], "big") & 0xFFF0 != 0xFFF0


def moved_chapters(
    chapters: list[Chapter], start: Fraction, end: Fraction | None, origin: Fraction
) -> list[Chapter]:
    """Chapters that overlap start..end (seconds in the source; None is open), clipped to it, `origin` at 0."""
    moved: list[Chapter] = []
    for chapter in chapters:
        base = chapter["time_base"] or Fraction(1, 1000)
        begins, ends = chapter["start"] * base, chapter["end"] * base
        if end is not None:
            begins, ends = max(begins, start), min(ends, end)
            if begins >= ends:
                continue
        moved.append(
            {
                "id": chapter["id"],
                "start": max(0, round((begins - origin) / base)),
                "end": max(0, round((ends - origin) / base)),
                "time_base": base,
                "metadata": dict(chapter["metadata"]),
            }
        )
    return moved
