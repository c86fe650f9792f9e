"""Joins parts to one file, without re-encoding, together with everything else from the source."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer, OutputContainer
from av.format import Flags
from av.stream import Stream
from av.video.stream import VideoStream

from starvsr.errors import OutputError, WorkDirError
from starvsr.media.carrier import carrying, muxer_options, reserve_marks, write_marks
from starvsr.media.clock import shown_chapters
from starvsr.media.copies import (
    add_attachments,
    describe,
    kept_tags,
    moved_chapters,
    timeless_packet,
)
from starvsr.media.decode import readable_packets
from starvsr.media.encoder import IMAGES, WITH_FRONT, EncoderSettings, tag_alpha
from starvsr.media.files import complete_or_absent, read_errors, write_whole, written_errors
from starvsr.media.messages import with_messages
from starvsr.media.others import Route, TimedPacket, other_packets
from starvsr.media.passage import Passage, passages
from starvsr.media.provenance import add_provenance
from starvsr.media.sequence import image_path, is_sequence, numbers_of
from starvsr.media.source import open_part, open_source
from starvsr.media.span import Span
from starvsr.media.still import STILL
from starvsr.media.still_writer import write_still
from starvsr.media.tags import ReservedTags
from starvsr.media.timecode import timecode_tags
from starvsr.media.timing import LEAST_SCALE, Timeline, packet_times, timeline
from starvsr.options import StreamOptions
from starvsr.plan.ranges import origin_of
from starvsr.types import VideoIndex, VideoInfo

logger = logging.getLogger(__name__)

_ANEW = "they are not this job's; give --no-resume to start over"

# Set on demuxers whose clock was running before the file began.
_CLOCK_ANYWHERE = int(cast("int", Flags.ts_discont.value))
_WITHOUT_TIMES = int(cast("int", Flags.no_timestamps.value))


def join(
    parts: Sequence[Path],
    info: VideoInfo,
    index: VideoIndex,
    target: Path,
    settings: EncoderSettings,
    streams: StreamOptions,
    first: int,
    last: int,
    *,
    work_dir: Path | None = None,
    provenance: str = "",
    on_complete: Callable[[Path], None] | None = None,
    overwrite: bool = True,
) -> None:
    """Write frames first..last-1, encoded in `parts` in order, and the source's other streams to `target`.

    Every frame gets its own time and duration from the index; copied packets keep their data and their time
    relative to the video. For the whole video, times stay those of the source (a broadcast's clock begins at 0); for a
    part of it, the first frame is at 0, audio packets that begin in the range are kept, and subtitles and chapters
    are clipped to it. The file appears under its name in one step when it is complete and synced; until then it is
    in `work_dir` if that is on the same file system. In an image sequence, every image does so. provenance:
    what its tags say about how it was made. on_complete: called with the complete file before it takes its name; not
    for images. overwrite: whether an existing file, or existing images, may be replaced. Raises OutputError if it
    cannot be written (no partial file is left), WorkDirError if the parts do not contain last - first frames.
    """
    if settings.container == STILL:
        (part,) = parts
        write_still(
            part,
            info,
            target,
            settings,
            streams,
            work_dir=work_dir,
            provenance=provenance,
            on_complete=on_complete,
            overwrite=overwrite,
        )
        return
    numbers = [_frame_numbers(part) for part in parts]
    if sum(map(len, numbers)) != last - first:
        raise WorkDirError(
            f"the parts contain {sum(map(len, numbers))} frames, not {last - first}: {_ANEW}"
        )
    if settings.container == IMAGES:
        _write_images(parts, target, _first_image(info, first), work_dir, overwrite=overwrite)
        return
    job = _Join(parts, numbers, info, index, target, settings, streams, first, last, provenance)
    with complete_or_absent(target, work_dir, on_complete, replace=overwrite) as temporary:
        job.write(temporary)


@dataclass(frozen=True)
class _Join:
    """What one file is made of; the fields are `join`'s parameters."""

    parts: Sequence[Path]
    numbers: Sequence[Sequence[int]]
    """The frame of every packet of each part, in decode order, from 0."""
    info: VideoInfo
    index: VideoIndex
    target: Path
    settings: EncoderSettings
    streams: StreamOptions
    first: int
    last: int
    provenance: str

    def write(self, path: Path) -> None:
        """Write the file under another name. Raises OutputError."""
        info, settings = self.info, self.settings
        rate = Fraction(*settings.frame_rate)
        times = timeline(info, self.index, self.first, self.last, rate, settings.container)
        options = {**_muxer_options(settings, times), **muxer_options(info, settings)}
        if self.streams.faststart and settings.container in WITH_FRONT:
            # At the end, libav moves the data once.
            options["movflags"] = "+faststart"
        with (
            open_source(info.path) as source,
            written_errors(self.target),
            open_part(self.parts[0]) as first_part,
            carrying(first_part, info, settings) as model,
            av.open(str(path), "w", format=settings.container, container_options=options) as output,
        ):
            reserved = self._fill(output, source, model, times)
            output.close()
            reserved.write(path)
            write_marks(info, settings, path)

    def _fill(
        self, output: OutputContainer, source: InputContainer, model: VideoStream, times: Timeline
    ) -> ReservedTags:
        """Add and write all streams; returns the tags that are written at the end."""
        info, index, streams = self.info, self.index, self.streams
        carried = list(passages(source, info, self.target, streams))
        written = [stream for stream, _ in carried]
        span = _span(info, index, self.first, self.last, source, written)
        video = _add_video(output, model, info, self.settings, streams, source)
        video.time_base = Fraction(1, times.unit.denominator)
        if streams.metadata:
            elapsed = (index.pts[self.first] - origin_of(index)) * info.time_base
            rate = Fraction(*self.settings.frame_rate)
            video.metadata.update(timecode_tags(info, elapsed, rate))
        routes = _add_others(output, carried, streams, span)
        covers = add_attachments(info, source, output) if streams.attachments else []
        _add_tags(source, output, streams, span, info, index)
        reserved = ReservedTags(output, wanted=streams.metadata)
        add_provenance(output, video, self.provenance)
        output.start_encoding()
        for stream, data in covers:
            output.mux(timeless_packet(stream, data))
        pictures = _video_packets(self.parts, self.numbers, times, span, video, self.settings)
        frames = [self.first + number for number in _in_one(self.numbers)]
        pictures = with_messages(pictures, frames, index.messages, video)
        others = other_packets(source, routes, span, index.shifts)
        for _, _, packet in heapq.merge(pictures, others, key=lambda timed: timed[:2]):
            output.mux(packet)
        return reserved


def _first_image(info: VideoInfo, first: int) -> int:
    """The number of the first image: the source's, if it is a sequence too."""
    if is_sequence(info.path) and not info.path.exists():
        return numbers_of(info.path)[0] + first
    return 1


def _write_images(
    parts: Sequence[Path], target: Path, number: int, work_dir: Path | None, *, overwrite: bool
) -> None:
    """Write every packet as an image file; images that exist already are left."""
    for part in parts:
        with open_part(part) as container:
            for packet in readable_packets(container, container.streams.video[0]):
                image = image_path(target, number)
                content = bytes(packet)
                if overwrite or not _is_there(image, content):
                    write_whole(image, content, folder=work_dir)
                number += 1


def _is_there(image: Path, content: bytes) -> bool:
    """Whether an image was written before. Raises OutputError if another one has its name."""
    with read_errors(image):
        if not image.exists():
            return False
        if image.is_file() and image.read_bytes() == content:
            return True
    raise OutputError(
        f"{image} exists already and is not this job's image: give --overwrite to replace it"
    )


def _span(
    info: VideoInfo,
    index: VideoIndex,
    first: int,
    last: int,
    source: InputContainer,
    written: Sequence[Stream],
) -> Span:
    """written: the source's other streams that are; those of other programs have clocks of their own."""
    start = index.pts[first] * info.time_base
    if (first, last) != (0, index.frames) or any(index.trimmed):
        end = (index.pts[last - 1] + index.durations[last - 1]) * info.time_base
        return Span(start, end, start)
    if source.format.flags & _WITHOUT_TIMES:
        # Of MPEG-2 with B-frames, libav has the first one shown a frame late.
        return Span(start, None, start)
    if not source.format.flags & _CLOCK_ANYWHERE:
        return Span(start, None, Fraction(0))
    # A broadcast's clock starts anywhere within 26 hours: players would wait for it.
    starts = [
        stream.start_time * stream.time_base
        for stream in written
        if stream.type == "audio" and stream.start_time is not None and stream.time_base is not None
    ]
    return Span(start, None, min([start, *starts]))


def _muxer_options(settings: EncoderSettings, times: Timeline) -> dict[str, str]:
    if settings.container == "nut":
        # It has no sign: all streams are shifted together, by as much as the first frame is decoded before 0.
        return {"avoid_negative_ts": "make_non_negative"}
    if settings.container not in ("mp4", "mov"):
        # Audio begins before 0 if its encoder was primed; frames keep their times all the same. Streams that are not
        # default in the source do not become default.
        return {"avoid_negative_ts": "disabled", "default_mode": "passthrough"}
    scale = times.unit.denominator
    return {
        "video_track_timescale": str(scale),
        # mp4 rounds the start of every stream to ticks of this scale.
        "movie_timescale": str(scale * -(-LEAST_SCALE // scale)),
    }


def _add_video(
    output: OutputContainer,
    model: VideoStream,
    info: VideoInfo,
    settings: EncoderSettings,
    streams: StreamOptions,
    source: InputContainer,
) -> Stream:
    stream = output.add_stream_from_template(model, opaque=True)
    context = stream.codec_context
    context.framerate = Fraction(*settings.frame_rate)
    context.sample_aspect_ratio = info.sample_aspect
    color = settings.color
    context.colorspace, context.color_range = color.matrix, color.range
    context.color_primaries, context.color_trc = color.primaries, color.transfer
    if settings.container in ("mp4", "mov"):
        # ProRes has a tag for each profile. Of HEVC's two, Apple's players accept only this one.
        hevc = context.codec.canonical_name == "hevc"
        context.codec_tag = "hvc1" if hevc else model.codec_context.codec_tag
    describe(stream, source.streams[info.stream_index], settings.container, streams)
    reserve_marks(stream, info, settings)
    tag_alpha(stream, settings)
    return stream


def _add_others(
    output: OutputContainer,
    carried: Sequence[tuple[Stream, Passage]],
    streams: StreamOptions,
    span: Span,
) -> dict[int, Route]:
    routes: dict[int, Route] = {}
    for stream, passage in carried:
        routes[stream.index] = passage.add(output, stream, span)
        describe(routes[stream.index].stream, stream, output.format.name, streams)
    return routes


def _add_tags(
    source: InputContainer,
    output: OutputContainer,
    streams: StreamOptions,
    span: Span,
    info: VideoInfo,
    index: VideoIndex,
) -> None:
    if streams.metadata:
        output.metadata.update(kept_tags(source.metadata))
    if streams.chapters:
        chapters = shown_chapters(source.chapters(), info, index)
        moved = moved_chapters(chapters, span.start, span.end, span.origin)
        for chapter in moved if output.format.name in ("mp4", "mov") else ():
            # libav's muxer would give it the title of another one.
            chapter["metadata"].setdefault("title", "")
        output.set_chapters(moved)


def _frame_numbers(part: Path) -> list[int]:
    """For each packet of a part, in decode order, the number of its frame, from 0."""
    try:
        with read_errors(part), open_part(part) as container:
            packets = readable_packets(container, container.streams.video[0])
            times = [packet.pts for packet in packets]
    except IndexError:
        times = [None]
    if None in times or len(set(times)) != len(times):
        raise WorkDirError(f"{part} is not a part file, its frames have no distinct times: {_ANEW}")
    order = {
        pts: number for number, pts in enumerate(sorted(pts for pts in times if pts is not None))
    }
    return [order[pts] for pts in times if pts is not None]


def _video_packets(
    parts: Sequence[Path],
    numbers: Sequence[Sequence[int]],
    times: Timeline,
    span: Span,
    video: Stream,
    settings: EncoderSettings,
) -> Iterator[TimedPacket]:
    base = _base(video)
    places = iter(packet_times(times, _in_one(numbers), settings.container))
    for part in parts:
        with open_part(part) as container:
            for packet in readable_packets(container, container.streams.video[0]):
                pts, dts, duration = (ticks * times.unit for ticks in next(places))
                packet.stream = video
                packet.time_base = base
                packet.pts = round((pts - span.origin) / base)
                packet.dts = round((dts - span.origin) / base)
                packet.duration = round(duration / base)
                yield dts - span.origin, 0, packet


def _in_one(numbers: Sequence[Sequence[int]]) -> list[int]:
    """Frame numbers of all parts, counted from the first part's first frame."""
    frames: list[int] = []
    for part in numbers:
        begins = len(frames)
        frames += [begins + number for number in part]
    return frames


def _base(stream: Stream) -> Fraction:
    if stream.time_base is None:
        raise ValueError(f"output stream {stream.index} has no time base")
    return stream.time_base
