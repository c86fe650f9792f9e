"""The work of one segment and of one seam: frames read, restored, encoded as a part file.

shot    |---------------------------------------------|
segment |=== core ===|~~shared~~|
                     |~~shared~~|=== core ===|          both segments restore the shared frames
parts   [    core    ][   seam  ][    core   ]          the seam is their crossfade
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from starvsr.journal import Journal
from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import complete_or_absent
from starvsr.media.pixfmt import layout_of
from starvsr.media.reader import read_frames
from starvsr.media.writer import PartWriter
from starvsr.plan import Plan, Segment
from starvsr.restore import Frame, Restorer, frames_to_tensor, tensor_to_frames
from starvsr.transparency import join_alpha, split_alpha
from starvsr.types import Progress, ProgressCallback, SegmentProgress, VideoIndex, VideoInfo
from starvsr.velocity import Carried

logger = logging.getLogger(__name__)

WINDOWS_NOTE = "windows"
"""Under which the journal has the windows that memory was found to suffice for."""

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
    """Makes the parts of one job in a work directory."""

    def __init__(
        self,
        info: VideoInfo,
        index: VideoIndex,
        plan: Plan,
        settings: EncoderSettings,
        restorer: Restorer,
        journal: Journal,
        progress: ProgressCallback,
    ) -> None:
        self.info, self.index, self.plan, self.settings = info, index, plan, settings
        self.restorer, self.journal, self.progress = restorer, journal, progress
        self.seconds = restorer.seconds
        self.alpha = settings.alpha and layout_of(info.pix_fmt).alpha
        """Whether frames have a fourth channel on their way."""
        self.done = 0.0
        self.to_do = sum(segment.frames for segment in plan.segments)

    def restore(self, segment: Segment) -> SegmentFiles:
        """Restore one segment: its core encoded, its shared frames raw. One that is finished is taken as it is.

        Raises OutputError, InputError.
        """
        files = self.kept(segment)
        if files is not None:
            return files
        began = time.monotonic()
        files = self._make(segment)
        logger.debug(
            "segment %d of %d, frames %d to %d: restored in %.1f s",
            segment.index + 1,
            len(self.plan.segments),
            segment.first,
            segment.last - 1,
            time.monotonic() - began,
        )
        self._note_windows()
        names = _step_names(segment.index)
        self.journal.record(
            **dict(zip(names, ((files.part,), files.head, files.tail), strict=True))
        )
        return files

    def count_kept(self) -> int:
        """The number of segments that are finished, which count as done from now on."""
        kept = [segment for segment in self.plan.segments if self.kept(segment) is not None]
        self.done = float(sum(segment.frames for segment in kept))
        self._report(0)
        return len(kept)

    def kept(self, segment: Segment) -> SegmentFiles | None:
        """What a segment that is finished left; None where it is not, or a file is damaged.

        Of frames that two segments share nothing is needed where their seam is finished.
        """
        core, head, tail = _step_names(segment.index)
        part = self.journal.finished(core)
        shared = [
            () if self.journal.finished(_seam_name(behind)) else self.journal.finished(step)
            for step, behind in ((head, segment.index), (tail, segment.index + 1))
        ]
        if part is None or shared[0] is None or shared[1] is None:
            return None
        return SegmentFiles(segment, part[0], shared[0], shared[1])

    def _note_windows(self) -> None:
        """Windows that there was no memory for are not tried again by whoever goes on."""
        layout = self.restorer.layout
        if layout is not None and layout.windows_json() != self.journal.notes.get(
            WINDOWS_NOTE, self.plan.layout.windows_json()
        ):
            self.journal.note(WINDOWS_NOTE, layout.windows_json())

    def _make(self, segment: Segment) -> SegmentFiles:
        part = self._path(segment.index, "core", self.settings.part_suffix)
        shared: dict[int, Path] = {}
        # The pool ends before the writer, so nothing is written to a part that is being finished or given up.
        with self._writer(part) as writer, ThreadPoolExecutor(1) as pool:
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

    def in_order(self, finished: Iterable[SegmentFiles]) -> Iterator[Path]:
        """The part files of the whole job in order of time, from segments in order."""
        before: SegmentFiles | None = None
        for files in finished:
            if before is not None and files.segment.head:
                yield self._seam(before, files)
            yield files.part
            before = files

    def _seam(self, before: SegmentFiles, behind: SegmentFiles) -> Path:
        """Crossfade the frames that two segments share into a part; their raw files are removed."""
        step = _seam_name(behind.segment.index)
        kept = self.journal.finished(step)
        if kept is not None:
            return kept[0]
        part = self._path(behind.segment.index, "seam", self.settings.part_suffix)
        count = len(behind.head)
        with self._writer(part) as writer:
            for place, (old, new) in enumerate(zip(before.tail, behind.head, strict=True)):
                share = (place + 1) / (count + 1)
                mixed = (1 - share) * self._raw(old).astype(np.float32) + share * self._raw(new)
                frame = (mixed + 0.5).astype(np.uint16)
                self._encode(writer, frame, behind.segment.first + place)
        self.journal.record(**{step: (part,)})
        for raw in (*before.tail, *behind.head):
            raw.unlink()
        return part

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
                self.done += last - first

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
        def report(share: float) -> None:
            frames = len(decoded) * share
            done, count = first - segment.first + frames, len(self.plan.segments)
            self._report(frames, SegmentProgress(segment.index + 1, count, done, segment.frames))

        return self.restorer.restore(
            decoded,
            (self.plan.height, self.plan.width),
            first_frame=first,
            on_window=report,
            carried=carried,
        )

    def _writer(self, path: Path) -> PartWriter:
        return PartWriter(path, self.settings, self.info, self.plan.width, self.plan.height)

    def _wait(self, waiting: deque[Future[None]], *, most: int) -> None:
        """Wait until at most `most` frames are not yet encoded. Raises what encoding raised."""
        with self.restorer.timed("encode video"):
            while len(waiting) > most:
                waiting.popleft().result()

    def _encode(self, writer: PartWriter, frame: Frame, number: int) -> None:
        with self.restorer.timed("encode video"):
            writer.write(frame, self.index.pts[number], self.index.durations[number])

    def _raw(self, path: Path) -> Frame:
        return np.fromfile(path, np.uint16).reshape(
            self.plan.height, self.plan.width, 4 if self.alpha else 3
        )

    def _path(self, index: int, what: str, suffix: str) -> Path:
        return self.journal.folder / f"{index:06d}-{what}{suffix}"

    def _report(self, frames: float, segment: SegmentProgress | None = None) -> None:
        # Shared frames are restored twice; people count the output's.
        share = (self.done + frames) / self.to_do
        total = self.plan.frames
        self.progress(
            Progress("restore", share * total, total, segment=segment, seconds=self.seconds)
        )


def _step_names(index: int) -> tuple[str, str, str]:
    """Steps of the journal that are a segment: its core, and what it shares with the one before and behind."""
    return f"core-{index}", f"head-{index}", f"tail-{index}"


def _seam_name(index: int) -> str:
    """The step that is the seam in front of a segment."""
    return f"seam-{index}"
