"""Jobs that are broken off anywhere and go on: the result is the unbroken run's, and nothing finished is done twice."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from starvsr.errors import OutputError, StarvsrError, UsageError, WorkDirError
from starvsr.job.journal import Journal
from starvsr.job.plan_job import output_beside
from starvsr.job.run import plan_video, run_job, upscale_video
from starvsr.media import files
from starvsr.media.writer import PartWriter
from starvsr.models.unet import StarUNet
from starvsr.options import (
    DeviceOptions,
    EncodeOptions,
    LookOptions,
    RangeOptions,
    ResumeOptions,
    SamplingOptions,
    SizeOptions,
    StreamOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.types import Progress
from tests.media.clips import Clip, make

pytestmark = pytest.mark.usefixtures("one_thread")

Packets = list[tuple[int, "int | None", bytes]]

KILLED = 9


@pytest.fixture
def options(toy_path: Path) -> UpscaleOptions:
    """Three segments and two seams of a clip of 12 frames."""
    return UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        sampling=SamplingOptions(steps=1, cfg=1.0),
        encode=EncodeOptions(codec="ffv1"),
        windows=WindowOptions(segment_frames=6),
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "clip.mkv", Clip(frames=12, width=16, height=12))


@pytest.fixture
def unbroken(tmp_path: Path, clip: Path, options: UpscaleOptions) -> Packets:
    """What the file of an unbroken run holds."""
    (tmp_path / "whole").mkdir()
    target = tmp_path / "whole" / "out.mkv"
    upscale_video(clip, target, options)
    content = packets(target)
    target.unlink()
    target.parent.rmdir()
    return content


def packets(path: Path) -> Packets:
    """Stream, time and content of every packet: a container's own header holds random numbers."""
    with av.open(str(path)) as container:
        return [
            (packet.stream_index, packet.pts, bytes(packet))
            for packet in container.demux()
            if packet.size
        ]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def in_a_child(work: Callable[[], object]) -> int:
    """Do it in a process of its own; gives its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(number: int) -> None:
    """The `number`-th of all network calls and all that touches the disk is where this process is killed."""
    count = 0

    def counted(owner: Any, name: str, *, behind: bool) -> None:
        original = getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            here = count == number
            if here and not behind:
                os._exit(KILLED)
            result = original(*arguments, **named)
            if here:
                os._exit(KILLED)
            return result

        setattr(owner, name, step)

    counted(StarUNet, "forward", behind=False)
    counted(PartWriter, "write", behind=True)
    counted(os, "fsync", behind=False)
    counted(Path, "replace", behind=True)
    counted(Path, "unlink", behind=True)
    counted(files, "sync", behind=True)


def test_a_job_with_a_cache_goes_on_the_same(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    sampling = SamplingOptions(steps=6, speed="fast")
    options = dataclasses.replace(options, sampling=sampling)
    target, whole = tmp_path / "out.mkv", tmp_path / "whole.mkv"
    upscale_video(clip, whole, options)

    def killed() -> None:
        dying(50)
        upscale_video(clip, target, options)

    assert in_a_child(killed) == KILLED
    with pytest.raises(WorkDirError, match="--speed"):
        exact = dataclasses.replace(options, sampling=dataclasses.replace(sampling, speed="exact"))
        upscale_video(clip, target, exact)
    kept: list[int] = []
    run_job(plan_video(clip, target, options), on_resume=lambda count, _: kept.append(count))
    assert kept in ([1], [2])
    assert packets(target) == packets(whole)


@pytest.mark.slow
def test_a_kill_anywhere_changes_nothing(
    tmp_path: Path, clip: Path, options: UpscaleOptions, unbroken: Packets
) -> None:
    """Killed at every fifth event until a run gets through; every one of them goes on to the same file."""
    made = tmp_path / "made"
    made.mkdir()
    target = made / "out.mkv"
    restored: list[int] = []
    for number in itertools.count(1, 5):

        def killed_there(number: int = number) -> None:
            dying(number)
            upscale_video(clip, target, options)

        code = in_a_child(killed_there)
        assert code in (0, KILLED), number
        if code == 0:
            break
        done = _finished_segments(made)
        restored.clear()
        whole = target.exists()
        if whole and not (made / "out.mkv.starvsr" / "journal.jsonl").exists():
            # Only the mark was left to be removed, and is.
            with pytest.raises(OutputError, match="exists already"):
                plan_video(clip, target, options)
        else:
            job = plan_video(clip, target, options)
            run_job(job, on_resume=lambda count, _: restored.append(count))
        assert restored == ([done] if done and not whole else []), number
        assert packets(target) == unbroken, number
        assert names(made) == ["out.mkv"], number
        target.unlink()
    assert number > 60, "that many events a run has at least"
    assert packets(target) == unbroken


def _finished_segments(folder: Path) -> int:
    journal = folder / "out.mkv.starvsr" / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return sum("core-" in line for line in lines)


def broken_off(clip: Path, target: Path, options: UpscaleOptions, frames: float = 8.0) -> Path:
    """A job that was interrupted; gives its work directory."""

    def stop(progress: Progress) -> None:
        if progress.stage == "restore" and progress.done > frames:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, target, options, progress=stop)
    return target.with_name(f"{target.name}.starvsr")


def test_a_damaged_part_is_made_again(
    tmp_path: Path,
    clip: Path,
    options: UpscaleOptions,
    unbroken: Packets,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = tmp_path / "out.mkv"
    work = broken_off(clip, target, options)
    for damaged in ("000000-core.mkv", "000001-seam.mkv"):
        content = bytearray((work / damaged).read_bytes())
        content[len(content) // 2] ^= 1
        (work / damaged).write_bytes(content)
    upscale_video(clip, target, options)
    assert "000000-core.mkv is damaged and will be restored again" in caplog.text
    assert packets(target) == unbroken
    assert not work.exists()


@pytest.fixture
def killed_clearing(tmp_path: Path, clip: Path, options: UpscaleOptions, unbroken: Packets) -> Path:
    """An output that is in its place, with its work directory, of which some is gone."""
    target = tmp_path / "out.mkv"

    def killed() -> None:
        unlink = Path.unlink

        def last(path: Path, missing_ok: bool = False) -> None:
            if target.exists():
                os._exit(KILLED)
            unlink(path, missing_ok)

        Path.unlink = last  # type: ignore[method-assign, assignment]
        upscale_video(clip, target, options)

    assert in_a_child(killed) == KILLED
    (tmp_path / "out.mkv.starvsr" / "000000-core.mkv").unlink()
    return target


def test_what_a_kill_left_undone_behind_the_last_step_is_done(
    clip: Path,
    options: UpscaleOptions,
    unbroken: Packets,
    killed_clearing: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(StarUNet, "forward", None)
    assert upscale_video(clip, killed_clearing, options).frames == 12
    assert packets(killed_clearing) == unbroken
    assert names(clip.parent) == ["clip.mkv", "out.mkv"]


def test_an_empty_work_directory_goes(clip: Path, options: UpscaleOptions) -> None:
    target = clip.with_name("out.mkv")
    target.write_bytes(b"done before")
    target.with_name("out.mkv.starvsr").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        upscale_video(clip, target, options)
    assert names(clip.parent) == ["clip.mkv", "out.mkv"]


def test_a_file_that_the_job_did_not_make_is_not_replaced(
    clip: Path, options: UpscaleOptions, killed_clearing: Path
) -> None:
    anew = dataclasses.replace(options, resume=ResumeOptions(resume=False))
    with pytest.raises(OutputError, match="exists already"):
        upscale_video(clip, killed_clearing, anew)
    killed_clearing.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        upscale_video(clip, killed_clearing, options)
    assert killed_clearing.read_bytes() == b"mine"


def test_a_torn_line_is_no_line(
    tmp_path: Path, clip: Path, options: UpscaleOptions, unbroken: Packets
) -> None:
    target = tmp_path / "out.mkv"
    work = broken_off(clip, target, options)
    journal = work / "journal.jsonl"
    for torn in (journal.read_bytes()[:-7], journal.read_bytes() + b'{"steps": {"core-2'):
        journal.write_bytes(torn)
        work = broken_off(clip, target, options, frames=10)
        assert all(json.loads(line) for line in journal.read_text().splitlines())
    upscale_video(clip, target, options)
    assert packets(target) == unbroken


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": SizeOptions(scale=3)}, "--scale was 2 before and is 3 now"),
        ({"look": LookOptions(blend=0.5)}, r"--blend was 0\.0 before and is 0\.5 now"),
        ({"range": RangeOptions(frames=9)}, "--frames was not given before and is 9 now"),
        ({"sampling": SamplingOptions(steps=2, cfg=1.0)}, "--steps was 1 before and is 2 now"),
        (
            {"windows": WindowOptions(segment_frames=7)},
            "--segment-frames was 6 before and is 7 now",
        ),
        (
            {"streams": StreamOptions(chapters=False)},
            "--no-chapters was not given before and is now",
        ),
        (
            {"encode": EncodeOptions(codec="ffv1", pix_fmt="bgr0")},
            "--pix-fmt was auto before and is bgr0 now",
        ),
        (
            {"model": "nano", "sampling": SamplingOptions(), "windows": WindowOptions()},
            "--model was seeded-toy before and is nano now",
        ),
    ],
)
def test_another_job_is_refused_by_name(
    tmp_path: Path, clip: Path, options: UpscaleOptions, changes: dict[str, Any], said: str
) -> None:
    target = tmp_path / "out.mkv"
    work = broken_off(clip, target, options)
    before = names(work)
    other = dataclasses.replace(options, **changes)
    with pytest.raises(WorkDirError, match=said):
        upscale_video(clip, target, other)
    assert names(work) == before
    upscale_video(clip, target, dataclasses.replace(other, resume=ResumeOptions(resume=False)))
    assert target.exists()
    assert not work.exists()


def test_another_input_is_refused(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    broken_off(clip, tmp_path / "out.mkv", options)
    make(clip, Clip(frames=13, width=16, height=12))
    with pytest.raises(WorkDirError, match="the input is not the same as before"):
        upscale_video(clip, tmp_path / "out.mkv", options)


def test_compiled_parts_round_otherwise_and_are_another_job(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starvsr.models.compiled.check_compiler", lambda _: None)
    broken_off(clip, tmp_path / "out.mkv", options)
    other = dataclasses.replace(options, device=DeviceOptions(compile=True))
    with pytest.raises(WorkDirError, match="--compile was not given before and is now"):
        upscale_video(clip, tmp_path / "out.mkv", other)


def test_what_changes_speed_alone_is_the_same_job(
    tmp_path: Path, clip: Path, options: UpscaleOptions, unbroken: Packets
) -> None:
    target = tmp_path / "out.mkv"
    broken_off(clip, target, options)
    device = dataclasses.replace(options.device, memory_limit_bytes=10**10, offload="block")
    upscale_video(clip, target, dataclasses.replace(options, device=device))
    assert packets(target) == unbroken


@pytest.mark.parametrize(("begun", "now"), [(None, 3), (3, None), (3, 60)])
def test_windows_stay_where_another_memory_limit_is_given(
    tmp_path: Path,
    clip: Path,
    options: UpscaleOptions,
    caplog: pytest.LogCaptureFixture,
    begun: int | None,
    now: int | None,
) -> None:
    """Limits in MiB: 3 leaves room for small windows only, with the weights elsewhere."""

    def limited(limit: int | None) -> UpscaleOptions:
        device = DeviceOptions(memory_limit_bytes=None if limit is None else limit << 20)
        return dataclasses.replace(options, device=device)

    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    upscale_video(clip, whole, limited(begun))
    plans = [plan_video(clip, target, limited(limit)).plan.layout for limit in (begun, now)]
    assert plans[0].windows != plans[1].windows
    broken_off(clip, target, limited(begun))
    upscale_video(clip, target, limited(now))
    assert packets(target) == packets(whole)
    assert ("the windows stay those that the job began with" in caplog.text) == (now == 3)


@pytest.mark.parametrize("begun", ["bf16", "fp32"])
def test_a_job_keeps_its_precision_where_automatic_is_another(
    tmp_path: Path,
    clip: Path,
    options: UpscaleOptions,
    monkeypatch: pytest.MonkeyPatch,
    begun: str,
) -> None:
    """As on another machine, whose CPU has units for bfloat16, or has none."""
    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    monkeypatch.setenv("STARVSR_PRECISION", begun)
    upscale_video(clip, whole, options)
    broken_off(clip, target, options)
    monkeypatch.setenv("STARVSR_PRECISION", "bf16" if begun == "fp32" else "fp32")
    explicit = dataclasses.replace(options, device=DeviceOptions(precision="fp16"))
    with pytest.raises(WorkDirError, match=f"--precision was {begun} before and is fp16 now"):
        upscale_video(clip, target, explicit)
    upscale_video(clip, target, options)
    assert packets(target) == packets(whole)


def test_a_plan_without_an_output_is_that_of_the_job_begun_there(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / clip.name
    source.write_bytes(clip.read_bytes())
    monkeypatch.setenv("STARVSR_PRECISION", "bf16")
    broken_off(source, output_beside(source, options), options)
    monkeypatch.setenv("STARVSR_PRECISION", "fp32")
    assert plan_video(source, None, options).options.device.precision == "bf16"


def test_a_work_directory_elsewhere(
    tmp_path: Path, clip: Path, options: UpscaleOptions, unbroken: Packets
) -> None:
    target, work = tmp_path / "out.mkv", tmp_path / "work"
    elsewhere = dataclasses.replace(options, resume=ResumeOptions(work_dir=work))
    broken_off(clip, target, elsewhere)
    assert (work / "journal.jsonl").exists()
    assert not target.with_name("out.mkv.starvsr").exists()
    (work / "mine.txt").write_text("keep")
    upscale_video(clip, target, elsewhere)
    assert packets(target) == unbroken
    assert names(work) == ["mine.txt"], "what is not ours stays"


def test_work_directories_that_are_refused(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "thesis.txt").write_text("keep")
    file.write_text("keep")
    target = tmp_path / "out.mkv"
    for folder, said in (
        (full, "is not a starvsr work directory and not empty"),
        (file, "is a file"),
        (tmp_path, "the input .* is in the work directory"),
        (tmp_path / "no" / "where", "does not exist"),
    ):
        refused = dataclasses.replace(options, resume=ResumeOptions(work_dir=folder))
        with pytest.raises(StarvsrError, match=said):
            upscale_video(clip, target, refused)
    assert names(tmp_path) == ["clip.mkv", "file", "full", "full/thesis.txt"]


def test_two_processes_do_not_share_a_work_directory(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    def again(progress: Progress) -> None:
        if progress.stage == "restore":
            with pytest.raises(UsageError, match="another process works in"):
                upscale_video(clip, tmp_path / "out.mkv", options)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, tmp_path / "out.mkv", options, progress=again)


def test_windows_that_were_too_large_are_not_tried_again(
    tmp_path: Path,
    clip: Path,
    options: UpscaleOptions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target, forward, calls = tmp_path / "out.mkv", StarUNet.forward, 0

    def short_once(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError
        return forward(*arguments, **named)

    monkeypatch.setattr(StarUNet, "forward", short_once)
    work = broken_off(clip, target, options)
    assert "the network continues with windows of" in caplog.text
    noted = [line for line in (work / "journal.jsonl").read_text().splitlines() if '"note"' in line]
    assert len(noted) == 1
    sizes = set()

    def sized(network: StarUNet, x: Any, *arguments: Any, **named: Any) -> Any:
        sizes.add(tuple(x.shape[2:]))
        return forward(network, x, *arguments, **named)

    monkeypatch.setattr(StarUNet, "forward", sized)
    upscale_video(clip, target, options)
    windows = json.loads(noted[0])["note"]["windows"]["network"]
    assert {size[0] for size in sizes} <= {*range(1, windows["chunk_frames"] + 1)}


def test_a_journal_keeps_what_it_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin({}, {})
    (tmp_path / "a").write_bytes(b"1")
    journal.record(one=[tmp_path / "a"], none=[])
    assert journal.finished("one") == (tmp_path / "a",)
    assert journal.finished("none") == ()
    assert journal.finished("two") is None


def test_images_that_are_half_there_are_the_jobs_own(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off while images were put in their place: every image is whole, and the same call goes on."""
    images = dataclasses.replace(options, encode=EncodeOptions())
    (tmp_path / "whole").mkdir()
    upscale_video(clip, tmp_path / "whole" / "%d.png", images)
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(wanted) == 12

    made = tmp_path / "made"
    made.mkdir()
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if target.name == "5.png":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            upscale_video(clip, made / "%d.png", images)
    there = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    assert there == {name: wanted[name] for name in ("1.png", "2.png", "3.png", "4.png")}
    # One that somebody put there meanwhile is not the job's.
    (made / "7.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"7\.png exists already and is not this job's image"):
        upscale_video(clip, made / "%d.png", images)
    assert (made / "7.png").read_bytes() == b"mine"
    (made / "7.png").unlink()
    upscale_video(clip, made / "%d.png", images)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == wanted
    with pytest.raises(StarvsrError, match="exists already"):
        upscale_video(clip, made / "%d.png", images)
