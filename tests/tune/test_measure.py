"""What is measured of files that were made on purpose, and which part of them is tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.tune.measure import Footage, excerpt_around, measure
from starvsr.types import VideoIndex
from tests.media.clips import Clip, make
from tests.metrics.pictures import Picture, moving

WIDTH, HEIGHT, FRAMES = 128, 112, 12
LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def clip(path: Path, pictures: list[Picture], **changes: object) -> Path:
    def fill(frame: av.VideoFrame, number: int) -> None:
        shown = av.VideoFrame.from_ndarray(pictures[number], "rgb24").reformat(format="yuv420p")
        for plane, source in zip(frame.planes, shown.planes, strict=True):
            plane.update(bytes(source))

    settings = {"options": LOSSLESS, **changes}
    height, width = pictures[0].shape[:2]
    return make(path, Clip(len(pictures), width, height, fill=fill, **settings))  # type: ignore[arg-type]


def measured(path: Path) -> Footage:
    info = probe(path)
    index = build_index(info, detelecine="auto", repeats="near")
    return measure(info, index, lambda _: None)[0]


@pytest.fixture(scope="module")
def frames() -> list[Picture]:
    return moving(2 * FRAMES, HEIGHT, WIDTH, (3, 1))


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Footage]:
    def build(pictures: list[Picture], **changes: object) -> Footage:
        return measured(clip(tmp_path / "clip.mkv", pictures, **changes))

    return build


def test_of_plain_footage(made: Callable[..., Footage], frames: list[Picture]) -> None:
    found = made(frames[:FRAMES])
    assert (found.width, found.height, found.frames) == (WIDTH, HEIGHT, FRAMES)
    assert found.duration_s == pytest.approx(FRAMES / 25)
    assert (found.bit_depth, found.hdr, found.flagged, found.film) == (8, False, 0, 0)
    assert (found.blocky, found.soft, found.combs) == (False, False, False)
    assert (found.is_whole, found.detail) == (True, 1.0)


def test_of_noise(made: Callable[..., Footage], frames: list[Picture]) -> None:
    drawn = np.random.default_rng(0)
    gray = [np.repeat(each[..., :1], 3, axis=2) // 2 + 60 for each in frames[:FRAMES]]
    noisy = [np.clip(each + drawn.normal(0, 8, (HEIGHT, WIDTH, 1)), 0, 255) for each in gray]
    found = made([each.round().astype(np.uint8) for each in noisy])
    # Levels of luma are 219 to the 255 of RGB; the pictures have grain of their own.
    assert found.noise == pytest.approx(8 * 219 / 255, rel=0.15)
    assert found.noisy


def test_of_enlarged_and_compressed_pictures(
    made: Callable[..., Footage], frames: list[Picture]
) -> None:
    large = [np.asarray(Image.fromarray(each).resize((384, 336))) for each in frames[:4]]
    found = made(large)
    assert found.detail == pytest.approx(3, rel=0.25)
    assert found.soft
    assert made(frames[:4], options={"crf": "44", "x264-params": "no-deblock=1"}).blocky


def test_of_fields_that_nothing_flags(made: Callable[..., Footage], frames: list[Picture]) -> None:
    woven = [each.copy() for each in frames[::2]]
    for frame, later in zip(woven, frames[1::2], strict=True):
        frame[1::2] = later[1::2]
    found = made(woven)
    assert (found.flagged, found.combs, found.is_whole) == (0, True, False)


def test_of_whole_frames_that_are_flagged(
    made: Callable[..., Footage], frames: list[Picture]
) -> None:
    options = {**LOSSLESS, "x264-params": "interlaced=1"}
    found = made(frames[:FRAMES], options=options, field_order=2)
    assert (found.flagged, found.combs, found.is_whole) == (1, False, True)


def test_of_repeats(made: Callable[..., Footage], frames: list[Picture]) -> None:
    found = made([frames[number // 2] for number in range(FRAMES)])
    assert (found.equal, found.held) == (0.5, 0.5)


def test_of_frames_too_small_to_be_measured(tmp_path: Path) -> None:
    found = measured(make(tmp_path / "small.mkv", Clip(frames=1, width=32, height=24)))
    assert (found.noise, found.blocks, found.detail, found.combing) == (None, None, None, None)
    assert (found.noisy, found.blocky, found.soft, found.is_whole) == (False,) * 4


@pytest.mark.parametrize(
    ("frame", "frames", "first"),
    [(0, 4, 0), (9, 4, 6), (10, 4, 10), (15, 4, 13), (29, 8, 22), (12, 25, 5), (3, 30, 0)],
)
def test_an_excerpt_is_within_a_shot_and_the_video(frame: int, frames: int, first: int) -> None:
    index = VideoIndex(tuple(range(30)), (1,) * 30, (0,), cuts=(10, 20))
    assert excerpt_around(index, frame, frames) == first
