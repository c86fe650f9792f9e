"""A restored segment's files, and seams: the crossfade of frames shared by two segments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from starvsr.errors import WorkDirError
from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import open_regular, read_errors
from starvsr.media.pixfmt import layout_of
from starvsr.media.writer import PartWriter
from starvsr.plan.pictures import shown_spans
from starvsr.plan.segments import Segment
from starvsr.plan.windows import Span
from starvsr.restore.levels import crossfade
from starvsr.types import VideoIndex, VideoInfo


@dataclass(frozen=True)
class SegmentFiles:
    """The files of a restored segment in the work directory."""

    segment: Segment
    part: Path
    """The encoded core."""
    head: tuple[Path, ...] = ()
    """Raw pictures shared with the segment before, one file each, however many frames show it."""
    tail: tuple[Path, ...] = ()
    """Raw pictures shared with the next segment."""


def with_alpha(info: VideoInfo, settings: EncoderSettings) -> bool:
    """Whether the source's alpha goes into the output."""
    return settings.alpha and layout_of(info.pix_fmt).alpha


def times_of(index: VideoIndex, frames: Span) -> tuple[Any, ...]:
    """What a writer takes behind a picture that these frames (first, exclusive end) show: when they are shown."""
    first, *again = zip(index.pts[slice(*frames)], index.durations[slice(*frames)], strict=True)
    return *first, *again


def make_seam(
    before: SegmentFiles,
    behind: SegmentFiles,
    part: Path,
    info: VideoInfo,
    index: VideoIndex,
    settings: EncoderSettings,
) -> None:
    """Crossfade the raw pictures that two neighbours share into a part file. Raises OutputError."""
    width, height = settings.width, settings.height
    channels = 4 if with_alpha(info, settings) else 3
    shown = shown_spans(index.repeats, behind.segment.first, behind.segment.core[0])
    with PartWriter(part, settings, info, width, height) as writer:
        pairs = zip(before.tail, behind.head, shown, strict=True)
        for place, (*pair, frames) in enumerate(pairs):
            old, new = (_read_raw(path, (height, width, channels)) for path in pair)
            mixed = crossfade(old, new, place, len(shown))
            writer.write(mixed, *times_of(index, frames))


def _read_raw(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint16]:
    """A shared picture. Raises OutputError if it cannot be read, WorkDirError if its size differs."""
    with read_errors(path), open_regular(path) as file:
        data = file.read(2 * math.prod(shape) + 1)
    if len(data) != 2 * math.prod(shape):
        raise WorkDirError(f"{path} is not a frame of this job: give --no-resume to start over")
    return np.frombuffer(data, np.uint16).reshape(shape)
