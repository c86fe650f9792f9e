"""Two videos stacked into one that browsers play, A above B, so that they cannot get out of sync."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from starvsr.errors import OutputError
from starvsr.media.color import FromRgb
from starvsr.media.files import written_errors
from starvsr.metrics.frame import Frame
from starvsr.types import ColorInfo

CODEC = "libx264"
# Visually near lossless; every sixth frame is seekable, and there are no B-frames.
_OPTIONS = {"crf": "14", "preset": "veryfast", "g": "6", "bf": "0"}
_THREADS = 2
# Macroblocks do not straddle the line between the frames, so neither bleeds into the other.
_ROWS, _COLUMNS = 16, 2
_BT709 = ColorInfo(matrix=1, range=1, primaries=1, transfer=1, chroma_location=1)
_SLOWEST, _FASTEST = Fraction(1), Fraction(240)


class StackedMovie:
    """Encodes pairs of frames into an mp4; a `with` block, at whose end the file is complete."""

    def __init__(self, path: Path, width: int, height: int, rate: Fraction | None) -> None:
        """width, height: of each frame. rate: frames per second; None is 25."""
        self._path, self._size = path, (width, height)
        self.rate = min(_FASTEST, max(_SLOWEST, rate or Fraction(25))).limit_denominator(1001)
        self.stride = -(-height // _ROWS) * _ROWS
        """Rows from a row of A to the same of B."""
        self.frames = 0
        columns = -(-width // _COLUMNS) * _COLUMNS
        self._stacked = np.empty((2 * self.stride, columns, 3), np.uint16)
        self._convert = FromRgb(columns, 2 * self.stride, "yuv420p", _BT709)

    def __enter__(self) -> StackedMovie:
        if CODEC not in av.codecs_available:
            raise OutputError(
                f"this PyAV has no encoder {CODEC}: install one that has it, such as the official wheels"
            )
        options = {"movflags": "faststart"}
        self._container = av.open(str(self._path), "w", format="mp4", options=options)
        stream = self._container.add_stream(CODEC, rate=self.rate, options=_OPTIONS)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.height, context.width = self._stacked.shape[:2]
        context.pix_fmt, context.thread_count = "yuv420p", _THREADS
        context.time_base = 1 / self.rate
        context.colorspace, context.color_range = _BT709.matrix, _BT709.range
        context.color_primaries, context.color_trc = _BT709.primaries, _BT709.transfer
        self._stream = stream
        return self

    def add(self, a: Frame, b: Frame) -> None:
        """Encode the next pair. Raises OutputError where the file cannot be written."""
        width, height = self._size
        for number, frame in enumerate((a, b)):
            half = self._stacked[number * self.stride : (number + 1) * self.stride]
            half[:height, :width] = frame.pixels
            half[height:, :width] = frame.pixels[-1]
            half[:, width:] = half[:, width - 1 : width]
        picture = self._convert(self._stacked)
        picture.pts, picture.time_base = self.frames, 1 / self.rate
        self.frames += 1
        with written_errors(self._path):
            self._container.mux(self._stream.encode(picture))

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if error is not None:
            with suppress(OSError, av.FFmpegError):
                self._container.close()
            return
        with written_errors(self._path):
            self._container.mux(self._stream.encode(None))
            self._container.close()
