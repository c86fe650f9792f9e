"""`starvsr upscale` and `starvsr plan`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starvsr.cli.batch import (
    EXIT_SOME_FAILED,
    NAME_TEMPLATE,
    Item,
    Outcome,
    counts,
    find_items,
    is_batch,
    is_folder,
    run_batch,
    say_summary,
)
from starvsr.cli.console import ProgressMode, format_seconds, progress_view
from starvsr.cli.printing import echo
from starvsr.cli.upscale_options import takes_upscale_options
from starvsr.errors import StarvsrError, UsageError
from starvsr.options import UpscaleOptions

if TYPE_CHECKING:
    from starvsr.upscale import Job, LastModel, UpscaleResult
    from starvsr.zoo.install import InstallPlan

EXIT_DAMAGED = 8
JSON_VERSION = 1

_INPUT = typer.Argument(
    metavar="INPUT", help="The video to restore: any file that ffmpeg reads.", show_default=False
)
JSON_OPTION = typer.Option("--json", help="Print one JSON object to standard output.")
VERBOSE_OPTION = typer.Option("--verbose", "-v", help="More messages, and tracebacks of errors.")
_QUIET = typer.Option("--quiet", "-q", help="Only errors.")


@takes_upscale_options
def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="The video to restore: any file that ffmpeg reads. Or several, or folders of them.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="The file to write; its ending chooses the container. With several inputs or a folder, a folder.",
            show_default=False,
        ),
    ],
    name_template: Annotated[
        str | None,
        typer.Option(
            "--name-template",
            metavar="TEXT",
            help="With several inputs: names of the outputs, with {stem}, {ext} and {number} (default {stem}{ext}).",
        ),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="With several inputs: go on behind one that fails."),
    ] = False,
    progress: Annotated[
        ProgressMode, typer.Option("--progress", help="How progress is shown.")
    ] = ProgressMode.auto,
    as_json: Annotated[bool, JSON_OPTION] = False,
    verbose: Annotated[bool, VERBOSE_OPTION] = False,
    quiet: Annotated[bool, _QUIET] = False,
    *,
    options: UpscaleOptions,
) -> int:
    """Restore videos at a larger size, keeping their sound, subtitles, chapters and timing.

    Example: starvsr upscale in.mp4 out.mp4 --scale 4
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    if is_batch(inputs):
        return _upscale_all(
            find_items(inputs, output, NAME_TEMPLATE if name_template is None else name_template),
            output,
            options,
            keep_going=keep_going,
            say=_Say(progress, as_json=as_json, quiet=quiet),
        )
    if name_template is not None or keep_going:
        flag = "--keep-going" if name_template is None else "--name-template"
        raise UsageError(f"{flag} would have no effect on one input: leave it out or give several")
    from starvsr.upscale import LastModel

    say = _Say(progress, as_json=as_json, quiet=quiet)
    result = _upscale_one(inputs[0], output, options, LastModel(), say)
    return EXIT_DAMAGED if result.lost_frames else 0


@dataclass(frozen=True)
class _Say:
    """How a run is reported."""

    progress: ProgressMode
    as_json: bool
    quiet: bool

    def event(self, name: str, **facts: object) -> None:
        """A JSON object, if they are wanted."""
        if self.as_json:
            echo(json.dumps({"version": JSON_VERSION, "event": name, **facts}))


def _upscale_one(
    source: Path, target: Path, options: UpscaleOptions, models: LastModel, say: _Say
) -> UpscaleResult:
    from starvsr.cli.weights_report import plan_text
    from starvsr.upscale import plan_video, run_job

    def announce(plan: InstallPlan) -> None:
        if not say.quiet:
            echo(plan_text(plan), err=True)

    with progress_view(say.progress, quiet=say.quiet) as view:
        job = plan_video(source, target, options, fetch=announce, progress=view)
        if not say.quiet:
            _say_choices(job)
        with _kept_is_said():
            result = run_job(
                job, progress=view, on_resume=None if say.quiet else _say_kept, models=models
            )
    say.event("done", **result.to_json())
    if not say.quiet:
        _say_result(result)
    if result.lost_frames:
        echo(
            f"warning: {source} is damaged: {_frames(result.lost_frames)} lost, {result.frames} restored",
            err=True,
        )
    return result


