"""What each option allows, and what its message says; the command line's own parsing is tested in `cli`."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from typing import Any

import pytest

from starvsr.errors import UsageError
from starvsr.options import (
    DeviceOptions,
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

CLASSES = (
    DeviceOptions,
    EncodeOptions,
    LookOptions,
    RangeOptions,
    SamplingOptions,
    SizeOptions,
    StreamOptions,
    UpscaleOptions,
    WindowOptions,
)

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("kind", "field", "flag", "allowed", "refused"),
    [
        (SizeOptions, "scale", "--scale", (1e-6, 0.5, 1.5, 4, 65535), (0, -1, INF, NAN, 65536)),
        (SizeOptions, "resolution", "--resolution", (1, 65535), (0, -1, 65536)),
        (SizeOptions, "width", "--width", (1, 65535), (0, -1, 65536)),
        (SizeOptions, "height", "--height", (1, 65535), (0, -1, 65536)),
        (SizeOptions, "max_resolution", "--max-resolution", (1, 65535), (0, 65536)),
        (RangeOptions, "start_s", "--start", (0, 0.5, 1e6), (-0.1, NAN)),
        (RangeOptions, "end_s", "--end", (0.5, 1e6), (-0.1, NAN)),
        (RangeOptions, "duration_s", "--duration", (0.001,), (0, -1, NAN)),
        (RangeOptions, "frames", "--frames", (1, 10**9), (0, -1)),
        (SamplingOptions, "steps", "--steps", (1, 15, 1000), (0, -1, 1001)),
        (SamplingOptions, "cfg", "--cfg", (1, 7.5), (0.99, -1, INF, NAN)),
        (SamplingOptions, "cfg_rescale", "--cfg-rescale", (0, 0.2, 1), (-0.1, 1.1, NAN)),
        (SamplingOptions, "noise_level", "--noise-level", (1, 900, 1000), (0, 1001)),
        (SamplingOptions, "solver_mode", "--solver-mode", ("fast", "normal"), ("", "Fast")),
        (SamplingOptions, "cache", "--cache", (0, 0.01, 1), (-0.1, 1.1, NAN)),
        (
            SamplingOptions,
            "guidance_interval",
            "--guidance-interval",
            ((0, 1), (0.2, 0.8)),
            ((0.8, 0.2), (0.5, 0.5), (-0.1, 1), (0, 1.1), (NAN, 1)),
        ),
        (WindowOptions, "chunk_frames", "--chunk-frames", (1, 32), (0, -1)),
        (WindowOptions, "chunk_overlap", "--chunk-overlap", (0, 16), (-1,)),
        (WindowOptions, "tile_px", "--tile", (0, 512), (-1,)),
        (WindowOptions, "tile_overlap_px", "--tile-overlap", (0, 64), (-1,)),
        (WindowOptions, "segment_frames", "--segment-frames", (1, 96), (0, -1)),
        (LookOptions, "blend", "--blend", (0, 0.5, 1), (-0.01, 1.01, NAN)),
        (LookOptions, "sharpen", "--sharpen", (-1, 0, 0.5, 2), (-1.01, 2.01, NAN)),
        (LookOptions, "color_fix", "--color-fix", ("adain", "wavelet", "none"), ("gray", "")),
        (EncodeOptions, "crf", "--crf", (0, 17, 23.5, -6), (NAN, INF)),
        (StreamOptions, "audio", "--audio", ("copy", "none", "aac"), ("",)),
        (StreamOptions, "subtitles", "--subtitles", ("copy", "none"), ("srt", "")),
        (
            DeviceOptions,
            "device",
            "--device",
            ("auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"),
            ("gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:", "mps:1", "cuda:0\n"),
        ),
        (DeviceOptions, "attention", "--attention", ("auto", "sdpa", "xformers"), ("flash",)),
    ],
)
def test_limits(
    kind: Any, field: str, flag: str, allowed: tuple[Any, ...], refused: tuple[Any, ...]
) -> None:
    for value in allowed:
        assert getattr(kind(**{field: value}), field) == value
    for value in refused:
        with pytest.raises(UsageError) as caught:
            kind(**{field: value})
        # What is wrong, then what is allowed.
        assert re.match(rf"{flag} \S* ?.*is not allowed: give \S", str(caught.value), re.S)


@pytest.mark.parametrize("kind", CLASSES)
def test_options_are_frozen_and_documented(kind: Any) -> None:
    assert kind.__doc__
    assert kind() == kind()
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(kind(), field.name, None)


def test_every_option_of_a_job_is_one_of_a_group() -> None:
    groups = {
        type(getattr(UpscaleOptions(), field.name)) for field in dataclasses.fields(UpscaleOptions)
    }
    assert groups >= set(CLASSES) - {UpscaleOptions}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 2, "resolution": 720}, "--scale and --resolution contradict"),
        ({"scale": 2, "width": 720}, "--scale and --width/--height contradict"),
        ({"scale": 2, "height": 720}, "--scale and --width/--height contradict"),
        ({"resolution": 2, "width": 720}, "--resolution and --width/--height contradict"),
        (
            {"scale": 2, "resolution": 720, "width": 5},
            "--scale and --resolution and --width/--height contradict",
        ),
    ],
)
def test_two_ways_to_give_a_size(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SizeOptions(**given)


def test_sizes_that_go_together() -> None:
    assert SizeOptions(width=640, height=480).width == 640
    assert SizeOptions(scale=4, max_resolution=1920).scale == 4


def test_ranges_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="--end and --duration contradict"):
        RangeOptions(end_s=2, duration_s=1)
    with pytest.raises(UsageError, match=r"--end 1 is not after --start 2"):
        RangeOptions(start_s=2, end_s=1)
    with pytest.raises(UsageError, match=r"--end 0 is not after --start 0"):
        RangeOptions(end_s=0)
    assert RangeOptions(start_s=1, end_s=2, frames=5).end_s == 2


@pytest.mark.parametrize(("given", "rate"), [(30, Fraction(30)), (23.976, Fraction(2997, 125))])
def test_a_rate_may_be_a_plain_number(given: float, rate: Fraction) -> None:
    fps = InputOptions(fps=given).fps  # type: ignore[arg-type]
    assert (type(fps), fps) == (Fraction, rate)
