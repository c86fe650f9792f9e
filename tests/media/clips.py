"""Small real media files, made with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.video.stream import VideoStream

from starvsr.media.priority import usual_priority

Picture = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]
MILLISECOND = Fraction(1, 1000)

ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic
Style: Default,Arial,16,&Hffffff,0,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def picture(number: int, width: int = 64, height: int = 48) -> Picture:
    """An rgb24 picture that is different for every number."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = (columns * 3 + number * 5) % 256
    green = (rows * 4 + number * 3) % 256
    blue = np.full_like(red, (number * 11) % 256)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


@dataclass(frozen=True)
class Audio:
    """A rising tone, encoded."""

    codec: str = "aac"
    start_s: Fraction = Fraction(0)
    seconds: float = 1.0
    language: str = "eng"
    title: str = ""
    rate: int = 48000
    layout: str = "mono"
    disposition: Disposition | None = None


@dataclass(frozen=True)
class Clip:
    """What a file is to hold; `make` writes it."""

    frames: int = 12
    width: int = 64
    height: int = 48
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    time_base: Fraction = Fraction(1, 12800)
    pts: Sequence[int] | None = None
    """In ticks of `time_base`; 25 frames a second by default."""
    rate: int = 25
    """That the file states."""
    options: dict[str, str] = field(default_factory=dict)
    """Of the encoder."""
    muxer: dict[str, str] = field(default_factory=dict)
    rotation: tuple[float, bool, bool] | None = None
    """Degrees counter-clockwise, flips, as PyAV's `set_display_rotation` takes them."""
    sample_aspect: Fraction | None = None
    field_order: int = 0
    """libav's code; 3 is bottom field first."""
    color: dict[str, int] = field(default_factory=dict)
    video_tags: dict[str, str] = field(default_factory=dict)
    audio: tuple[Audio, ...] = ()
    subtitles: tuple[tuple[str, float, float, str], ...] = ()
    """Codec, start and duration in seconds, text."""
    chapters: tuple[tuple[float, float, str], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    attachments: tuple[tuple[str, str, bytes], ...] = ()
    fill: Callable[[av.VideoFrame, int], None] | None = None
    """Fills the planes of a frame instead of `picture`."""


def showing(*numbers: int) -> Callable[[av.VideoFrame, int], None]:
    """A `fill` by which frame i shows `picture(numbers[i])`."""
    # swscale does not always convert the same picture to the same samples, as with yuv422p10le of odd widths.
    made: dict[int, av.VideoFrame] = {}

    def fill(frame: av.VideoFrame, number: int) -> None:
        if numbers[number] not in made:
            shown = picture(numbers[number], frame.width, frame.height)
            rgb = av.VideoFrame.from_ndarray(shown, "rgb24")
            made[numbers[number]] = rgb.reformat(format=frame.format.name)
        for plane, source in zip(frame.planes, made[numbers[number]].planes, strict=True):
            plane.update(bytes(source))

    return fill


def make(path: Path, clip: Clip | None = None) -> Path:
    """Write a clip."""
    clip = clip or Clip()
    with usual_priority(), av.open(str(path), "w", container_options=clip.muxer) as container:
        container.metadata.update(clip.metadata)
        video = _video(container, clip) if clip.frames else None
        audios = [_audio(container, audio) for audio in clip.audio]
        texts = [
            _text_stream(container, codec) for codec in dict.fromkeys(t[0] for t in clip.subtitles)
        ]
        for name, kind, data in clip.attachments:
            container.add_attachment(name, kind, data)
        container.set_chapters([_chapter(i, *chapter) for i, chapter in enumerate(clip.chapters)])
        packets: list[Packet[Any]] = []
        if video is not None:
            packets += _video_packets(video, clip)
        for sound, audio in zip(audios, clip.audio, strict=True):
            packets += _audio_packets(sound, audio)
        for text in texts:
            packets += _text_packets(text, clip)
        packets.sort(key=lambda p: (p.dts if p.dts is not None else p.pts or 0) * p.time_base)
        for packet in packets:
            container.mux(packet)
    return path


def _video(container: OutputContainer, clip: Clip) -> VideoStream:
    stream = container.add_stream(clip.codec, rate=clip.rate, options=clip.options)
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = clip.width, clip.height, clip.pix_fmt
    context.time_base = clip.time_base
    stream.time_base = clip.time_base
    context.thread_count = 1
    if clip.sample_aspect is not None:
        context.sample_aspect_ratio = clip.sample_aspect
    if clip.field_order:
        context.field_order = clip.field_order
    for name, value in clip.color.items():
        setattr(context, name, value)
    stream.metadata.update(clip.video_tags)
    if clip.rotation is not None:
        stream.set_display_rotation(*clip.rotation)
    return stream


def clip_pts(clip: Clip) -> list[int]:
    """The times of a clip's frames."""
    step = round(Fraction(1, 25) / clip.time_base)
    return list(clip.pts) if clip.pts is not None else [i * step for i in range(clip.frames)]


def _video_packets(stream: VideoStream, clip: Clip) -> list[Packet[Any]]:
    packets: list[Packet[Any]] = []
    for number, pts in enumerate(clip_pts(clip)):
        if clip.fill is not None:
            frame = av.VideoFrame(clip.width, clip.height, clip.pix_fmt)
            clip.fill(frame, number)
        else:
            rgb = av.VideoFrame.from_ndarray(picture(number, clip.width, clip.height), "rgb24")
            frame = rgb.reformat(format=clip.pix_fmt)
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            if name in clip.color:
                setattr(frame, name, clip.color[name])
        frame.pts, frame.time_base = pts, clip.time_base
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))


