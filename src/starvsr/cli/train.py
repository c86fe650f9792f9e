"""`starvsr train`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from starvsr.cli.common import COUNT, AsJson, Progress, Quiet, Verbose
from starvsr.cli.console import progress_view
from starvsr.cli.messages import set_verbosity
from starvsr.cli.printing import echo
from starvsr.cli.report import print_event
from starvsr.cli.streams import check_output
from starvsr.errors import UsageError
from starvsr.options import WeightsOptions
from starvsr.zoo.amounts import format_seconds

if TYPE_CHECKING:
    from starvsr.train.runs import TrainResult


def train(
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Training configuration (TOML); the source has examples in configs/.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for checkpoints, log, samples and the model "
            "(default: the configuration's name without its extension).",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Base of the configuration's relative data folders (default: its own folder).",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            help="Total steps, including earlier runs (default: the configuration's).",
            **COUNT,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Resume from the latest checkpoint in the output folder, or delete its contents and start over.",
        ),
    ] = True,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Processes that decode and degrade; 0 does it between steps (default: the number of CPUs, at most 8).",
            **COUNT,
        ),
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option(
            "--weights-dir",
            metavar="DIR",
            help="Weights folder of the model to start from (default: STARVSR_WEIGHTS, else starvsr in Hugging "
            "Face's home).",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu"], typer.Option("--device", help="Device to train on.")
    ] = "auto",
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """Train a network, or part of one, and write it as a model file. Resumes from the last checkpoint.

    Example: starvsr train --config nano.toml --data DIR --output run
    """
    first_process = os.environ.get("RANK", "0") == "0"
    set_verbosity(verbose=verbose, quiet=quiet)
    if as_json:
        check_output()
    if not first_process:
        # All processes do the same; one reports it.
        set_verbosity(verbose=False, quiet=True)
    if not config.is_file():
        raise UsageError(f"--config {config} is not a file: give a TOML file")
    from starvsr.train.config import read_config
    from starvsr.train.runs import RunOptions
    from starvsr.train.trainer import train as run

    settings = read_config(config)
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps} is not allowed: give 1 or more")
    if steps is not None:
        settings = dataclasses.replace(settings, steps=steps)
    options = RunOptions(
        output=output or Path(config.stem),
        data=data or config.parent,
        base=config.parent,
        weights=WeightsOptions(folder=weights_dir),
        device=device,
        workers=min(8, os.cpu_count() or 1) if workers is None else workers,
        resume=resume,
    )
    with progress_view(progress, quiet=quiet or not first_process) as view:
        result = run(settings, options, view)
    if not first_process:
        return 0
    if as_json:
        print_event("done", result.to_json())
    if not quiet:
        _say_result(result)
    return 0


def _say_result(result: TrainResult) -> None:
    done = result.steps - result.resumed_from
    before = f", {result.resumed_from} before" if result.resumed_from else ""
    echo(f"{result.model}: {done} steps in {format_seconds(result.elapsed_s)}{before}", err=True)
    if result.validation:
        scores = result.validation
        echo(
            f"validation: {scores['psnr_y']:.2f} dB PSNR-Y, plain upsampling {scores['upsampled_psnr_y']:.2f} dB",
            err=True,
        )
