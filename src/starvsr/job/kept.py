"""The finished parts of one job: those of earlier runs, new ones as they come, all in order at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from starvsr.errors import WorkDirError
from starvsr.job.journal import Journal
from starvsr.job.records import WINDOWS_NOTE, JobFacts
from starvsr.job.seam import SegmentFiles, make_seam
from starvsr.media.encoder import EncoderSettings
from starvsr.media.removal import Right, remove_file
from starvsr.options import UpscaleOptions
from starvsr.plan.pictures import shown_spans
from starvsr.plan.plan import Plan
from starvsr.plan.segments import Segment
from starvsr.types import Progress, ProgressCallback, SegmentProgress, VideoIndex, VideoInfo


def job_facts(
    source: Path,
    target: Path,
    settings: EncoderSettings,
    options: UpscaleOptions,
    plan: Plan,
    provenance: str,
) -> dict[str, Any]:
    """What joining the parts needs without planning the job again, as plain data: `JobFacts`."""
    fps = options.input.fps
    facts = JobFacts(
        source=str(source.absolute()),
        target=str(target.absolute()),
        settings=settings,
        streams=options.streams,
        provenance=provenance,
        fps=None if fps is None else str(fps),
        look=options.look,
        video_stream=options.input.video_stream,
        segments=tuple(dataclasses.astuple(segment) for segment in plan.segments),
    )
    return dataclasses.asdict(facts)


class KeptParts:
    """A job's finished parts, in its journal and on disk; only the process that owns the journal has one."""

    def __init__(
        self,
        info: VideoInfo,
        index: VideoIndex,
        segments: Sequence[Segment],
        settings: EncoderSettings,
        journal: Journal,
        progress: ProgressCallback,
        *,
        scratch: Path | None = None,
    ) -> None:
        """segments: all of the job, in order. progress: receives the restored frames. scratch: where seams
        that are lacking are made without being recorded, so that the work directory stays as it is.

        Raises OutputError where a part cannot be read, WorkDirError where one does not fit its segment.
        """
        self.scratch = scratch
        self.info, self.index, self.segments, self.settings = info, index, segments, settings
        self.journal, self.progress = journal, progress
        self.frames = segments[-1].last - segments[0].first
        self.seconds: dict[str, float] = {}
        """Time of each part of the work so far, of all workers together."""
        self.files = {
            segment.index: files
            for segment in segments
            if (files := self._finished(segment)) is not None
        }
        self.seams: dict[int, Path] = {}
        """By the index of the segment after the seam."""
        self._restored = {index: float(segments[index].frames) for index in self.files}
        self._done = sum(self._restored.values())
        self._to_do = sum(segment.frames for segment in segments)

    def missing(self) -> list[Segment]:
        """The segments to restore."""
        return [segment for segment in self.segments if segment.index not in self.files]

    def report(self, segment: SegmentProgress | None = None) -> None:
        """Report the progress of the job and of the current segment."""
        # Shared frames are restored twice; the report counts the output's.
        done = self._done / self._to_do * self.frames
        self.progress(Progress("restore", done, self.frames, segment=segment, seconds=self.seconds))

    def on_frames(self, index: int, frames: float) -> None:
        """Called with the number of a segment's restored frames."""
        self._done += frames - self._restored.get(index, 0.0)
        self._restored[index] = frames
        self.report(
            SegmentProgress(index + 1, len(self.segments), frames, self.segments[index].frames)
        )

    def take(
        self, files: SegmentFiles, seconds: dict[str, float], windows: dict[str, Any] | None
    ) -> None:
        """Record a segment that was restored; what it took; and windows that memory forced while it was.

        Raises OutputError.
        """
        if windows is not None:
            # A resumed job does not try windows again that ran out of memory.
            self.journal.note(WINDOWS_NOTE, windows)
        index = files.segment.index
        steps = zip(_step_names(index), ((files.part,), files.head, files.tail), strict=True)
        self.journal.record(**dict(steps))
        self.files[index] = files
        for name, spent in seconds.items():
            self.spent(name, spent)
        self.on_frames(index, float(files.segment.frames))
        self.make_seams(index, index + 1)

    def make_seams(self, *behind: int) -> None:
        """Crossfade what neighbours share that are both there; their raw files are removed. Raises OutputError.

        behind: indices of segments, in front of which seams may be lacking; without any, of all.
        """
        for index in behind or range(len(self.segments)):
            before, files = self.files.get(index - 1), self.files.get(index)
            if before and files and files.segment.head and index not in self.seams:
                self.seams[index] = self._seam(before, files)

    def parts(self) -> tuple[list[Path], int]:
        """The parts from the beginning up to what is missing, in order, and the exclusive end of their frames."""
        found: list[Path] = []
        end = self.segments[0].first
        for segment in self.segments:
            files = self.files.get(segment.index)
            if files is None:
                break
            if segment.head:
                found.append(self.seams[segment.index])
            found.append(files.part)
            end = segment.core[1]
        return found, end

    def frames_after(self, end: int) -> int:
        """The number of finished frames in segments from frame `end` on."""
        cores = (files.segment.core for files in self.files.values())
        return sum(last - first for first, last in cores if first >= end)

    def _finished(self, segment: Segment) -> SegmentFiles | None:
        """The files of a finished segment; None if it is unfinished, or a file is damaged.

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
        first, last = segment.core
        for files, frames in zip(
            shared, ((segment.first, first), (last, segment.last)), strict=True
        ):
            pictures = len(shown_spans(self.index.repeats, *frames))
            # A finished seam has none.
            if files and len(files) != pictures:
                raise WorkDirError(
                    f"{self.journal.folder} has {len(files)} shared frames of segment {segment.index + 1}, not "
                    f"{pictures}: give --no-resume to start over"
                )
        return SegmentFiles(segment, part[0], shared[0], shared[1])

    def _seam(self, before: SegmentFiles, behind: SegmentFiles) -> Path:
        step = _seam_name(behind.segment.index)
        kept = self.journal.finished(step)
        if kept is not None:
            return kept[0]
        began = perf_counter()
        name = f"{behind.segment.index:06d}-seam{self.settings.part_suffix}"
        part = (self.scratch or self.journal.folder) / name
        make_seam(before, behind, part, self.info, self.index, self.settings)
        if self.scratch is not None:
            return part
        self.journal.record(**{step: (part,)})
        with suppress(OSError):
            for raw in (*before.tail, *behind.head):
                remove_file(raw, Right.RECORDED)
        self.spent("encode video", perf_counter() - began)
        return part

    def spent(self, name: str, seconds: float) -> None:
        """Add to a part's time."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def _step_names(index: int) -> tuple[str, str, str]:
    """Journal steps of a segment: its core, and the frames shared with the previous and next one."""
    return f"core-{index}", f"head-{index}", f"tail-{index}"


def _seam_name(index: int) -> str:
    """The journal step of the seam before a segment."""
    return f"seam-{index}"
