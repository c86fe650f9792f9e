"""What else is copied from the source: tags, dispositions, chapters, fonts and cover pictures."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from starvsr.media.decode import readable_packets
from starvsr.media.source import is_cover, open_source
from starvsr.options import StreamOptions
from starvsr.types import VideoInfo

if TYPE_CHECKING:
    from av.container.core import Chapter

logger = logging.getLogger(__name__)

_WITH_ATTACHMENTS = ("matroska",)
# Tags of the old container or encoder that are no longer true.
_STALE_TAGS = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "vendor_id",
    "alpha_mode",
    # What MXF says of the program that wrote it.
    *("uid", "generation_uid", "product_uid", "product_version", "product_version_num"),
    *("application_platform", "material_package_umid", "operational_pattern_ul"),
    *("file_package_umid", "toolkit_version_num"),
    # Those of the output are said by `media.carrier` and `media.timecode`.
    "stereo_mode",
    "timecode",
)
_STALE_STARTS = ("bps", "number_of_frames", "number_of_bytes", "_statistics", "duration-")
_IMAGE_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "webp": "image/webp"}
# What a stream is for, by libav's names, and which of them its muxers write.
_ROLES = (
    *("dub", "original", "comment", "lyrics", "karaoke", "forced"),
    *("hearing_impaired", "visual_impaired", "captions", "descriptions"),
)
_HELD_ROLES = {
    "mp4": {*_ROLES} - {"original", "lyrics", "karaoke"},
    "matroska": {*_ROLES} - {"lyrics", "karaoke", "captions"},
    "matroska audio": {*_ROLES} - {"lyrics", "karaoke", "captions", "descriptions"},
    "webm": {"forced"},
    "nut": {*_ROLES[:5]},
}
# Of a language's two codes, the one in QuickTime's list, to which libav does not convert.
_QUICKTIME_LANGUAGES = {
    "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb", "mkd": "mac", "hye": "arm",
    "kat": "geo", "bod": "tib", "mya": "bur", "msa": "may", "cym": "wel", "eus": "baq", "fre": "fra", "cze": "ces",
    "rum": "ron", "slo": "slk",
}  # fmt: skip


def describe(copy: Stream, stream: Stream, container: str, streams: StreamOptions) -> None:
    """Give an output stream the disposition, the language and, if requested, the other tags of the source's stream.

    container: libav's muxer of the output.
    """
    copy.disposition = stream.disposition
    tags = kept_tags(stream.metadata) if streams.metadata else {}
    if "name" in tags:
        # libav reads the title that it writes into an mp4 as a name.
        tags.setdefault("title", tags.pop("name"))
    if stream.language:
        known = _QUICKTIME_LANGUAGES if container == "mov" else {}
        tags["language"] = known.get(stream.language, stream.language)
    copy.metadata.update(tags)


def lost_roles(info: VideoInfo, container: str, streams: StreamOptions) -> list[str]:
    """Roles of the source's streams for which an output of this muxer has no place. Raises InputError."""
    wanted = {"video": "copy", "audio": streams.audio, "subtitle": streams.subtitles}
    lost = []
    with open_source(info.path) as source:
        for stream in source.streams:
            is_film = stream.type != "video" or stream.index == info.stream_index
            if (
                is_film
                and stream.index not in info.foreign
                and wanted.get(stream.type, "none") != "none"
            ):
                roles = [role for role in _ROLES if stream.disposition & Disposition[role]]
                held = _HELD_ROLES.get(f"{container} {stream.type}") or _HELD_ROLES.get(
                    container, set()
                )
                lost += [
                    f"{role.replace('_', ' ')} of stream {stream.index}"
                    for role in roles
                    if role not in held
                ]
    return lost


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without those that describe the old file rather than its content."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _STALE_TAGS and not key.lower().startswith(_STALE_STARTS)
    }


def can_hold(container: str, stream: Stream, first: bytes = b"") -> bool:
    """Whether the libav muxer of this name supports a copy of the stream, tested by writing a file to memory.

    first: data of its first packet, which some muxers need for a header; empty if unknown.
    """
    output = av.open(io.BytesIO(), "w", format=container)
    try:
        copy = output.add_stream_from_template(stream, opaque=True)
        output.start_encoding()
        if first:
            output.mux(timeless_packet(copy, first))
        output.close()
    except (av.FFmpegError, ValueError, OSError):
        return False
    return True


def timeless_packet(stream: Stream, data: bytes) -> Packet[Stream]:
    """A packet at time 0 of an output's stream whose header is written."""
    packet: Packet[Stream] = Packet(data)
    packet.stream = stream
    packet.pts = packet.dts = 0
    packet.time_base = stream.time_base or Fraction(1, 1000)
    packet.is_keyframe = True
    return packet


def left_out(stream: Stream, container: str) -> str:
    """Why a container, by libav's name, cannot contain a font or cover picture; empty if it can.

    Empty for other streams too.
    """
    if stream.type == "attachment" and container not in _WITH_ATTACHMENTS:
        name = stream.metadata.get("filename", stream.index)
        return f"attachment {name} is left out: only .mkv supports attachments"
    if is_cover(stream) and not _holds_cover(stream, container):
        return f"the cover picture (stream {stream.index}) is left out: the container does not support it"
    return ""


def _holds_cover(stream: Stream, container: str) -> bool:
    if _image_type(stream) is None:
        return False
    return container in _WITH_ATTACHMENTS or (container == "mp4" and can_hold(container, stream))


def _image_type(stream: Stream) -> str | None:
    context = stream.codec_context
    return _IMAGE_TYPES.get(context.codec.canonical_name) if context else None


def add_attachments(
    info: VideoInfo, source: InputContainer, output: OutputContainer
) -> list[tuple[Stream, bytes]]:
    """Add fonts and cover pictures that are not `left_out`.

    Returns the cover pictures that must still be written as a packet: stream and data.
    """
    pending: list[tuple[Stream, bytes]] = []
    for stream in source.streams:
        if left_out(stream, output.format.name):
            continue
        if stream.type == "attachment":
            output.add_stream_from_template(stream)
        elif is_cover(stream):
            pending += _add_cover(info, stream, output)
    return pending


def _add_cover(
    info: VideoInfo, stream: Stream, output: OutputContainer
) -> list[tuple[Stream, bytes]]:
    data, image_type = _cover_data(info, stream.index), _image_type(stream)
    if not data or image_type is None:
        logger.warning("the cover picture (stream %d) is left out: it is empty", stream.index)
        return []
    if output.format.name in _WITH_ATTACHMENTS:
        name = stream.metadata.get("filename") or f"cover.{image_type.partition('/')[2]}"
        output.add_attachment(name, image_type, data)
        return []
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.disposition = stream.disposition
    return [(copy, data)]


def _cover_data(info: VideoInfo, stream_index: int) -> bytes:
    with open_source(info.path) as source:
        for packet in readable_packets(source, source.streams[stream_index]):
            return bytes(packet)
    return b""


def moved_chapters(
    chapters: list[Chapter], start: Fraction, end: Fraction | None, origin: Fraction
) -> list[Chapter]:
    """Chapters that overlap start..end (seconds in the source; None is open-ended), clipped to it, `origin` at 0."""
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
