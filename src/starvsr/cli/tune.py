"""`starvsr tune`: what a video would take on this machine, tried on a moment of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starvsr.cli import completion
from starvsr.cli.common import AsJson, Progress, Quiet, Verbose
from starvsr.cli.console import progress_view
from starvsr.cli.evaluate import OVERWRITE_OPTION
from starvsr.cli.messages import set_verbosity
from starvsr.cli.pipes import refuse_pipes
from starvsr.cli.printing import echo
from starvsr.cli.report import print_event
from starvsr.cli.streams import check_output
from starvsr.cli.upscale import refuse_folder
from starvsr.cli.upscale_options import parse_resolution, parse_time
from starvsr.errors import UsageError
from starvsr.options import PreviewOptions
from starvsr.plan.fitting import format_memory
from starvsr.zoo.amounts import format_bytes, format_seconds

if TYPE_CHECKING:
    from starvsr.tune.measure import Footage
    from starvsr.tune.run import Advice, Trial


# One line per option.
# ruff: noqa: E501
# fmt: off
def tune(
    input: Annotated[Path, typer.Argument(metavar="INPUT", help="The video to measure.", show_default=False)],
    sheet: Annotated[Path | None, typer.Option("--sheet", metavar="FILE", help="Also write a PNG: the input, plainly upsampled, beside each setting (default: none).")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", metavar="TIME", parser=parse_time, help="How much to try: seconds or hh:mm:ss.s (default: 1).")] = None,
    at: Annotated[float | None, typer.Option("--at", metavar="TIME", parser=parse_time, help="Where that begins (default: where there is as much detail as usual).")] = None,
    resolution: Annotated[int | None, typer.Option("--resolution", metavar="N", parser=parse_resolution, help="Short side of the output: pixels, 1080p or 4k (default: by what is measured).", autocompletion=completion.resolutions)] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps (default: auto).", autocompletion=completion.devices)] = None,
    weights_dir: Annotated[Path | None, typer.Option("--weights-dir", metavar="DIR", help="Weights folder (default: STARVSR_WEIGHTS, else starvsr in Hugging Face's home).")] = None,
    overwrite: Annotated[bool, OVERWRITE_OPTION] = False,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """Measure a video, try two or three settings on a second of it, and say what to take, and why.

    Example: starvsr tune in.mp4 --sheet tune.png
    """
    # fmt: on
    set_verbosity(verbose=verbose, quiet=quiet)
    check_output()
    refuse_pipes("tune", input)
    refuse_folder(input)
    if seconds is not None and seconds <= 0:
        raise UsageError(f"--seconds {seconds:g} is not allowed: give a time above 0")
    given = {"resolution": resolution, "device": device, "folder": weights_dir}
    fixed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    from starvsr.tune.run import tune as run_tune

    with progress_view(progress, quiet=quiet) as view:
        advice = run_tune(
            input,
            fixed,
            preview=PreviewOptions(1.0 if seconds is None else seconds, at),
            sheet=sheet,
            overwrite=overwrite,
            progress=view,
        )
    if as_json:
        print_event("tuned", advice.to_json())
    else:
        echo("\n".join(advice_lines(advice)))
    return 0


def advice_lines(advice: Advice) -> Iterator[str]:
    """What was measured, what is advised and why, what the trials took, and the commands."""
    from starvsr.tune.run import option_text

    best, device = advice.trials[0], advice.machine.device
    models = ", ".join(advice.machine.installed)
    yield f"measured in {advice.source}"
    yield from (f"  {name:<8} {text}" for name, text in _measured(advice.footage))
    yield f"  machine  {device.description}, {format_memory(device.memory_bytes)} free, models: {models}"
    yield "advised"
    texts = [option_text(each) for each in best.settings]
    for text, each in zip(texts, best.settings, strict=True):
        yield f"  {text:<{max(map(len, texts))}}  {each.reason}"
    yield f"tried on {advice.duration_s:g} s from {advice.start_s:g} s; times and sizes are estimates of the whole video"
    yield from (f"  {_tried(each)}" for each in advice.trials)
    if advice.niqe_of_input is not None:
        yield f"  the input, plainly upsampled: NIQE {advice.niqe_of_input:.2f} (lower is better; it does not see invented detail)"
    if advice.sheet is not None:
        yield f"  side by side: {advice.sheet}"
    yield "commands"
    yield from (f"  {each.command}" for each in advice.trials)
    yield f"  {best.command} --preview {advice.duration_s:g} --at {advice.start_s:g}"


def _tried(trial: Trial) -> str:
    parts = [
        f"{trial.width}x{trial.height}",
        f"about {format_seconds(trial.whole_s)}",
        format_bytes(trial.whole_bytes),
        f"{format_memory(trial.device_bytes)} on the device",
    ]
    if trial.peak_memory_bytes:
        parts.append(f"{format_bytes(trial.peak_memory_bytes)} of RAM")
    if trial.niqe is not None:
        parts.append(f"NIQE {trial.niqe:.2f}")
    why = f" ({trial.reason})" if trial.reason else ""
    return f"{trial.difference or 'as advised'}: {', '.join(parts)}{why}"


def _measured(footage: Footage) -> Iterator[tuple[str, str]]:
    """The measurements, by the name of each line."""
    length = format_seconds(footage.duration_s)
    depth = f"{footage.bit_depth} bit{', HDR' if footage.hdr else ''}"
    yield "video", f"{footage.width}x{footage.height}, {footage.frames} frames, {length}, {depth}"
    if footage.made_by:
        yield "before", f"already upscaled by {footage.made_by}"
    if footage.noise is not None:
        yield "noise", f"{footage.noise:.1f} levels, {'seen' if footage.noisy else 'hardly seen'}"
    if footage.blocks is not None:
        seen = "seen" if footage.blocky else "hardly seen"
        yield "blocks", f"steps at their borders are {footage.blocks:.2f}x the others, {seen}"
    if footage.detail is not None:
        empty = f"{1 - 1 / footage.detail:.0%} of the spectrum is empty"
        like = f", as if enlarged by {footage.detail:.1f}" if footage.detail > 1 else ""
        yield "detail", empty + like
    flagged = f"{footage.flagged:.0%} of the frames are flagged as interlaced"
    combing = (
        "too little moves to see whether it combs"
        if footage.combing is None
        else f"{max(0.0, footage.combing):.0%} of what moves combs"
    )
    yield "fields", f"{flagged}, {combing}"
    if footage.film:
        yield "film", f"{footage.film:.0%} of the frames are film in video, which is undone"
    if footage.held:
        held = f"{footage.held:.0%} of the frames show the one before again"
        yield "repeats", f"{held}, {footage.equal:.0%} bit for bit"
