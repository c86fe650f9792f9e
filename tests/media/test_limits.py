"""Sizes, qualities and presets that encoders do not take are refused with what helps, and are theirs indeed."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import pytest
from av.video.codeccontext import VideoCodecContext

from starvsr.errors import OutputError
from starvsr.media.limits import check_quality, check_size, holds
from starvsr.options import EncodeOptions


def opens(codec: str, width: int, height: int, **options: str) -> bool:
    context = cast("VideoCodecContext", VideoCodecContext.create(codec, "w"))
    formats = context.codec.video_formats
    assert formats
    context.width, context.height = width, height
    context.pix_fmt, context.time_base = formats[0].name, Fraction(1, 25)
    own = {"x265-params": "log-level=none:ctu=32"} if codec == "libx265" else {}
    context.options = {**own, **options}
    context.thread_count = 4
    try:
        context.open()
    except (av.FFmpegError, OSError):
        return False
    return True


@pytest.mark.parametrize(
    ("codec", "width", "height", "more"),
    [
        ("libx264", 16384, 64, (2, 0)),
        ("libx264", 64, 16384, (0, 2)),
        ("libx264rgb", 16384, 64, (2, 0)),
        ("libsvtav1", 16384, 64, (2, 0)),
        ("libsvtav1", 64, 8704, (0, 2)),
        ("libvpx", 16383, 64, (1, 0)),
        ("mpeg4", 8191, 64, (1, 0)),
        ("mpeg2video", 64, 16383, (0, 1)),
        ("mpeg1video", 4095, 64, (1, 0)),
        ("libx265", 32, 64, (-2, 0)),
        ("libx265", 64, 32, (0, -2)),
        ("libsvtav1", 4, 64, (-2, 0)),
    ],
)
def test_limits_are_the_encoders_own(
    codec: str, width: int, height: int, more: tuple[int, int]
) -> None:
    beyond = width + more[0], height + more[1]
    check_size(codec, "matroska", width, height)
    with pytest.raises(OutputError, match=f"{codec} takes at .* not {beyond[0]}x{beyond[1]}: give"):
        check_size(codec, "matroska", *beyond)
    assert opens(codec, width, height) and not opens(codec, *beyond)


@pytest.mark.parametrize(
    ("codec", "container", "size", "advice"),
    [
        ("libx264", "mp4", (20000, 48), "--max-resolution 16384, or --codec libx265"),
        ("libsvtav1", "mp4", (12000, 9000), "--max-resolution 11605, or --codec libx264"),
        ("libsvtav1", "webm", (64, 9000), "--max-resolution 8704, or --codec libvpx-vp9"),
        ("libx265", "matroska", (16, 16), "a larger --scale, or --codec libx264"),
        ("mjpeg", "image2", (65535, 64), "--max-resolution 65500"),
    ],
)
def test_what_helps(codec: str, container: str, size: tuple[int, int], advice: str) -> None:
    with pytest.raises(OutputError) as refused:
        check_size(codec, container, *size)
    assert str(refused.value).endswith(f"give {advice}")
    side = advice.partition("--max-resolution ")[2].partition(",")[0]
    if side:
        factor = int(side) / max(size)
        check_size(codec, container, int(size[0] * factor), int(size[1] * factor))


def test_any_size_of_the_others() -> None:
    for codec in ("libx265", "libvpx-vp9", "ffv1", "prores_ks", "png"):
        check_size(codec, "matroska", 65535, 64)


def test_containers() -> None:
    assert holds("webm", "libsvtav1") and not holds("webm", "libx264")


@pytest.mark.parametrize(
    ("codec", "option", "taken", "beyond", "allowed"),
    [
        ("libx264", "crf", "51", "51.5", "give 0 (best) to 51"),
        ("libx265", "crf", "51", "52", "give 0 (best) to 51"),
        ("libsvtav1", "crf", "63", "64", "give 0 (best) to 63"),
        ("libvpx-vp9", "crf", "-1", "-2", "give 0 (best) to 63"),
        ("libx264", "preset", "veryslow", "fastt", "did you mean fast? give one of ultrafast, "),
        ("libx265", "preset", "placebo", "p7", "give one of ultrafast, superfast, "),
        ("libx264", "preset", "9", "10", "give one of ultrafast, superfast, "),
        ("libsvtav1", "preset", "13", "medium", "give -2 to 13"),
    ],
)
def test_qualities_and_presets(
    codec: str, option: str, taken: str, beyond: str, allowed: str
) -> None:
    def options(value: str) -> EncodeOptions:
        return EncodeOptions(crf=float(value)) if option == "crf" else EncodeOptions(preset=value)

    check_quality(codec, options(taken))
    assert opens(codec, 64, 64, **{option: taken})
    with pytest.raises(OutputError) as refused:
        check_quality(codec, options(beyond))
    given = f"--{option} {beyond} is not allowed for the encoder {codec}: "
    assert str(refused.value).startswith(given + allowed)
    with pytest.raises(OutputError, match=f"^-e {option}={beyond} is not allowed"):
        check_quality(codec, EncodeOptions(extra=((option, beyond),)))


def test_encoders_without_them() -> None:
    for codec in ("ffv1", "prores_ks", "png"):
        check_quality(codec, EncodeOptions(crf=100, preset="fastt"))
