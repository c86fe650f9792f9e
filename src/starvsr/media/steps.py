"""Where a source's clock steps back or jumps ahead, seen while its packets and frames go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from statistics import median_low
from typing import Any, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from starvsr.media.leading import Leading

# Streams' times step back by no more in sane files, where packets overlap, and ahead by no more while they play.
_BACK_S, _STRANGE_S = Fraction(1, 10), 1
# This many frames, or packets of sound (one of a transport stream's holds several), at most have wrong times, if the
# times then go on as before.
_WILD_FRAMES, _WILD_PACKETS = 3, 32
# Seconds of the source's clock of which it is remembered whether a stream has packets in them.
_BUCKET_S = 2
# Packets of the video that show how much later than decoded pictures are shown.
_FIRST_PACKETS = 32
# Times are sums of durations there, which say how long a picture is held.
_DURATIONS = ("mov", "avi", "gif", "image2")
# Recorded from a running clock, although libav does not say so.
_RUNNING = ("flv", "live_flv")
_DISCONTINUOUS = int(cast("int", Flags.ts_discont.value))
_WITHOUT_TIMES = int(cast("int", Flags.no_timestamps.value))


@dataclass
class Break:
    """A step of one stream's times."""

    stream: int
    at: int
    """The first packet after it; of the video, the first frame."""
    position: int
    """Packets of the file before it."""
    before: Fraction
    """Source time at which the stream should have gone on, seconds; of the video, its last frame's."""
    after: Fraction
    """Source time at which it did."""
    ends: dict[int, Fraction]
    """How far the other streams had come."""
    count: int = 1
    """Packets or frames since the last one with a time."""


@dataclass
class Track:
    """What is known of one stream while it goes by, in its ticks."""

    stream: int
    base: Fraction
    back: int
    ahead: int
    bucket: int
    number: int = 0
    time: int | None = None
    """Of the last packet that has one."""
    timed: int = 0
    """Its number."""
    length: int = 0
    """Duration of the last packet."""
    begins: int = 0
    """Position of the first packet."""
    ends: int = 0
    """Position of the last packet."""
    recent: Break | None = None
    buckets: set[int] = field(default_factory=set)


@dataclass
class Sparse:
    """A packet of a stream that has packets now and then."""

    number: int
    position: int
    time: Fraction
    now: Fraction | None
    """How far the pictures had come."""


