"""Options become the words of a command that the command line reads as the same options."""

from __future__ import annotations

import shlex
from fractions import Fraction
from pathlib import Path

import pytest

from starvsr.cli.upscale_options import collect_options, option_command
from starvsr.options import (
    EncodeOptions,
    InputOptions,
    LookOptions,
    RangeOptions,
    SamplingOptions,
    SizeOptions,
    StreamOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.ui.commands import flags_of, shown, upscale_command


@pytest.mark.parametrize(
    "options",
    [
        UpscaleOptions(),
        UpscaleOptions(model="nano", size=SizeOptions(scale=1.5), overwrite=True),
        UpscaleOptions(
            size=SizeOptions(resolution=1080), look=LookOptions(detail=0.35, blend=1 / 3)
        ),
        UpscaleOptions(
            input=InputOptions(fps=Fraction(24000, 1001), video_stream=1),
            range=RangeOptions(start_s=1.25, frames=7),
            sampling=SamplingOptions(prompt='-a "film"', guidance_interval=(0.2, 1 / 3), steps=3),
            windows=WindowOptions(scene_detect=False, tile_px=0),
            encode=EncodeOptions(codec="libx265", crf=0, extra=(("a", "1=2"), ("b", ""))),
            streams=StreamOptions(chapters=False, faststart=False, audio="none"),
        ),
        UpscaleOptions(windows=WindowOptions(parity=True)),
    ],
)
def test_the_command_line_reads_the_same_options(options: UpscaleOptions) -> None:
    words = upscale_command(Path("/in.mp4"), Path("/out.mkv"), flags_of(options))
    assert words[:3] == ["upscale", "/in.mp4", "/out.mkv"]
    assert shlex.split(shown(words)) == ["starvsr", *words]
    given = option_command().main(words[3:], standalone_mode=False)
    assert collect_options(**given) == options


def test_what_is_the_default_is_not_said() -> None:
    command = upscale_command(Path("/in.mp4"), Path("/a b.mkv"), flags_of(UpscaleOptions()))
    assert shown(command) == "starvsr upscale /in.mp4 '/a b.mkv'"
