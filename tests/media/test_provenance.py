"""What a file says of what made it survives in every container."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import av
import pytest

from starvsr import __version__
from starvsr.job.request import provenance_text
from starvsr.job.run import plan_video, upscale_video
from starvsr.media.provenance import provenance_of
from starvsr.options import (
    EncodeOptions,
    LookOptions,
    SamplingOptions,
    SizeOptions,
    StreamOptions,
    UpscaleOptions,
    WindowOptions,
)
from tests.media.clips import Clip, make

pytestmark = pytest.mark.usefixtures("one_thread")

TITLES = {"title": "A film", "comment": "Mine"}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "clip.mkv", Clip(frames=2, width=16, height=12, metadata=TITLES))


def options(toy_path: Path, ending: str, *, provenance: bool = True) -> UpscaleOptions:
    return UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        sampling=SamplingOptions(steps=1, cfg=1.0),
        look=LookOptions(blend=0.5),
        encode=EncodeOptions(codec="libvpx-vp9" if ending == ".webm" else "libx264"),
        streams=StreamOptions(provenance=provenance),
    )


def tags(path: Path) -> tuple[str, dict[str, str], dict[str, str]]:
    """What made it; the file's tags and the video stream's, names in capitals."""
    with av.open(str(path)) as container:
        found = (container.metadata, container.streams.video[0].metadata)
        whole, video = ({key.upper(): text for key, text in each.items()} for each in found)
        return provenance_of(path), whole, video


SHORT = f"starvsr {__version__} seeded-toy"
FULL = f"{SHORT}: 16x12 to 32x24, --steps 1, --cfg 1.0, --blend 0.5"


@pytest.mark.parametrize(
    ("ending", "said"),
    [(".mkv", FULL), (".webm", FULL), (".mp4", FULL), (".m4v", FULL), (".mov", SHORT)],
)
def test_it_survives(
    tmp_path: Path,
    clip: Path,
    toy_path: Path,
    caplog: pytest.LogCaptureFixture,
    ending: str,
    said: str,
) -> None:
    caplog.set_level(logging.WARNING)
    target = tmp_path / f"out{ending}"
    upscale_video(clip, target, options(toy_path, ending))
    assert "already upscaled" not in caplog.text
    found, whole, video = tags(target)
    assert found == said
    assert video["ENCODER"] == SHORT
    assert (whole["TITLE"], whole["COMMENT"]) == ("A film", "Mine"), "others are kept"

    again = tmp_path / f"again{ending}"
    upscale_video(target, again, options(toy_path, ending, provenance=False))
    assert f"{target} was already upscaled by {said}" in caplog.text
    found, whole, video = tags(again)
    assert found == ""
    assert not any("starvsr" in text for text in (*whole, *whole.values(), *video.values()))


def test_files_of_other_programs(clip: Path) -> None:
    assert tags(clip)[0] == ""


def test_words_and_paths_stay_out(clip: Path, toy_path: Path) -> None:
    options = UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        windows=WindowOptions(scene_detect=False, tile_px=0),
    )
    job = plan_video(clip, None, options)
    wordy = dataclasses.replace(options, sampling=SamplingOptions(prompt="secret"))
    text = provenance_text(job.choice, job.info, job.plan, wordy)
    assert text == f"{SHORT}: 16x12 to 32x24, --tile 0, --no-scene-detect"
    sampling = SamplingOptions(speed="fast", guidance_interval=(0.25, 1.0), cache=0.02)
    faster = UpscaleOptions(model=str(toy_path), sampling=sampling)
    text = provenance_text(job.choice, job.info, job.plan, faster)
    assert text.endswith(": 16x12 to 32x24, --guidance-interval 0.25:1, --cache 0.02, --speed fast")
