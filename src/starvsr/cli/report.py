"""What `starvsr upscale` prints: messages on standard error, JSON objects on standard output."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starvsr.cli.batch import Item
from starvsr.cli.console import ProgressMode, ProgressView, progress_view
from starvsr.cli.ending import Ended, ended_by, signals_first
from starvsr.cli.messages import say, say_as, say_error
from starvsr.cli.printing import echo
from starvsr.cli.streams import check_output
from starvsr.errors import OutputError, StarvsrError
from starvsr.types import Progress, ProgressCallback
from starvsr.zoo.amounts import format_bytes, format_seconds

if TYPE_CHECKING:
    from starvsr.job.preview import PreviewResult
    from starvsr.job.run import Job, UpscaleResult
    from starvsr.zoo.planning import InstallPlan

JSON_VERSION = 1

logger = logging.getLogger(__name__)


def print_event(name: str, facts: Mapping[str, object]) -> None:
    """Print one JSON object to standard output."""
    echo(json.dumps({"version": JSON_VERSION, "event": name, **facts}))


class Events:
    """JSON objects on standard output, if wanted; a reader that goes away does not end the work.

    The end of the `with` block raises OutputError if one could not be written.
    """

    def __init__(self, *, wanted: bool) -> None:
        """Raises OutputError if standard output is known to be unusable."""
        self._wanted = wanted
        self._lost: OutputError | None = None
        if wanted:
            check_output()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None and self._lost is not None:
            raise self._lost

    def __call__(self, name: str, **facts: object) -> None:
        """Write one event."""
        if not self._wanted or self._lost is not None:
            return
        try:
            print_event(name, facts)
        except OutputError as error:
            self._lost = error
            logger.warning("%s; the work continues", error)


class Report:
    """How a run is reported."""

    def __init__(self, progress: ProgressMode, event: Events, *, quiet: bool) -> None:
        self._progress, self.event, self._quiet = progress, event, quiet

    def view(self) -> ProgressView:
        """The progress view of one video."""
        return progress_view(self._progress, quiet=self._quiet)

    def begun(self, item: Item, number: int, count: int) -> None:
        """A video is started; says so if there are several."""
        if count > 1:
            say(f"[{number}/{count}] {item.source}")
        self._name_as_typed(item)
        logger.debug("%s to %s: %s", item.source, item.target, item.options)

    def downloads(self, plan: InstallPlan) -> None:
        """What will be downloaded."""
        from starvsr.cli.weights_report import plan_text

        say(plan_text(plan))

    def choices(self, job: Job) -> None:
        """What was planned."""
        plan = job.plan
        size = f"{job.info.width}x{job.info.height} -> {plan.width}x{plan.height}"
        say(
            f"{_frames(plan.frames)}, {size}, model {job.choice.reason}, on {job.device.description}"
        )
        for note in job.notes:
            say(f"note: {note}")

    def _name_as_typed(self, item: Item) -> None:
        """Messages of this run name the work directory by a relative path where the output was given by one."""
        from starvsr.job.journal import journal_folder

        given = item.options.resume.work_dir or item.target
        folder = journal_folder(item.target, item.options.resume.work_dir)
        if not given.is_absolute() and not str(given).startswith(("~", "-")):
            say_as(folder, str(folder.relative_to(Path.cwd())))

    def kept(self, segments: int, folder: Path) -> None:
        """What an earlier run finished."""
        count = "1 segment" if segments == 1 else f"{segments} segments"
        say(f"resuming: {count} already done in {folder}")

    @contextmanager
    def kept_is_said(self, view: ProgressView) -> Iterator[ProgressCallback]:
        """Say what an interrupted job keeps and how to go on; yields where to report progress to.

        Raises `Ended` with that text if a signal ended the job.
        """
        from starvsr.job.journal import kept_work

        restored = ""

        def heed(progress: Progress) -> None:
            nonlocal restored
            if progress.stage == "restore":
                restored = f" at {progress.done:.0f} of {progress.total} frames"
            view(progress)

        try:
            with signals_first():
                yield heed
        except BaseException as error:
            kept = kept_work(error)
            if kept and isinstance(error, (KeyboardInterrupt, Ended)):
                raise ended_by(error)(f"{restored}; {kept}") from error
            if kept:
                say(kept, always=True)
            raise

    def done(self, item: Item, result: UpscaleResult) -> None:
        """A finished video."""
        self.event("done", **result.to_json())
        _say_result(item, result)

    def previewed(self, item: Item, result: PreviewResult) -> None:
        """A finished preview."""
        self.event("preview", **result.to_json())
        _say_result(item, result)
        say(
            f"{result.picture}: its middle frame, input left, result right. The whole video would take about "
            f"{format_seconds(result.whole_s)} and {format_bytes(result.whole_bytes)}"
        )

    def failed(self, item: Item, error: StarvsrError) -> None:
        """A video of several that failed."""
        say_error(str(error), error)
        facts = {"source": str(item.source), "target": str(item.target)}
        self.event("failed", **facts, error=str(error), exit_code=error.exit_code)


def _say_result(item: Item, result: UpscaleResult | PreviewResult) -> None:
    rate = result.frames / result.elapsed_s if result.elapsed_s else 0.0
    text = f"{result.target}: {_frames(result.frames)} in {format_seconds(result.elapsed_s)} ({rate:.2f} fps)"
    peaks = {"of memory": result.peak_memory_bytes, "on the device": result.peak_device_bytes}
    held = [f"{format_bytes(peak)} {where}" for where, peak in peaks.items() if peak]
    say(f"{text}, at most {' and '.join(held)}" if held else text)
    logger.debug("seconds: %s", result.seconds)
    if result.lost_frames:
        lost = f"{_frames(result.lost_frames)} lost, {result.frames} restored"
        say(f"warning: {item.source} is damaged: {lost}", always=True)


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
