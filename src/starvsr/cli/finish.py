"""`starvsr finish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starvsr.cli.common import AsJson, Progress, Quiet, Verbose
from starvsr.cli.console import progress_view
from starvsr.cli.messages import say, set_verbosity
from starvsr.cli.report import print_event
from starvsr.cli.streams import check_output


def finish(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="WORKDIR",
            help="The work directory that an interrupted upscale left, such as out.mp4.starvsr.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUTPUT",
            help="The file to write (default: NAME-partial beside the job's output).",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an existing output.")
    ] = False,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """Write a playable file of what an interrupted upscale has finished, up to the first missing segment.

    The work directory stays, so the same upscale command can still resume.

    Example: starvsr finish out.mp4.starvsr
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    if as_json:
        check_output()
    from starvsr.job.finish import finish_job

    with progress_view(progress, quiet=quiet) as view:
        result = finish_job(folder, output, overwrite=overwrite, progress=view)
    if as_json:
        print_event("finished", result.to_json())
    line = f"{result.target}: {result.frames} of {result.of_frames} frames"
    if result.left_out:
        line += f"; {result.left_out} more are finished, but after a gap"
    say(line)
    return 0
