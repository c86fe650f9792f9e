"""`starvsr upscale` and `starvsr plan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starvsr.cli.batch import (
    EXIT_SOME_FAILED,
    NAME_TEMPLATE,
    Item,
    Outcome,
    as_previews,
    check_items,
    counts,
    find_items,
    folder_beside,
    is_batch,
    is_folder,
    is_pattern,
    run_batch,
    say_summary,
)
from starvsr.cli.common import AsJson, Progress, Quiet, Verbose
from starvsr.cli.jobs import read_jobs
from starvsr.cli.messages import log_to, set_verbosity
from starvsr.cli.pipes import PIPE, Container, check_pipes, for_pipe, piped
from starvsr.cli.printing import echo
from starvsr.cli.report import Events, Report, print_event
from starvsr.cli.upscale_options import parse_time, takes_upscale_options
from starvsr.errors import InputError, UsageError
from starvsr.options import PreviewOptions, UpscaleOptions
from starvsr.zoo.amounts import format_seconds

if TYPE_CHECKING:
    from starvsr.job.executor import LastModel
    from starvsr.job.preview import PreviewResult
    from starvsr.job.run import Job, UpscaleResult

EXIT_DAMAGED = 8

_INPUT = typer.Argument(
    metavar="INPUT",
    help="The video to restore: any file that ffmpeg reads; or a picture.",
    show_default=False,
)


@takes_upscale_options
def upscale(
    context: typer.Context,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            help="The video to restore: any file that ffmpeg reads, or - for standard input; or a picture. Also "
            "several of them, patterns or folders.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Argument(
            metavar="OUTPUT",
            help="The file to write, in the container of its extension, or - for standard output. For several inputs "
            "or a folder: a folder. A name that ends in / is a folder too. (default: beside one INPUT, such as "
            "clip-1024x576.mkv; of a folder, clips-4x).",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option(
            "--jobs",
            metavar="FILE",
            help="Instead of INPUT and OUTPUT: a TOML file with a table of options for each video (default: none).",
        ),
    ] = None,
    name_template: Annotated[
        str | None,
        typer.Option(
            "--name-template",
            metavar="TEXT",
            help="With several inputs: output names, with {stem}, {ext} and {number} (default {stem}{ext}).",
        ),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="With several inputs: continue after one that fails."),
    ] = False,
    stills: Annotated[
        bool,
        typer.Option(
            "--stills",
            help="Folders stand for their pictures, each restored on its own, instead of their videos.",
        ),
    ] = False,
    preview: Annotated[
        float | None,
        typer.Option(
            "--preview",
            parser=parse_time,
            metavar="TIME",
            help="Restore only this much, to OUTPUT-preview: input and result side by side, and a PNG (default: none).",
        ),
    ] = None,
    at: Annotated[
        float | None,
        typer.Option(
            "--at", parser=parse_time, metavar="TIME", help="Where --preview begins (default 0)."
        ),
    ] = None,
    container: Annotated[
        Container | None,
        typer.Option("--container", help="Container of the output - (default mkv)."),
    ] = None,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            metavar="FILE",
            help="Append all messages to this file, with times (default: none).",
        ),
    ] = None,
    *,
    options: UpscaleOptions,
    given: dict[str, Any],
) -> int:
    """Restore videos at a larger size, keeping audio, subtitles, chapters and timing."""
    set_verbosity(verbose=verbose, quiet=quiet)
    names = (*(inputs or ()), output, jobs, given.get("prompt_file"))
    log_to(log_file, [name for name in names if name is not None])
    with Events(wanted=as_json) as events:
        report = Report(progress, events, quiet=quiet)
        if at is not None and preview is None:
            raise UsageError("--at would have no effect without --preview: give how much to show")
        shown = None if preview is None else PreviewOptions(preview, at)
        if output is not None and not inputs and jobs is None:
            # The parser takes a single name for the last argument.
            inputs, output = [Path(output)], None
        target = None if output is None else Path(output)
        several = jobs is not None or (bool(inputs) and is_batch(inputs or [], output))
        if several and (container is not None or PIPE in (*(inputs or ()), target)):
            raise UsageError("- and --container are for one input and one file: leave them out")
        if jobs is not None:
            _refuse_beside_jobs(inputs, target, name_template, options, stills=stills)
            items = read_jobs(jobs, given)
            return _upscale_all(items, keep_going=keep_going, report=report, preview=shown)
        if not inputs:
            raise UsageError("INPUT is required: give a video, and perhaps its output, or --jobs")
        if several:
            if options.resume.work_dir is not None:
                raise UsageError(
                    "--work-dir is for one input: leave it out, each video has its own"
                )
            template = NAME_TEMPLATE if name_template is None else name_template
            target = target or _folder_beside(inputs, options)
            items = find_items(
                inputs, target, template, options, stills=stills, keep_going=keep_going
            )
            return _upscale_all(items, keep_going=keep_going, report=report, preview=shown)
        if name_template is not None or keep_going or stills:
            flag = "--keep-going" if keep_going else "--stills" if stills else "--name-template"
            raise UsageError(
                f"{flag} would have no effect on one input: leave it out or give several"
            )
        target = target or _beside(inputs[0], options)
        check_pipes(inputs[0], target, container, as_json=as_json)
        if shown is not None and target == PIPE:
            raise UsageError("--preview writes two files, but the output is -: name a file")
        return _upscale_alone(
            inputs[0], target, for_pipe(options, container), container, report, shown
        )


def _upscale_alone(
    source: Path,
    target: Path,
    options: UpscaleOptions,
    container: Container | None,
    report: Report,
    preview: PreviewOptions | None,
) -> int:
    """Upscale the one video that was given; either name may be `-`. Returns the exit code."""
    from starvsr.job.executor import LastModel

    with piped(source, target, container) as ends:
        items = [Item(ends.source, ends.target, options)]
        (item,) = items if preview is None else as_previews(items)
        # A pipe's work directory is temporary unless it was named.
        lasting = target != PIPE or options.resume.work_dir is not None
        result = _upscale_one(
            item, LastModel(), report, preview, lasting=lasting, planned=ends.planned
        )
    return EXIT_DAMAGED if result.lost_frames else 0


def _beside(source: Path, options: UpscaleOptions) -> Path:
    """The output of one input for which none was given. Raises StarvsrError."""
    from starvsr.job.plan_job import output_beside

    if source == PIPE:
        raise UsageError(
            "OUTPUT is required for the input -: give a file, or - for standard output"
        )
    return output_beside(source, options)


def _folder_beside(inputs: Sequence[Path], options: UpscaleOptions) -> Path:
    """The folder for a batch for which none was given. Raises UsageError unless it is a folder's."""
    if not is_folder(inputs[0]):
        raise UsageError(f"OUTPUT is required for the files of {inputs[0]}: give a folder")
    return folder_beside(inputs[0], options.size)


