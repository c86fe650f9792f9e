"""Frames to part files: each a run of consecutive frames, encoded on its own, to be joined without re-encoding."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from starvsr.errors import OutputError
from starvsr.media.color import FromRgb, Pixels
from starvsr.media.encoder import EncoderSettings, add_video, check_encoder
from starvsr.media.files import complete_or_absent, written_errors
from starvsr.media.graph import AspectTag
from starvsr.media.priority import usual_priority
from starvsr.media.removal import Right
from starvsr.types import VideoInfo

__all__ = ["PART_TICKS", "EncoderSettings", "PartWriter", "check_encoder"]

# Parts are written with this many milliseconds per frame: Matroska could not keep closer times apart, and
# `join` gives every frame its own time from the index.
PART_TICKS = 40
_PART_BASE = Fraction(1, 1000)
# No encoder delays a frame by more.
_MOST_REORDERED = 64


class PartWriter:
    """Encodes consecutive frames to one part file, which exists only after the `with` block ends without an error.

    A part begins with a keyframe and refers to no other part. Raises OutputError if the file cannot be written.
    """

    def __init__(
        self, path: Path, settings: EncoderSettings, info: VideoInfo, width: int, height: int
    ) -> None:
        """width, height: of the frames; they must be the settings'."""
        if (width, height) != (settings.width, settings.height):
            raise ValueError(
                f"settings are for {settings.width}x{settings.height}, not {width}x{height}"
            )
        self._path, self._settings, self._info = path, settings, info
        self._from_rgb = FromRgb(width, height, settings.pix_fmt, settings.color)
        self._aspect = AspectTag(info.sample_aspect)
        self._numbers: dict[int, int] = {}
        """Numbers of the frames inside the encoder, by the time passed to the encoder."""
        self._frames = 0
        self._packets = 0
        self._is_broken = False
        self._file = complete_or_absent(path, right=Right.FORM)

    def __enter__(self) -> PartWriter:
        temporary = self._file.__enter__()
        try:
            with written_errors(self._path):
                self._container = av.open(str(temporary), "w", format=self._settings.part_container)
            self._stream = add_video(self._container, self._settings, self._info)
        except BaseException as error:
            self._give_up_file(error)
            raise
        return self

    def write(self, pixels: Pixels, pts: int, duration: int, *again: tuple[int, int]) -> None:
        """Encode the next frame, and those behind it that show the same.

        pixels: uint16 RGB (height, width, 3), 0..65535. pts, duration: in ticks of the source's time base, pts
        ascending from frame to frame. again: the same of every further frame. Raises OutputError if the file cannot be
        written.
        """
        frame = self._from_rgb(pixels)
        for times in ((pts, duration), *again):
            self.encode(frame, *times)

    def encode(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """As `write`, for a frame of the settings' pixel format."""
        frame, settings = self._aspect(frame), self._settings
        frame.pts = pts if settings.source_times else self._frames
        frame.duration = duration if settings.source_times else 1
        frame.time_base = Fraction(*settings.time_base)
        self._numbers[frame.pts] = self._frames
        self._frames += 1
        with written_errors(self._path):
            # The first frame opens the encoder.
            with usual_priority() if self._frames == 1 else nullcontext():
                packets = self._stream.encode(frame)
            for packet in packets:
                self._mux(packet)

    def _mux(self, packet: Packet[VideoStream]) -> None:
        if packet.pts is None:
            raise ValueError(f"the encoder {self._settings.codec} gave a packet without a time")
        packet.time_base = _PART_BASE
        packet.pts = self._numbers.pop(packet.pts) * PART_TICKS
        packet.dts = (self._packets - _MOST_REORDERED) * PART_TICKS
        packet.duration = PART_TICKS
        self._packets += 1
        if self._is_broken:
            # libav crashes where more is written to a file whose header could not be.
            raise OutputError(f"{self._path} cannot be written: an earlier frame could not be")
        self._is_broken = True
        self._container.mux(packet)
        self._is_broken = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                self._finish()
            except BaseException as failure:
                self._abandon(failure)
                raise
            self._file.__exit__(None, None, None)
        else:
            self._abandon(error)

    def _finish(self) -> None:
        if not self._frames:
            raise ValueError(f"no frame was written to {self._path}")
        with written_errors(self._path):
            for packet in self._stream.encode(None):
                self._mux(packet)
            self._container.close()

    def _abandon(self, error: BaseException) -> None:
        # The file is removed, so errors of closing it do not matter.
        with suppress(OSError, av.FFmpegError):
            self._container.close()
        self._give_up_file(error)

    def _give_up_file(self, error: BaseException) -> None:
        with suppress(type(error)):
            self._file.__exit__(type(error), error, error.__traceback__)
