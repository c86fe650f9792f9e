"""How each audio and subtitle stream of the source gets into the output: copied, encoded, converted or dropped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer, OutputContainer
from av.stream import Stream

from starvsr.errors import OutputError
from starvsr.media.audio import (
    AudioEncoding,
    AudioSettings,
    add_audio,
    audio_settings,
    find_audio_encoder,
)
from starvsr.media.copies import can_hold, left_out
from starvsr.media.encoder import CONTAINERS, IMAGES, container_of
from starvsr.media.others import Copying, Route
from starvsr.media.source import is_text, open_source
from starvsr.media.span import Span
from starvsr.media.texts import add_texts
from starvsr.options import StreamOptions
from starvsr.types import VideoInfo

logger = logging.getLogger(__name__)

# Extensions to recommend, in this order.
_RECOMMENDED = (".mkv", ".mp4", ".mov")
# The usual encoder for audio that a container does not support: for lossy audio, and for lossless.
_USUAL_AUDIO = {
    "mp4": ("aac", "flac"),
    "mov": ("aac", "alac"),
    "matroska": ("libopus", "flac"),
    "webm": ("libopus", "libopus"),
    "nut": ("libopus", "flac"),
}
_USUAL_TEXT = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
# Subtitles with fonts, colours and positions, most of which other formats lose.
_STYLED = ("ass", "ssa")


@dataclass(frozen=True)
class Passage:
    """How one stream gets into the output; copied by default."""

    audio: AudioSettings | None = None
    text: str | None = None
    """The codec that subtitles are converted to."""

    def add(self, output: OutputContainer, source: Stream, span: Span) -> Route:
        """Add the stream to the output; returns the route of its packets."""
        if self.audio is not None:
            return AudioEncoding(add_audio(output, self.audio), self.audio, span)
        if self.text is not None:
            return Copying(add_texts(output, self.text, source), span, convert=True)
        return Copying(output.add_stream_from_template(source, opaque=True), span)


def check_streams(info: VideoInfo, target: Path, streams: StreamOptions) -> None:
    """Warn of streams that the output's container supports only in another codec, and fonts and covers that it cannot.

    Reads the source's header and writes nothing. Raises OutputError for audio and subtitles that cannot be copied,
    encoded or converted.
    """
    if container_of(target) == IMAGES:
        # They contain nothing else, which `media.notes` reports.
        return
    if streams.audio not in ("copy", "none"):
        find_audio_encoder(streams.audio)
    with open_source(info.path) as source:
        for stream, passage in passages(source, target, streams):
            note = _note(stream, passage, target, streams)
            if note:
                logger.warning(note)
        for stream in source.streams if streams.attachments else ():
            note = left_out(stream, container_of(target))
            if note:
                logger.warning(note)


def passages(
    source: InputContainer, target: Path, streams: StreamOptions
) -> Iterator[tuple[Stream, Passage]]:
    """Every audio and subtitle stream of the output, and how it gets there.

    Data streams (camera telemetry, time code) and further video streams are left out. Raises OutputError if a
    stream can neither be copied nor encoded or converted.
    """
    container = container_of(target)
    for stream in source.streams:
        if stream.type == "audio" and streams.audio != "none":
            yield stream, _audio(stream, container, target, streams)
        elif stream.type == "subtitle" and streams.subtitles == "copy":
            yield stream, _subtitles(stream, container, target)
        elif stream.type == "data":
            logger.debug("stream %d (%s) is not copied", stream.index, stream.type)


def _audio(stream: Stream, container: str, target: Path, streams: StreamOptions) -> Passage:
    if streams.audio != "copy":
        settings = audio_settings(streams.audio, stream, container)
        if settings is None:
            raise OutputError(_cannot_encode(stream, target, streams.audio))
        return Passage(audio=settings)
    if can_hold(container, stream):
        return Passage()
    context = stream.codec_context
    if context is not None:
        lossy, lossless = _USUAL_AUDIO[container]
        settings = audio_settings(lossless if context.codec.lossless else lossy, stream, container)
        if settings is not None:
            return Passage(audio=settings)
    raise OutputError(_cannot_hold(target, stream))


def _subtitles(stream: Stream, container: str, target: Path) -> Passage:
    if can_hold(container, stream):
        return Passage()
    if is_text(stream) and container in _USUAL_TEXT:
        return Passage(text=_USUAL_TEXT[container])
    raise OutputError(_cannot_hold(target, stream))


def _note(stream: Stream, passage: Passage, target: Path, streams: StreamOptions) -> str:
    """The message about a stream; empty if it is copied or handled as requested."""
    name = f"{stream.type} stream {stream.index} ({_codec(stream)})"
    why = f"a {target.suffix} file cannot contain a copy"
    if passage.text is not None:
        lost = ", without most of its styles" if _codec(stream) in _STYLED else ""
        return f"{name} is converted to {passage.text}{lost}: {why}"
    if passage.audio is not None and streams.audio == "copy":
        return f"{name} is encoded by {passage.audio.codec}: {why}"
    return ""


def _cannot_hold(target: Path, stream: Stream) -> str:
    better = [end for end in _RECOMMENDED if can_hold(CONTAINERS[end], stream)]
    flag = "--audio none" if stream.type == "audio" else "--subtitles none"
    advice = (
        f"give an output that ends in {' or '.join(better)}, or {flag}"
        if better
        else f"give {flag}"
    )
    return (
        f"{target.name}: a {target.suffix} file cannot contain {stream.type} stream {stream.index} "
        f"({_codec(stream)}): {advice}"
    )


def _cannot_encode(stream: Stream, target: Path, codec: str) -> str:
    usual = _USUAL_AUDIO[container_of(target)][0]
    return (
        f"--audio {codec} cannot encode audio stream {stream.index} ({_codec(stream)}) for a {target.suffix} file: "
        f"give --audio {usual}, copy or none"
    )


def _codec(stream: Stream) -> str:
    context = stream.codec_context
    return context.codec.canonical_name if context else "unknown"
