"""A Ray cluster of two workers on this machine makes what one process makes, whatever becomes of a worker."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from starvsr.errors import InputError, UsageError, WeightsError
from starvsr.job.executor import InTurn, Work
from starvsr.job.journal import fingerprint
from starvsr.job.ray_cluster import _brought, _Order, _restore_here
from starvsr.job.ray_nodes import cluster_device
from starvsr.job.request import weights_of
from starvsr.job.run import plan_video, run_job, upscale_video
from starvsr.options import (
    EncodeOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
)
from tests.job.test_resume import Packets, names, packets
from tests.media.clips import Audio, Clip, make

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 6


@pytest.fixture(scope="module")
def options(toy_path: Path) -> UpscaleOptions:
    """Segments of at most 6 frames, which share 2."""
    return UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        sampling=SamplingOptions(steps=STEPS, cfg=1.0),
        encode=EncodeOptions(preset="ultrafast"),
        windows=WindowOptions(segment_frames=6),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: the encoder may make another of the same pictures."""
    audio = (Audio("flac", seconds=0.8),)
    clip = Clip(frames=20, width=32, height=24, audio=audio)
    return make(tmp_path_factory.mktemp("source") / "clip.mkv", clip)


@pytest.fixture
def clip(tmp_path: Path, source: Path) -> Path:
    return Path(shutil.copy(source, tmp_path))


