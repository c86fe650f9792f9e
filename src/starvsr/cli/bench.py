"""`starvsr bench`: how fast this machine is, and where the time goes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated

import typer

from starvsr.cli.common import COUNT, AsJson, Progress, Verbose
from starvsr.cli.completion import benched_models
from starvsr.cli.console import progress_view
from starvsr.cli.messages import set_verbosity
from starvsr.cli.printing import echo
from starvsr.cli.streams import check_output
from starvsr.errors import UsageError

MOST = {"--frames": 10_000, "--repeats": 1000, "--threads": 1024}
MOST_LATENT = 1 << 23
"""Most latent elements (frames x rows x columns) of a call."""


def bench(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="A model's name, or the path of a model file.",
            autocompletion=benched_models,
        ),
    ] = "nano",
    latent: Annotated[
        list[str] | None,
        typer.Option(
            "--latent",
            metavar="FxHxW",
            help="Frames, rows and columns of a call's latent; repeatable (default: that of 4 frames of 768x432).",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WxH", help="Size of the clip to upscale, even sides.")
    ] = "480x270",
    frames: Annotated[
        int, typer.Option("--frames", help="Frames of the clip to upscale.", **COUNT)
    ] = 24,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also time every layer of the last call.")
    ] = False,
    repeats: Annotated[
        int, typer.Option("--repeats", help="Timed calls; the median is reported.", **COUNT)
    ] = 3,
    threads: Annotated[
        int | None,
        typer.Option("--threads", help="Threads of the network (default: as upscale).", **COUNT),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            "--history",
            metavar="FILE",
            help="Add the result to FILE, one JSON object per line, and compare it with the last one (default: none).",
        ),
    ] = None,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Measure this machine's ceilings, a network's calls and a whole job, on the CPU.

    Example: starvsr bench --history bench.jsonl
    """
    set_verbosity(verbose=verbose, quiet=False)
    check_output()
    for flag, number in (("--frames", frames), ("--repeats", repeats), ("--threads", threads)):
        if number is not None and not 1 <= number <= MOST[flag]:
            raise UsageError(f"{flag} {number} is not allowed: give 1 to {MOST[flag]}")
    latents = [_numbers("--latent", text, 3) for text in latent or []]
    for sides in latents:
        if math.prod(sides) > MOST_LATENT:
            given = "x".join(map(str, sides))
            raise UsageError(
                f"--latent {given} is not allowed: give at most {MOST_LATENT} elements, such as 32x270x480"
            )
    width, height = _numbers("--size", size, 2)
    from starvsr.bench.report import append_history, as_text, read_last
    from starvsr.bench.run import run_benchmark

    before = None if history is None else read_last(history, model)
    with progress_view(progress, quiet=False) as view:
        result = run_benchmark(
            model,
            latents=[(f, h, w) for f, h, w in latents],
            size=(width, height),
            frames=frames,
            layers=layers,
            repeats=repeats,
            threads=threads,
            progress=view,
        ).to_json()
    if history is not None:
        append_history(history, result)
    echo(json.dumps(result) if as_json else as_text(result, before))
    return 0


def _numbers(flag: str, text: str, count: int) -> tuple[int, ...]:
    """Positive numbers separated by x. Raises UsageError."""
    if not re.fullmatch("x".join(["[1-9][0-9]{0,4}"] * count), text):
        example = "4x108x192" if count == 3 else "480x270"
        raise UsageError(f"{flag} {text} is not allowed: give {count} numbers such as {example}")
    return tuple(map(int, text.split("x")))
