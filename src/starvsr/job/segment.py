"""The work of one segment: frames read, restored, encoded as a part file.

What of it is finished, and is not done again, is `kept`'s business.

shot    |---------------------------------------------|
segment |=== core ===|~~shared~~|
                     |~~shared~~|=== core ===|          both segments restore the shared frames
parts   [    core    ][   seam  ][    core   ]          the seam is their crossfade
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from starvsr.job.seam import SegmentFiles, times_of, with_alpha
from starvsr.media.deadline import stopping_with
from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import write_whole
from starvsr.media.reader import read_frames
from starvsr.media.removal import Right
from starvsr.media.still import STILL
from starvsr.media.still_writer import StillPart
from starvsr.media.writer import PartWriter
from starvsr.plan.pictures import shown_spans
from starvsr.plan.plan import Plan
from starvsr.plan.segments import Segment
from starvsr.restore.levels import Frame, frames_to_tensor, tensor_to_frames
from starvsr.restore.restorer import Restorer
from starvsr.restore.transparency import Alpha, join_alpha, resized_alpha, split_alpha
from starvsr.restore.velocity import Carried
from starvsr.types import VideoIndex, VideoInfo

OnFrames = Callable[[int, float], None]
"""Often receives a segment's index and how many of its frames are restored."""

Item = TypeVar("Item")

# Frames encoded in the background; more would only take memory.
_WAITING_FRAMES = 4


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
        """Whether frames have an alpha channel."""

    def make_each(self, segments: Sequence[Segment]) -> Generator[SegmentFiles, None, None]:
        """Restore segments in order: their cores encoded, their shared frames raw. The next run's frames are read while
        one is restored, and the end of a segment is encoded while the next one is.

        Raises OutputError, InputError; then, and where it is closed early, what was not given yet is lost.
        """
        behind: _Part | None = None
        part: _Part | None = None
        try:
            with closing(Ahead(self._runs(segments))) as runs:
                for segment in segments:
                    part = _Part(self, segment)
                    spans = self.plan.runs(segment)
                    for run in islice(self._timed(runs), len(spans)):
                        # Yield finished segments early to be recorded: a run may take hours.
                        if behind is not None and (len(spans) == 1 or behind.is_ended()):
                            yield self._ended(behind)
                            behind = None
                        self._restore(run, part)
                    part.end()
                    if behind is not None:
                        yield self._ended(behind)
                    behind, part = part, None
            if behind is not None:
                yield self._ended(behind)
                behind = None
        except BaseException as error:
            for each in (behind, part):
                if each is not None:
                    each.give_up(error)
            raise

    def _runs(self, segments: Sequence[Segment]) -> Generator[_Run, None, None]:
        """The frames of every run of the segments, read in order."""
        for segment in segments:
            with closing(self._source(segment)) as source:
                carried = Carried()
                for first, last in self.plan.runs(segment):
                    frames = list(islice(source, last - first))
                    frames, alphas = split_alpha(frames) if self.alpha else (frames, [])
                    yield _Run(segment, first, frames_to_tensor(frames), alphas, carried)

    def _source(self, segment: Segment) -> Generator[Frame, None, None]:
        return read_frames(
            self.info,
            self.index,
            segment.first,
            segment.last,
            alpha=self.alpha,
            repeats=False,
        )

    def _timed(self, runs: Iterator[_Run]) -> Iterator[_Run]:
        while True:
            with self.restorer.timed("decode video"):
                run = next(runs, None)
            if run is None:
                return
            yield run

    def _restore(self, run: _Run, part: _Part) -> None:
        """Restore a run and encode its frames."""
        if self.plan.layout.margin:
            self._restore_strips(run, part)
            return
        segment, pictures = run.segment, len(run.frames)
        before, number = run.first - segment.picture, run.first
        # Frames that repeat a picture are done in proportion: it is the pictures that take the time.
        shown = segment.frames / segment.pictures
        for picture in self.restorer.pictures(
            run.frames,
            self.plan.restored_size[::-1],
            (self.plan.height, self.plan.width),
            first_frame=run.first,
            on_window=lambda share: self.on_frames(
                segment.index, shown * (before + pictures * share)
            ),
            carried=run.carried,
        ):
            alpha = run.alphas[number - run.first] if self.alpha else None
            with self.restorer.timed("encode video"):
                part.put(number, picture, alpha)
            number += 1

    def _restore_strips(self, run: _Run, part: _Part) -> None:
        """As `_restore`, for the one frame of a large picture."""
        size, index = (self.plan.height, self.plan.width), run.segment.index
        alpha = resized_alpha(run.alphas[0], size) if self.alpha else None
        top = 0
        for strip in self.restorer.strips(
            run.frames, size, on_window=lambda share: self.on_frames(index, share)
        ):
            rows = slice(top, top + strip.shape[2])
            with self.restorer.timed("encode video"):
                part.put(run.first, strip[0], None if alpha is None else alpha[rows])
            top = rows.stop

    def _ended(self, part: _Part) -> SegmentFiles:
        with self.restorer.timed("encode video"):
            return part.files()


