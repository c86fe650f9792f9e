"""Figures of files: the right frames against each other, in little memory, and errors that name both files."""

from __future__ import annotations

import dataclasses
import gc
import re
import weakref
from pathlib import Path
from typing import Any, cast

import pytest

from starvsr.errors import InputError
from starvsr.evaluate.measure import measure, measure_all, open_pair
from starvsr.evaluate.pairs import ClipPair
from starvsr.job.run import upscale_video
from starvsr.metrics.fidelity import psnr_y, ssim_y
from starvsr.metrics.frame import Frame
from starvsr.options import Deinterlace, EncodeOptions, LookOptions, SizeOptions, UpscaleOptions
from starvsr.types import Progress
from tests.evaluate.videos import clip, write
from tests.media import test_telecine
from tests.media.test_deinterlace import X264, interlaced
from tests.media.test_telecine import a_film, telecined
from tests.metrics.pictures import blurred, frame

ALL = ("psnr_y", "ssim_y", "vmaf", "vmaf_neg", "niqe", "brisque", "e_warp", "tof")


def pair_of(folder: Path, frames: int = 6) -> ClipPair:
    reference = clip(frames)
    return ClipPair(
        "a",
        write(folder / "result.mkv", [blurred(each) for each in reference]),
        write(folder / "reference.mkv", reference),
    )


def test_figures_are_of_the_frames_of_both_files(tmp_path: Path) -> None:
    pair = pair_of(tmp_path)
    found = measure(pair, open_pair(pair), ALL)
    pictures = [(frame(blurred(each)), frame(each)) for each in clip()]
    assert found.curves["psnr_y"] == pytest.approx([psnr_y(a, b) for a, b in pictures])
    assert found.curves["ssim_y"] == pytest.approx([ssim_y(a, b) for a, b in pictures])
    assert (found.width, found.height, found.frames) == (64, 48, 6)
    assert all(len(curve) == 6 for curve in found.curves.values())
    assert found.not_measured == {
        "niqe": "frames are 64x48: at least two blocks of 96x96 pixels are needed"
    }
    assert found.warnings == ()
    assert found.mean("psnr_y") == pytest.approx(sum(psnr_y(a, b) for a, b in pictures) / 6)


def test_means_leave_out_frames_without_a_figure(tmp_path: Path) -> None:
    pair = pair_of(tmp_path)
    found = measure(pair, open_pair(pair), ["tof"])
    first, *others = found.curves["tof"]
    assert first is None
    assert found.mean("tof") == pytest.approx(
        sum(value for value in others if value is not None) / 5
    )
    assert found.mean("niqe") is None


def test_twice_is_the_same(tmp_path: Path) -> None:
    pair = pair_of(tmp_path)
    assert measure_all([pair], ALL) == measure_all([pair], ALL)


def test_without_a_reference_only_what_needs_none(tmp_path: Path) -> None:
    pair = dataclasses.replace(pair_of(tmp_path), reference=None)
    found = measure(pair, open_pair(pair), ["psnr_y", "niqe"])
    assert found.curves == {}
    assert found.not_measured["psnr_y"] == "needs a reference"


def test_other_counts_and_sizes_name_both(tmp_path: Path) -> None:
    a = write(tmp_path / "a.mkv", clip(6))
    short = write(tmp_path / "short.mkv", clip(5))
    wide = write(tmp_path / "wide.mkv", clip(6, 48, 80))
    expected = f"{a} has 6 frames and {short} has 5: both must have the same number of frames"
    with pytest.raises(InputError, match=re.escape(expected)):
        open_pair(ClipPair("a", a, short))
    expected = f"{a} has 64x48 pixels and {wide} has 80x48: both must have the same size"
    with pytest.raises(InputError, match=re.escape(expected)):
        open_pair(ClipPair("a", a, wide))


def test_all_pairs_are_looked_at_before_the_first_is_measured(tmp_path: Path) -> None:
    pair = pair_of(tmp_path)
    reports: list[Progress] = []
    with pytest.raises(InputError, match=r"none\.mkv does not exist"):
        measure_all(
            [pair, ClipPair("b", tmp_path / "none.mkv")], ["psnr_y"], progress=reports.append
        )
    assert reports == []


