"""How each audio and subtitle stream of the source gets into the output: copied, encoded, converted or dropped."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from av.audio.codeccontext import AudioCodecContext
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
from starvsr.media.described import describe_file
from starvsr.media.encoder import CONTAINERS, IMAGES, container_of
from starvsr.media.files import open_regular
from starvsr.media.firsts import first_packets
from starvsr.media.others import Copying, Route
from starvsr.media.source import is_text, open_source
from starvsr.media.span import Span
from starvsr.media.still import STILL
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
# Containers in which many players take PCM for another kind of it (big for little endian), or refuse it.
_WITHOUT_PCM = ("mp4",)
# FLAC and ALAC have at most 24 bits in libav.
_OVER_24_BITS = ("pcm_s32", "pcm_s64", "pcm_u32", "pcm_f32", "pcm_f64")
# Matroska's names of WebVTT, some of which libav does not know.
_WEBVTT = re.compile(rb"[DS]_(TEXT/)?WEBVTT(/[A-Z]+)?")
_HEAD_BYTES = 1 << 20
# Subtitles with fonts, colours and positions, most of which other formats lose.
_STYLED = ("ass", "ssa")


@dataclass(frozen=True)
class Passage:
    """How one stream gets into the output; copied by default."""

    audio: AudioSettings | None = None
    text: str | None = None
    """The codec that subtitles are converted to."""
    why: str = ""
    """Why it is not copied; empty if it is, or if that was requested."""

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
    if container_of(target) in (IMAGES, STILL):
        # They contain nothing else, which `media.notes` reports.
        return
    if streams.audio not in ("copy", "none"):
        find_audio_encoder(streams.audio)
    with open_source(info.path) as source:
        firsts = _firsts(info, streams)
        for stream in source.streams:
            if _is_wanted(stream, info, streams) and firsts.get(stream.index) == b"":
                logger.warning("%s is left out: it is empty (no packets)", _name(stream))
        for stream, passage in _passages(source, info, firsts, target, streams):
            if passage.why:
                logger.warning(_note(stream, passage))
            if (other := _other_layout(stream, passage)) is not None:
                logger.warning(other)
        for stream in source.streams if streams.attachments else ():
            note = left_out(stream, container_of(target))
            if note:
                logger.warning(note)


def passages(
    source: InputContainer, info: VideoInfo, target: Path, streams: StreamOptions
) -> Iterator[tuple[Stream, Passage]]:
    """Every audio and subtitle stream of the output, and how it gets there.

    Data streams (camera telemetry), further video streams, other programs and empty streams are left out. Raises
    OutputError if a stream can neither be copied nor encoded or converted.
    """
    return _passages(source, info, _firsts(info, streams), target, streams)


def _firsts(info: VideoInfo, streams: StreamOptions) -> dict[int, bytes]:
    return {} if streams.audio == streams.subtitles == "none" else first_packets(info.path)


def _is_wanted(stream: Stream, info: VideoInfo, streams: StreamOptions) -> bool:
    chosen = {"audio": streams.audio, "subtitle": streams.subtitles}
    return chosen.get(stream.type, "none") != "none" and stream.index not in info.foreign


def _passages(
    source: InputContainer,
    info: VideoInfo,
    firsts: dict[int, bytes],
    target: Path,
    streams: StreamOptions,
) -> Iterator[tuple[Stream, Passage]]:
    for stream in source.streams:
        first = firsts.get(stream.index)
        if not _is_wanted(stream, info, streams) or first == b"":
            logger.debug("stream %d (%s) is not copied", stream.index, stream.type)
        elif stream.type == "audio":
            yield stream, _audio(stream, first or b"", target, streams)
        else:
            yield stream, _subtitles(stream, target)


def _audio(stream: Stream, first: bytes, target: Path, streams: StreamOptions) -> Passage:
    container, context = container_of(target), stream.codec_context
    if not isinstance(context, AudioCodecContext) or not context.sample_rate:
        raise OutputError(_unreadable(stream))
    if streams.audio != "copy":
        settings = audio_settings(streams.audio, stream, container)
        if settings is None:
            raise OutputError(_cannot_encode(stream, target, streams.audio))
        return Passage(audio=settings)
    if is_copied(container, stream, first):
        return Passage()
    lossy, lossless = _USUAL_AUDIO[container]
    settings = audio_settings(lossless if context.codec.lossless else lossy, stream, container)
    if settings is None:
        raise OutputError(_cannot_hold(target, stream, first))
    why = f"a {target.suffix} file cannot contain a copy"
    if can_hold(container, stream, first):
        why = f"many players cannot read {_codec(stream)} in {target.suffix}"
    return Passage(audio=settings, why=why)


def is_copied(container: str, stream: Stream, first: bytes = b"") -> bool:
    """Whether a stream is copied into a container, by libav's name; see `copies.can_hold`."""
    if container in _WITHOUT_PCM and _codec(stream).startswith("pcm_"):
        return False
    return can_hold(container, stream, first)


