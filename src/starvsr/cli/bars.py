"""Progress as Rich's bars on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress

from starvsr.cli.console import (
    STAGE_NAMES,
    ProgressView,
    first_done,
    format_amount,
    format_rate,
    pace_of,
)
from starvsr.types import Progress, SegmentProgress
from starvsr.zoo.amounts import format_seconds

# Left free at the right edge: a terminal writes ^C there, which would begin another line, and all bars stand twice.
_FREE_COLUMNS = 4
# Terminals from these widths on show the column; what people miss least goes first.
_ELAPSED_WIDTH, _RATE_WIDTH, _BAR_WIDTH, _AMOUNT_WIDTH = 76, 66, 54, 44


class Bars(ProgressView):
    """One bar per stage with its pace, elapsed and remaining time, and one per active segment."""

    def __init__(self) -> None:
        self.bars = _Columns(Console(stderr=True))
        self.tasks: dict[str, tuple[TaskID, float, float]] = {}
        self.segments: dict[int, TaskID] = {}

    def __enter__(self) -> Bars:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage not in self.tasks:
            name = STAGE_NAMES.get(progress.stage, progress.stage)
            self.tasks[progress.stage] = (self._bar(name), now, first_done(progress))
        number, began, first = self.tasks[progress.stage]
        pace = pace_of(progress, now - began, first) if progress.total > 1 else None
        self.bars.update(
            number,
            completed=progress.done,
            total=progress.total,
            rate=format_rate(progress, pace[0]) if pace else "",
            left=f"{format_seconds(pace[1])} left" if pace else "",
            amount=format_amount(progress).removesuffix(" frames"),
        )
        if progress.segment is not None and progress.segment.count > 1:
            self._show_segment(progress.segment)

    def _show_segment(self, segment: SegmentProgress) -> None:
        if segment.done >= segment.total:
            if segment.number in self.segments:
                self.bars.remove_task(self.segments.pop(segment.number))
            return
        if segment.number not in self.segments:
            name = f"  segment {segment.number}/{segment.count}"
            self.segments[segment.number] = self._bar(name)
        self.bars.update(
            self.segments[segment.number],
            completed=segment.done,
            total=segment.total,
            amount=f"{segment.done:.0f}/{segment.total}",
        )

    def _bar(self, name: str) -> TaskID:
        return self.bars.add_task(name, total=None, rate="", left="", amount="")


class _Columns(RichProgress):
    """As many columns as fit the terminal's width; whatever it is, none is cut off."""

    def __init__(self, terminal: Console) -> None:
        self._terminal = terminal
        self._from_width: list[tuple[int, ProgressColumn]] = [
            (0, TextColumn("{task.description:<15}")),
            (_BAR_WIDTH, BarColumn(bar_width=None)),
            (0, TaskProgressColumn()),
            (_AMOUNT_WIDTH, TextColumn("{task.fields[amount]}", style="progress.download")),
            (_RATE_WIDTH, TextColumn("{task.fields[rate]}")),
            (_ELAPSED_WIDTH, TimeElapsedColumn()),
            (0, TextColumn("{task.fields[left]}", style="progress.remaining")),
        ]
        super().__init__(console=terminal)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Called for every refresh, so that a terminal may be resized."""
        width = self._terminal.width
        self.columns = tuple(column for least, column in self._from_width if width >= least)
        for each in super().get_renderables():
            yield Constrain(each, max(1, width - _FREE_COLUMNS))