def _audio(container: OutputContainer, audio: Audio) -> AudioStream:
    stream = container.add_stream(audio.codec, rate=audio.rate)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = audio.layout
    stream.metadata["language"] = audio.language
    if audio.title:
        stream.metadata["title"] = audio.title
    if audio.disposition is not None:
        stream.disposition = audio.disposition
    return stream


def tone(seconds: float, rate: int) -> Samples:
    """A tone that rises from 200 Hz by 1500 Hz a second, so that it is like itself at no other time."""
    time = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * (200 + 750 * time) * time) / 2).astype(np.float32)


def _audio_packets(stream: AudioStream, audio: Audio) -> list[Packet[Any]]:
    context = stream.codec_context
    wave = np.repeat(tone(audio.seconds, audio.rate), context.layout.nb_channels)
    frame = av.AudioFrame.from_ndarray(wave[None], "flt", audio.layout)
    frame.sample_rate = audio.rate
    frame.pts, frame.time_base = round(audio.start_s * audio.rate), Fraction(1, audio.rate)
    return [*stream.encode(frame), *stream.encode(None)]


def _text_stream(container: OutputContainer, codec: str) -> Stream:
    if codec == "ass":
        stream: Stream = container.add_stream(codec)
        context = stream.codec_context
        assert isinstance(context, SubtitleCodecContext)
        context.subtitle_header = ASS_HEADER
    else:
        stream = container.add_mux_stream(codec)
    stream.time_base = MILLISECOND
    stream.metadata["language"] = "fra"
    return stream


def _text_packets(stream: Stream, clip: Clip) -> list[Packet[Any]]:
    packets: list[Packet[Any]] = []
    for codec, start_s, seconds, text in clip.subtitles:
        data = text.encode()
        if codec == "mov_text":
            data = len(data).to_bytes(2, "big") + data
        packet: Packet[Any] = Packet(data)
        packet.stream, packet.time_base = stream, MILLISECOND
        packet.pts = packet.dts = round(start_s * 1000)
        packet.duration = round(seconds * 1000)
        packet.is_keyframe = True
        packets.append(packet)
    return packets


def _chapter(number: int, start_s: float, end_s: float, title: str) -> Any:
    return {
        "id": number + 1,
        "start": round(start_s * 1000),
        "end": round(end_s * 1000),
        "time_base": MILLISECOND,
        "metadata": {"title": title} if title else {},
    }


def cut(path: Path, share: float, name: str = "cut") -> Path:
    """A copy of a file that ends early."""
    data = path.read_bytes()
    short = path.with_name(f"{name}{path.suffix}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


@dataclass(frozen=True)
class Payload:
    """One packet as a player gets it."""

    start: Fraction
    """Seconds."""
    data: bytes


def payloads(path: Path, kind: str) -> list[list[Payload]]:
    """For each stream of a kind, its packets."""
    found: list[list[Payload]] = []
    with av.open(str(path)) as container:
        for stream in container.streams:
            if stream.type == kind:
                found.append([])
    for which, packets in enumerate(found):
        with av.open(str(path)) as container:
            stream = [each for each in container.streams if each.type == kind][which]
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    packets.append(Payload(packet.pts * packet.time_base, bytes(packet)))
    return found


def heard(path: Path, which: int = 0) -> tuple[Fraction, int, Samples]:
    """What a player makes of an audio stream: start in seconds, rate, and samples (channels, count), gaps as zeros.

    Pieces follow each other without a gap where their times differ by no more than rounding, which the mean over
    all of them takes out of the start.
    """
    starts: list[Fraction] = []
    pieces: list[tuple[int, Samples]] = []
    rate, end, origin = 0, 0, Fraction(0)
    with av.open(str(path)) as container:
        to_float: av.AudioResampler | None = None
        for frame in container.decode(container.streams.audio[which]):
            assert frame.pts is not None and frame.time_base
            start = frame.pts * frame.time_base
            if to_float is None:
                to_float = av.AudioResampler("flt", frame.layout, frame.sample_rate)
                rate, origin = frame.sample_rate, start
            place = round((start - origin) * rate)
            end = end if abs(place - end) <= rate * 3 // 1000 else place
            starts.append(start - Fraction(end, rate))
            for piece in to_float.resample(frame):
                channels = piece.layout.nb_channels
                array = piece.to_ndarray().astype(np.float32)
                pieces.append((end, array.reshape(-1, channels).T))
                end += piece.samples
    samples = np.zeros((len(pieces[0][1]), end), np.float32)
    for place, array in pieces:
        samples[:, place : place + array.shape[1]] = array
    return sum(starts, Fraction(0)) / len(starts), rate, samples