class Watch:
    """Sees every packet of the source's sound and subtitles and every frame; `media.shifts` decides what it means."""

    def __init__(self, container: InputContainer, video: VideoStream, gaps: str = "auto") -> None:
        """gaps: `keep`, no jump ahead counts; `close`, every one through which no stream plays."""
        name = container.format.name.partition(",")[0]
        self.closes_gaps = gaps == "close" or (gaps == "auto" and name not in _DURATIONS)
        self.is_running = (
            gaps == "close" or name in _RUNNING or bool(container.format.flags & _DISCONTINUOUS)
        )
        self.is_bare = bool(container.format.flags & _WITHOUT_TIMES)
        """Whether all times are libav's own, by a rate."""
        self._position = 0
        self.video = self._track(video)
        self.tracks = {video.index: self.video}
        self.sparse: dict[int, list[Sparse]] = {}
        self.breaks: list[Break] = []
        self.wild: list[tuple[Break, Break]] = []
        """Steps that a stream takes back at once."""
        self.leading = Leading(video)
        self._raised: int | None = None
        self._first_times: list[tuple[int, int]] = []
        self.in_order = True
        """Whether the pictures' packets come in the order of their times."""
        self._listed: Sequence[Stream] = ()
        """Sound that is not read: its times are in the container's index, and nothing moves them."""
        self.streams: Sequence[Stream] = ()
        if name in _DURATIONS and gaps != "close":
            self._listed = container.streams.audio
        else:
            self.streams = self._others(container)

    def _others(self, container: InputContainer) -> list[Stream]:
        for stream in container.streams.audio:
            self.tracks[stream.index] = self._track(stream)
        for subtitles in container.streams.subtitles:
            self.sparse[subtitles.index] = []
        return [
            stream
            for stream in container.streams
            if stream.index in self.sparse
            or stream.index in self.tracks.keys() - {self.video.stream}
        ]

    @staticmethod
    def _track(stream: Stream) -> Track:
        base = stream.time_base or Fraction(1, 1000)
        return Track(
            stream.index,
            base,
            back=ceil(_BACK_S / base),
            ahead=ceil(_STRANGE_S / base),
            bucket=ceil(_BUCKET_S / base),
        )

    def packet(self, packet: Packet[Any]) -> None:
        """The next packet of any stream."""
        self._position += 1
        index = packet.stream_index
        if index == self.video.stream:
            self._picture(packet)
            return
        stamp = packet.dts if packet.dts is not None else packet.pts
        if index in self.sparse:
            self._add_sparse(index, stamp, packet.time_base)
            return
        track = self.tracks[index]
        if stamp is not None:
            self._time(track, stamp, packet.duration or 0)
        track.number += 1

    @property
    def delay(self) -> int:
        """Ticks that pictures are shown later than they are decoded, in the order of each."""
        decoded = sorted(dts for dts, _ in self._first_times)
        shown = sorted(pts for _, pts in self._first_times)
        # libav may give the very first packet another decode time than the container.
        return median_low([b - a for a, b in zip(decoded, shown, strict=True)] or [0])

    def frame(self, pts: int | None) -> None:
        """The next frame, with the time that the decoder gives, in the stream's ticks."""
        if self.video.number == 0:
            self.leading.first_frame(pts)
        if pts is not None:
            self._time(self.video, pts, 0)
        self.video.number += 1

    def _picture(self, packet: Packet[Any]) -> None:
        pts = packet.pts
        self.leading.packet(packet)
        if pts is not None:
            if packet.dts is not None and len(self._first_times) < _FIRST_PACKETS:
                self._first_times.append((packet.dts, pts))
            self.in_order &= self._raised is None or pts >= self._raised
            self._raised = pts

    def _add_sparse(self, index: int, stamp: int | None, base: Fraction) -> None:
        times, last = self.sparse[index], self.video.time
        number = times[-1].number + 1 if times else 0
        now = None if last is None else last * self.video.base
        time = stamp * base if stamp is not None else now or Fraction(0)
        times.append(Sparse(number, self._position, time, now))

    def _time(self, track: Track, time: int, length: int) -> None:
        track.ends = self._position
        last = track.time
        if last is None:
            track.begins = self._position
        elif track.recent or not last - track.back <= time <= last + track.ahead:
            self._step(track, last, time)
        # Where durations make the times, the one before a gap includes it.
        track.timed = track.number
        track.time, track.length = time, length if length < track.ahead else track.length
        track.buckets.add(time // track.bucket)

    def _step(self, track: Track, last: int, time: int) -> None:
        goes_on = last - track.back <= time <= last + track.ahead
        # A frame's packet was seen before it: without a step back of the packets, it is the order that is wrong.
        is_disorder = track is self.video and self.in_order and time < last
        step = self._break(track, last, time)
        if track.recent is not None:
            most = _WILD_FRAMES if track is self.video else _WILD_PACKETS
            if track.number - track.recent.at > most:
                track.recent = None
            elif self._returns(track.recent, step):
                self.breaks.remove(track.recent)
                self.wild.append((track.recent, step))
                track.recent = None
                return
        if not (goes_on or is_disorder):
            track.recent = step
            self.breaks.append(step)
            self._read_index()

    def _read_index(self) -> None:
        for stream in self._listed:
            track = self.tracks.setdefault(stream.index, self._track(stream))
            track.buckets |= {entry.timestamp // track.bucket for entry in stream.index_entries}
        self._listed = ()

    def _break(self, track: Track, last: int, time: int) -> Break:
        ends = {
            each.stream: each.time * each.base
            for each in self.tracks.values()
            if each.time is not None and each is not track
        }
        before, after = (last + track.length) * track.base, time * track.base
        count = track.number - track.timed
        return Break(track.stream, track.number, self._position, before, after, ends, count)

    @staticmethod
    def _returns(first: Break, step: Break) -> bool:
        """Whether times go on as before an earlier step, and not as right after it."""
        room = min(Fraction(_STRANGE_S), abs(first.after - first.before) / 2)
        return abs(step.after - first.before) <= room < abs(step.after - step.before)
