"""Degraded files: which clips a folder holds, what is written, and that nothing is left where something fails."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from starvsr.errors import InputError, OutputError, UsageError
from starvsr.media import join as media_join
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.train import pairs
from starvsr.train.degrade import Degradation
from starvsr.train.pairs import ClipFiles, clip_files, degrade_video, made_folders
from starvsr.train.presets import PRESETS
from starvsr.train.recipes import draw
from starvsr.types import Progress
from tests.cli.conftest import listing
from tests.media.clips import Audio, Clip, cut, make

PLAIN = Degradation(2, (), "area", None, compress_last=True, seed=0)


def rgb(path: Path) -> torch.Tensor:
    """`t 3 h w` in [0, 1]."""
    info = probe(path)
    index = build_index(info)
    frames = np.stack(list(read_frames(info, index, 0, index.frames))).astype(np.float32)
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 65535


@pytest.fixture
def source(tmp_path: Path) -> Path:
    times = [0, 512, 1024, 4096, 4608, 5000]
    return make(
        tmp_path / "in.mp4",
        Clip(frames=6, width=70, height=52, pts=times, audio=(Audio(seconds=0.3),)),
    )


def test_a_pair_holds_the_same_frames_at_the_same_times(source: Path, tmp_path: Path) -> None:
    files = ClipFiles(source, tmp_path / "low.mp4", tmp_path / "high.mkv", tmp_path / "words.txt")
    reports: list[Progress] = []
    result = degrade_video(files, PLAIN, text="a clip", progress=reports.append)
    assert (result.width, result.height, result.frames) == (34, 26, 6)
    assert result.left_out == ("audio",)
    low, high = probe(files.degraded), probe(tmp_path / "high.mkv")
    assert (low.width, low.height) == (34, 26)
    assert (high.width, high.height) == (68, 52)
    for made in (low, high):
        assert [stream.kind for stream in made.streams] == ["video"]
        times = [pts * made.time_base for pts in build_index(made).pts]
        wanted = [pts * probe(source).time_base for pts in build_index(probe(source)).pts]
        assert [float(t) for t in times] == pytest.approx([float(t) for t in wanted], abs=1e-3)
    assert (tmp_path / "words.txt").read_text() == "a clip"
    assert (reports[-1].stage, reports[-1].done, reports[-1].total) == ("degrade", 6, 6)

    cropped = rgb(source)[..., 1:-1]
    # Twice to 8-bit YUV with dither: a level or two.
    assert float((rgb(tmp_path / "high.mkv") - cropped).abs().mean()) < 1.5 / 255
    assert float((rgb(files.degraded) - PLAIN.apply(cropped)).abs().mean()) < 3 / 255


def test_the_file_is_what_apply_gives(source: Path, tmp_path: Path) -> None:
    degradation = draw(dataclasses.replace(PRESETS["heavy"], scale=2), np.random.default_rng(5))
    files = ClipFiles(source, tmp_path / "low.mp4")
    degrade_video(files, degradation)
    wanted = degradation.apply(rgb(source)[..., 1:-1])
    assert float((rgb(files.degraded) - wanted).abs().mean()) < 3 / 255
    first = files.degraded.read_bytes()
    degrade_video(files, degradation, overwrite=True)
    assert files.degraded.read_bytes() == first


PQ = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}


@pytest.mark.parametrize(
    ("clip", "depths"),
    [
        (Clip(frames=2), (8, 8)),
        (Clip(frames=2, pix_fmt="yuv420p10le"), (10, 8)),
        (Clip(frames=2, codec="libx265", pix_fmt="yuv420p10le", color=PQ), (10, 10)),
    ],
)
def test_what_is_written_is_lossless(tmp_path: Path, clip: Clip, depths: tuple[int, int]) -> None:
    files = ClipFiles(make(tmp_path / "in.mkv", clip), tmp_path / "lq.mp4", tmp_path / "gt.mp4")
    degrade_video(files, PLAIN)
    for path, depth in zip((tmp_path / "gt.mp4", files.degraded), depths, strict=True):
        assert probe(path).bit_depth == depth
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.profile == "High 4:4:4 Predictive"


def test_the_crop_is_said(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    degrade_video(ClipFiles(source, tmp_path / "low.mp4"), PLAIN)
    assert "cropped from 70x52 to 68x52, a multiple of 4" in caplog.text


def test_a_single_picture_is_refused_before_the_work(source: Path, tmp_path: Path) -> None:
    files = ClipFiles(source, tmp_path / "low.png", None)
    with pytest.raises(UsageError, match=r"low\.png: .* give such as low-%d\.png or low\.mkv"):
        degrade_video(files, PLAIN)
    assert [*listing(tmp_path)] == ["in.mp4"]


def test_nothing_is_left_where_putting_in_place_fails(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listing(tmp_path)
    made: list[Path] = []

    real = media_join.join

    def join(*arguments: Any, **named: Any) -> None:
        if made:
            raise OutputError("no space")
        made.append(arguments[3])
        real(*arguments, **named)

    monkeypatch.setattr(pairs, "join", join)
    files = ClipFiles(source, tmp_path / "low.mp4", tmp_path / "high.mp4", tmp_path / "w.txt")
    with pytest.raises(OutputError, match="no space"):
        degrade_video(files, PLAIN)
    assert made
    assert listing(tmp_path) == before


def test_what_somebody_else_put_there_meanwhile_stays(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ClipFiles(source, tmp_path / "low.mp4", tmp_path / "high.mp4")

    def join(*_: Any, **__: Any) -> None:
        files.degraded.write_bytes(b"precious")
        raise OutputError("no space")

    monkeypatch.setattr(pairs, "join", join)
    with pytest.raises(OutputError, match="no space"):
        degrade_video(files, PLAIN)
    assert files.degraded.read_bytes() == b"precious"


def test_nothing_is_left_behind_an_interrupt(source: Path, tmp_path: Path) -> None:
    before = listing(tmp_path)

    def interrupt(progress: Progress) -> None:
        if progress.stage == "degrade":
            raise KeyboardInterrupt

    files = ClipFiles(source, tmp_path / "low.mp4", tmp_path / "high.mp4", tmp_path / "w.txt")
    with pytest.raises(KeyboardInterrupt):
        degrade_video(files, PLAIN, progress=interrupt)
    assert listing(tmp_path) == before


def test_a_damaged_source_is_degraded_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mkv", Clip(frames=40, codec="mpeg4", options={"g": "5"}))
    result = degrade_video(ClipFiles(cut(whole, 0.6), tmp_path / "low.mp4"), PLAIN)
    assert result.lost_frames > 0
    assert 0 < result.frames < 40
    assert build_index(probe(tmp_path / "low.mp4")).frames == result.frames


def test_a_source_that_is_too_small(tmp_path: Path) -> None:
    small = make(tmp_path / "small.mp4", Clip(width=32, height=14))
    degradation = dataclasses.replace(PLAIN, scale=8)
    with pytest.raises(InputError, match="32x14, which is too small for 1/8"):
        degrade_video(ClipFiles(small, tmp_path / "low.mp4"), degradation)


def test_clips_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.MKV", "a.mp4", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    out = tmp_path / "out"
    plain = clip_files(tmp_path, out, pairs=False)
    assert plain == [
        ClipFiles(tmp_path / "a.mp4", out / "a.mp4"),
        ClipFiles(tmp_path / "b.MKV", out / "b.mp4"),
    ]
    (pair,) = clip_files(tmp_path / "a.mp4", out, pairs=True)
    assert pair.made == (out / "gt" / "a.mp4", out / "text" / "a.txt", out / "lq" / "a.mp4")
    assert clip_files(tmp_path, out, pairs=True)[0] == pair
    assert clip_files(tmp_path / "a.mp4", out, pairs=False) == [ClipFiles(tmp_path / "a.mp4", out)]


def test_folders_without_a_clear_answer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no video"):
        clip_files(tmp_path, tmp_path / "out", pairs=False)
    for name in ("a.mp4", "a.mkv"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"a\.mkv and a\.mp4 would both become a\.mp4"):
        clip_files(tmp_path, tmp_path / "out", pairs=False)


def test_folders_that_stay_empty_go_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    clips = clip_files(Path("a.mp4"), out, pairs=True)
    with pytest.raises(InputError), made_folders(clips, out):
        assert (out / "gt").is_dir()
        (out / "lq" / "kept.mp4").touch()
        raise InputError("bad")
    assert listing(tmp_path).keys() == {"out", "out/lq", "out/lq/kept.mp4"}
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), made_folders(clips, tmp_path / "file"):
        raise AssertionError("went on")
