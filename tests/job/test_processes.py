"""Several processes make what one makes, whatever becomes of them."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from starvsr.errors import MemoryLimitError, OutputError, UsageError
from starvsr.job.processes import MOST_DEATHS, Workers
from starvsr.job.run import plan_video, run_job, upscale_video
from starvsr.options import (
    EncodeOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
    WorkerOptions,
)
from starvsr.types import Progress
from tests.job.test_resume import names, packets
from tests.media.clips import Audio, Clip, make

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = WorkerOptions(2)


@pytest.fixture
def options(toy_path: Path) -> UpscaleOptions:
    """Segments of at most 6 frames, which share 2."""
    return UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        sampling=SamplingOptions(steps=1, cfg=1.0),
        encode=EncodeOptions(preset="ultrafast"),
        windows=WindowOptions(segment_frames=6),
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two shots of 14 and 6 frames, with sound."""

    def fill(frame: object, number: int) -> None:
        for plane in frame.planes:  # type: ignore[attr-defined]
            rows: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8)
            rows[:] = (np.arange(len(rows)) * 3 + number * 2 + (120 if number >= 14 else 0)) % 250

    audio = (Audio("flac", seconds=0.8),)
    return make(tmp_path / "clip.mkv", Clip(frames=20, width=32, height=24, audio=audio, fill=fill))