@dataclass(frozen=True)
class _Run:
    """Pictures that are restored together."""

    segment: Segment
    first: int
    """Absolute number of the first picture."""
    frames: Tensor
    """The first frame of each: `t c h w` float32 in [-1, 1]."""
    alphas: list[Alpha]
    """Of every picture, where there is alpha."""
    carried: Carried
    """State that the segment's runs pass on."""


class _Part:
    """Writes the files of one segment in a thread."""

    def __init__(self, maker: PartMaker, segment: Segment) -> None:
        """Raises OutputError if the part cannot be created."""
        self.segment, self.folder = segment, maker.folder
        self.index, self.truncated = maker.index, maker.plan.layout.published
        self.part = self._path("core", maker.settings.part_suffix)
        self.shown = shown_spans(maker.index.repeats, segment.first, segment.last)
        self.shared: list[Path] = []
        self.waiting: deque[Future[None]] = deque()
        self.ending: Future[None] | None = None
        self.writer = _writer(self.part, maker).__enter__()
        self.pool = ThreadPoolExecutor(1)

    def put(self, number: int, picture: Tensor, alpha: Alpha | None) -> None:
        """Queue a restored picture; waits if too many are queued. Raises what writing raised.

        number: absolute, of the picture. picture: `c h w` float32 in [-1, 1].
        """
        self._wait(most=_WAITING_FRAMES - 1)
        self.waiting.append(self.pool.submit(self._write, number, picture, alpha))

    def end(self) -> None:
        """Signal the end of the frames."""
        self.ending = self.pool.submit(self._end, tuple(self.waiting))
        self.waiting.append(self.ending)

    def is_ended(self) -> bool:
        """Whether `files` would not wait."""
        return self.ending is not None and self.ending.done()

    def files(self) -> SegmentFiles:
        """Wait for the end and return the files. Raises OutputError."""
        self._wait(most=0)
        self.pool.shutdown()
        heads = sum(first < self.segment.core[0] for first, _ in self.shown)
        head, tail = self.shared[:heads], self.shared[heads:]
        return SegmentFiles(self.segment, self.part, tuple(head), tuple(tail))

    def give_up(self, error: BaseException) -> None:
        """Stop writing after an error; removes an incomplete part."""
        # The thread ends first, so that nothing is written to an abandoned file.
        self.pool.shutdown(cancel_futures=True)
        if self.ending is None or self.ending.cancelled():
            self.writer.__exit__(type(error), error, error.__traceback__)

    def _end(self, written: tuple[Future[None], ...]) -> None:
        try:
            for each in written:
                each.result()
        except BaseException as error:
            self.writer.__exit__(type(error), error, error.__traceback__)
            raise
        self.writer.__exit__(None, None, None)

    def _write(self, number: int, picture: Tensor, alpha: Alpha | None) -> None:
        (frame,) = tensor_to_frames(picture[None], truncated=self.truncated)
        if alpha is not None:
            frame = join_alpha(frame, alpha)
        frames = self.shown[number - self.segment.picture]
        if self.segment.core[0] <= frames[0] < self.segment.core[1]:
            self.writer.write(frame, *times_of(self.index, frames))
            return
        path = self._path(f"{frames[0]:08d}", ".raw")
        # `np.save` would hide why a write failed.
        write_whole(path, np.ascontiguousarray(frame).data, Right.FORM)
        self.shared.append(path)

    def _wait(self, *, most: int) -> None:
        """Wait until at most `most` tasks are pending. Raises what they raised."""
        while len(self.waiting) > most:
            self.waiting.popleft().result()

    def _path(self, what: str, suffix: str) -> Path:
        return self.folder / f"{self.segment.index:06d}-{what}{suffix}"


def _writer(part: Path, maker: PartMaker) -> PartWriter | StillPart:
    if maker.settings.container == STILL:
        return StillPart(part, maker.settings)
    return PartWriter(part, maker.settings, maker.info, maker.plan.width, maker.plan.height)


class Ahead(Generic[Item]):
    """Iterates over a generator whose next item is computed by another thread meanwhile, one at a time.

    An error of the generator is raised in place of its item. Closing waits for the current item,
    but only a moment for a file that is being read.
    """

    def __init__(self, source: Generator[Item, None, None]) -> None:
        self._source = source
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1)
        self._next = self._pool.submit(self._make)

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        made = self._next.result()
        if not made:
            raise StopIteration
        self._next = self._pool.submit(self._make)
        return made[0]

    def close(self) -> None:
        """End the thread, and the generator."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._source.close()

    def _make(self) -> tuple[Item, ...]:
        """The next item, or None."""
        with stopping_with(self._stop):
            for item in self._source:
                return (item,)
        return ()
