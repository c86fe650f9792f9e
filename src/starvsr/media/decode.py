"""Packets and frames of a damaged or intact file, as far as they can be read, with a count of what could not."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol, cast

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from starvsr.media.deadline import within_deadline
from starvsr.media.pixfmt import layout_of

logger = logging.getLogger(__name__)

# Demuxers whose corrupt packets are complete packets after a gap; in others they are truncated.
_PACKETIZED = ("mpegts", "mpeg", "rtp", "rtsp")
# libav's own decoders for these drop alpha.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# First byte of Theora's headers; those of pictures are less.
_THEORA_HEADER = 0x80
# This many failures in a row, without one packet between them, are the end of what can be read.
_MAX_FAILURES = 64
# Amount that one call reads, which takes a thread: enough to hide the thread's cost, but not to fill memory
# or make a slow disk look dead. The first call reads one packet, each later one twice as many.
_MOST_PACKETS = 256
_MOST_BYTES = 2**20
_MOST_S = 0.1


def readable_packets(
    container: InputContainer, *streams: Stream, one_by_one: bool = False
) -> Iterator[av.Packet[Stream]]:
    """Packets of the streams as far as the file can be read; damaged sections are skipped.

    Ends without PyAV's empty packets, which flush a decoder. one_by_one: read nothing after
    the current packet, which could change the container's metadata. Raises InputError if reading hangs.
    """
    packets = _stepping_over(container, *streams)
    most = 1
    while batch := within_deadline(container.name, partial(_some, packets, most), container):
        yield from batch
        most = 1 if one_by_one else min(2 * most, _MOST_PACKETS)


def _some(packets: Iterator[av.Packet[Stream]], most: int) -> list[av.Packet[Stream]]:
    """The next packets, at least one unless the file has ended."""
    batch: list[av.Packet[Stream]] = []
    end, size = time.monotonic() + _MOST_S, 0
    for packet in packets:
        batch.append(packet)
        size += packet.size
        if len(batch) >= most or size >= _MOST_BYTES or time.monotonic() >= end:
            break
    return batch


def _stepping_over(container: InputContainer, *streams: Stream) -> Iterator[av.Packet[Stream]]:
    failures = 0
    while failures < _MAX_FAILURES:
        try:
            for packet in container.demux(*streams):
                failures = 0
                if packet.size:
                    yield packet
            return
        except (av.FFmpegError, OSError) as error:
            logger.debug("a packet could not be read: %s", error)
            failures += 1


def is_cut_short(container: InputContainer, packet: av.Packet[Stream]) -> bool:
    """Whether a packet is truncated by the end of the file."""
    return packet.is_corrupt and container.format.name not in _PACKETIZED


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """A stream's decoder: the container's own, except for VP8 and VP9 with alpha, which only libvpx decodes."""
    own = stream.codec_context
    has_alpha = any(
        key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items()
    )
    name = _WITH_ALPHA.get(own.codec.canonical_name)
    if has_alpha and name in av.codecs_available:
        return cast("VideoCodecContext", VideoCodecContext.create(name, "r"))
    return own


def lacks_side_data(codec: str, pix_fmt: str) -> bool:
    """Whether a stream's frames lack what the container says of them, as they do from the decoders for alpha."""
    return codec in _WITH_ALPHA and layout_of(pix_fmt).alpha


def native_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    """The first frame from the container's own decoder, which has the container's side data but no alpha."""
    return next(iter(FrameDecoder(container, stream, one_thread=True, native=True)), None)


class Watch(Protocol):
    """Sees the packets that a decoder reads."""

    streams: Sequence[Stream]
    """Streams to read besides the decoder's own."""

    def packet(self, packet: av.Packet[Stream]) -> None:
        """The next packet of any of the streams, the decoder's own included."""


class FrameDecoder:
    """The frames of one video stream in presentation order; what cannot be decoded is counted and skipped.

    A truncated packet is skipped too: its frame would be incomplete. A single thread makes
    the result of a damaged stream independent of timing (frame threads report an error some packets late).
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        one_thread: bool = False,
        most_packets: int | None = None,
        watch: Watch | None = None,
        native: bool = False,
    ) -> None:
        """watch: sees the packets of all its streams, in the container's order. native: without alpha."""
        self.container, self.stream, self.most_packets = container, stream, most_packets
        self._watch = watch
        self.context = stream.codec_context if native else decoder_of(stream)
        self._is_theora = self.context.codec.canonical_name == "theora"
        self.packets = 0
        """Packets read, except those that the container marks as not shown (by an edit list)."""
        self.all_packets = 0
        self.failures = 0
        """Packets that could not be decoded or were truncated."""
        self.frames = 0
        self.damaged = 0
        """Frames that the decoder marks as damaged, although it could decode a part of them."""
        self.at_keyframe = False
        """Whether decoding can start at the last frame returned."""
        # Frame threads report that a header is no frame at a later packet, whose frame is lost then.
        one_thread = one_thread or self._is_theora
        self.context.thread_type = "NONE" if one_thread else "AUTO"
        if one_thread:
            self.context.thread_count = 1

    def __iter__(self) -> Iterator[VideoFrame]:
        one_by_one = self.most_packets is not None
        watch = self._watch
        streams = (self.stream, *(watch.streams if watch else ()))
        for packet in readable_packets(self.container, *streams, one_by_one=one_by_one):
            if watch is not None:
                watch.packet(packet)
                if packet.stream_index != self.stream.index:
                    continue
            if self._is_header(packet):
                self._take_in(packet)
                continue
            self.all_packets += 1
            self.packets += not packet.is_discard
            if is_cut_short(self.container, packet):
                self.failures += 1
            else:
                for frame in self._decode(packet):
                    # libvpx does not mark its frames; each packet contains one.
                    own = self.context is self.stream.codec_context
                    self.at_keyframe = frame.key_frame if own else packet.is_keyframe
                    yield frame
            if self.all_packets == self.most_packets:
                break
        for frame in self._decode(None):
            self.at_keyframe = frame.key_frame
            yield frame

    def _is_header(self, packet: av.Packet[Stream]) -> bool:
        """Whether it has no picture, but begins another Theora stream that is chained to the one before."""
        return self._is_theora and memoryview(packet)[0] >= _THEORA_HEADER

    def _take_in(self, header: av.Packet[Stream]) -> None:
        try:
            self.context.decode(header)
        except (av.FFmpegError, OSError) as error:
            # libav's decoder uses it, and says that it is no frame.
            logger.debug("a header in mid-stream: %s", error)

    def _decode(self, packet: av.Packet[Stream] | None) -> list[VideoFrame]:
        try:
            frames = self.context.decode(packet)
        except (av.FFmpegError, OSError) as error:
            logger.debug("a packet could not be decoded: %s", error)
            self.failures += 1
            return []
        self.frames += len(frames)
        self.damaged += sum(frame.is_corrupt for frame in frames)
        return frames