def _refuse_beside_jobs(
    inputs: list[Path] | None,
    output: Path | None,
    name_template: str | None,
    options: UpscaleOptions,
    *,
    stills: bool,
) -> None:
    """Raise UsageError for arguments that a jobs file contains itself."""
    if inputs or output is not None:
        raise UsageError("--jobs names inputs and outputs itself: leave INPUT and OUTPUT out")
    if name_template is not None:
        raise UsageError("--name-template would have no effect with --jobs: leave it out")
    if stills:
        raise UsageError("--stills would have no effect with --jobs: leave it out")
    if options.resume.work_dir is not None:
        raise UsageError("--work-dir is for one video: give each job its own work-dir, or none")


def _upscale_one(
    item: Item,
    models: LastModel,
    report: Report,
    preview: PreviewOptions | None,
    *,
    number: int = 1,
    count: int = 1,
    lasting: bool = True,
    planned: Callable[[Job], None] | None = None,
) -> UpscaleResult | PreviewResult:
    """Upscale one video, the `number`-th of `count`.

    lasting: whether an interrupted job's finished parts persist.
    planned: receives the job before the work, and may raise.
    """
    report.begun(item, number, count)
    if preview is not None:
        shown = _preview_one(item, models, report, preview)
        report.previewed(item, shown)
        return shown
    from starvsr.job.run import plan_video, run_job

    with report.view() as view:
        job = plan_video(
            item.source, item.target, item.options, fetch=report.downloads, progress=view
        )
        report.choices(job)
        if planned is not None:
            planned(job)
        with report.kept_is_said(view) if lasting else nullcontext(view) as progress:
            result = run_job(job, progress=progress, on_resume=report.kept, models=models)
    report.done(item, result)
    return result


def _preview_one(
    item: Item, models: LastModel, report: Report, options: PreviewOptions
) -> PreviewResult:
    from starvsr.job.preview import plan_preview, run_preview

    with report.view() as view:
        preview = plan_preview(
            item.source, item.target, options, item.options, fetch=report.downloads, progress=view
        )
        report.choices(preview.job)
        return run_preview(preview, progress=view, models=models)


def _upscale_all(
    items: list[Item],
    *,
    keep_going: bool,
    report: Report,
    preview: PreviewOptions | None,
) -> int:
    """Upscale a batch into folders, which may be new; returns the exit code."""
    if preview is not None:
        items = as_previews(items)
    items = check_items(items, keep_going=keep_going)
    from starvsr.job.executor import LastModel
    from starvsr.media.folders import new_folders

    models = LastModel()

    def one(item: Item) -> Outcome:
        number = items.index(item) + 1
        # A video that fails leaves no empty folder.
        with new_folders([item.target.parent]):
            result = _upscale_one(item, models, report, preview, number=number, count=len(items))
        state = "damaged" if result.lost_frames else "done"
        return Outcome(item, state, format_seconds(result.elapsed_s))

    outcomes = run_batch(
        items, one, keep_going=keep_going, failed=report.failed, resumes=preview is None
    )
    found = counts(outcomes)
    report.event("batch", **found)
    say_summary(outcomes)
    if found["failed"]:
        return EXIT_SOME_FAILED
    return EXIT_DAMAGED if found["damaged"] else 0


@takes_upscale_options
def plan(
    input: Annotated[Path, _INPUT],
    output: Annotated[
        str | None,
        typer.Argument(
            metavar="OUTPUT",
            help="The file that would be written, or its folder (default: that of upscale, beside INPUT).",
        ),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    *,
    options: UpscaleOptions,
) -> int:
    """Show what upscale would do with the same options: sizes, segments, windows, memory. Loads no weights."""
    from starvsr.cli.plan_report import plan_text
    from starvsr.job.plan_job import plan_video
    from starvsr.media.folders import new_folders

    set_verbosity(verbose=verbose, quiet=False)
    refuse_folder(input)
    if is_pattern(input):
        raise InputError(f"{input} does not exist; as a pattern it may be several: give one video")
    target = None if output is None else Path(output)
    if output is not None and target is not None and is_batch([input], output):
        (item,) = find_items([input], target, NAME_TEMPLATE, options)
        with new_folders([target]):
            job = plan_video(input, item.target, options)
    else:
        job = plan_video(input, target, options)
    if as_json:
        print_event("plan", job.to_json())
    else:
        echo(plan_text(job))
    return 0


def refuse_folder(source: Path) -> None:
    """Raise UsageError for a folder where a file is needed."""
    if is_folder(source):
        raise UsageError(f"{source} is a folder: give one video file")
