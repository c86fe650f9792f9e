"""Progress on standard error: bars on a terminal (see `bars`), otherwise a plain line every few seconds."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Literal

from starvsr.cli.printing import echo
from starvsr.types import Progress
from starvsr.zoo.amounts import format_bytes, format_seconds

PLAIN_INTERVAL_S = 5.0
JSON_INTERVAL_S = 0.5
PROGRESS_VERSION = 1

STAGE_NAMES = {
    "download": "downloading",
    "convert": "converting",
    "text": "encoding prompt",
    "index": "reading",
    "load": "loading model",
    "restore": "restoring",
    "join": "joining",
    "compose": "comparing",
    "degrade": "degrading",
    "measure": "measuring",
    "check": "checking data",
    "train": "training",
}

UNITS = {"convert": "files", "check": "files", "train": "steps"}
"""Units of stages that do not count frames; `download` counts bytes."""

ProgressMode = Literal["auto", "rich", "plain", "json", "none"]
"""`--progress`."""


class ProgressView:
    """Shows progress between enter and exit; calling it is a `ProgressCallback`. This one shows nothing."""

    def __enter__(self) -> ProgressView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, progress: Progress) -> None:
        pass


def progress_view(mode: ProgressMode, *, quiet: bool) -> ProgressView:
    """The view for `--progress` and `--quiet`."""
    if quiet or mode == "none":
        return ProgressView()
    if mode == "json":
        return _JsonView()
    if mode == "rich" or (mode == "auto" and sys.stderr.isatty()):
        # Plain lines do not need Rich.
        from starvsr.cli.bars import Bars

        return Bars()
    return _PlainView()


class _LineView(ProgressView, ABC):
    """Prints a line at intervals, and one when a stage ends."""

    interval_s: float

    def __init__(self) -> None:
        self.began = self.printed = self.first = 0.0
        self.unsaid: tuple[Progress, float] | None = None
        """The last report and its time, until it is printed."""
        self.stage = ""
        self.ended: tuple[str, int] | None = None
        """The stage and its total where the last line was its end, which is not said again."""

    def __exit__(self, *_: object) -> None:
        self._say()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage != self.stage:
            self._say()
            self.stage, self.began, self.printed = progress.stage, now, now
            self.first = first_done(progress)
        self.unsaid = progress, now
        if now - self.printed >= self.interval_s:
            self._say()

    def _say(self) -> None:
        if self.unsaid is None:
            return
        (progress, self.printed), self.unsaid = self.unsaid, None
        ended = (progress.stage, progress.total) if progress.done >= progress.total else None
        if ended is not None and ended == self.ended:
            return
        self.ended = ended
        line = self._line(progress, self.printed - self.began)
        if line:
            echo(line, err=True)

    @abstractmethod
    def _line(self, progress: Progress, elapsed_s: float) -> str:
        """The line to print; empty for none."""


class _PlainView(_LineView):
    """For people, every few seconds."""

    interval_s = PLAIN_INTERVAL_S

    def _line(self, progress: Progress, elapsed_s: float) -> str:
        counted = progress.total > 1 and progress.done > 0
        ended = progress.done >= progress.total
        return _plain_line(progress, elapsed_s, self.first) if counted or ended else ""


class _JsonView(_LineView):
    """For programs: one JSON object per line, twice a second."""

    interval_s = JSON_INTERVAL_S

    def _line(self, progress: Progress, elapsed_s: float) -> str:
        usual = "frames" if progress.total > 1 else ""
        unit = "bytes" if progress.stage == "download" else UNITS.get(progress.stage, usual)
        pace = pace_of(progress, elapsed_s, self.first)
        rate, left_s = pace or (None, None if progress.done < progress.total else 0.0)
        segment = progress.segment and asdict(progress.segment)
        facts = {
            "version": PROGRESS_VERSION,
            "event": "progress",
            "stage": progress.stage,
            "done": round(progress.done, 3),
            "total": progress.total,
            "unit": unit,
            "detail": progress.detail,
            "segment": segment and {**segment, "done": round(segment["done"], 3)},
            "elapsed_s": round(elapsed_s, 3),
            "rate": rate and round(rate, 3),
            "left_s": left_s if left_s is None else round(left_s, 3),
        }
        return json.dumps(facts)


def first_done(progress: Progress) -> float:
    """The amount done before the stage began; only some stages resume."""
    return progress.done if progress.stage in ("download", "train", "restore") else 0.0


def pace_of(progress: Progress, elapsed_s: float, first: float) -> tuple[float, float] | None:
    """Units per second since the stage began, excluding `first`, and the remaining seconds; None if unknown."""
    if progress.done <= first or elapsed_s <= 0:
        return None
    rate = (progress.done - first) / elapsed_s
    return rate, (progress.total - progress.done) / rate


def _plain_line(progress: Progress, elapsed_s: float, first: float) -> str:
    name = STAGE_NAMES.get(progress.stage, progress.stage)
    if progress.total <= 1:
        return f"{name}: done in {format_seconds(elapsed_s)}"
    line = f"{name}: {format_amount(progress)}"
    segment = progress.segment
    if segment is not None and segment.count > 1:
        line += (
            f" (segment {segment.number} of {segment.count}: {segment.done:.0f}/{segment.total})"
        )
    pace = pace_of(progress, elapsed_s, first)
    if pace is not None:
        elapsed, left = format_seconds(elapsed_s), format_seconds(pace[1])
        line += f", {format_rate(progress, pace[0])}, {elapsed} elapsed, {left} left"
    return line


def format_amount(progress: Progress) -> str:
    if progress.stage == "download":
        return f"{format_bytes(progress.done)} of {format_bytes(progress.total)}"
    return f"{progress.done:.0f}/{progress.total} {UNITS.get(progress.stage, 'frames')}"


def format_rate(progress: Progress, rate: float) -> str:
    if progress.stage == "download":
        return f"{format_bytes(rate)}/s"
    unit = UNITS.get(progress.stage)
    return f"{rate:.2f} {unit}/s" if unit else f"{rate:.2f} fps"
