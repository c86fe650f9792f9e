"""The metrics of one video, frame by frame, in memory that does not grow with its length (but for the scores)."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from starvsr.errors import InputError, UsageError
from starvsr.evaluate.alignment import AlignmentCheck
from starvsr.evaluate.pairs import ClipPair
from starvsr.media.color import resolve_color
from starvsr.media.fields import MadeIndex, made_index, plan_fields
from starvsr.media.index import build_index, expected_frames
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.metrics.frame import Frame
from starvsr.metrics.registry import METRICS, open_meters, too_small
from starvsr.options import Deinterlace, LookOptions, RangeOptions
from starvsr.plan.ranges import frame_range
from starvsr.types import Progress, ProgressCallback, VideoIndex, VideoInfo

AS_STORED = LookOptions(deinterlace="off", detelecine="off")
"""Frames of two fields stay what they are."""

Curve = tuple[float | None, ...]
EachFrame = Callable[[Frame, "Frame | None"], None]


@dataclass(frozen=True)
class Video:
    """A video that has been read through once, or an excerpt of it."""

    info: VideoInfo
    index: VideoIndex
    first: int
    last: int
    """Its frames are first..last-1 of the file."""

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.last - self.first

    def times(self) -> list[float]:
        """Presentation times of its frames, seconds from its first."""
        pts = self.index.pts[self.first : self.last]
        return [float((each - pts[0]) * self.info.time_base) for each in pts]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.info.width, self.info.height

    def frames(self) -> Generator[Frame, None, None]:
        """All its frames in order; a generator that must be closed."""
        with closing(read_frames(self.info, self.index, self.first, self.last)) as pixels:
            for each in pixels:
                yield Frame(each)


@dataclass(frozen=True)
class ClipResult:
    """The scores of one video."""

    pair: ClipPair
    width: int
    height: int
    frames: int
    curves: dict[str, Curve]
    """One score per frame and metric; None if a frame has none (the first has no temporal error)."""
    not_measured: dict[str, str]
    """Why a metric has no scores here, by its name."""
    warnings: tuple[str, ...]
    lost_frames: int = 0
    """Frames of both videos that could not be decoded."""

    def mean(self, metric: str) -> float | None:
        """Mean over the frames that have a score; None if none has."""
        figures = [figure for figure in self.curves.get(metric, ()) if figure is not None]
        return fmean(figures) if figures else None


class _Reading:
    """Reads videos through, and reports the frames of all of them together."""

    def __init__(self, pairs: Sequence[ClipPair], progress: ProgressCallback | None) -> None:
        """Raises InputError if a file cannot be read."""
        self.progress = progress
        paths = [path for pair in pairs for path in pair.files]
        self.infos = {path: probe(path) for path in paths}
        self.total = sum(expected_frames(self.infos[path]) for path in paths)
        self.done = 0

    def __call__(self, path: Path, look: LookOptions = AS_STORED) -> Video:
        """The video with the frames that a job makes of its fields."""
        info = self.infos[path]
        decoded = build_index(
            info,
            scene_detect=False,
            detelecine=look.detelecine,
            progress=lambda one: self._report(one, path.name),
        )
        self.done += decoded.frames
        info, index = made_index(info, decoded, plan_fields(info, decoded, look))
        return Video(info, index, 0, index.frames)

    def _report(self, one: Progress, name: str) -> None:
        if self.progress is not None:
            done = self.done + one.done
            total = max(self.total, math.ceil(done))
            self.progress(replace(one, done=done, total=total, detail=name))


def open_pair(
    pair: ClipPair,
    *,
    resize: bool = False,
    start_s: float | None = None,
    frames: int | None = None,
    deinterlace: Deinterlace = "auto",
    progress: ProgressCallback | None = None,
) -> tuple[Video, Video | None]:
    """Both videos of a pair, each read through once.

    resize: scale the reference to the result's size by bicubic interpolation. start_s: the result is an excerpt of the
    reference that begins there, seconds from its first frame; the frames that both have are compared. frames: at most
    so many. deinterlace: as a job's, of a reference whose result is not interlaced. Raises InputError if one cannot be
    read, or they differ in their number of frames (without `start_s` and `frames`) or in size (without `resize`).
    """
    read = _Reading([pair], progress)
    return _open_pair(
        pair, read, resize=resize, start_s=start_s, frames=frames, deinterlace=deinterlace
    )


def _open_pair(
    pair: ClipPair,
    read: _Reading,
    *,
    resize: bool = False,
    start_s: float | None = None,
    frames: int | None = None,
    deinterlace: Deinterlace = "auto",
) -> tuple[Video, Video | None]:
    result = read(pair.result)
    if pair.reference is None:
        return result, None
    is_alike = deinterlace == "off" or bool(result.index.interlaced)
    look = AS_STORED if is_alike else LookOptions(deinterlace=deinterlace)
    reference = read(pair.reference, look)
    is_whole = start_s is None and frames is None
    if isinstance(reference.index, MadeIndex):
        decoded = reference.index.decoded
        stored = Video(read.infos[pair.reference], decoded, 0, decoded.frames)
        if _keeps_stored_frames(result, stored, reference, is_whole=is_whole):
            reference = stored
    if not is_whole:
        result, reference = _excerpts(result, reference, start_s or 0.0, frames)
    if resize:
        # The reader scales frames to the probed size.
        width, height = result.size
        reference = replace(reference, info=replace(reference.info, width=width, height=height))
    size = "size (starvsr compare --resize scales A to B's)"
    count = "number of frames (starvsr compare --start TIME compares an excerpt with the whole)"
    for what, own, others, needed in (
        ("pixels", "{}x{}".format(*result.size), "{}x{}".format(*reference.size), size),
        ("frames", result.count, reference.count, count),
    ):
        if own != others:
            raise InputError(
                f"{pair.result} has {own} {what} and {pair.reference} has {others}: both must have the same {needed}"
            )
    return result, reference


def _keeps_stored_frames(result: Video, stored: Video, made: Video, *, is_whole: bool) -> bool:
    """Whether a result has the frames of a film as they are stored, as other programs keep them."""
    if is_whole and stored.count != made.count:
        return stored.count == result.count
    rates = [video.info.frame_rate for video in (result, stored, made)]
    if any(rate is None for rate in rates):
        return False
    own, of_stored, of_made = map(float, rates)  # type: ignore[arg-type]
    return abs(own - of_stored) < abs(own - of_made)


def _excerpts(
    result: Video, reference: Video, start_s: float, frames: int | None
) -> tuple[Video, Video]:
    """The frames that both have if the result is what `upscale --start` gives. Raises InputError without any."""
    try:
        first, last = frame_range(reference.info, reference.index, RangeOptions(start_s=start_s))
    except UsageError:
        end_s = reference.times()[-1]
        raise InputError(
            f"{reference.info.path} has no frame at {start_s:g} s: its last one is at {end_s:.2f} s; give an earlier "
            "--start"
        ) from None
    count = min(result.count, last - first, frames or result.count)
    return replace(result, last=count), replace(reference, first=first, last=first + count)


def measure_all(
    pairs: Sequence[ClipPair],
    metrics: Sequence[str],
    *,
    deinterlace: Deinterlace = "auto",
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> list[ClipResult]:
    """The scores of every pair, in order; all are read through before the first is measured.

    deinterlace: as of `open_pair`. Raises as `open_pair` and `measure` do.
    """
    read = _Reading(pairs, progress)
    opened = [_open_pair(pair, read, deinterlace=deinterlace) for pair in pairs]
    total = sum(videos[0].count for videos in opened)
    clips: list[ClipResult] = []
    for pair, videos in zip(pairs, opened, strict=True):
        done = sum(clip.frames for clip in clips)

        def report(one: Progress, done: int = done, name: str = pair.name) -> None:
            if progress is not None:
                progress(replace(one, done=done + one.done, total=total, detail=name))

        clips.append(measure(pair, videos, metrics, device=device, progress=report))
    return clips


def measure(
    pair: ClipPair,
    videos: tuple[Video, Video | None],
    metrics: Sequence[str],
    *,
    device: str = "cpu",
    each: EachFrame | None = None,
    progress: ProgressCallback | None = None,
) -> ClipResult:
    """The scores of a pair's result.

    videos: the pair's, of one size and length (see `open_pair`). metrics: names of `METRICS`. each: also called with
    every frame. Raises InputError if a video cannot be read to its end, WeightsError for a learned metric whose weights
    are unavailable.
    """
    result, reference = videos
    not_measured = {
        name: reason for name in metrics if (reason := _why_not(name, result, reference))
    }
    names = [name for name in metrics if name not in not_measured]
    total = result.count
    check = AlignmentCheck(total) if reference is not None else None
    matrix = resolve_color((reference or result).info).matrix
    curves: dict[str, Curve] = {}
    with open_meters(names, result.size, matrix=matrix, device=device) as meters:
        for number, (own, other) in enumerate(_both(result, reference), start=1):
            for meter in meters:
                meter.add(own, other)
            if check is not None and other is not None:
                check.add(own.luma, other.luma)
            if each is not None:
                each(own, other)
            if progress is not None:
                progress(Progress("measure", number, total))
        for meter in meters:
            curves |= {name: tuple(curve) for name, curve in meter.finish().items()}
    warnings = [
        *_fields_said(reference),
        *_damage(result),
        *(_damage(reference) if reference is not None else ()),
        *(check.finish().warnings() if check is not None else ()),
    ]
    ordered = {name: curves[name] for name in names}
    lost = result.index.lost_frames + (reference.index.lost_frames if reference else 0)
    return ClipResult(pair, *result.size, total, ordered, not_measured, tuple(warnings), lost)


def _why_not(name: str, result: Video, reference: Video | None) -> str:
    if METRICS[name].full_reference and reference is None:
        return "needs a reference"
    return too_small(name, result.size)


def _both(result: Video, reference: Video | None) -> Iterator[tuple[Frame, Frame | None]]:
    with closing(result.frames()) as own:
        if reference is None:
            yield from ((frame, None) for frame in own)
            return
        with closing(reference.frames()) as others:
            yield from zip(own, others, strict=True)


def _fields_said(reference: Video | None) -> list[str]:
    if reference is None or not isinstance(reference.index, MadeIndex):
        return []
    return [
        f"{reference.info.path} is interlaced or telecined: it is compared as upscale deinterlaces it; "
        "--deinterlace off takes its frames as they are"
    ]


def _damage(video: Video) -> list[str]:
    found = ((video.index.lost_frames, "lost"), (video.index.damaged_frames, "damaged"))
    return [
        f"{video.info.path} is damaged: {'1 frame is' if count == 1 else f'{count} frames are'} {what}"
        for count, what in found
        if count
    ]
