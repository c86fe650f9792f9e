"""`starvsr compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starvsr.cli.common import COUNT, AsJson, Progress, Quiet, Verbose
from starvsr.cli.console import progress_view
from starvsr.cli.evaluate import (
    DEINTERLACE_OPTION,
    DEVICE_OPTION,
    METRICS_OPTION,
    OVERWRITE_OPTION,
    check_metrics_joined,
    metric_names,
    resolve_device,
    say_warnings,
)
from starvsr.cli.messages import set_verbosity
from starvsr.cli.pipes import refuse_pipes
from starvsr.cli.printing import echo
from starvsr.cli.report import print_event
from starvsr.cli.streams import check_output
from starvsr.cli.upscale import EXIT_DAMAGED, refuse_folder
from starvsr.cli.upscale_options import parse_time
from starvsr.errors import UsageError
from starvsr.options import Deinterlace

if TYPE_CHECKING:
    from starvsr.evaluate.compare import Comparison


def compare(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="The video on the left: the reference for B's metrics.",
            show_default=False,
        ),
    ],
    b: Annotated[
        Path, typer.Argument(metavar="B", help="The video on the right.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML page to write.")
    ] = Path("compare.html"),
    resize: Annotated[
        bool,
        typer.Option(
            "--resize", help="Scale A to B's size by bicubic interpolation, for before/after."
        ),
    ] = False,
    start: Annotated[
        float | None,
        typer.Option(
            "--start",
            metavar="TIME",
            parser=parse_time,
            help="B is an excerpt that begins here in A: seconds or hh:mm:ss.s. Compares the frames that both have "
            "(default: the whole videos).",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            help="Compare at most this many frames (default: all).",
            **COUNT,
        ),
    ] = None,
    deinterlace: Annotated[Deinterlace, DEINTERLACE_OPTION] = "auto",
    page_frames: Annotated[
        int,
        typer.Option(
            "--page-frames",
            help="Most frames that the page shows; metrics cover all frames.",
            **COUNT,
        ),
    ] = 600,
    metrics: Annotated[str | None, METRICS_OPTION] = None,
    device: Annotated[str, DEVICE_OPTION] = "cpu",
    overwrite: Annotated[bool, OVERWRITE_OPTION] = False,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """Compare two videos: metrics, and a self-contained HTML page that plays both with a divider between them.

    Example: starvsr compare in.mp4 out.mp4 --resize -o page.html
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    check_output()
    for flag, count in (("--page-frames", page_frames), ("--frames", frames)):
        if count is not None and count < 1:
            raise UsageError(f"{flag} {count} is not allowed: give 1 or more")
    check_metrics_joined(metrics, a, b)
    refuse_pipes("compare", a, b, output=output)
    for path in (a, b):
        refuse_folder(path)
    from starvsr.evaluate.compare import compare
    from starvsr.metrics.registry import choose_metrics

    names, left_out = choose_metrics(metric_names(metrics))
    torch_device = resolve_device(device)
    with progress_view(progress, quiet=quiet) as view:
        comparison = compare(
            a,
            b,
            output,
            names,
            resize=resize,
            start_s=start,
            frames=frames,
            deinterlace=deinterlace,
            page_frames=page_frames,
            overwrite=overwrite,
            device=torch_device,
            progress=view,
        )
    if as_json:
        print_event("compared", {"left_out": left_out, **comparison.to_json()})
    else:
        echo(_text(comparison, left_out))
    if not quiet:
        say_warnings(b.name, comparison.b.warnings)
        shown = comparison.page_frames
        echo(f"{output}: {'1 frame' if shown == 1 else f'{shown} frames'}", err=True)
    return EXIT_DAMAGED if comparison.b.lost_frames else 0


def _text(comparison: Comparison, left_out: dict[str, str]) -> str:
    from starvsr.metrics.registry import METRICS

    rows = [("", "A", "B"), *comparison.rows()]
    lines = [f"{name:<20} {of_a:>10} {of_b:>10}" for name, of_a, of_b in rows]
    for name, reason in {**comparison.b.not_measured, **left_out}.items():
        lines.append(f"no {METRICS[name].title}: {reason}")
    return "\n".join(lines)
