"""Jobs whose frames repeat: every picture is restored once and shown as often, and as long, as before."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from starvsr.errors import StarvsrError, WorkDirError
from starvsr.job.executor import Executor, InTurn, Made, OnLoad, Work
from starvsr.job.finish import finish_job
from starvsr.job.records import sealed
from starvsr.job.run import plan_video, run_job, upscale_video
from starvsr.job.segment import OnFrames
from starvsr.media.graph import bytes_of
from starvsr.models.unet import StarUNet
from starvsr.options import (
    EncodeOptions,
    LookOptions,
    RangeOptions,
    Repeats,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
    WorkerOptions,
)
from starvsr.plan.segments import Segment
from starvsr.restore.restorer import Restorer
from starvsr.types import Progress
from tests.media.clips import Clip, make, showing

pytestmark = pytest.mark.usefixtures("one_thread")

SHOWN = (0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 5, 6, 6, 6, 7, 8, 8, 9, 10, 10)
ONCE = tuple(dict.fromkeys(SHOWN))


@pytest.fixture
def options(toy_path: Path) -> UpscaleOptions:
    """Segments of at most 6 pictures, which share two."""
    return UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        sampling=SamplingOptions(steps=1, cfg=1.0),
        encode=EncodeOptions(codec="ffv1"),
        windows=WindowOptions(segment_frames=6),
    )


def clip_of(path: Path, shown: Sequence[int], pts: Sequence[int] | None = None) -> Path:
    clip = Clip(frames=len(shown), width=16, height=12, codec="ffv1", pts=pts, fill=showing(*shown))
    return make(path, dataclasses.replace(clip, time_base=Fraction(1, 1000)) if pts else clip)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return clip_of(tmp_path / "clip.mkv", SHOWN)


def how(options: UpscaleOptions, repeats: Repeats) -> UpscaleOptions:
    return dataclasses.replace(options, look=LookOptions(repeats=repeats))


def frames_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [
            b"".join(bytes_of(plane)[:, : plane.width].tobytes() for plane in frame.planes)
            for frame in container.decode(video=0)
        ]


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        assert base is not None
        return [(frame.pts or 0) * base for frame in container.decode(video=0)]


def packets(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux() if packet.size]


@pytest.mark.parametrize("segment_frames", [6, None])
def test_pictures_are_those_of_the_film_without_repeats(
    tmp_path: Path, clip: Path, options: UpscaleOptions, segment_frames: int | None
) -> None:
    """Within segments and in the seams between them."""
    windows = WindowOptions(segment_frames=segment_frames)
    options = dataclasses.replace(options, windows=windows)
    job = plan_video(clip, tmp_path / "held.mkv", options)
    assert (job.plan.frames, job.plan.pictures) == (21, 11)
    assert len(job.plan.segments) == (3 if segment_frames else 1)
    result = run_job(job)
    assert result.frames == 21
    upscale_video(clip_of(tmp_path / "once.mkv", ONCE), tmp_path / "bare.mkv", options)
    bare = frames_of(tmp_path / "bare.mkv")
    assert len(bare) == len(set(bare)) == 11
    assert frames_of(tmp_path / "held.mkv") == [bare[number] for number in SHOWN]
    assert times_of(tmp_path / "held.mkv") == times_of(clip)


def test_every_picture_is_restored_once(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = StarUNet.forward

    def counting(self: StarUNet, x: Any, *rest: Any, **more: Any) -> Any:
        seen.append(x.shape[2])
        return forward(self, x, *rest, **more)

    monkeypatch.setattr(StarUNet, "forward", counting)
    job = plan_video(clip, tmp_path / "out.mkv", options)
    run_job(job)
    assert len(seen) == job.plan.network_calls
    assert sum(seen) == sum(segment.pictures for segment in job.plan.segments) == 15


def test_times_of_a_variable_rate_stay(tmp_path: Path, options: UpscaleOptions) -> None:
    pts = [0, 40, 47, 500, 1001, 1010, 1011, 4000, 4100, 4101]
    shown = (0, 0, 1, 1, 1, 2, 3, 3, 4, 4)
    clip = clip_of(tmp_path / "in.mkv", shown, pts)
    upscale_video(clip, tmp_path / "out.mkv", options)
    made = frames_of(tmp_path / "out.mkv")
    assert [made.index(frame) for frame in made] == [shown.index(number) for number in shown]
    assert times_of(tmp_path / "out.mkv") == [Fraction(ticks, 1000) for ticks in pts]


def test_off_restores_every_frame(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    """As if none were like another: the frames of a clip that has no repeats are the same either way."""
    off = how(options, "off")
    upscale_video(clip, tmp_path / "off.mkv", off)
    assert plan_video(clip, tmp_path / "x.mkv", off).plan.pictures == 21
    made = frames_of(tmp_path / "off.mkv")
    # Noise is drawn by frame, so what is held shimmers.
    assert len(set(made)) == 21
    bare = clip_of(tmp_path / "once.mkv", ONCE)
    for repeats in ("off", "exact", "near"):
        upscale_video(bare, tmp_path / f"{repeats}.once.mkv", how(options, repeats))
    first, *others = (packets(path) for path in sorted(tmp_path.glob("*.once.mkv")))
    assert others == [first, first]


def test_a_range_that_begins_within_a_picture(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    span = RangeOptions(start_s=7 / 25, frames=8)
    options = dataclasses.replace(options, range=span, windows=WindowOptions())
    job = plan_video(clip, tmp_path / "part.mkv", options)
    assert (job.plan.first, job.plan.frames, job.plan.repeats) == (7, 8, 4)
    run_job(job)
    made = frames_of(tmp_path / "part.mkv")
    assert [made.index(frame) for frame in made] == [0, 0, 0, 3, 4, 5, 5, 5]


def test_workers_agree(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    upscale_video(clip, tmp_path / "one.mkv", options)
    two = dataclasses.replace(options, workers=WorkerOptions(count=2))
    upscale_video(clip, tmp_path / "two.mkv", two)
    assert packets(tmp_path / "one.mkv") == packets(tmp_path / "two.mkv")


def only(number: int) -> Executor:
    """What restores some of the segments and fails."""

    def executor(
        work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
    ) -> Any:
        yield from itertools.islice(InTurn()(work, segments, on_load, on_frames), number)
        raise KeyboardInterrupt

    return executor


@pytest.mark.parametrize("finished", [1, 2])
def test_a_broken_off_job_resumes_and_finishes(
    tmp_path: Path, clip: Path, options: UpscaleOptions, finished: int
) -> None:
    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    upscale_video(clip, whole, options)
    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, target, options, executor=only(finished))
    partial = finish_job(tmp_path / "out.mkv.starvsr")
    made, wanted = frames_of(partial.target), frames_of(whole)
    # The raw frames that segments share are one for every picture.
    assert 0 < len(made) == partial.frames < 21
    assert made == wanted[: len(made)]
    upscale_video(clip, target, options)
    assert packets(target) == packets(whole)


def test_holds_of_two_shots_finish_as_they_were_begun(
    tmp_path: Path, options: UpscaleOptions
) -> None:
    """Too few in each shot to be held, and enough of both together."""

    def fill(frame: av.VideoFrame, number: int) -> None:
        drawing = number // 2
        for plane in frame.planes:
            level = 40 + 20 * (drawing % 2) + (120 if number >= 8 else 0)
            plane.update(np.full(plane.buffer_size, level + number % 2, np.uint8).tobytes())

    clip = Clip(frames=16, width=16, height=12, codec="ffv1", pix_fmt="yuv444p", fill=fill)
    path, target = make(tmp_path / "in.mkv", clip), tmp_path / "out.mkv"
    options = dataclasses.replace(how(options, "near"), windows=WindowOptions())
    plan = plan_video(path, target, options).plan
    assert [segment.first for segment in plan.segments] == [0, 8]
    assert plan.repeats == 0
    with pytest.raises(KeyboardInterrupt):
        upscale_video(path, target, options, executor=only(1))
    assert finish_job(tmp_path / "out.mkv.starvsr").frames == 8


@pytest.mark.parametrize(("place", "number"), [(6, 3), (6, 1 << 60), (1, 1 << 60)])
def test_a_journal_whose_pictures_are_not_those_of_the_input_is_refused(
    tmp_path: Path, clip: Path, options: UpscaleOptions, place: int, number: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, tmp_path / "out.mkv", options, executor=only(1))
    journal = tmp_path / "out.mkv.starvsr" / "journal.jsonl"
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    content = json.loads(first)
    del content["sha256"]
    content["notes"]["job"]["segments"][1][place] = number
    journal.write_bytes(b"".join([sealed(content), *rest]))
    with pytest.raises(WorkDirError, match="are not consecutive frames"):
        finish_job(journal.parent)


def test_the_setting_is_part_of_the_job(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, target, options, executor=only(1))
    with pytest.raises(StarvsrError, match="--repeats was exact before and is off now"):
        upscale_video(clip, target, how(options, "off"))


def test_progress_counts_frames(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    reports: list[Progress] = []
    upscale_video(clip, tmp_path / "out.mkv", options, progress=reports.append)
    restored = [report for report in reports if report.stage == "restore"]
    assert {report.total for report in restored} == {21}
    done = [report.done for report in restored]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(21)


def test_nano_remembers_pictures_once(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    """Its memory is that of the film without repeats."""
    options = dataclasses.replace(
        options, model="nano", sampling=SamplingOptions(), windows=WindowOptions(chunk_frames=3)
    )
    upscale_video(clip, tmp_path / "held.mkv", options)
    upscale_video(clip_of(tmp_path / "once.mkv", ONCE), tmp_path / "bare.mkv", options)
    bare = frames_of(tmp_path / "bare.mkv")
    assert frames_of(tmp_path / "held.mkv") == [bare[number] for number in SHOWN]


def test_alpha_repeats_with_its_picture(tmp_path: Path, options: UpscaleOptions) -> None:
    def fill(frame: av.VideoFrame, number: int) -> None:
        for place, plane in enumerate(frame.planes):
            level = 40 + 10 * (number // 2) + (30 if place == 3 and number == 3 else 0)
            plane.update(np.full(plane.buffer_size, level, np.uint8).tobytes())

    clip = Clip(frames=6, width=16, height=12, codec="ffv1", pix_fmt="yuva444p", fill=fill)
    path = make(tmp_path / "in.mkv", clip)
    job = plan_video(path, tmp_path / "out.mkv", options)
    # Other transparency is another picture.
    assert job.index.repeats == (1, 5)
    run_job(job)
    made = frames_of(tmp_path / "out.mkv")
    assert made[0] == made[1]
    assert made[2] != made[3]
    assert made[4] == made[5]


def test_a_held_title_leaves_one_raw_file(
    tmp_path: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that segments share are stored once for every picture, however long it is held."""
    shown = (0, 1, 2, 3, *[4] * 40, 5, 6, 7, 8)
    clip = clip_of(tmp_path / "in.mkv", shown)
    left: list[int] = []
    kept: Callable[..., Made] = Made

    def watching(files: Any, *rest: Any) -> Made:
        left.append(len(files.head) + len(files.tail))
        return kept(files, *rest)

    monkeypatch.setattr("starvsr.job.executor.Made", watching)
    job = plan_video(clip, tmp_path / "out.mkv", options)
    assert max(segment.head for segment in job.plan.segments) == 41
    run_job(job)
    assert left == [2, 2]
    made = frames_of(tmp_path / "out.mkv")
    assert len(set(made[4:44])) == 1


def test_the_restorer_knows_nothing_of_repeats(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures have consecutive numbers, by which noise is drawn and memory goes on."""
    runs: list[tuple[int, int]] = []
    restore = Restorer.restore

    def watching(self: Restorer, frames: Any, *rest: Any, first_frame: int, **more: Any) -> Any:
        runs.append((first_frame, len(frames)))
        return restore(self, frames, *rest, first_frame=first_frame, **more)

    monkeypatch.setattr(Restorer, "restore", watching)
    upscale_video(clip, tmp_path / "out.mkv", options)
    assert runs == [(0, 5), (3, 5), (6, 5)]
