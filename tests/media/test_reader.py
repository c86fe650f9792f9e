"""Frames by index: the same pixels from everywhere, upright, in bounded memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from starvsr.errors import InputError
from starvsr.media import source
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.types import VideoIndex, VideoInfo
from tests.media.clips import Clip, cut, make, picture

Pixels = npt.NDArray[np.uint16]


def opened(path: Path) -> tuple[VideoInfo, VideoIndex]:
    info = probe(path)
    return info, build_index(info, scene_detect=False)


def lossless(**changes: object) -> Clip:
    """A clip whose decoded pictures are exactly `picture`."""
    return Clip(codec="libx264rgb", pix_fmt="rgb24", options={"qp": "0", "g": "5"}, **changes)  # type: ignore[arg-type]


def test_pixels_are_the_pictures(tmp_path: Path) -> None:
    info, index = opened(make(tmp_path / "a.mkv", lossless()))
    frames = list(read_frames(info, index, 0, 12))
    assert len(frames) == 12
    for number, frame in enumerate(frames):
        assert frame.dtype == np.uint16 and frame.flags.c_contiguous
        assert np.array_equal(frame, picture(number).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", ".mp4", {"g": "8", "bf": "3"}),
        ("libx264", ".mkv", {"g": "8", "x264-params": "open-gop=1:bframes=3:scenecut=0"}),
        ("libx264", ".ts", {"g": "8", "x264-params": "open-gop=1:bframes=3:scenecut=0"}),
        ("libx264", ".mkv", {"x264-params": "intra-refresh=1:keyint=12"}),
        ("libx265", ".mp4", {"x265-params": "log-level=none:open-gop=1:keyint=8:bframes=3"}),
        ("libvpx-vp9", ".webm", {"g": "8"}),
        ("mpeg4", ".avi", {"g": "8", "bf": "2"}),
        ("mpeg2video", ".ts", {"g": "8", "bf": "2"}),
        ("libsvtav1", ".mkv", {"g": "8"}),
    ],
)
def test_same_pixels_from_every_start(
    tmp_path: Path,
    codec: str,
    suffix: str,
    options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    clip = Clip(frames=30, codec=codec, options=options, time_base=Fraction(1, 25))
    info, index = opened(make(tmp_path / f"a{suffix}", clip))
    assert index.frames == 30
    whole = list(read_frames(info, index, 0, 30))
    for first in range(1, 30, 3):
        part = list(read_frames(info, index, first, min(first + 4, 30)))
        assert len(part) == min(4, 30 - first)
        for number, frame in enumerate(part, start=first):
            assert np.array_equal(frame, whole[number]), (first, number)


@pytest.mark.parametrize(
    ("turn", "how"),
    [
        ((90, False, False), lambda p: np.rot90(p, 1)),
        ((180, False, False), lambda p: np.rot90(p, 2)),
        ((270, False, False), lambda p: np.rot90(p, 3)),
        ((0, True, False), lambda p: p[:, ::-1]),
        ((0, False, True), lambda p: p[::-1]),
    ],
)
def test_upright(tmp_path: Path, turn: tuple[float, bool, bool], how: object) -> None:
    info, index = opened(make(tmp_path / "a.mp4", lossless(frames=2, rotation=turn)))
    frame = next(read_frames(info, index, 0, 1))
    assert frame.shape == (info.height, info.width, 3)
    assert callable(how)
    assert np.array_equal(frame, how(picture(0)).astype(np.uint16) * 257)


def test_odd_and_smallest_sizes(tmp_path: Path) -> None:
    for width, height in ((175, 99), (1, 1)):
        clip = Clip(frames=1, codec="ffv1", width=width, height=height)
        info, index = opened(make(tmp_path / f"{width}.mkv", clip))
        (frame,) = read_frames(info, index, 0, 1)
        assert frame.shape == (height, width, 3)


def test_damaged_tail(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mp4", Clip(frames=40, muxer={"movflags": "faststart"}))
    info, index = opened(cut(whole, 0.7))
    frames = list(read_frames(info, index, 0, index.frames))
    assert len(frames) == index.frames
    last = list(read_frames(info, index, index.frames - 1, index.frames))
    assert np.array_equal(last[0], frames[-1])


def test_bad_seeks_fall_back_to_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, index = opened(make(tmp_path / "a.mp4", Clip(frames=30, options={"g": "5"})))
    whole = list(read_frames(info, index, 0, 30))
    # An index whose keyframes are no keyframes, and a decoder that therefore ends up elsewhere.
    shifted = VideoIndex(index.pts, index.durations, tuple(index.pts[i] for i in (0, 13, 14)))
    part = list(read_frames(info, shifted, 14, 18))
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[14:18], strict=True))

    def refuse(_: object, *__: object, **___: object) -> None:
        raise av.error.OSError(5, "seek failed")

    class Refusing:
        def __init__(self, container: av.container.InputContainer) -> None:
            self._container = container
            self.seek = refuse

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

    real = source.open_source

    @contextmanager
    def refusing(path: Path) -> Iterator[Refusing]:
        with real(path) as container:
            yield Refusing(container)

    monkeypatch.setattr("starvsr.media.hwaccel.open_source", refusing)
    part = list(read_frames(info, index, 20, 22))
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[20:22], strict=True))


def test_abandoned_generator_closes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, index = opened(make(tmp_path / "a.mp4", Clip(frames=30)))
    containers: list[av.container.InputContainer] = []
    real = source.open_source

    @contextmanager
    def recording(path: Path) -> Iterator[av.container.InputContainer]:
        with real(path) as container:
            containers.append(container)
            yield container

    monkeypatch.setattr("starvsr.media.hwaccel.open_source", recording)
    frames = read_frames(info, index, 3, 20)
    next(frames)
    del frames
    gc.collect()
    with pytest.raises(AssertionError):
        containers[0].seek(0)


def test_changed_file_and_bad_ranges(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Clip(frames=12))
    info, index = opened(path)
    with pytest.raises(ValueError, match="not inside"):
        list(read_frames(info, index, 5, 13))
    assert list(read_frames(info, index, 5, 5)) == []
    make(path, Clip(frames=6))
    with pytest.raises(InputError, match="fewer frames"):
        list(read_frames(info, index, 0, 12))


def test_missing_times_are_counted(tmp_path: Path) -> None:
    """A raw stream has no times at all; frames are found by counting."""
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height = 64, 48
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
    info, index = opened(path)
    assert index.frames == 20
    whole = list(read_frames(info, index, 0, 20))
    part = list(read_frames(info, index, 12, 15))
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[12:15], strict=True))


def test_size_change_in_mid_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with path.open("wb") as joined:
        for number, (width, height) in enumerate([(64, 48), (96, 64)]):
            part = make(
                tmp_path / f"{number}.ts",
                Clip(frames=5, width=width, height=height, time_base=Fraction(1, 25)),
            )
            joined.write(part.read_bytes())
    info, index = opened(path)
    assert index.frames == 10
    assert {frame.shape for frame in read_frames(info, index, 0, 10)} == {(48, 64, 3)}
