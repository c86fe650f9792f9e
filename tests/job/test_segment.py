"""What restoring a segment leaves in the work directory, and in which order the parts come out."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from starvsr.errors import OutputError, WorkDirError
from starvsr.job.journal import Journal
from starvsr.job.kept import KeptParts
from starvsr.job.run import Job, plan_video, upscale_video
from starvsr.job.seam import SegmentFiles
from starvsr.job.segment import PartMaker
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.writer import PartWriter
from starvsr.options import (
    EncodeOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.plan.segments import Segment
from starvsr.restore.levels import Frame, frames_to_tensor, tensor_to_frames
from starvsr.restore.restorer import Restorer
from starvsr.types import Progress, SegmentProgress
from starvsr.zoo.load import load_model
from tests.media.clips import Clip, make

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(tmp_path: Path, toy_path: Path) -> Job:
    """Two segments of 6 and 7 frames that share 2."""
    return plan_video(
        make(tmp_path / "in.mkv", Clip(frames=11, width=16, height=12)),
        tmp_path / "out.mkv",
        UpscaleOptions(
            model=str(toy_path),
            size=SizeOptions(scale=1),
            sampling=SamplingOptions(steps=2, cfg=1.0),
            windows=WindowOptions(segment_frames=8),
            encode=EncodeOptions(codec="ffv1", pix_fmt="gbrp16le"),
        ),
    )


class Making:
    """One process that restores and records."""

    def __init__(self, job: Job, work_dir: Path) -> None:
        work_dir.mkdir(exist_ok=True)
        self.reports: list[Progress] = []
        self.journal = Journal(work_dir)
        self.journal.begin({}, {})
        segments = job.plan.segments
        self.kept = KeptParts(
            job.info, job.index, segments, job.settings, self.journal, self.reports.append
        )
        model = load_model(job.options.model, device="cpu")
        self.maker = PartMaker(
            job.info,
            job.index,
            job.plan,
            job.settings,
            Restorer(model, sampling=job.options.sampling),
            work_dir,
            self.kept.on_frames,
        )

    def restore(self, segment: Segment) -> SegmentFiles:
        files = make_one(self.maker, segment)
        self.kept.take(files, self.maker.restorer.seconds, None)
        return files


def make_one(maker: PartMaker, segment: Segment) -> SegmentFiles:
    (files,) = maker.make_each([segment])
    return files


def restored(job: Job, first: int, last: int) -> list[Frame]:
    restorer = Restorer(load_model(job.options.model, device="cpu"), sampling=job.options.sampling)
    frames = frames_to_tensor(list(read_frames(job.info, job.index, first, last)))
    size = (job.plan.height, job.plan.width)
    return [
        frame
        for run in restorer.restore(frames, size, first_frame=first)
        for frame in tensor_to_frames(run)
    ]


def part_frames(path: Path) -> list[Frame]:
    info = probe(path)
    index = build_index(info, scene_detect=False)
    return list(read_frames(info, index, 0, index.frames))


def raw(path: Path, like: Frame) -> Frame:
    return np.fromfile(path, np.uint16).reshape(like.shape)


def test_a_segment_leaves_its_core_encoded_and_its_shared_frames_raw(
    tmp_path: Path, job: Job
) -> None:
    first, second = job.plan.segments
    assert (first.first, first.last, second.first, second.last) == (0, 6, 4, 11)
    making = Making(job, tmp_path / "work")
    files = make_one(making.maker, first)
    wanted = restored(job, 0, 6)
    assert files.segment == first
    assert files.head == ()
    assert len(files.tail) == 2
    assert np.array_equal(part_frames(files.part), wanted[:4])
    for path, frame in zip(files.tail, wanted[4:], strict=True):
        assert np.array_equal(raw(path, frame), frame)
    journal = tmp_path / "work" / "journal.jsonl"
    assert set((tmp_path / "work").iterdir()) == {journal, files.part, *files.tail}

    files = make_one(making.maker, second)
    wanted = restored(job, 4, 11)
    assert len(files.head) == 2
    assert files.tail == ()
    assert np.array_equal(part_frames(files.part), wanted[2:])
    for path, frame in zip(files.head, wanted[:2], strict=True):
        assert np.array_equal(raw(path, frame), frame)


def test_segments_one_after_the_other_are_those_made_alone(tmp_path: Path, job: Job) -> None:
    alone, together = Making(job, tmp_path / "alone"), Making(job, tmp_path / "together")
    wanted = [make_one(alone.maker, segment) for segment in job.plan.segments]
    made = list(together.maker.make_each(job.plan.segments))
    assert [files.segment for files in made] == list(job.plan.segments)
    for ours, theirs in zip(made, wanted, strict=True):
        # Matroska's own numbers are drawn anew for each file.
        assert np.array_equal(part_frames(ours.part), part_frames(theirs.part))
        shared = zip((*ours.head, *ours.tail), (*theirs.head, *theirs.tail), strict=True)
        assert all(a.read_bytes() == b.read_bytes() for a, b in shared)


@pytest.mark.parametrize(("chunk_frames", "overlaps"), [(2, True), (8, False)])
def test_the_end_of_a_segment_is_encoded_while_the_next_is_restored(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch, chunk_frames: int, overlaps: bool
) -> None:
    # Where the next segment is one run, which may take hours, the one before it is recorded first.
    options = dataclasses.replace(job.options.windows, chunk_frames=chunk_frames, chunk_overlap=0)
    job = plan_video(job.source, job.target, dataclasses.replace(job.options, windows=options))
    making, begun, finish = Making(job, tmp_path / "work"), threading.Event(), PartWriter._finish
    waited: list[bool] = []

    def on_frames(index: int, frames: float) -> None:
        if index == 1:
            begun.set()

    def slow(writer: PartWriter) -> None:
        if not waited:
            waited.append(begun.wait(30 if overlaps else 0.5))
        finish(writer)

    making.maker.on_frames = on_frames
    monkeypatch.setattr(PartWriter, "_finish", slow)
    assert len(list(making.maker.make_each(job.plan.segments))) == 2
    assert waited == [overlaps]


@pytest.mark.parametrize("frame", [0, 3, 4, 8])
def test_an_encoder_that_fails_leaves_no_part_that_is_not_whole(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch, frame: int
) -> None:
    making, write, threads = (
        Making(job, tmp_path / "work"),
        PartWriter.write,
        threading.active_count(),
    )
    written = iter(range(20))

    def failing(writer: PartWriter, *arguments: Any) -> None:
        if next(written) == frame:
            raise OutputError("the disk is full")
        write(writer, *arguments)

    monkeypatch.setattr(PartWriter, "write", failing)
    made: list[SegmentFiles] = []
    with pytest.raises(OutputError, match="the disk is full"):
        made.extend(making.maker.make_each(job.plan.segments))
    assert threading.active_count() == threads
    parts = {path for path in (tmp_path / "work").iterdir() if path.suffix == ".mkv"}
    assert parts == ({tmp_path / "work" / "000000-core.mkv"} if frame >= 4 else set())


def test_segments_that_nobody_waits_for_any_more_are_given_up(tmp_path: Path, job: Job) -> None:
    making, threads = Making(job, tmp_path / "work"), threading.active_count()
    results = making.maker.make_each(job.plan.segments)
    assert next(results).segment == job.plan.segments[0]
    results.close()
    assert threading.active_count() == threads
    assert not (tmp_path / "work" / "000001-core.mkv").exists()


def test_a_seam_is_the_crossfade_of_what_two_segments_share(tmp_path: Path, job: Job) -> None:
    making = Making(job, tmp_path / "work")
    before, behind = (make_one(making.maker, segment) for segment in job.plan.segments)
    old = [
        raw(path, restored_frame)
        for path, restored_frame in zip(before.tail, restored(job, 4, 6), strict=True)
    ]
    new = [raw(path, old[0]) for path in behind.head]
    for files in (behind, before):
        making.kept.take(files, {}, None)
    parts, end = making.kept.parts()
    assert end == 11
    assert [parts[0], parts[2]] == [before.part, behind.part]
    assert len(parts) == 3
    seam = part_frames(parts[1])
    assert len(seam) == 2
    for place, share in enumerate((1 / 3, 2 / 3)):
        assert not np.array_equal(old[place], new[place])
        wanted = (1 - share) * old[place].astype(float) + share * new[place].astype(float)
        assert np.abs(seam[place].astype(float) - wanted).max() <= 1
    # The raw frames, which are large, are gone as soon as they are not needed.
    assert set((tmp_path / "work").iterdir()) == {tmp_path / "work" / "journal.jsonl", *parts}


def test_shared_frames_that_do_not_fit_are_refused(tmp_path: Path, job: Job) -> None:
    """A journal may say that they were left so."""
    making = Making(job, tmp_path / "work")
    first, second = job.plan.segments
    before = make_one(making.maker, first)
    making.kept.take(before, {}, None)
    behind = make_one(making.maker, second)
    behind.head[0].write_bytes(behind.head[0].read_bytes()[:-1])
    with pytest.raises(WorkDirError, match=r"\.raw is not a frame of this job: give --no-resume"):
        making.kept.take(behind, {}, None)
    steps = making.journal.steps
    making.journal.steps = {**steps, "tail-0": steps["tail-0"][:1]}
    with pytest.raises(WorkDirError, match="has 1 shared frames of segment 1, not 2"):
        KeptParts(job.info, job.index, job.plan.segments, job.settings, making.journal, print)
    behind.head[0].unlink()
    os.mkfifo(behind.head[0])
    with pytest.raises(OutputError, match="cannot be read: it is not a regular file"):
        making.kept.make_seams()


def test_parts_end_where_a_segment_is_missing(tmp_path: Path, job: Job) -> None:
    making = Making(job, tmp_path / "work")
    assert making.kept.parts() == ([], 0)
    first, second = job.plan.segments
    behind = making.restore(second)
    assert making.kept.parts() == ([], 0)
    assert making.kept.missing() == [first]
    before = making.restore(first)
    seam = tmp_path / "work" / "000001-seam.mkv"
    assert making.kept.parts() == ([before.part, seam, behind.part], 11)
    assert making.kept.missing() == []


def test_segments_without_shared_frames_have_no_seam(tmp_path: Path, job: Job) -> None:
    segments = tuple(
        dataclasses.replace(segment, first=first, last=last, head=0, tail=0)
        for segment, (first, last) in zip(job.plan.segments, ((0, 5), (5, 11)), strict=True)
    )
    plan = dataclasses.replace(job.plan, segments=segments)
    making = Making(dataclasses.replace(job, plan=plan), tmp_path / "work")
    files = [making.restore(segment) for segment in segments]
    assert all(file.head == file.tail == () for file in files)
    assert making.kept.parts() == ([file.part for file in files], 11)
    assert [len(part_frames(file.part)) for file in files] == [5, 6]


def test_progress_counts_the_frames_of_the_output(tmp_path: Path, job: Job) -> None:
    making = Making(job, tmp_path / "work")
    reports = making.reports
    making.restore(job.plan.segments[0])
    # 6 of 13 restored frames, as a share of the 11 of the output.
    assert reports[-1].done == pytest.approx(6 / 13 * 11)
    assert reports[-1].segment == SegmentProgress(1, 2, 6, 6)
    making.restore(job.plan.segments[1])
    assert reports[-1].done == pytest.approx(11)
    assert {report.total for report in reports} == {11}
    assert {report.stage for report in reports} == {"restore"}
    assert set(making.kept.seconds) >= {"decode video", "network", "encode video"}
    again = Making(job, tmp_path / "again")
    again.journal.steps = making.journal.steps
    again.journal.folder = making.journal.folder
    kept = KeptParts(
        job.info,
        job.index,
        job.plan.segments,
        job.settings,
        again.journal,
        again.reports.append,
    )
    kept.report()
    assert again.reports[-1].done == pytest.approx(11)


def test_alpha_goes_beside_the_network_and_through_seams(tmp_path: Path, toy_path: Path) -> None:
    def fill(frame: av.VideoFrame, number: int) -> None:
        frame.planes[0].update(np.full((12, frame.planes[0].line_size), 9, np.uint8).tobytes())
        ramp = np.tile(np.arange(frame.planes[3].line_size) * 3 + number, (12, 1))
        frame.planes[3].update(ramp.astype(np.uint8).tobytes())

    clip = Clip(frames=11, width=16, height=12, codec="ffv1", pix_fmt="yuva444p", fill=fill)
    options = UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=1),
        sampling=SamplingOptions(steps=2, cfg=1.0),
        windows=WindowOptions(segment_frames=8),
        encode=EncodeOptions(codec="ffv1"),
    )
    target = tmp_path / "out.mkv"
    upscale_video(make(tmp_path / "in.mkv", clip), target, options)
    info = probe(target)
    assert info.pix_fmt == "yuva444p"
    index = build_index(info, scene_detect=False)
    for number, frame in enumerate(read_frames(info, index, 0, 11, alpha=True)):
        assert np.array_equal(frame[..., 3] // 257, np.tile(np.arange(16) * 3 + number, (12, 1)))
