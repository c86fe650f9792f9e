"""`starvsr evaluate`, and the options shared with `starvsr compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starvsr.cli import completion
from starvsr.cli.common import AsJson, Progress, Quiet, Verbose
from starvsr.cli.console import progress_view
from starvsr.cli.messages import set_verbosity
from starvsr.cli.pipes import refuse_pipes
from starvsr.cli.printing import echo
from starvsr.cli.report import print_event
from starvsr.cli.streams import check_output
from starvsr.cli.upscale import EXIT_DAMAGED
from starvsr.errors import UsageError
from starvsr.options import Deinterlace

METRICS_OPTION = typer.Option(
    "--metrics",
    metavar="NAMES",
    help="Separated by commas: psnr_y, ssim_y, vmaf, vmaf_neg, niqe, brisque, e_warp, tof; with the extra iqa lpips, "
    "dists, musiq, clip_iqa (default: all that are installed, except those of iqa).",
    autocompletion=completion.metrics,
)
DEVICE_OPTION = typer.Option(
    "--device",
    metavar="NAME",
    help="Where the metrics of the extra iqa run: cpu, cuda, cuda:N, mps.",
    autocompletion=completion.metric_devices,
)
DEINTERLACE_OPTION = typer.Option(
    "--deinterlace",
    help="How the reference was deinterlaced to make a result that is not interlaced, as of upscale.",
)
OVERWRITE_OPTION = typer.Option("--overwrite", "-y", help="Replace existing files.")


def evaluate(
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="A video, a folder of videos, or a manifest (.toml) of clips and their references.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Argument(
            metavar="REFERENCE",
            help="The ground truth: a video, or a folder with the same names. Without it, only no-reference "
            "metrics are computed.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Also write metrics.json, metrics.md and frames.csv there (default: write nothing).",
        ),
    ] = None,
    deinterlace: Annotated[Deinterlace, DEINTERLACE_OPTION] = "auto",
    metrics: Annotated[str | None, METRICS_OPTION] = None,
    device: Annotated[str, DEVICE_OPTION] = "cpu",
    overwrite: Annotated[bool, OVERWRITE_OPTION] = False,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """Measure videos, with or without their originals: a table of means, and per-frame scores.

    Example: starvsr evaluate results/ originals/ -o report
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    check_output()
    refuse_pipes("evaluate", result, *([reference] if reference else []), output=output)
    from starvsr.evaluate import report
    from starvsr.evaluate.measure import measure_all
    from starvsr.evaluate.pairs import find_pairs
    from starvsr.media.folders import refuse_named_like_a_file
    from starvsr.metrics.registry import METRICS, choose_metrics

    check_metrics_joined(metrics, result, reference)
    names, left_out = choose_metrics(metric_names(metrics))
    pairs = find_pairs(result, reference)
    needy = [name for name in names if METRICS[name].full_reference]
    if metrics is not None and needy and all(pair.reference is None for pair in pairs):
        raise UsageError(
            f"--metrics {','.join(needy)} needs a reference: give REFERENCE, or one in the manifest"
        )
    if output is not None:
        refuse_named_like_a_file(output, ".json", ".md", ".csv", ".html", ".txt")
        report.check_folder(output, overwrite=overwrite)
    torch_device = resolve_device(device)
    with progress_view(progress, quiet=quiet) as view:
        clips = measure_all(
            pairs, names, deinterlace=deinterlace, device=torch_device, progress=view
        )
    if output is not None:
        report.write_report(output, clips, left_out)
    if as_json:
        print_event("evaluated", report.to_json(clips, left_out))
    else:
        echo(report.to_markdown(clips, left_out), nl=False)
    if as_json and not quiet:
        for clip in clips:
            say_warnings(clip.pair.name, clip.warnings)
    return EXIT_DAMAGED if any(clip.lost_frames for clip in clips) else 0


def metric_names(given: str | None) -> list[str] | None:
    """`--metrics` as names; None if not given."""
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def check_metrics_joined(metrics: str | None, *paths: Path | None) -> None:
    """Raise UsageError for a missing file with the name of a metric, which was meant to be one of `--metrics`."""
    from starvsr.metrics.registry import METRICS

    stray = [str(path) for path in paths if str(path) in METRICS and not Path(str(path)).exists()]
    if metrics is not None and stray:
        raise UsageError(metrics_advice([metrics, *stray]))


def metrics_advice(words: list[str]) -> str:
    """The advice about metrics that were given as words of their own."""
    return f"separate metrics by commas: --metrics {','.join(words)}"


def resolve_device(name: str) -> str:
    """torch's name of `--device`. Raises UsageError if it is unavailable."""
    from starvsr.models.device import device_info

    return device_info(name).name


def say_warnings(name: str, warnings: tuple[str, ...]) -> None:
    """Print a clip's warnings to standard error."""
    for warning in warnings:
        echo(f"warning: {name}: {warning}", err=True)
