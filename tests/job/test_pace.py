"""The estimate of `starvsr plan`: kept from finished jobs, by machine and model, and harmless where it cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from starvsr.job.pace import NAME, expected_s, keep_pace
from starvsr.job.run import Job, plan_video
from starvsr.options import SizeOptions, UpscaleOptions, WeightsOptions
from tests.media.clips import Clip, make


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = make(tmp_path / "in.mp4", Clip(frames=8, width=32, height=24))
    options = UpscaleOptions(
        model="nano", weights=WeightsOptions(tmp_path / "weights"), size=SizeOptions(scale=2)
    )
    return plan_video(source, None, options)


def planned(job: Job, scale: float) -> Job:
    options = dataclasses.replace(job.options, size=SizeOptions(scale=scale))
    return plan_video(job.source, None, options)


def test_the_time_grows_with_the_work(job: Job) -> None:
    assert expected_s(job) is None
    keep_pace(job, 30.0)
    assert expected_s(job) == pytest.approx(30)
    assert expected_s(planned(job, 4)) == pytest.approx(120, rel=0.3)
    keep_pace(job, 60.0)
    assert expected_s(job) == pytest.approx(60)
    others = dataclasses.replace(job, device=dataclasses.replace(job.device, threads=64))
    assert expected_s(others) is None


def test_jobs_of_no_time_say_nothing(job: Job) -> None:
    keep_pace(job, 0.5)
    assert expected_s(job) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": "b"}', '{"nano": -1}', "x" * 100_000])
def test_a_damaged_file_is_no_estimate(job: Job, content: str) -> None:
    path = job.options.weights.folder
    assert path is not None
    path.mkdir()
    (path / NAME).write_text(content)
    assert expected_s(job) is None
    keep_pace(job, 30.0)
    assert expected_s(job) == pytest.approx(30)


def test_a_folder_that_cannot_be_written_is_no_error(job: Job) -> None:
    path = job.options.weights.folder
    assert path is not None
    path.write_text("a file")
    keep_pace(job, 30.0)
    assert expected_s(job) is None
    assert path.read_text() == "a file"