@pytest.fixture(scope="module")
def alone(source: Path, options: UpscaleOptions) -> Packets:
    """What one process makes of the clip."""
    target = source.with_name("one.mkv")
    upscale_video(source, target, options)
    return packets(target)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster."""
    with cluster() as (place, _):
        yield place


@contextmanager
def cluster(**settings: str) -> Iterator[tuple[str, int]]:
    """Two machines of one processor each, as far as Ray can tell: the address, and the process that holds the second.

    settings: variables of the environment.
    """
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder, ExitStack() as nodes:
        # Port 0 would be a free one, which nobody is told.
        place = f"127.0.0.1:{20000 + (os.getpid() + len(settings)) % 20000}"
        port = place.rpartition(":")[2]
        head = node("--head", "--port", port, "--temp-dir", folder, **settings)
        nodes.enter_context(head)
        yield place, nodes.enter_context(node("--address", place))


@contextmanager
def node(*arguments: str, **settings: str) -> Iterator[int]:
    """A Ray node, which ends with all its processes; the one that holds it."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *arguments]
    command += ["--num-cpus", "1", "--num-gpus", "0", "--disable-usage-stats"]
    command += ["--object-store-memory", "100000000"]
    if "--head" in arguments:
        command.append("--include-dashboard=false")
    # Busy machines take longer than Ray would wait.
    environment = {**os.environ, "RAY_raylet_start_wait_time_s": "300", **settings}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "will now block forever" in line:
                    break
            else:
                pytest.fail("".join(said))
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def upscale(clip: Path, target: Path, toy_path: Path, address: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, with the fixture's options."""
    command = [sys.executable, "-m", "starvsr", "upscale", str(clip), str(target)]
    command += ["--cluster", address, "--model", str(toy_path), "--scale", "2", "--cfg", "1"]
    command += ["--steps", str(STEPS), "--preset", "ultrafast", "--segment-frames", "6"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_workers_make_what_one_process_makes_even_if_they_are_killed(
    tmp_path: Path, clip: Path, toy_path: Path, address: str, alone: Packets
) -> None:
    with upscale(clip, tmp_path / "two.mkv", toy_path, address) as process:
        work = tmp_path / "two.mkv.starvsr"
        # The first file of a segment that is not finished.
        wait_until(lambda: process.poll() is not None or bool(list(work.glob("*.raw"))))
        killed = workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        _, said = process.communicate()
    assert killed
    assert process.returncode == 0, said
    assert "CPU of 2 machines" in said
    assert "restoring: 20/20 frames" in said
    assert packets(tmp_path / "two.mkv") == alone
    assert names(tmp_path) == ["clip.mkv", "two.mkv"]


# Ray alone would go on after seven minutes.
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_machine_that_no_longer_answers_changes_nothing(
    tmp_path: Path, clip: Path, toy_path: Path, alone: Packets
) -> None:
    # Ray would take it for alive for a minute.
    soon = {"period_ms": "1000", "timeout_ms": "3000", "failure_threshold": "3"}
    health = {f"RAY_health_check_{name}": value for name, value in soon.items()}
    with (
        cluster(**health) as (place, machine),
        upscale(clip, tmp_path / "two.mkv", toy_path, place) as process,
    ):
        wait_until(lambda: process.poll() is not None or bool({*workers()} & {*below(machine)}))
        stopped = below(machine)
        send(signal.SIGSTOP, stopped)
        _, said = process.communicate()
        send(signal.SIGKILL, stopped)
    assert process.returncode == 0, said
    assert "is lost: others restore its segments" in said
    assert packets(tmp_path / "two.mkv") == alone
    assert names(tmp_path) == ["clip.mkv", "two.mkv"]


@pytest.mark.slow
def test_a_machine_that_is_lost_before_the_job_is_left_out(clip: Path, address: str) -> None:
    # Ray takes it for alive for some seconds more.
    with node("--address", address):
        pass
    command = [sys.executable, "-m", "starvsr", "plan", str(clip), "--cluster", address]
    planned = subprocess.run(command, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    assert "CPU of 2 machines" in planned.stdout + planned.stderr
    assert "raylet" not in planned.stdout


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_finished(
    tmp_path: Path,
    clip: Path,
    options: UpscaleOptions,
    toy_path: Path,
    address: str,
    alone: Packets,
) -> None:
    journal = tmp_path / "out.mkv.starvsr" / "journal.jsonl"
    with upscale(clip, tmp_path / "out.mkv", toy_path, address) as process:
        wait_until(lambda: journal.exists() and "core-" in journal.read_text())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130, said
    assert "the same command resumes" in said
    wait_until(lambda: not workers())
    reused: list[int] = []
    job = plan_video(clip, tmp_path / "out.mkv", options)
    run_job(job, on_resume=lambda count, _: reused.append(count))
    assert reused
    assert packets(tmp_path / "out.mkv") == alone


def workers() -> list[int]:
    """Processes that restore a segment for Ray."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if line.read_bytes().startswith(b"ray::_restore_segment"):
                found.append(int(line.parent.name))
        except OSError:
            continue
    return found


def below(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        # Threads and processes end while they are looked at.
        with suppress(OSError):
            found += [int(child) for child in path.read_text().split()]
    return found + [each for child in found for each in below(child)]


def send(signal_number: int, pids: list[int]) -> None:
    """Send a signal to those processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def wait_until(true: Callable[[], bool]) -> None:
    """The test's own time limit ends it."""
    while not true():
        time.sleep(0.05)


@pytest.mark.slow
def test_places_where_no_cluster_is(tmp_path: Path, clip: Path) -> None:
    pytest.importorskip("ray")
    for place in ("127.0.0.1:9", "nonsense"):
        with pytest.raises(UsageError, match=f"--cluster {place}: no Ray cluster responds there"):
            cluster_device(place, "auto")


def test_devices_that_ray_would_not_keep_to_are_refused() -> None:
    with pytest.raises(UsageError, match="--device cuda:1 does not go with --cluster"):
        cluster_device("auto", "cuda:1")


class Ignored:
    """An actor's method that nobody listens to."""

    @property
    def put(self) -> Ignored:
        return self

    def remote(self, *_: Any) -> None:
        pass


@pytest.fixture
def order(tmp_path: Path, clip: Path, options: UpscaleOptions) -> _Order:
    """What another machine is told, whose work directory is not there."""
    job = plan_video(clip, tmp_path / "out.mkv", options)
    work = Work(
        job.info,
        job.index,
        job.options,
        job.choice,
        job.device,
        job.settings,
        job.plan,
        tmp_path / "elsewhere",
        1,
        None,
    )
    return _Order(work, "token", fingerprint(clip), weights_of(job.choice, fingerprint), ())


def test_what_a_machine_made_comes_back_where_it_does_not_see_the_work_directory(
    tmp_path: Path, order: _Order
) -> None:
    segment, here, there = order.work.plan.segments[1], tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    made, contents = _restore_here(order, segment, Ignored())
    files = _brought(made, contents, here).files
    assert names(tmp_path) == sorted(
        ["clip.mkv", "here", "there", *(f"here/{name}" for name in contents)]
    )
    (wanted,) = InTurn()(
        dataclasses.replace(order.work, folder=there), [segment], lambda: None, lambda *_: None
    )
    assert [path.name for path in (files.part, *files.head, *files.tail)] == [
        path.name for path in (wanted.files.part, *wanted.files.head, *wanted.files.tail)
    ]
    assert files.head
    assert files.tail
    assert packets(files.part) == packets(wanted.files.part)
    for own, other in zip(
        files.head + files.tail, wanted.files.head + wanted.files.tail, strict=True
    ):
        assert own.read_bytes() == other.read_bytes()


def test_a_machine_with_other_files_refuses(tmp_path: Path, order: _Order, clip: Path) -> None:
    segment = order.work.plan.segments[0]
    other = dataclasses.replace(order, weights={"the model's weights": "other"})
    with pytest.raises(WeightsError, match="has other files of the model seeded-toy"):
        _restore_here(other, segment, Ignored())
    clip.write_bytes(clip.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"clip\.mkv cannot be read by"):
        _restore_here(order, segment, Ignored())
