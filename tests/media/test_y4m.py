"""Plain pictures for pipes: others read what was encoded, and what they could not know is refused."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from starvsr.errors import OutputError
from starvsr.media.encoder import check_encoder
from starvsr.media.y4m import check_y4m, write_y4m
from starvsr.options import EncodeOptions, RangeOptions
from starvsr.plan.ranges import cut_to_range
from tests.media.clips import Clip, make
from tests.media.jobs import opened, pictures, upscale

FFV1 = EncodeOptions(codec="ffv1")


@pytest.mark.parametrize(
    ("clip", "header"),
    [
        (Clip(), "F25:1 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED"),
        (
            Clip(pix_fmt="yuv444p10le", sample_aspect=Fraction(4, 3), color={"color_range": 2}),
            "F25:1 Ip A4:3 C444p10 XCOLORRANGE=FULL",
        ),
    ],
    ids=["8 bits", "10 bits, anamorphic, full range"],
)
def test_others_read_what_was_encoded(tmp_path: Path, clip: Clip, header: str) -> None:
    source = make(tmp_path / "source.mp4", clip)
    info, _ = opened(source)
    made, plain = upscale(source, tmp_path / "made.mkv", codec="ffv1"), tmp_path / "plain"
    settings = check_encoder(FFV1, made, info, info.width * 2, info.height * 2)
    with plain.open("wb") as out:
        write_y4m(made, settings, info.sample_aspect, out)
    with plain.open("rb") as file:
        assert file.readline().decode() == f"YUV4MPEG2 W128 H96 {header}\n"
    assert pictures(plain) == pictures(made)
    found, index = opened(plain)
    assert (index.frames, found.sample_aspect) == (clip.frames, info.sample_aspect)
    assert found.color.range == settings.color.range


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (Clip(frames=5, pts=(0, 512, 1024, 3584, 4096)), "frame 3 is not where 25 frames"),
        (
            Clip(codec="libx265", pix_fmt="yuv420p10le", color={"color_trc": 16}),
            "y4m cannot signal HDR",
        ),
        (Clip(codec="libx264rgb", pix_fmt="rgb24"), "y4m does not support"),
    ],
    ids=["variable rate", "HDR", "RGB"],
)
def test_what_it_cannot_say_is_refused(tmp_path: Path, clip: Clip, said: str) -> None:
    info, index = opened(make(tmp_path / "source.mp4", clip))
    settings = check_encoder(FFV1, tmp_path / "made.mkv", info, info.width, info.height)
    with pytest.raises(OutputError, match=said):
        check_y4m(info, index, settings, 0, index.frames)


def test_rounded_times_are_a_constant_rate(tmp_path: Path) -> None:
    milliseconds = Clip(
        frames=9, time_base=Fraction(1, 1000), pts=[i * 1001 // 24 for i in range(9)]
    )
    info, index = opened(make(tmp_path / "source.mkv", milliseconds))
    info = dataclasses.replace(info, frame_rate=Fraction(24000, 1001))
    settings = check_encoder(FFV1, tmp_path / "made.mkv", info, info.width, info.height)
    check_y4m(info, index, settings, 0, index.frames)


def test_a_picture_that_was_cut_is_a_whole_frame(tmp_path: Path) -> None:
    """There are no times for less."""
    slides = Clip(frames=4, pts=[12800 * number for number in range(4)], rate=1)
    info, index = opened(make(tmp_path / "source.mkv", slides))
    cut = cut_to_range(info, index, RangeOptions(start_s=0.7))
    assert cut.pts[0] > 0
    settings = check_encoder(FFV1, tmp_path / "made.mkv", info, info.width, info.height)
    check_y4m(info, cut, settings, 0, index.frames)
