"""Shot changes: frames that differ from the previous one far more than the frames around them do.

Every frame is shrunk to a small square image, in which noise, compression and grain average out. A frame begins
a shot if all of this is true (`benchmarks/shots.py` measures the numbers):

- its difference from the previous frame is large,
- it is several times the usual difference before and after it, unlike a pan or a fade,
- and the difference lasts, unlike a flash of light.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

# Columns and rows of the small image.
_SIDE_PX = 32
# Least mean absolute difference between the two sides of a cut, in 8-bit levels of Y, U and V.
_LEAST_DIFFERENCE = 3.0
# Least ratio of that difference to the median of the differences on each side of it.
_LEAST_RATIO = 3.0
# Differences in the median of each side.
_AROUND_FRAMES = 6
# A flash is shorter than this.
_FLASH_FRAMES = 4
# Fraction of the cut's difference that must also remain between frames this far apart.
_LASTING_SHARE = 0.5
# Shortest shot; of cuts closer together, the strongest is kept.
_SHORTEST_FRAMES = 6

Small = npt.NDArray[np.int16]


class ShotDetector:
    """Takes the frames of a video in order; keeps a few small images and two numbers per frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._recent: deque[Small] = deque(maxlen=_FLASH_FRAMES + 1)
        self._differences: list[float] = [0.0]
        """Entry i: between frame i - 1 and frame i."""
        self._apart: list[float] = []
        """Entry i: between frame i and frame i + `_FLASH_FRAMES`."""

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        small = self._reformatter.reformat(
            frame, _SIDE_PX, _SIDE_PX, "yuv444p", interpolation=Interpolation.AREA
        )
        self.add_small(small.to_ndarray().astype(np.int16))

    def add_small(self, picture: Small) -> None:
        """Take the next frame as its small image (3, rows, columns), 0..255."""
        if self._recent:
            self._differences.append(_difference(self._recent[-1], picture))
        self._recent.append(picture)
        if len(self._recent) > _FLASH_FRAMES:
            self._apart.append(_difference(self._recent[0], picture))

    def cuts(self) -> tuple[int, ...]:
        """Indices of the frames that begin a new shot, ascending, never 0."""
        found = [i for i in range(1, len(self._differences)) if self._is_cut(i)]
        kept: list[int] = []
        for i in sorted(found, key=lambda i: -self._differences[i]):
            if i >= _SHORTEST_FRAMES and all(abs(i - other) >= _SHORTEST_FRAMES for other in kept):
                kept.append(i)
        return tuple(sorted(kept))

    def _is_cut(self, i: int) -> bool:
        here = self._differences[i]
        if here < _LEAST_DIFFERENCE:
            return False
        before = self._differences[max(1, i - _AROUND_FRAMES) : i]
        behind = self._differences[i + 1 : i + 1 + _AROUND_FRAMES]
        # Each side by itself: a fade is calm on one of them.
        usual = max(median(side) for side in (before, behind, [0.0]) if side)
        if here < _LEAST_RATIO * usual:
            return False
        # The first pair begins before a flash that begins here, the second before one that ends here.
        pairs = (i - 1, i - _FLASH_FRAMES)
        known = [self._apart[k] for k in pairs if 0 <= k < len(self._apart)]
        return all(apart >= _LASTING_SHARE * here for apart in known)


def find_cuts(frames: Iterable[npt.NDArray[np.uint8]]) -> tuple[int, ...]:
    """Indices of the frames that begin a new shot, ascending, never 0: what `Restorer.stream` takes as `cuts`.

    frames: all frames of a video in order, `h w 3` RGB of uint8; hardly anything is kept of them. The rule is that of
    `upscale_video`, which sees the frames as they were decoded. Raises ValueError for other arrays.
    """
    detector = ShotDetector()
    for frame in frames:
        detector.add(VideoFrame.from_ndarray(frame, "rgb24"))
    return detector.cuts()


def _difference(one: Small, other: Small) -> float:
    return float(np.abs(one - other).mean())
