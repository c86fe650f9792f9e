"""`starvsr upscale` and `starvsr plan`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starvsr.cli.console import ProgressMode, format_seconds, progress_view
from starvsr.cli.upscale_options import takes_upscale_options
from starvsr.errors import UsageError
from starvsr.options import UpscaleOptions

if TYPE_CHECKING:
    from starvsr.upscale import Job, UpscaleResult
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
    input: Annotated[Path, _INPUT],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="The file to write; its ending chooses the container.",
            show_default=False,
        ),
    ],
    progress: Annotated[
        ProgressMode, typer.Option("--progress", help="How progress is shown.")
    ] = ProgressMode.auto,
    as_json: Annotated[bool, JSON_OPTION] = False,
    verbose: Annotated[bool, VERBOSE_OPTION] = False,
    quiet: Annotated[bool, _QUIET] = False,
    *,
    options: UpscaleOptions,
) -> int:
    """Restore one video at a larger size, keeping its sound, subtitles, chapters and timing.

    Example: starvsr upscale in.mp4 out.mp4 --scale 4
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    refuse_folder(input)
    from starvsr.cli.weights_report import plan_text
    from starvsr.upscale import plan_video, run_job

    def announce(plan: InstallPlan) -> None:
        if not quiet:
            typer.echo(plan_text(plan), err=True)

    with progress_view(progress, quiet=quiet) as view:
        job = plan_video(input, output, options, fetch=announce, progress=view)
        if not quiet:
            _say_choices(job)
        with _kept_is_said():
            result = run_job(job, progress=view, on_resume=None if quiet else _say_kept)
    if as_json:
        typer.echo(json.dumps({"version": JSON_VERSION, "event": "done", **result.to_json()}))
    if not quiet:
        _say_result(result)
    if result.lost_frames:
        typer.echo(
            f"warning: {input} is damaged: {_frames(result.lost_frames)} lost, {result.frames} restored",
            err=True,
        )
        return EXIT_DAMAGED
    return 0


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
        typer.echo(json.dumps({"version": JSON_VERSION, "event": "plan", **job.to_json()}))
    else:
        typer.echo(plan_text(job))
    return 0


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """What of the library's messages is shown. Raises UsageError where both are wanted."""
    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other: give one of them")
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.getLogger("starvsr").setLevel(level)


def refuse_folder(source: Path) -> None:
    """Raise UsageError for a folder where a file is needed."""
    # A name that is too long is no folder; reading it says what is wrong.
    with suppress(OSError):
        if source.is_dir():
            raise UsageError(f"{source} is a folder: give one video file")


def _say_choices(job: Job) -> None:
    plan = job.plan
    size = f"{job.info.width}x{job.info.height} -> {plan.width}x{plan.height}"
    typer.echo(
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
            typer.echo(kept, err=True)
        raise


def _say_kept(segments: int, folder: Path) -> None:
    count = "1 segment is" if segments == 1 else f"{segments} segments are"
    typer.echo(f"going on: {count} there already in {folder}", err=True)


def _say_result(result: UpscaleResult) -> None:
    rate = result.frames / result.elapsed_s if result.elapsed_s else 0.0
    typer.echo(
        f"{result.target}: {_frames(result.frames)} in {format_seconds(result.elapsed_s)} ({rate:.2f} fps)",
        err=True,
    )


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