@pytest.mark.slow
def test_two_workers_make_what_one_makes(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    job = plan_video(clip, tmp_path / "one.mkv", options)
    assert job.index.cuts == (14,)
    assert any(segment.head for segment in job.plan.segments)
    run_job(job)
    reports: list[Progress] = []
    two = dataclasses.replace(options, workers=TWO)
    result = upscale_video(clip, tmp_path / "two.mkv", two, progress=reports.append)
    assert packets(tmp_path / "two.mkv") == packets(tmp_path / "one.mkv")
    assert names(tmp_path) == ["clip.mkv", "one.mkv", "two.mkv"]
    assert not active_children()
    stages = [report.stage for report in reports]
    assert list(dict.fromkeys(stages)) == ["index", "load", "restore", "join"]
    restored = [report.done for report in reports if report.stage == "restore"]
    assert restored[-1] == pytest.approx(20)
    assert set(result.seconds) >= {"network", "encode video"}


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(
    tmp_path: Path, clip: Path, options: UpscaleOptions, caplog: pytest.LogCaptureFixture
) -> None:
    upscale_video(clip, tmp_path / "one.mkv", options)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.stage == "restore" and not killed:
            killed.append(active_children()[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    two = dataclasses.replace(options, workers=TWO)
    upscale_video(clip, tmp_path / "two.mkv", two, progress=kill_one)
    assert "a worker died (exit code -9); frames" in caplog.text
    assert packets(tmp_path / "two.mkv") == packets(tmp_path / "one.mkv")
    assert names(tmp_path) == ["clip.mkv", "one.mkv", "two.mkv"]


@pytest.mark.slow
def test_workers_that_are_killed_again_and_again_fail_the_job(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    killed: list[int] = []

    def kill_all(progress: Progress) -> None:
        if progress.stage in ("load", "restore"):
            for child in active_children():
                if child.pid not in killed:
                    killed.append(child.pid or 0)
                    child.kill()

    whole = dataclasses.replace(options, windows=WindowOptions(scene_detect=False))
    job = plan_video(clip, tmp_path / "out.mkv", whole)
    assert len(job.plan.segments) == 1
    with (
        Workers(2) as executor,
        pytest.raises(MemoryLimitError, match=r"killed 3 times while it restored frames 0 to 19"),
    ):
        run_job(job, executor=executor, progress=kill_all)
    assert len(killed) == MOST_DEATHS
    assert not active_children()
    assert names(tmp_path) == ["clip.mkv"]


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_callers(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    target = tmp_path / "out.mkv"

    def close_folder(progress: Progress) -> None:
        # A folder where a part should be.
        for part in range(9):
            if progress.stage == "load":
                (tmp_path / "out.mkv.starvsr" / f"{part:06d}-core.mkv").mkdir(exist_ok=True)

    two = dataclasses.replace(options, workers=TWO)
    with pytest.raises(OutputError, match=r"out\.mkv cannot be written: Is a directory") as raised:
        upscale_video(clip, target, two, progress=close_folder)
    assert isinstance(raised.value.__cause__, OSError)
    assert not active_children()


@pytest.mark.slow
def test_workers_that_wait_end_by_themselves(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    """What libraries hold, such as the compiler's semaphores, is cleaned up then."""
    job = plan_video(clip, tmp_path / "out.mkv", options)
    with Workers(2) as workers:
        run_job(job, executor=workers)
        processes = [worker.process for worker in workers._team]
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_end_of_the_caller_ends_all_workers(
    tmp_path: Path, clip: Path, toy_path: Path, stop: int, code: int
) -> None:
    """What is finished is kept, and one process alone goes on to what it would have made."""
    arguments = [str(clip), str(tmp_path / "out.mkv"), "--model", str(toy_path), "--scale", "2"]
    arguments += ["--steps", "8", "--cfg", "1", "--segment-frames", "6", "--preset", "ultrafast"]
    command = [sys.executable, "-m", "starvsr", "upscale", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--workers", "2"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        journal = tmp_path / "out.mkv.starvsr" / "journal.jsonl"
        wait_until(lambda: journal.exists() and "core-" in journal.read_text())
        workers = children(process.pid)
        assert len(workers) >= 2
        process.send_signal(stop)
        _, said = process.communicate()
    assert process.returncode == code, said
    wait_until(lambda: not any(is_there(pid) for pid in workers))
    assert not (tmp_path / "out.mkv").exists()
    if stop != signal.SIGKILL:
        assert "the same command resumes" in said
        kept = {line.split('"name": "')[1].split('"')[0] for line in steps(journal)}
        assert kept <= {path.name for path in journal.parent.iterdir()}
        assert not list(journal.parent.glob(".starvsr-*.partial"))
    went_on = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert went_on.returncode == 0, went_on.stderr
    assert "already done in" in went_on.stderr
    assert names(tmp_path) == ["clip.mkv", "out.mkv"]


def steps(journal: Path) -> list[str]:
    return [line for line in journal.read_text().splitlines() if '"core-' in line]


def wait_until(true: Callable[[], bool]) -> None:
    """The test's own time limit ends it."""
    while not true():
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Processes that this one began."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # One that nobody has buried yet is gone all the same.
    return state != "Z"


def test_a_job_keeps_the_threads_that_it_began_with(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    two = dataclasses.replace(options, workers=TWO)
    assert plan_video(clip, tmp_path / "out.mkv", two).device.threads == 4
    # There are not that many segments.
    many = dataclasses.replace(options, workers=WorkerOptions(200))
    job = plan_video(clip, tmp_path / "out.mkv", many)
    assert job.device.threads == max(1, 8 // len(job.plan.segments))
    assert plan_video(clip, tmp_path / "out.mkv", options).device.threads == 8


def test_numbers_that_are_refused() -> None:
    for count in (0, -1, 257):
        with pytest.raises(UsageError, match=rf"--workers {count} is not allowed: give 1 to 256"):
            WorkerOptions(count)
    with pytest.raises(UsageError, match="--workers and --cluster contradict each other"):
        WorkerOptions(2, "auto")
    with pytest.raises(UsageError, match="--cluster '' is not allowed"):
        WorkerOptions(cluster="")


def test_what_is_not_used_is_not_imported(tmp_path: Path, clip: Path, toy_path: Path) -> None:
    program = (
        "import sys, starvsr\n"
        f"starvsr.upscale_video({str(clip)!r}, {str(tmp_path / 'out.mkv')!r}, starvsr.UpscaleOptions("
        f"model={str(toy_path)!r}, range=starvsr.RangeOptions(frames=2), "
        "sampling=starvsr.SamplingOptions(steps=1)))\n"
        "several = {'ray', *(f'starvsr.job.{n}' for n in ('ray_cluster', 'ray_nodes', 'processes'))}\n"
        "assert not several & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