def test_progress_runs_over_all_clips(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, frames=3)
    reports: list[Progress] = []
    measure_all([pair, dataclasses.replace(pair, name="b")], ["psnr_y"], progress=reports.append)
    read = [each for each in reports if each.stage == "index"]
    assert [each.done for each in read] == sorted(each.done for each in read)
    # Two pairs are four videos.
    assert {(each.total, each.detail) for each in read} == {(12, path.name) for path in pair.files}
    assert read[-1].done == 12
    assert [(each.stage, each.done, each.total, each.detail) for each in reports[len(read) :]] == [
        ("measure", n, 6, "a" if n <= 3 else "b") for n in range(1, 7)
    ]


def test_a_reference_of_another_size_is_resized_where_wanted(tmp_path: Path) -> None:
    large = write(tmp_path / "large.mkv", clip(3))
    small = write(tmp_path / "small.mkv", [each[::2, ::2] for each in clip(3)])
    result, reference = open_pair(ClipPair("a", large, small), resize=True)
    assert reference is not None
    assert [each.size for each in reference.frames()] == [(64, 48)] * 3
    assert result.size == reference.size


@pytest.mark.parametrize("late", [-1, 1])
def test_a_result_that_is_a_frame_late_is_told(tmp_path: Path, late: int) -> None:
    frames = clip(12, 96, 128)
    reference = write(tmp_path / "reference.mkv", frames[2:10])
    result = write(
        tmp_path / "result.mkv", [blurred(each) for each in frames[2 - late : 10 - late]]
    )
    pair = ClipPair("a", result, reference)
    (warning,) = measure(pair, open_pair(pair), ["psnr_y"]).warnings
    assert ("1 frame late" if late > 0 else "1 frame early") in warning


@pytest.mark.parametrize(
    ("damage", "lost", "said"),
    [
        ({"lost_frames": 2}, 2, "2 frames are lost"),
        ({"damaged_frames": 1}, 0, "1 frame is damaged"),
    ],
)
def test_a_damaged_video_is_told(
    tmp_path: Path, damage: dict[str, Any], lost: int, said: str
) -> None:
    pair = pair_of(tmp_path)
    result, reference = open_pair(pair)
    broken = dataclasses.replace(result, index=dataclasses.replace(result.index, **damage))
    found = measure(pair, (broken, reference), ["psnr_y"])
    assert found.lost_frames == lost
    assert found.warnings == (f"{pair.result} is damaged: {said}",)


def test_frames_are_let_go(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, frames=10)
    alive: list[weakref.ref[Frame]] = []
    most = 0

    def each(result: Frame, reference: Frame | None) -> None:
        nonlocal most
        assert reference is not None
        alive.extend((weakref.ref(result), weakref.ref(reference)))
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))

    measure(pair, open_pair(pair), ALL, each=each)
    assert len(alive) == 20
    # The present pair, and the one before for what moves.
    assert most <= 6


def test_an_interlaced_reference_is_compared_as_it_is_restored(tmp_path: Path) -> None:
    source = interlaced(tmp_path / "fields.mkv", "libx264", X264)
    made_as = {name: tmp_path / f"{name}.mkv" for name in ("auto", "off")}
    for name, path in made_as.items():
        look = LookOptions(blend=1.0, deinterlace=cast(Deinterlace, name))
        encode = EncodeOptions(codec="ffv1", pix_fmt="yuv420p")
        size = SizeOptions(scale=1)
        upscale_video(source, path, UpscaleOptions(size=size, look=look, encode=encode))

    def against(name: str, deinterlace: Deinterlace) -> tuple[float, tuple[str, ...]]:
        pair = ClipPair(name, made_as[name], source)
        found = measure(pair, open_pair(pair, deinterlace=deinterlace), ["psnr_y"])
        return found.mean("psnr_y") or 0.0, found.warnings

    level, said = against("auto", "auto")
    assert level > 45
    assert any("compared as upscale deinterlaces it" in each for each in said)
    assert against("auto", "off")[0] < 30
    level, said = against("off", "off")
    assert (level > 45, said) == (True, ())


def test_other_programs_may_keep_the_frames_of_a_film(tmp_path: Path) -> None:
    """Telecined, 50 frames show 40 of a film."""
    source = test_telecine.clip(tmp_path / "a.mkv", telecined(a_film(40)))
    for frames, counted in ((50, 50), (40, 40)):
        result = write(tmp_path / f"{frames}.mkv", clip(frames))
        found = open_pair(ClipPair("film", result, source), resize=True)
        assert [video and video.count for video in found] == [counted, counted]
