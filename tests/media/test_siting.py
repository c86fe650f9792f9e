"""Where chroma lies: read, converted by, and told to encoders that can be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starvsr.media.color import FromRgb, ToRgb
from starvsr.media.siting import CENTRE, LEFT, SITINGS, TOP_LEFT, carried_siting
from starvsr.types import ColorInfo
from tests.conftest import video_info
from tests.media.clips import Clip, make
from tests.media.jobs import opened, upscale


def clip(path: Path, codec: str = "libx264", siting: str = "topleft") -> Path:
    options = {"chroma_sample_location": siting, "x265-params": "log-level=error"}
    if codec != "libx265":
        del options["x265-params"]
    return make(path, Clip(frames=3, codec=codec, options=options))


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx264", "a.mp4"), ("libx265", "a.mp4"), ("libsvtav1", "a.mkv"), ("ffv1", "a.mkv")],
)
def test_what_a_file_says_is_read(tmp_path: Path, codec: str, name: str) -> None:
    info, _ = opened(clip(tmp_path / name, codec))
    assert info.color.chroma_location == TOP_LEFT


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_encoders_that_can_be_told_keep_it(tmp_path: Path, codec: str, name: str) -> None:
    made, _ = opened(upscale(clip(tmp_path / "a.mp4"), tmp_path / name, codec=codec))
    assert made.color.chroma_location == TOP_LEFT


@pytest.mark.parametrize("said", SITINGS)
def test_samples_are_where_it_says(said: int) -> None:
    rows, columns = np.mgrid[0:48, 0:64]
    waves = [np.sin(columns / 5 + rows / 7 + place) for place in (0, 2, 4)]
    pixels = np.rint(np.stack(waves, axis=-1) * 9000 + 32768).astype(np.uint16)
    color = ColorInfo(matrix=1, range=1, chroma_location=said)
    frame = FromRgb(64, 48, "yuv420p10le", color)(pixels)

    def error(read_as: int) -> float:
        info = video_info(
            64, 48, pix_fmt="yuv420p10le", color=replace(color, chroma_location=read_as)
        )
        read = ToRgb(info, 64, 48)(frame).astype(float)
        return float(np.abs(read - pixels)[4:-4, 4:-4].mean())

    errors = {siting: error(siting) for siting in SITINGS}
    right = errors.pop(said)
    assert right * 2 < min(errors.values())


def test_rules_of_codecs_are_not_carried() -> None:
    assert carried_siting(CENTRE, "mjpeg", "libx264") == LEFT
    assert carried_siting(TOP_LEFT, "hevc", "mjpeg") == CENTRE
    assert carried_siting(CENTRE, "h264", "libsvtav1") == LEFT
    assert carried_siting(0, "h264", "libx264") == LEFT
