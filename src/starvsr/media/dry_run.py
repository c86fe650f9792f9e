"""Tries the real muxer before any work: the header, a first packet of every stream and the end, written to memory."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from starvsr.errors import OutputError
from starvsr.media.copies import timeless_packet
from starvsr.media.decode import readable_packets
from starvsr.media.encoder import IMAGES, EncoderSettings, one_frame, reason_of
from starvsr.media.join import begin, muxer_options
from starvsr.media.others import Route
from starvsr.media.source import open_source
from starvsr.media.span import Span
from starvsr.options import StreamOptions
from starvsr.types import VideoInfo

# What can be left out of an output, by the flag that does so; tried in this order to name what is refused.
_LESS: dict[str, dict[str, Any]] = {
    "--no-metadata": {"metadata": False},
    "--no-chapters": {"chapters": False},
    "--no-attachments": {"attachments": False},
    "--subtitles none": {"subtitles": "none"},
    "--audio none": {"audio": "none"},
}
# Streams that begin later than this after the others are tried without a packet.
_MOST_PACKETS = 2_000


def check_muxer(
    info: VideoInfo, target: Path, settings: EncoderSettings, streams: StreamOptions
) -> None:
    """Write a file as `join` would, of one frame and one packet of each other stream, to memory.

    Raises OutputError if the muxer refuses anything of it, with the flag that leaves this out.
    """
    if settings.container == IMAGES:
        return
    part = one_frame(settings, info, settings.part_container)
    reason = _refusal(part, info, target, settings, streams)
    if reason is None:
        return
    for flag, less in _LESS.items():
        fewer = replace(streams, **less)
        if fewer != streams and _refusal(part, info, target, settings, fewer) is None:
            raise OutputError(
                f"{target.name}: libav's {settings.container} muxer refuses what the file would contain ({reason}): "
                f"give {flag}, or an output that ends in another extension"
            )
    raise OutputError(
        f"{target.name}: libav's {settings.container} muxer refuses what the file would contain ({reason}): "
        "give another --codec, or an output that ends in another extension"
    )


def _refusal(
    part: bytes,
    info: VideoInfo,
    target: Path,
    settings: EncoderSettings,
    streams: StreamOptions,
) -> str | None:
    """Why the muxer refuses the file; None if it does not."""
    options = muxer_options(settings, info)
    # Not closed after an error: libav would write the end of a file without a header.
    output = av.open(io.BytesIO(), "w", format=settings.container, container_options=options)
    with av.open(io.BytesIO(part), "r") as model, open_source(info.path) as source:
        span, pictures = _span(info, source), model.streams.video[0]
        try:
            video, routes = begin(
                output, pictures, source, info, target, settings, streams, span, ""
            )
            (picture,) = (bytes(packet) for packet in model.demux(pictures) if packet.size)
            output.mux(timeless_packet(video, picture))
            _mux_first(output, source, routes)
            output.close()
        except (av.FFmpegError, ValueError, OSError) as error:
            return reason_of(error)
    return None


def _span(info: VideoInfo, source: InputContainer) -> Span:
    start = (source.streams[info.stream_index].start_time or 0) * info.time_base
    return Span(start, None, start)


def _mux_first(output: OutputContainer, source: InputContainer, routes: dict[int, Route]) -> None:
    left = dict(routes)
    packets = readable_packets(source, *(source.streams[index] for index in routes))
    for packet in islice(packets, _MOST_PACKETS if routes else 0):
        if packet.stream_index in left:
            route = left.pop(packet.stream_index)
            for made in route.packets(packet):
                made.stream = route.stream
                output.mux(made)
        if not left:
            break
    for index, route in routes.items():
        for made in route.rest(source.streams[index]):
            made.stream = route.stream
            output.mux(made)
