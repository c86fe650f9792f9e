"""What else is copied from the source: tags, dispositions, chapters, fonts and cover pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from av.container import InputContainer, OutputContainer
from av.stream import Stream

from starvsr.media.passage import can_hold
from starvsr.media.source import is_cover, open_source
from starvsr.options import StreamOptions
from starvsr.types import VideoInfo

if TYPE_CHECKING:
    from av.container.core import Chapter

logger = logging.getLogger(__name__)

_WITH_ATTACHMENTS = ("matroska",)
# What the old container or the old encoder said of itself, which no longer holds.
_STALE_TAGS = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "vendor_id",
    "alpha_mode",
)
_STALE_STARTS = ("bps", "number_of_frames", "number_of_bytes", "_statistics", "duration-")
_IMAGE_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "webp": "image/webp"}
# Of the two codes that a language may have, the one in QuickTime's list, which libav does not translate to.
_QUICKTIME_LANGUAGES = {
    "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb", "mkd": "mac", "hye": "arm",
    "kat": "geo", "bod": "tib", "mya": "bur", "msa": "may", "cym": "wel", "eus": "baq", "fre": "fra", "cze": "ces",
    "rum": "ron", "slo": "slk",
}  # fmt: skip


def describe(copy: Stream, stream: Stream, container: str, streams: StreamOptions) -> None:
    """Give a stream of the output the disposition, the language and, where wanted, the other tags of the source's.

    container: libav's muxer of the output.
    """
    copy.disposition = stream.disposition
    tags = kept_tags(stream.metadata) if streams.metadata else {}
    if "name" in tags:
        # What libav writes as a title into an mp4, it reads as a name.
        tags.setdefault("title", tags.pop("name"))
    if stream.language:
        known = _QUICKTIME_LANGUAGES if container == "mov" else {}
        tags["language"] = known.get(stream.language, stream.language)
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
    if data and image_type and output.format.name == "mp4" and can_hold("mp4", stream):
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
