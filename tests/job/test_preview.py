"""Previews: the input and what the job itself would make of it, side by side."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from starvsr.errors import OutputError, UsageError
from starvsr.job.preview import DIVIDER_PX, plan_preview, run_preview, side_by_side
from starvsr.job.run import UpscaleResult, plan_video, run_job, upscale_video
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import (
    EncodeOptions,
    PreviewOptions,
    RangeOptions,
    ResumeOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
)
from starvsr.restore.levels import Frame
from starvsr.types import Progress
from tests.media.clips import Audio, Clip, make, payloads
from tests.media.jobs import times
from tests.media.test_hdr import HDR10, PQ

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def options(toy_path: Path) -> UpscaleOptions:
    return UpscaleOptions(
        model=str(toy_path),
        size=SizeOptions(scale=2),
        sampling=SamplingOptions(steps=1, cfg=1.0),
        encode=EncodeOptions(preset="veryfast"),
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "clip.mkv", Clip(frames=15, width=64, height=36, audio=(Audio("flac"),)))


def frames(path: Path) -> list[Frame]:
    info = probe(path)
    index = build_index(info, scene_detect=False)
    return list(read_frames(info, index, 0, index.frames))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def difference(a: Frame, b: Frame) -> float:
    """Mean, in levels of 8 bits."""
    return float(np.abs(a.astype(np.float64) - b).mean()) / 257


@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
def test_it_shows_what_the_job_would_make(
    tmp_path: Path, clip: Path, options: UpscaleOptions, ending: str
) -> None:
    target = tmp_path / f"short{ending}"
    stages: list[str] = []
    preview = plan_preview(clip, target, PreviewOptions(0.2, at_s=0.08), options)
    result = run_preview(preview, progress=lambda progress: stages.append(progress.stage))
    assert list(dict.fromkeys(stages)) == ["load", "restore", "join", "compose"]
    assert names(tmp_path) == ["clip.mkv", f"short{ending}", "short.png"]

    whole = tmp_path / f"whole{ending}"
    span = dataclasses.replace(options, range=RangeOptions(start_s=0.08, duration_s=0.2))
    upscale_video(clip, whole, span)
    shown, expected = frames(target), frames(whole)
    assert len(shown) == len(expected) == result.frames == 5
    assert shown[0].shape == (72, 2 * 128 + DIVIDER_PX, 3)
    source = frames(clip)[2:]
    # Below the names of the halves.
    names_px = 26
    for pixels, restored, small in zip(shown, expected, source, strict=False):
        before, after = pixels[names_px:, :128], pixels[names_px:, -128:]
        assert difference(after, restored[names_px:]) < 6
        assert difference(before, restored[names_px:]) > 20, "the other side is another picture"
        halved = before.reshape(-1, 2, 64, 2, 3).mean((1, 3))
        assert difference(halved, small[names_px // 2 :]) < 6
        # White letters on what was there, darker.
        assert pixels[:names_px, :48].max() > 60_000
        assert np.median(pixels[:20, :40]) < np.median(pixels[names_px:, :40])
        assert pixels[:, 129:131].min() > 60_000
    middle = np.asarray(Image.open(result.picture)).astype(np.uint16) * 257
    assert difference(middle, shown[2]) < 4
    assert times(target) == [Fraction(n, 25) for n in range(5)]
    assert payloads(target, "audio") == payloads(whole, "audio")
    assert result.whole_bytes == pytest.approx(3 * whole.stat().st_size, rel=0.1)
    assert 0 < result.whole_s < 3 * result.elapsed_s


def test_what_is_done_once_is_not_done_for_every_frame(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*given: Any, **named: Any) -> UpscaleResult:
        spent = {"load": 10.0, "compile": 80.0, "network": 5.0}
        return dataclasses.replace(run_job(*given, **named), elapsed_s=100.0, seconds=spent)

    monkeypatch.setattr("starvsr.job.preview.run_job", slow)
    preview = plan_preview(clip, tmp_path / "short.mkv", PreviewOptions(0.2), options)
    result = run_preview(preview)
    assert result.whole_s == pytest.approx(10.0 * preview.job.index.frames / result.frames)


@pytest.mark.parametrize("name", ["long.mkv", "long.mp4"])
def test_what_is_not_shown_is_not_read(tmp_path: Path, options: UpscaleOptions, name: str) -> None:
    clip = make(tmp_path / name, Clip(frames=300, width=32, height=24, options={"g": "50"}))
    target = tmp_path / "short.mkv"
    preview = plan_preview(clip, target, PreviewOptions(0.2, at_s=0.4), options)
    index, whole = preview.job.index, build_index(probe(clip))
    assert 15 < index.frames < 60
    assert index.pts == whole.pts[: index.frames]
    assert index.durations == whole.durations[: index.frames]
    assert index.lost_frames == 0
    result = run_preview(preview)
    span = dataclasses.replace(options, range=RangeOptions(start_s=0.4, duration_s=0.2))
    upscale_video(clip, tmp_path / "whole.mkv", span)
    assert result.whole_bytes == pytest.approx(
        60 * (tmp_path / "whole.mkv").stat().st_size, rel=0.1
    )
    assert preview.job.plan.segments == plan_video(clip, None, span).plan.segments


def test_a_container_that_holds_no_h264(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    quiet = make(tmp_path / "quiet.mkv", Clip(frames=3, width=32, height=24))
    target = tmp_path / "short.webm"
    webm = dataclasses.replace(options, encode=EncodeOptions(codec="libvpx-vp9"))
    assert run_preview(plan_preview(quiet, target, PreviewOptions(9), webm)).frames == 3
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.name == "vp9"


def test_a_webm_of_high_dynamic_range(tmp_path: Path, options: UpscaleOptions) -> None:
    """VP9 in 8 bits, which is quickest, would show banding."""
    source = make(tmp_path / "hdr.mkv", dataclasses.replace(HDR10, frames=3, width=32, height=24))
    target = tmp_path / "short.webm"
    plain = dataclasses.replace(options, encode=EncodeOptions())
    assert run_preview(plan_preview(source, target, PreviewOptions(9), plain)).frames == 3
    info = probe(target)
    assert (info.codec, info.bit_depth, info.color.transfer) == ("av1", 10, PQ)


def test_sides_of_odd_sizes() -> None:
    before = np.full((3, 5, 3), 1000, np.uint16)
    after = np.arange(7 * 11 * 3, dtype=np.uint16).reshape(7, 11, 3)
    both = side_by_side(before, after)
    assert both.shape == (8, 26, 3)
    assert (both[:7, -11:] == after).all()
    assert (both[7] == both[6]).all()
    assert (both[:, :11] == 1000).all()
    assert (both[:, 11:15] == 65535).all()


@pytest.mark.parametrize("at", ["restore", "compose"])
def test_an_interrupt_leaves_nothing(
    tmp_path: Path, clip: Path, options: UpscaleOptions, at: str
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == at and progress.done > 1:
            raise KeyboardInterrupt

    preview = plan_preview(clip, tmp_path / "short.mkv", PreviewOptions(0.2), options)
    with pytest.raises(KeyboardInterrupt):
        run_preview(preview, progress=stop)
    assert names(tmp_path) == ["clip.mkv"]


def test_what_is_refused(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    target = tmp_path / "short.mkv"
    for changes, said in (
        ({"range": RangeOptions(start_s=0.0, frames=2)}, "--preview and --start and --frames cont"),
        ({"resume": ResumeOptions(work_dir=tmp_path / "w")}, "--preview and --work-dir contradict"),
    ):
        with pytest.raises(UsageError, match=said):
            plan_preview(clip, target, PreviewOptions(1), dataclasses.replace(options, **changes))
    with pytest.raises(UsageError, match=r"--at: the video is 0\.600 s long"):
        plan_preview(clip, target, PreviewOptions(1, at_s=3), options)
    target.with_suffix(".png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"short\.png exists already: give --overwrite"):
        plan_preview(clip, target, PreviewOptions(1), options)
    for values, said in (((0.0,), "--preview 0 is not allowed"), ((1.0, -1.0), "--at -1 is")):
        with pytest.raises(UsageError, match=said):
            PreviewOptions(*values)


def test_a_full_disk_is_named_by_the_output(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    preview = plan_preview(clip, tmp_path / "short.mkv", PreviewOptions(0.2), options)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match=r"short\.mkv cannot be written: no space left"):
        run_preview(preview)
    assert names(tmp_path) == ["clip.mkv"]
