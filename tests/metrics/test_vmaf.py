"""VMAF against libvmaf run on the files themselves."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from starvsr.errors import InputError
from starvsr.metrics import vmaf
from starvsr.metrics.vmaf import VmafMeter
from tests.metrics.pictures import Picture, blurred, frame, moving, photo

BT709 = 1


def figures(
    result: list[Picture], reference: list[Picture], matrix: int = BT709
) -> dict[str, list[float | None]]:
    height, width = result[0].shape[:2]
    meter = VmafMeter(width, height, matrix)
    try:
        for a, b in zip(result, reference, strict=True):
            meter.add(frame(a), frame(b))
        return meter.finish()
    finally:
        meter.close()


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_an_interrupt_of_the_terminal_does_not_reach_ffmpeg() -> None:
    meter = VmafMeter(64, 64, BT709)
    try:
        assert os.getpgid(meter._process.pid) != os.getpgrp()
    finally:
        meter.close()


def write_y4m(path: Path, clip: list[Picture], matrix: str) -> None:
    """As yuv444p in limited range: nothing of luma is lost but its rounding."""
    height, width = clip[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("wrapped_avframe", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for picture in clip:
            rgb = av.VideoFrame.from_ndarray(picture, "rgb24")
            yuv = rgb.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range="MPEG")
            container.mux(stream.encode(yuv))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("code", "matrix"), [(BT709, "ITU709"), (6, "ITU601")])
def test_equal_libvmaf_on_files(tmp_path: Path, code: int, matrix: str) -> None:
    reference = moving(5, 97, 131, step=(2, 1))
    result = [blurred(each) for each in reference]
    for name, clip in (("a", result), ("b", reference)):
        write_y4m(tmp_path / f"{name}.y4m", clip, matrix)
    graph = "libvmaf=model=version=vmaf_v0.6.1:log_fmt=json:log_path=log.json"
    files = ["-i", "a.y4m", "-i", "b.y4m"]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        *files,
        "-lavfi",
        graph,
        "-f",
        "null",
        "-",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    log = json.loads((tmp_path / "log.json").read_text())
    expected = [each["metrics"]["vmaf"] for each in log["frames"]]
    # Luma is rounded by another hand there.
    assert figures(result, reference, code)["vmaf"] == pytest.approx(expected, abs=0.3)
    assert min(expected) < 95


def test_the_reference_itself_has_the_most_and_neg_does_not_pay_for_sharpening() -> None:
    clip = moving(3, 96, 128)
    same = figures(clip, clip)
    assert all(figure is not None and figure > 97 for figure in same["vmaf"])
    soft = [blurred(each) for each in clip]
    sharp = [
        np.clip(a.astype(np.int64) * 3 // 2 - b.astype(np.int64) // 2, 0, 255).astype(np.uint8)
        for a, b in zip(soft, map(blurred, soft), strict=True)
    ]
    gained = figures(sharp, clip)
    plain = figures(soft, clip)

    def gain(name: str) -> float:
        return float(np.mean(np.array(gained[name]) - np.array(plain[name])))

    assert gain("vmaf") > gain("vmaf_neg")


@pytest.mark.parametrize(("height", "width"), [(vmaf.LEAST_SIDE, vmaf.LEAST_SIDE), (33, 47)])
def test_small_and_odd_sizes(height: int, width: int) -> None:
    clip = [photo(height, width)] * 2
    assert [len(curve) for curve in figures(clip, clip).values()] == [2, 2]


def test_an_ffmpeg_that_fails_is_an_error_of_one_sentence() -> None:
    clip = [photo(8, 8)] * 2
    with pytest.raises(InputError, match="VMAF of 8x8 pixels failed: "):
        figures(clip, clip)


def test_closing_early_leaves_nothing_behind() -> None:
    meter = VmafMeter(64, 48, BT709)
    meter.add(frame(photo(48, 64)), frame(photo(48, 64)))
    folder = meter._folder
    assert folder.is_dir()
    meter.close()
    assert not folder.exists()
    assert meter._process.poll() is not None


def test_an_ffmpeg_without_libvmaf_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = tmp_path / "ffmpeg"
    poor.write_text("#!/bin/sh\necho ' ... scale  V->V  Scale.'\n")
    poor.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(poor))
    vmaf.missing.cache_clear()
    try:
        assert "has no libvmaf" in vmaf.missing()
        assert "IMAGEIO_FFMPEG_EXE" in vmaf.missing()
    finally:
        vmaf.missing.cache_clear()
