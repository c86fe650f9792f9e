"""What a video file is like: sizes and fields from its index, noise, blocks and detail from a few of its frames."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from starvsr.media.fields import plan_fields
from starvsr.media.pixfmt import is_hdr
from starvsr.media.provenance import provenance_of
from starvsr.media.reader import read_frames
from starvsr.metrics.footage import (
    LEAST_SIDE,
    blockiness,
    combing,
    detail,
    detail_factor,
    noise_sigma,
)
from starvsr.metrics.frame import Frame, Plane
from starvsr.options import LookOptions
from starvsr.types import Progress, VideoIndex, VideoInfo

SAMPLES = 9
"""Places, evenly over the video, at which two frames in a row are measured."""

# Levels, a ratio and a factor from which on noise, blocks and softness are seen (docs/cli.md says what they are).
_NOISY, _BLOCKY, _SOFT = 2.5, 1.15, 1.75
# Fraction of moving pixels that comb: surely of fields, surely of whole frames.
_COMBED, _WHOLE = 0.08, 0.05
# Moving places that show that nothing combs.
_LEAST_MOVING = 3
# Of larger frames, the middle is measured.
_MOST_ROWS, _MOST_COLUMNS = 1080, 1920


@dataclass(frozen=True)
class Footage:
    """What was measured; fractions are 0..1, and what could not be measured is None."""

    width: int
    height: int
    """As displayed, pixels."""
    frames: int
    duration_s: float
    bit_depth: int
    hdr: bool
    """Whether its transfer function is PQ or HLG."""
    flagged: float
    """Fraction of the frames that are flagged as interlaced."""
    film: float
    """Fraction of the frames that pull-down has spread film over."""
    equal: float
    """Fraction of the frames that equal the one before."""
    held: float
    """The same with those that differ by compression alone, as in animation."""
    made_by: str = ""
    """What upscaled it before, by its tags."""
    noise: float | None = None
    """Standard deviation, levels of luma (16..235); the median of the places."""
    blocks: float | None = None
    """`metrics.footage.blockiness`; the median of the places."""
    detail: float | None = None
    """`metrics.footage.detail_factor`; the sharper quarter of the places."""
    combing: float | None = None
    """`metrics.footage.combing`; the median of the places where something moves."""
    combing_most: float | None = None
    moving: int = 0
    """Places where something moves."""

    @property
    def short_side(self) -> int:
        """Pixels."""
        return min(self.width, self.height)

    @property
    def noisy(self) -> bool:
        """Whether noise is seen."""
        return self.noise is not None and self.noise >= _NOISY

    @property
    def blocky(self) -> bool:
        """Whether a codec's blocks are seen."""
        return self.blocks is not None and self.blocks >= _BLOCKY

    @property
    def soft(self) -> bool:
        """Whether so much of the spectrum is empty that the picture was enlarged before, or as good as."""
        return self.detail is not None and self.detail >= _SOFT

    @property
    def combs(self) -> bool:
        """Whether what moves combs, as fields of different times do."""
        return self.combing is not None and self.combing >= _COMBED

    @property
    def is_whole(self) -> bool:
        """Whether enough moves and none of it combs."""
        most = self.combing_most
        return most is not None and most < _WHOLE and self.moving >= _LEAST_MOVING


@dataclass(frozen=True)
class _Place:
    frame: int
    noise: float | None
    blocks: float
    detail_factor: float
    combing: float | None
    detail: float


def measure(
    info: VideoInfo, index: VideoIndex, progress: Callable[[Progress], None]
) -> tuple[Footage, int]:
    """A video's measurements, and the frame of a place with as much detail as it usually has.

    index: of decoded frames, with film and `near` repeats looked for. Raises InputError if it cannot be read.
    """
    places = []
    numbers = _places(index.frames)
    is_whole = not index.interlaced and not index.film
    for done, number in enumerate(numbers):
        progress(Progress("measure", done, len(numbers)))
        place = _measured(info, index, number, whole=is_whole)
        if place is not None:
            places.append(place)
    progress(Progress("measure", len(numbers), len(numbers)))
    frames = index.frames
    film = plan_fields(info, index, LookOptions(deinterlace="off"))
    in_film = film.in_film + sum(last - first for first, last in film.soft)
    end = index.pts[-1] + index.durations[-1] - index.pts[0]
    combed = [each.combing for each in places if each.combing is not None]
    footage = Footage(
        width=info.width,
        height=info.height,
        frames=frames,
        duration_s=float(end * info.time_base),
        bit_depth=info.bit_depth,
        hdr=is_hdr(info),
        flagged=len(index.interlaced) / frames,
        film=in_film / frames,
        equal=len(index.equal) / frames,
        held=len(index.repeats) / frames,
        made_by=provenance_of(info.path),
        noise=_median([each.noise for each in places if each.noise is not None]),
        blocks=_median([each.blocks for each in places]),
        detail=_quarter([each.detail_factor for each in places]),
        combing=_median(combed),
        combing_most=max(combed, default=None),
        moving=len(combed),
    )
    if not places:
        return footage, 0
    usual = sorted(places, key=lambda each: each.detail)[len(places) // 2]
    return footage, usual.frame


def excerpt_around(index: VideoIndex, frame: int, frames: int) -> int:
    """The first frame of an excerpt of so many frames around one, within its shot if that is long enough."""
    at = bisect_right(index.cuts, frame)
    bounds = (0, *index.cuts, index.frames)
    first, last = bounds[at], bounds[at + 1]
    start = min(max(first, frame - frames // 2), max(first, last - frames))
    return max(0, min(start, index.frames - frames))


def _places(frames: int) -> list[int]:
    """Second frames of the pairs to measure."""
    count = min(SAMPLES, frames)
    return sorted({max(min(1, frames - 1), int((i + 0.5) * frames / count)) for i in range(count)})


def _measured(info: VideoInfo, index: VideoIndex, number: int, *, whole: bool) -> _Place | None:
    """One place; None if frames are too small. whole: whether frames are no pairs of fields."""
    first = max(0, number - 1)
    with closing(read_frames(info, index, first, number + 1)) as frames:
        planes = [_middle(Frame(pixels)) for pixels in frames]
    luma = planes[-1]
    # A field alone has no combs.
    still = luma if whole else luma[::2]
    if min(still.shape) < LEAST_SIDE:
        return None
    return _Place(
        frame=number,
        noise=noise_sigma(still),
        blocks=blockiness(still),
        detail_factor=detail_factor(still),
        combing=combing(planes[0], luma) if len(planes) > 1 else None,
        detail=detail(still),
    )


def _middle(frame: Frame) -> Plane:
    pixels = frame.pixels
    top, left = (
        max(0, side - most) // 2
        for side, most in zip(pixels.shape, (_MOST_ROWS, _MOST_COLUMNS), strict=False)
    )
    return Frame(pixels[top : top + _MOST_ROWS, left : left + _MOST_COLUMNS]).luma


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _quarter(values: Sequence[float]) -> float | None:
    return sorted(values)[(len(values) - 1) // 4] if values else None