def _subtitles(stream: Stream, target: Path) -> Passage:
    container = container_of(target)
    if stream.codec_context is None:
        raise OutputError(_unreadable(stream))
    if can_hold(container, stream):
        return Passage()
    if is_text(stream) and container in _USUAL_TEXT:
        why = f"a {target.suffix} file cannot contain a copy"
        return Passage(text=_USUAL_TEXT[container], why=why)
    raise OutputError(_cannot_hold(target, stream))


def _note(stream: Stream, passage: Passage) -> str:
    """The message about a stream that is not copied."""
    if passage.text is not None:
        lost = ", without most of its styles" if _codec(stream) in _STYLED else ""
        return f"{_name(stream)} is converted to {passage.text}{lost}: {passage.why}"
    assert passage.audio is not None
    lossless = passage.audio.codec in ("flac", "alac")
    cut = " with 24 bits" if lossless and _codec(stream).startswith(_OVER_24_BITS) else ""
    return f"{_name(stream)} is encoded by {passage.audio.codec}{cut}: {passage.why}"


def _other_layout(stream: Stream, passage: Passage) -> str | None:
    """The message about channels that are read as others once they are encoded; None if they are not, or lie behind."""
    if passage.audio is None or not isinstance(stream.codec_context, AudioCodecContext):
        return None
    was, read = stream.codec_context.layout.name, passage.audio.read_as
    # A source that says only how many there are loses nothing.
    says_which = not was.endswith(" channels")
    if not read or not says_which or read.removesuffix("(side)") == was.removesuffix("(side)"):
        return None
    return f"{_name(stream)}: its channels, {was}, are read as {read} from {passage.audio.codec} in this container"


def _cannot_hold(target: Path, stream: Stream, first: bytes = b"") -> str:
    better = [end for end in _RECOMMENDED if is_copied(CONTAINERS[end], stream, first)]
    flag = _without(stream)
    advice = (
        f"give an output that ends in {' or '.join(better)}, or {flag}"
        if better
        else f"give {flag}"
    )
    return f"{target.name}: a {target.suffix} file cannot contain {_name(stream)}: {advice}"


def _unreadable(stream: Stream) -> str:
    """The message about a stream that libav can neither decode nor copy."""
    name, codec = _name(stream), _codec(stream)
    if stream.codec_context is not None:
        return (
            f"{name} cannot be read: libav finds no sample rate in it, as where it is damaged or begins late; "
            f"give {_without(stream)}"
        )
    if codec.endswith("WEBVTT"):
        return (
            f"{name} cannot be read: libav does not know this form of WebVTT; save it with mkvextract, or give "
            f"{_without(stream)}"
        )
    return f"{name} cannot be read: this libav has no decoder for it; give {_without(stream)}"


def _without(stream: Stream) -> str:
    return "--audio none" if stream.type == "audio" else "--subtitles none"


def _cannot_encode(stream: Stream, target: Path, codec: str) -> str:
    usual = _USUAL_AUDIO[container_of(target)][0]
    return (
        f"--audio {codec} cannot encode {_name(stream)} for a {target.suffix} file: "
        f"give --audio {usual}, copy or none"
    )


def _name(stream: Stream) -> str:
    return f"{stream.type} stream {stream.index} ({_codec(stream)})"


def _codec(stream: Stream) -> str:
    """The codec's name; for one without a decoder what else is known of it."""
    context = stream.codec_context
    if context is not None:
        return context.codec.canonical_name
    container = stream.container
    line = re.match(r"\w+: ([\w.]+)", describe_file(container).streams.get(stream.index, ""))
    if line is not None and line[1] != "none":
        return line[1]
    if "matroska" in container.format.name and stream.type == "subtitle":
        with open_regular(Path(container.name), follow=True) as file:
            found = _WEBVTT.search(file.read(_HEAD_BYTES))
        if found is not None:
            return found[0].decode()
    return "unknown"
