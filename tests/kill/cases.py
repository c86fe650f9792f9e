"""One kill and what must hold when the same command is run again."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tests.kill.runs import STAGES, Job, Moment, Pace, Run, pace_of, run
from tests.media.clips import Audio, Clip, make, payloads, showing

_FRAMES = 40
_COMMON = ("--model", "nano", "--segment-frames", "12", "--device", "cpu", "--json")
_X264 = ("--codec", "libx264", "--preset", "veryfast")
KINDS = (
    ("out.mkv", "clip", ("--codec", "ffv1")),
    ("out.mp4", "clip", _X264),
    # Where x264's rate control has choices to make, in rows of 78 blocks (see `media/encoder.py`).
    ("lively.mp4", "lively", (*_X264, "--crf", "23")),
    ("held.mkv", "held", ("--codec", "ffv1")),
)
"""Name of the output, which clip, options."""
_LIVELY_FRAMES, _LIVELY_WIDTH, _LIVELY_HEIGHT = 24, 312, 180
# A run that is quicker than the unbroken one may end before its moment.
_MOST_TRIES = 8

Content = tuple[list[str], list[object]]


@dataclass(frozen=True)
class Whole:
    """A job, what it makes where nobody disturbs it, and how."""

    job: Job
    content: Content
    pace: Pace


@dataclass(frozen=True)
class Case:
    """What a kill came to."""

    seed: int
    wanted: str
    """The stage; empty for any time at all."""
    stage: str
    """Where it was killed."""
    kept: int
    """Segments that were in the journal."""
    failures: tuple[str, ...]
    """What should not have been; empty is well."""


def whole_runs(
    folder: Path, kinds: Sequence[tuple[str, str, tuple[str, ...]]] = KINDS
) -> list[Whole]:
    """Run all jobs, in an empty folder."""
    clips = {
        "clip": Clip(
            frames=_FRAMES,
            width=96,
            height=72,
            audio=(Audio(seconds=_FRAMES / 25),),
            chapters=((0, 0.5, "Start"), (0.5, 1.5, "End")),
        ),
        "lively": Clip(
            frames=_LIVELY_FRAMES,
            width=_LIVELY_WIDTH,
            height=_LIVELY_HEIGHT,
            codec="ffv1",
            fill=_lively,
        ),
        # Pictures that two or three frames show, also where segments meet.
        "held": Clip(
            frames=2 * _FRAMES,
            width=96,
            height=72,
            codec="ffv1",
            fill=showing(*(2 * number // 5 for number in range(2 * _FRAMES))),
        ),
    }
    return [
        _whole(
            Job(
                make(folder / f"{clip}.mkv", clips[clip]),
                folder / f"whole-{name}" / name,
                (*_COMMON, *options),
            )
        )
        for name, clip, options in kinds
    ]


def _lively(frame: av.VideoFrame, number: int) -> None:
    """Noise on waves that move."""
    rows, columns = np.mgrid[0:_LIVELY_HEIGHT, 0:_LIVELY_WIDTH]
    waves = np.sin((columns + 7 * number) / 11) * np.cos((rows - 5 * number) / 7)
    noise = np.random.default_rng(number).normal(0, 20, (_LIVELY_HEIGHT, _LIVELY_WIDTH))
    luma = (126 + 70 * waves + noise).clip(16, 235)
    for plane in frame.planes:
        data = np.full((plane.height, plane.line_size), 128, np.uint8)
        if plane.width == _LIVELY_WIDTH:
            data[:, :_LIVELY_WIDTH] = luma
        plane.update(data.tobytes())


def _whole(job: Job) -> Whole:
    job.target.parent.mkdir()
    pace = pace_of(run(job), job)
    content = content_of(job.target)
    shutil.rmtree(job.target.parent)
    return Whole(job, content, pace)


def content_of(path: Path) -> Content:
    """Hash and time of every decoded frame; time and data of every packet of the sound."""
    with av.open(str(path)) as container:
        pictures = [
            f"{frame.pts} {hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()}"
            for frame in container.decode(video=0)
        ]
    return pictures, [*payloads(path, "audio")]


def moment_of(random_: random.Random, stage: str, pace: Pace) -> Moment:
    """A moment in a stage, or where that is empty at any time of a run."""
    if not stage:
        return Moment("", 0, random_.uniform(0, pace.seconds))
    number = random_.randint(1, pace.events[stage])
    if stage == "decode":
        return Moment(stage, number, random_.uniform(0, pace.decode_s))
    if stage == "network":
        return Moment(stage, number, random_.uniform(1.2 * pace.decode_s, 0.9 * pace.quiet_s))
    return Moment(stage, number, 0.0)


SIGNALS = {
    name: getattr(signal, name)
    for name in ("SIGKILL", "SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
}


def run_case(
    seed: int, wholes: list[Whole], folder: Path, by: signal.Signals = signal.SIGKILL
) -> Case:
    """End a run where the seed says, run the same command again, and look. folder: an empty one; left empty.

    by: what ends it. Of ten seeds eight are for one stage each, two for any time.
    """
    whole = wholes[seed // 10 % len(wholes)]
    stage = STAGES[seed % 10] if seed % 10 < len(STAGES) else ""
    job = Job(whole.job.source, folder / whole.job.target.name, whole.job.options)
    random_ = random.Random(seed)
    for _ in range(_MOST_TRIES):
        killed = run(job, whole.pace, moment_of(random_, stage, whole.pace), by)
        # Before the program hears signals, they end it as they end any.
        if killed.code in (-by, 128 + by):
            break
        job.target.unlink()
    failures = [] if by == signal.SIGKILL else [*failures_when_told(job, killed)]
    kept = [*recorded_files(job.journal)]
    cores = sum("-core." in name for name in kept)
    # All was done, and only the process had not ended.
    over = job.target.exists() and not job.journal.exists()
    again = run(job)
    if over:
        failures += failures_when_over(job, whole, again)
    else:
        failures += failures_of(job, whole, killed, kept, again)
    shutil.rmtree(folder)
    folder.mkdir()
    return Case(seed, stage, "over" if over else killed.stage, cores, tuple(failures))


def recorded_files(journal: Path) -> dict[str, str]:
    """The files that a journal says are finished, and their hashes."""
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    return {
        file["name"]: file["sha256"]
        for line in lines
        if line.endswith(b"\n")
        for files in json.loads(line).get("steps", {}).values()
        for file in files
    }


def failures_when_told(job: Job, ended: Run) -> Iterator[str]:
    """What must not be where a run was told to end, and could clean up."""
    if ended.code < 0:
        if ended.stage != "start":
            yield f"dies of the signal, at {ended.stage}"
        return
    if partial := [path.name for path in job.target.parent.rglob("*.partial")]:
        yield f"left behind: {', '.join(sorted(partial))}"
    if "error: " in ended.err or "Traceback" in ended.err:
        yield f"says {ended.err.strip()}"


def failures_of(job: Job, whole: Whole, killed: Run, kept: list[str], again: Run) -> Iterator[str]:
    """What must not be. kept: files that the journal promised after the kill. again: the run behind it."""
    if killed.code >= 0 and killed.code - 128 not in SIGNALS.values():
        yield f"was not killed: {killed.code}, {killed.err.strip()}"
    if again.code:
        yield f"the same command gives {again.code}: {again.err.strip()}"
        return
    made = again.moved_to()
    if twice := sorted(set(kept) & set(made)):
        yield f"made twice: {', '.join(twice)}"
    cores = [name for name in (*kept, *made) if "-core." in name]
    if len(cores) != whole.pace.segments:
        yield f"{len(cores)} segments were restored, not {whole.pace.segments}"
    yield from _differences(job, whole)


def failures_when_over(job: Job, whole: Whole, again: Run) -> Iterator[str]:
    """What must not be where the output was there and the work directory gone, or empty."""
    if again.code != 7 or "exists already" not in again.err:
        yield f"the same command gives {again.code}: {again.err.strip()}"
    yield from _differences(job, whole)


def _differences(job: Job, whole: Whole) -> Iterator[str]:
    pictures, sound = content_of(job.target)
    if pictures != whole.content[0]:
        yield "the frames are not those of the unbroken run"
    if sound != whole.content[1]:
        yield "the sound is not that of the unbroken run"
    if strays := [path.name for path in job.target.parent.iterdir() if path != job.target]:
        yield f"left behind: {', '.join(sorted(strays))}"
