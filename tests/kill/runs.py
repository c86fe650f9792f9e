"""A real `starvsr upscale` process, followed by what it does to files, and killed at a moment."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.kill.inotify import Event, Watch

STAGES = ("plan", "decode", "network", "encode", "journal", "rename", "join", "clearing")
"""What a run can be killed at on purpose, in the order in which a run comes to them: `clearing` is when the output is
there and the work directory goes. What a kill may find too is `start`, before the input is opened, and `over`, when all
is done but the process has not ended."""

_LONGEST_S = 120.0


@dataclass(frozen=True)
class Job:
    """One command line."""

    source: Path
    target: Path
    options: tuple[str, ...]

    @property
    def work(self) -> Path:
        """The work directory."""
        return self.target.with_name(f"{self.target.name}.starvsr")

    @property
    def journal(self) -> Path:
        return self.work / "journal.jsonl"


@dataclass(frozen=True)
class Pace:
    """What is known from an unbroken run."""

    seconds: float
    lines: int
    """Of its journal, at the end."""
    segments: int
    events: dict[str, int]
    """How many there were of each stage."""
    decode_s: float
    """Of one segment."""
    quiet_s: float
    """From when a segment's input is opened to the first file of it that is made."""


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after the n-th event of a stage, or where there is no stage after the start."""

    stage: str
    number: int
    wait_s: float


@dataclass
class Run:
    """What became of a process."""

    code: int = 0
    """Negative is the signal that it died of."""
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    stage: str = "start"
    """The last one."""
    events: list[tuple[float, str, Event]] = field(default_factory=list)
    """Seconds since the start, stage, what happened."""

    def moved_to(self) -> list[str]:
        """Names that files were given when they were complete."""
        return [event.path.name for _, _, event in self.events if event.kind == "moved to"]


def run(
    job: Job,
    pace: Pace | None = None,
    moment: Moment | None = None,
    by: signal.Signals = signal.SIGKILL,
) -> Run:
    """Run a command to its end, or end it at a moment by a signal.

    pace: of an unbroken run; without it, the stages from the last part on are not told apart. Raises TimeoutError.
    """
    result, follower = Run(), _Follower(job, pace)
    command = [sys.executable, "-m", "starvsr", "upscale", str(job.source), str(job.target)]
    with Watch() as watch:
        watch.add(job.target.parent)
        watch.add(job.source)
        if job.work.is_dir():
            watch.add(job.work)
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, *job.options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        killing = _Killing(moment, began)
        while process.poll() is None and not killing.is_due():
            for event in watch.wait(killing.left_s()):
                if (event.kind, event.path) == ("made", job.work):
                    watch.add(job.work)
                    event = Event("made", job.journal)
                stage = follower.stage(event)
                if stage is not None:
                    result.stage = stage
                    result.events.append((time.monotonic() - began, stage, event))
                    killing.saw(stage, event, job)
                if killing.is_due():
                    break
            if time.monotonic() - began > _LONGEST_S:
                process.kill()
                raise TimeoutError(f"{command} takes over {_LONGEST_S:.0f} s")
        result.seconds = time.monotonic() - began
        process.send_signal(by)
        result.out, result.err = process.communicate(timeout=_LONGEST_S)
        result.code = process.returncode
    if pace and result.events and result.stage == "decode":
        since_s = result.seconds - result.events[-1][0]
        result.stage = "network" if since_s > pace.decode_s else "decode"
    return result


class _Killing:
    """When the time has come."""

    def __init__(self, moment: Moment | None, began: float) -> None:
        self._moment, self._seen, self._due = moment, Counter[str](), float("inf")
        if moment is not None and not moment.stage:
            self._due = began + moment.wait_s

    def saw(self, stage: str, event: Event, job: Job) -> None:
        # What a segment reads of the input is read as soon as it is opened, however often.
        if stage == "decode" and event != Event("opened", job.source):
            return
        self._seen[stage] += 1
        moment = self._moment
        if moment is not None:
            wanted = "decode" if moment.stage == "network" else moment.stage
            if stage == wanted and self._seen[stage] == moment.number:
                self._due = time.monotonic() + moment.wait_s

    def left_s(self) -> float:
        """Until then; not long where that is not known."""
        return min(0.05, self._due - time.monotonic())

    def is_due(self) -> bool:
        return time.monotonic() >= self._due


class _Follower:
    """Which stage a run is in, from what it does to files."""

    def __init__(self, job: Job, pace: Pace | None) -> None:
        self._job = job
        self._parts = pace.lines - 1 if pace else sys.maxsize
        """Lines of the journal when all parts are there: the last one says what they were joined to."""
        self._begun = self._joined = False
        self._lines = 0
        self._last: Event | None = None

    def stage(self, event: Event) -> str | None:
        """None for an event that tells nothing."""
        job, path, kind = self._job, event.path, event.kind
        before, self._last = self._last, event
        if path == job.source:
            return "plan" if not self._begun else self._behind("decode")
        if path == job.target:
            self._joined = True
            return "rename"
        if self._joined:
            return "clearing"
        if path == job.journal:
            self._begun = True
            self._lines += kind == "closed"
            return "journal"
        if kind in ("moved from", "moved to"):
            return "rename"
        if path.suffix == ".partial":
            # It is opened again to be synced.
            synced = kind == "opened" and before is not None and before.kind != "made"
            return "rename" if synced else self._behind("encode")
        if path.suffix == ".raw" or path.name[:6].isdigit():
            # Hashed, crossfaded, joined, and raw frames that are no longer needed are removed.
            return self._behind("encode" if path.suffix == ".raw" else "journal")
        return None

    def _behind(self, stage: str) -> str:
        return "join" if self._lines >= self._parts else stage


def pace_of(unbroken: Run, job: Job) -> Pace:
    """What a whole run shows. job: what was run."""
    assert unbroken.code == 0, unbroken.err
    names = [event for _, _, event in unbroken.events]
    lines = sum(event == Event("closed", job.journal) for event in names)
    segments = sum("-core." in name for name in unbroken.moved_to())
    again = _Follower(job, Pace(0, lines, segments, {}, 0, 0))
    stages = [again.stage(event) for event in names]
    counted = Counter(stage for stage in stages if stage not in (None, "decode"))
    counted["decode"] = counted["network"] = segments
    seconds: dict[str, Any] = json.loads(unbroken.out)["seconds"]
    return Pace(
        seconds=unbroken.seconds,
        lines=lines,
        segments=segments,
        events={str(stage): count for stage, count in counted.items()},
        decode_s=seconds["decode video"] / segments,
        quiet_s=sorted(_quiet(unbroken, stages))[segments // 2],
    )


def _quiet(unbroken: Run, stages: Sequence[str | None]) -> Iterator[float]:
    """Seconds from when a segment's input is read to its first file."""
    times = [at for at, _, _ in unbroken.events]
    for (before, stage), (behind, following) in pairwise(zip(times, stages, strict=True)):
        if stage == "decode" and following != "decode":
            yield behind - before