def _upscale_all(
    items: list[Item], folder: Path, options: UpscaleOptions, *, keep_going: bool, say: _Say
) -> int:
    """A batch; the exit code."""
    from starvsr.media.folders import new_folders
    from starvsr.upscale import LastModel

    if options.resume.work_dir is not None:
        raise UsageError("--work-dir is for one input: leave it out, each video has its own")
    models = LastModel()

    def one(item: Item) -> Outcome:
        if not say.quiet:
            echo(f"[{items.index(item) + 1}/{len(items)}] {item.source}", err=True)
        result = _upscale_one(item.source, item.target, options, models, say)
        state = "damaged" if result.lost_frames else "done"
        return Outcome(item, state, format_seconds(result.elapsed_s))

    def failed(item: Item, error: StarvsrError) -> None:
        echo(f"error: {' '.join(str(error).split())}", err=True)
        say.event("failed", source=str(item.source), error=str(error), exit_code=error.exit_code)

    # A run that did nothing leaves no empty folder.
    with new_folders([folder]):
        outcomes = run_batch(
            items, one, overwrite=options.overwrite, keep_going=keep_going, failed=failed
        )
    found = counts(outcomes)
    say.event("batch", **found)
    if not say.quiet:
        say_summary(outcomes)
    if found["failed"]:
        return EXIT_SOME_FAILED
    return EXIT_DAMAGED if found["damaged"] else 0


@takes_upscale_options
def plan(
    input: Annotated[Path, _INPUT],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="[OUTPUT]",
            help="The file that would be written (default: a .mkv beside INPUT).",
        ),
    ] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
    verbose: Annotated[bool, VERBOSE_OPTION] = False,
    *,
    options: UpscaleOptions,
) -> int:
    """Show what upscale would do with the same options: sizes, segments, windows, memory. Loads no weights."""
    from starvsr.cli.plan_report import plan_text
    from starvsr.upscale import plan_video

    set_verbosity(verbose=verbose, quiet=False)
    refuse_folder(input)
    job = plan_video(input, output, options)
    if as_json:
        echo(json.dumps({"version": JSON_VERSION, "event": "plan", **job.to_json()}))
    else:
        echo(plan_text(job))
    return 0


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """What of the library's messages is shown. Raises UsageError where both are wanted."""
    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other: give one of them")
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.getLogger("starvsr").setLevel(level)


def refuse_folder(source: Path) -> None:
    """Raise UsageError for a folder where a file is needed."""
    if is_folder(source):
        raise UsageError(f"{source} is a folder: give one video file")


def _say_choices(job: Job) -> None:
    plan = job.plan
    size = f"{job.info.width}x{job.info.height} -> {plan.width}x{plan.height}"
    echo(
        f"{_frames(plan.frames)}, {size}, model {job.choice.reason}, on {job.device.description}",
        err=True,
    )


@contextmanager
def _kept_is_said() -> Iterator[None]:
    """Whoever breaks a job off, or whatever does, is told that it can go on."""
    from starvsr.journal import kept_work

    try:
        yield
    except BaseException as error:
        if kept := kept_work(error):
            echo(kept, err=True)
        raise


def _say_kept(segments: int, folder: Path) -> None:
    count = "1 segment is" if segments == 1 else f"{segments} segments are"
    echo(f"going on: {count} there already in {folder}", err=True)


def _say_result(result: UpscaleResult) -> None:
    rate = result.frames / result.elapsed_s if result.elapsed_s else 0.0
    echo(
        f"{result.target}: {_frames(result.frames)} in {format_seconds(result.elapsed_s)} ({rate:.2f} fps)",
        err=True,
    )


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
