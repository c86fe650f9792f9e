"""The work of one segment and of one seam: frames read, restored, encoded as a part file.

What of it is finished, and is not done again, is `kept`'s business.

shot    |---------------------------------------------|
segment |=== core ===|~~shared~~|
                     |~~shared~~|=== core ===|          both segments restore the shared frames
parts   [    core    ][   seam  ][    core   ]          the seam is their crossfade
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import complete_or_absent
from starvsr.media.pixfmt import layout_of
from starvsr.media.reader import read_frames
from starvsr.media.writer import PartWriter
from starvsr.plan import Plan, Segment
from starvsr.restore import Frame, Restorer, frames_to_tensor, tensor_to_frames
from starvsr.transparency import join_alpha, split_alpha
from starvsr.types import VideoIndex, VideoInfo
from starvsr.velocity import Carried

OnFrames = Callable[[int, float], None]
"""Is told a segment's index and how many of its frames are restored, often."""

# Frames that are encoded behind the network's back; more would only take memory.
_WAITING_FRAMES = 4


@dataclass(frozen=True)
class SegmentFiles:
    """What restoring one segment leaves in the work directory."""

    segment: Segment
    part: Path
    """The encoded core."""
    head: tuple[Path, ...] = ()
    """Raw frames shared with the segment before, one file a frame."""
    tail: tuple[Path, ...] = ()
    """Raw frames shared with the segment behind."""


class PartMaker:
    """Restores segments of one job into a folder."""

    def __init__(
        self,
        info: VideoInfo,
        index: VideoIndex,
        plan: Plan,
        settings: EncoderSettings,
        restorer: Restorer,
        folder: Path,
        on_frames: OnFrames,
    ) -> None:
        self.info, self.index, self.plan, self.settings = info, index, plan, settings
        self.restorer, self.folder, self.on_frames = restorer, folder, on_frames
        self.alpha = with_alpha(info, settings)
        """Whether frames have a fourth channel on their way."""

    def make(self, segment: Segment) -> SegmentFiles:
        """Restore one segment: its core encoded, its shared frames raw. Raises OutputError, InputError."""
        part = self._path(segment.index, "core", self.settings.part_suffix)
        shared: dict[int, Path] = {}
        # The pool ends before the writer, so nothing is written to a part that is being finished or given up.
        with (
            PartWriter(part, self.settings, self.info, self.plan.width, self.plan.height) as writer,
            ThreadPoolExecutor(1) as pool,
        ):
            waiting: deque[Future[None]] = deque()
            for number, frame in self._restored(segment):
                if segment.core[0] <= number < segment.core[1]:
                    self._wait(waiting, most=_WAITING_FRAMES - 1)
                    times = self.index.pts[number], self.index.durations[number]
                    waiting.append(pool.submit(writer.write, frame, *times))
                else:
                    shared[number] = self._path(segment.index, f"{number:08d}", ".raw")
                    with complete_or_absent(shared[number]) as temporary:
                        # `np.save` would hide why a write failed.
                        temporary.write_bytes(np.ascontiguousarray(frame).data)
            self._wait(waiting, most=0)
        return SegmentFiles(
            segment,
            part,
            tuple(shared[number] for number in range(segment.first, segment.core[0])),
            tuple(shared[number] for number in range(segment.core[1], segment.last)),
        )

    def _restored(self, segment: Segment) -> Iterator[tuple[int, Frame]]:
        """Absolute index and picture of every frame of a segment, restored run by run."""
        number = segment.first
        with closing(self._source(segment)) as source:
            carried = Carried()
            for first, last in self.plan.runs(segment):
                with self.restorer.timed("decode video"):
                    frames = list(islice(source, last - first))
                    frames, alphas = split_alpha(frames) if self.alpha else (frames, [])
                    decoded = frames_to_tensor(frames)
                    del frames
                for pictures in self._restore_run(segment, decoded, first, carried):
                    with self.restorer.timed("finish"):
                        made = list(
                            tensor_to_frames(pictures, truncated=self.plan.layout.published)
                        )
                    for frame in made:
                        if self.alpha:
                            frame = join_alpha(frame, alphas.pop(0))
                        yield number, frame
                        number += 1

    def _source(self, segment: Segment) -> Generator[Frame, None, None]:
        return read_frames(
            self.info,
            self.index,
            segment.first,
            segment.last,
            deinterlace=self.restorer.look.deinterlace,
            alpha=self.alpha,
        )

    def _restore_run(
        self, segment: Segment, decoded: Tensor, first: int, carried: Carried
    ) -> Iterator[Tensor]:
        before = first - segment.first
        return self.restorer.restore(
            decoded,
            (self.plan.height, self.plan.width),
            first_frame=first,
            on_window=lambda share: self.on_frames(segment.index, before + len(decoded) * share),
            carried=carried,
        )

    def _wait(self, waiting: deque[Future[None]], *, most: int) -> None:
        """Wait until at most `most` frames are not yet encoded. Raises what encoding raised."""
        with self.restorer.timed("encode video"):
            while len(waiting) > most:
                waiting.popleft().result()

    def _path(self, index: int, what: str, suffix: str) -> Path:
        return self.folder / f"{index:06d}-{what}{suffix}"


def with_alpha(info: VideoInfo, settings: EncoderSettings) -> bool:
    """Whether the source's alpha goes into the output."""
    return settings.alpha and layout_of(info.pix_fmt).alpha


def make_seam(
    before: SegmentFiles,
    behind: SegmentFiles,
    part: Path,
    info: VideoInfo,
    index: VideoIndex,
    settings: EncoderSettings,
) -> None:
    """Crossfade the raw frames that two neighbours share into a part file. Raises OutputError."""
    width, height = settings.width, settings.height
    channels = 4 if with_alpha(info, settings) else 3
    with PartWriter(part, settings, info, width, height) as writer:
        for place, pair in enumerate(zip(before.tail, behind.head, strict=True)):
            old, new = (
                np.fromfile(path, np.uint16).reshape(height, width, channels) for path in pair
            )
            share = (place + 1) / (len(behind.head) + 1)
            mixed = (1 - share) * old.astype(np.float32) + share * new
            number = behind.segment.first + place
            writer.write(
                (mixed + 0.5).astype(np.uint16), index.pts[number], index.durations[number]
            )
