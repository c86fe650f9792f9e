"""`starvsr finish`: what it makes of a job that was broken off, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import av
import pytest

from starvsr.job.executor import InTurn, Made, OnLoad, Work
from starvsr.job.journal import open_journal
from starvsr.job.run import upscale_video
from starvsr.job.segment import OnFrames
from starvsr.options import (
    EncodeOptions,
    RangeOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.plan.segments import Segment
from starvsr.types import Progress
from tests.cli.conftest import Cli, listing
from tests.media.clips import Audio, Clip, make

FRAMES = 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """12 frames, half a second of sound, chapters at 0, 0.2 and 0.4 s."""
    chapters = ((0.0, 0.2, "One"), (0.2, 0.4, "Two"), (0.4, 0.48, "Three"))
    clip = Clip(
        frames=FRAMES,
        width=16,
        height=12,
        audio=(Audio("flac", seconds=0.48),),
        chapters=chapters,
    )
    return make(tmp_path / "in.mkv", clip)


@pytest.fixture
def options(toy_path: Path) -> UpscaleOptions:
    """Three segments of 6, 6 and 4 frames, or so, which share two with the next."""
    return UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        sampling=SamplingOptions(steps=1, cfg=1.0),
        encode=EncodeOptions(codec="ffv1"),
        windows=WindowOptions(segment_frames=6),
    )


class Broken(Exception):
    """What ends the job of a test."""


@pytest.fixture
def work(tmp_path: Path, source: Path, options: UpscaleOptions) -> Path:
    """The work directory of a job that was broken off in its third segment."""
    return broken_off(tmp_path, source, options, 0, 1)


def broken_off(tmp_path: Path, source: Path, options: UpscaleOptions, *done: int) -> Path:
    """The work directory of a job that was broken off behind these of its segments."""

    def some(
        work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
    ) -> Generator[Made, None, None]:
        yield from InTurn()(work, [segments[index] for index in done], on_load, on_frames)
        raise Broken

    with pytest.raises(Broken):
        upscale_video(source, tmp_path / "out.mkv", options, executor=some)
    return tmp_path / "out.mkv.starvsr"


def video(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_finishing_loads_no_torch(work: Path) -> None:
    program = (
        "import sys; from starvsr.cli.app import run; code = run(sys.argv[1:]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, "finish", work], check=True)


def test_what_is_finished_becomes_a_file_and_the_job_goes_on(
    cli: Cli, tmp_path: Path, source: Path, options: UpscaleOptions, work: Path
) -> None:
    before = listing(work)
    outcome = cli("finish", work, "--json")
    assert outcome.code == 0, outcome.err
    partial = tmp_path / "out-partial.mkv"
    said = json.loads(outcome.out)
    frames = said["frames"]
    assert 0 < frames < FRAMES
    assert said == {
        "version": 1,
        "event": "finished",
        "target": str(partial),
        "frames": frames,
        "of_frames": FRAMES,
        "left_out": 0,
    }
    assert f"{partial}: {frames} of 12 frames" in outcome.err
    assert listing(work) == before
    upscale_video(source, tmp_path / "out.mkv", options)
    assert video(partial) == video(tmp_path / "out.mkv")[:frames]
    assert not work.exists()


def test_sound_and_chapters_end_with_the_picture(cli: Cli, tmp_path: Path, work: Path) -> None:
    target = tmp_path / "here.mkv"
    assert cli("finish", work, target).code == 0
    end_s = len(video(target)) / 25
    with av.open(str(target)) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One", "Two"]
        sound = container.streams.audio[0]
        starts = [
            packet.pts * packet.time_base
            for packet in container.demux(sound)
            if packet.size and packet.pts is not None
        ]
    assert starts
    assert max(starts) < end_s


def test_a_seam_that_was_not_made_yet_is_made(
    cli: Cli,
    tmp_path: Path,
    source: Path,
    options: UpscaleOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched, pytest.raises(Broken):
        patched.setattr("starvsr.job.kept.make_seam", broken)
        upscale_video(source, tmp_path / "out.mkv", options)
    work = tmp_path / "out.mkv.starvsr"
    assert not list(work.glob("*seam*"))
    before = listing(tmp_path)
    assert cli("finish", work).code == 0
    after = listing(tmp_path)
    assert after.pop("out-partial.mkv")
    assert after == before
    upscale_video(source, tmp_path / "out.mkv", options)
    partial = video(tmp_path / "out-partial.mkv")
    assert partial == video(tmp_path / "out.mkv")[: len(partial)]


def broken(*_: object) -> None:
    raise Broken


def test_what_lies_behind_a_gap_is_left_out_and_said(
    cli: Cli, tmp_path: Path, source: Path, options: UpscaleOptions
) -> None:
    work = broken_off(tmp_path, source, options, 2, 0)
    outcome = cli("finish", work, "--json")
    assert outcome.code == 0, outcome.err
    said = json.loads(outcome.out)
    assert (said["frames"], said["left_out"]) == (3, 4)
    assert "3 of 12 frames; 4 more are finished, but after a gap" in outcome.err


def test_nothing_at_the_beginning_is_refused(
    cli: Cli, tmp_path: Path, source: Path, options: UpscaleOptions
) -> None:
    work = broken_off(tmp_path, source, options, 2)
    outcome = cli("finish", work)
    said = "nothing is finished at the beginning yet (1 of 3 segments is, after it)"
    assert (outcome.code, said in outcome.error) == (7, True)
    assert not (tmp_path / "out-partial.mkv").exists()


def test_what_is_no_work_directory_is_refused(cli: Cli, tmp_path: Path, source: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", source):
        before = listing(tmp_path)
        outcome = cli("finish", folder)
        assert (outcome.code, "is not a starvsr work directory: give one" in outcome.error) == (
            2,
            True,
        )
        assert listing(tmp_path) == before


def test_places_that_are_refused(cli: Cli, tmp_path: Path, source: Path, work: Path) -> None:
    taken = tmp_path / "out-partial.mkv"
    taken.write_bytes(b"mine")
    outcome = cli("finish", work)
    assert (outcome.code, "exists already: give --overwrite" in outcome.error) == (7, True)
    assert taken.read_bytes() == b"mine"
    outcome = cli("finish", work, tmp_path / "other.mp4")
    assert (outcome.code, "are for a .mkv file" in outcome.error) == (2, True)
    outcome = cli("finish", work, source, "--overwrite")
    assert (outcome.code, "is the input itself" in outcome.error) == (2, True)
    assert cli("finish", work, "--overwrite").code == 0
    assert len(video(taken)) > 0


def test_the_file_may_not_lie_in_the_work_directory(cli: Cli, tmp_path: Path, work: Path) -> None:
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    (link := tmp_path / "link").symlink_to(work)
    for place in (work / "000000-core.mkv", work / "000009-core.mkv", link / "mine.mkv"):
        outcome = cli("finish", work, place, "--overwrite")
        assert (outcome.code, "is in the work directory" in outcome.error) == (2, True)
        assert {path.name: path.read_bytes() for path in work.iterdir()} == before


def test_an_input_that_is_gone_or_another_is_refused(cli: Cli, source: Path, work: Path) -> None:
    content = source.read_bytes()
    source.write_bytes(content + b"x")
    outcome = cli("finish", work)
    assert (outcome.code, "has changed" in outcome.error) == (3, True)
    source.unlink()
    outcome = cli("finish", work)
    assert (outcome.code, "cannot be read (No such file" in outcome.error) == (3, True)
    source.write_bytes(content)
    assert cli("finish", work).code == 0


def test_a_work_directory_in_use_or_of_an_older_version_is_refused(
    cli: Cli, tmp_path: Path, work: Path
) -> None:
    journal = work / "journal.jsonl"
    whole = journal.read_bytes()
    first = json.loads(whole.splitlines()[0])
    with open_journal(tmp_path / "other", first["request"], first["notes"], resume=True):
        outcome = cli("finish", tmp_path / "other")
        assert (outcome.code, "another process works in" in outcome.error) == (2, True)
    older = whole.replace(b'{"version": 4,', b'{"version": 1,')
    for content, said in (
        (older, "begun by another version of starvsr, in format 1; nothing was changed"),
        (b"torn", "its line 1 is damaged; nothing was changed"),
        (b"", "its line 1 is damaged"),
        (whole.replace(b'{"steps"', b'{"step"', 1), "its line 2 is damaged"),
    ):
        journal.write_bytes(content)
        before = listing(tmp_path)
        outcome = cli("finish", work)
        assert (outcome.code, said in outcome.error) == (9, True), outcome.err
        assert listing(tmp_path) == before


def test_numbered_images_do_not_become_one_file(
    cli: Cli, tmp_path: Path, source: Path, options: UpscaleOptions
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "restore" and progress.done > 6:
            raise KeyboardInterrupt

    target = tmp_path / "i%02d.png"
    options = dataclasses.replace(options, encode=EncodeOptions())
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, options, progress=stop)
    outcome = cli("finish", f"{target}.starvsr", tmp_path / "one.png", "--overwrite")
    assert outcome.code == 2
    assert "give such as one-%06d.png" in outcome.error
    assert not (tmp_path / "one.png").exists()


def test_a_job_that_begins_within_a_held_picture(
    cli: Cli, tmp_path: Path, options: UpscaleOptions
) -> None:
    """As the whole job does: the first picture is shown from where the range begins."""
    times = [12800 * number for number in range(FRAMES)]
    sound = (Audio("flac", seconds=FRAMES),)
    slides = Clip(frames=FRAMES, width=16, height=12, pts=times, rate=1, audio=sound)
    source = make(tmp_path / "slides.mkv", slides)
    options = dataclasses.replace(options, range=RangeOptions(start_s=0.5))
    work = broken_off(tmp_path, source, options, 0, 1)
    assert cli("finish", work).code == 0
    upscale_video(source, tmp_path / "out.mkv", options)
    partial, whole = (
        shown(tmp_path / name, "video", "audio") for name in ("out-partial.mkv", "out.mkv")
    )
    assert partial["video"][:3] == whole["video"][:3] == [0, 0.5, 1.5]
    assert partial["audio"][:3] == whole["audio"][:3]
    assert abs(partial["audio"][-1] - (len(partial["video"]) - 0.5)) < 0.2


def shown(path: Path, *kinds: str) -> dict[str, list[float]]:
    """When packets of each kind of stream begin, seconds."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None:
                times[packet.stream.type].append(float(packet.pts * packet.time_base))
    return times
