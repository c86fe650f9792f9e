"""`starvsr degrade`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from starvsr.cli import completion
from starvsr.cli.batch import EXIT_SOME_FAILED, is_folder
from starvsr.cli.common import COUNT, NUMBER, AsJson, Progress, Quiet, Verbose
from starvsr.cli.console import progress_view
from starvsr.cli.ending import signals_first
from starvsr.cli.messages import set_verbosity
from starvsr.cli.printing import echo
from starvsr.cli.report import Events
from starvsr.cli.upscale import EXIT_DAMAGED
from starvsr.errors import InputError, OutputError, UsageError
from starvsr.options import EncodeOptions
from starvsr.zoo.amounts import format_seconds

if TYPE_CHECKING:
    from starvsr.train.pairs import ClipFiles, DegradeResult

MOST_SCALE = 64


def degrade(
    input: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="A video, or a folder of videos.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="The file to write; a folder if INPUT is one, or with --pairs.",
            show_default=False,
        ),
    ],
    preset: Annotated[
        Literal["light", "heavy", "dvd", "dv", "vhs", "film", "phone", "web"],
        typer.Option(
            "--preset",
            help="light: anti-aliased bicubic downscaling, x264 at crf 18 to 32. heavy: blur, resize, "
            "noise, JPEG and a video codec, twice. dvd: sharpening, fields, MPEG-2. dv: noise, fields, DV. "
            "vhs: fields, shifted and bleeding colour, noise. film: grain. phone: noise, sharpening, HEVC. "
            "web: about 200 kb/s, twice.",
        ),
    ] = "heavy",
    scale: Annotated[
        int, typer.Option("--scale", "-s", help="Downscaling factor of each side.", **COUNT)
    ] = 4,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", help="Random seed; each clip's also depends on its file name.", **COUNT
        ),
    ] = 0,
    drift: Annotated[
        float,
        typer.Option(
            "--drift",
            help="Most that blur, noise and JPEG vary within a clip: 0.2 is 20 % either way.",
            **NUMBER,
        ),
    ] = 0.0,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs", help="Write a data set: OUTPUT/lq, and the cropped source in OUTPUT/gt."
        ),
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            metavar="TEXT",
            help="With --pairs: the content of text/NAME.txt (default: empty).",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            "-c",
            metavar="NAME",
            help="Encoder of the degraded video (default: libx264, lossless; for images by extension).",
            autocompletion=completion.codecs,
        ),
    ] = None,
    crf: Annotated[
        float | None,
        typer.Option(
            "--crf",
            help="Constant rate factor (default: 0, lossless; with --codec 17 if supported).",
            **NUMBER,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace files that exist.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Continue after an input that cannot be read, or an output that exists.",
        ),
    ] = False,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """Degrade videos to 1/scale of their size, as inputs for training or tests. Audio is left out.

    Example: starvsr degrade clips/ data/ --pairs --preset heavy --seed 1
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    _check(scale, seed, drift, prompt, pairs=pairs)
    from starvsr.media.folders import VIDEO_SUFFIXES, refuse_named_like_a_file
    from starvsr.media.sequence import is_sequence
    from starvsr.train.pairs import LOSSLESS, clip_files, degrade_video, made_folders
    from starvsr.train.presets import PRESETS
    from starvsr.train.recipes import clip_rng, draw

    config = dataclasses.replace(PRESETS[preset], scale=scale, drift=drift)
    encode = LOSSLESS
    if is_sequence(output) and not pairs:
        encode = EncodeOptions(codec=codec or "auto", crf=crf)
    elif codec is not None or crf is not None:
        encode = EncodeOptions(codec=codec or LOSSLESS.codec, crf=crf)

    def one(files: ClipFiles) -> DegradeResult:
        degradation = draw(config, clip_rng(files.source.name, seed))
        with progress_view(progress, quiet=quiet) as view:
            return degrade_video(
                files,
                degradation,
                encode=encode,
                text=prompt or "",
                overwrite=overwrite,
                progress=view,
            )

    if pairs or is_folder(input):
        refuse_named_like_a_file(output, *VIDEO_SUFFIXES)
    clips = clip_files(input, output, pairs=pairs)
    with Events(wanted=as_json) as event:
        if pairs or is_folder(input):
            with made_folders(clips, output):
                return _each(clips, one, event, keep_going=keep_going, quiet=quiet)
        return _each(clips, one, event, keep_going=False, quiet=quiet)


def _check(scale: int, seed: int, drift: float, prompt: str | None, *, pairs: bool) -> None:
    if not 1 <= scale <= MOST_SCALE:
        raise UsageError(f"--scale {scale} is not allowed: give 1 to {MOST_SCALE}")
    if seed < 0:
        raise UsageError(f"--seed {seed} is not allowed: give 0 or more")
    if not 0 <= drift <= 1:
        raise UsageError(f"--drift {drift:g} is not allowed: give 0 to 1")
    if prompt is not None and not pairs:
        raise UsageError("--prompt would have no effect without --pairs: leave it out or give both")


def _each(
    clips: list[ClipFiles],
    one: Callable[[ClipFiles], DegradeResult],
    event: Events,
    *,
    keep_going: bool,
    quiet: bool,
) -> int:
    """Degrade clips in order and report each; returns the exit code."""
    failed = damaged = 0
    for files in clips:
        try:
            with signals_first():
                result = one(files)
        except (InputError, OutputError) as error:
            if not keep_going:
                raise
            failed += 1
            echo(f"warning: skipped: {error}", err=True)
            continue
        event("degraded", **result.to_json())
        if not quiet:
            _say(result)
        if result.lost_frames:
            damaged += 1
            echo(
                f"warning: {files.source} is damaged: {result.lost_frames} frames lost, "
                f"{result.frames} degraded",
                err=True,
            )
    if failed:
        echo(f"{failed} of {len(clips)} inputs failed, the others are done", err=True)
        return EXIT_SOME_FAILED
    return EXIT_DAMAGED if damaged else 0


def _say(result: DegradeResult) -> None:
    without = f", without its {' and '.join(result.left_out)}" if result.left_out else ""
    echo(
        f"{result.files.degraded}: {result.frames} frames of {result.width}x{result.height} in "
        f"{format_seconds(result.elapsed_s)}{without}",
        err=True,
    )
