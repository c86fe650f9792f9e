"""Pictures at the beginning of a stream that decoders drop without an error, for want of what they refer to."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice, takewhile
from typing import Any

from av.codec.context import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from starvsr.media.choice import film_stream
from starvsr.media.decode import FrameDecoder
from starvsr.media.hwaccel import open_for
from starvsr.types import VideoInfo

# Packets after the first keyframe, of which codecs let fewer be shown before it.
_MOST_LEADING = 64
# An HEVC stream whose extradata begins with this has lengths before its NAL units, otherwise start codes.
_WITH_LENGTHS = b"\x01"
_NAL_UNIT = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
# Types of HEVC's NAL units. RASL pictures are dropped after a BLA picture, and after one that begins a sequence.
_RASL, _BLA, _RANDOM_ACCESS, _SEQUENCE_ENDS = (8, 9), range(16, 19), range(16, 24), (36, 37)


class Leading:
    """Sees the packets of a video, and its first frame."""

    def __init__(self, stream: VideoStream) -> None:
        self._codec = stream.codec_context.codec.canonical_name
        extradata = stream.codec_context.extradata or b""
        self._has_types = self._codec == "hevc" and not extradata.startswith(_WITH_LENGTHS)
        self._begins, self._drops, self._skipped = True, False, 0
        self._keyframes = 0
        self._before_keyframe = 0
        self._first_group: list[int] = []
        self._first_shown: int | None = None

    def packet(self, packet: Packet[Any]) -> None:
        """The next packet of the video."""
        self._keyframes += packet.is_keyframe
        if packet.is_discard:
            return
        self._before_keyframe += self._keyframes == 0
        if self._has_types:
            self._add_types(bytes(packet))
        elif (
            packet.pts is not None
            and self._keyframes == 1
            and len(self._first_group) < _MOST_LEADING
        ):
            self._first_group.append(packet.pts)

    def first_frame(self, pts: int | None) -> None:
        """The time that the decoder gives the first frame."""
        self._first_shown = pts

    def count(self, info: VideoInfo, undecoded: int) -> int:
        """Pictures that were dropped. undecoded: packets less frames, which is at least as many."""
        if not undecoded:
            return 0
        if self._codec == "h264":
            # Two packets can be the fields of one picture, and recovery can take any number of pictures.
            return _unrecovered(info)
        first = self._first_shown
        earlier = 0 if first is None else sum(pts < first for pts in self._first_group)
        return min(self._before_keyframe + self._skipped + earlier, undecoded)

    def _add_types(self, data: bytes) -> None:
        types = [unit[1][0] >> 1 for unit in _NAL_UNIT.finditer(data)]
        for kind in types:
            if kind in _RANDOM_ACCESS:
                self._drops, self._begins = self._begins or kind in _BLA, False
            self._begins |= kind in _SEQUENCE_ENDS
        self._skipped += self._drops and any(kind in _RASL for kind in types)


class _Numbered:
    """Gives each packet its number as its time, which its frame gets too."""

    streams: Sequence[Stream] = ()

    def __init__(self) -> None:
        self._number = 0

    def packet(self, packet: Packet[Any]) -> None:
        packet.pts, self._number = self._number, self._number + 1


def _numbers(info: VideoInfo, flags: int) -> Generator[int | None, None, None]:
    """The number of each frame's packet."""
    with open_for(info) as container:
        stream = film_stream(container, info)
        decoder = FrameDecoder(container, stream, one_thread=True, watch=_Numbered())
        decoder.context.flags |= flags
        for frame in decoder:
            yield frame.pts


def _unrecovered(info: VideoInfo) -> int:
    """H.264 pictures that the decoder keeps back until it has recovered, wherever they are shown."""
    every_flag = int(Flags.output_corrupt)
    with closing(_numbers(info, 0)) as shown, closing(_numbers(info, every_flag)) as every:
        first = next(shown, None)
        if first is None:
            return 0
        early = list(takewhile(lambda number: number != first, every))
        seen = {first, *islice(shown, 2 * _MOST_LEADING)}
        return sum(number not in seen for number in (*early, *islice(every, _MOST_LEADING)))
