"""Noise, blocks, softness and combs, made by known amounts."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from starvsr.metrics.footage import blockiness, combing, detail_factor, noise_sigma
from starvsr.metrics.frame import Plane
from tests.metrics.pictures import Picture, frame, moving, photo

RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def luma(picture: Picture) -> Plane:
    return np.asarray(frame(picture).luma)


def gray(height: int, width: int) -> Plane:
    """Blobs without grain, and an edge, as luma."""
    rows, columns = np.mgrid[0.0:height, 0.0:width]
    blobs = 110 + 50 * np.sin(rows / 17) * np.cos(columns / 23 + rows / 40)
    return np.asarray(np.where(columns > rows, blobs, blobs / 2), np.float64)


def as_jpeg(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def as_h264(picture: Picture, crf: int) -> Picture:
    height, width = picture.shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.options = {"crf": str(crf), "x264-params": "no-deblock=1"}
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    shown = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
    packets = [*encoder.encode(shown), *encoder.encode(None)]
    frames = [each for packet in [*packets, None] for each in decoder.decode(packet)]
    return np.asarray(frames[0].to_ndarray(format="rgb24"), np.uint8)


def enlarged(picture: Picture, factor: float, how: Image.Resampling) -> Picture:
    height, width = picture.shape[:2]
    small = Image.fromarray(picture).resize(
        (round(width / factor), round(height / factor)), Image.Resampling.LANCZOS
    )
    return np.asarray(small.resize((width, height), how))


@pytest.mark.parametrize("sigma", [1.0, 3.0, 6.0, 12.0])
def test_noise_is_found_on_a_picture(sigma: float) -> None:
    clean = gray(144, 192)
    noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
    assert noise_sigma(noisy) == pytest.approx(sigma, rel=0.15)
    # Borders of black and white hide none of it.
    noisy[:20], noisy[-20:] = 16, 235
    assert noise_sigma(noisy) == pytest.approx(sigma, rel=0.15)


def test_no_noise() -> None:
    assert noise_sigma(np.full((64, 64), 16.0)) is None
    assert noise_sigma(np.full((64, 64), 90.0)) == 0
    # Straight edges and slopes are none.
    columns = np.arange(96.0)
    steps = 60 + 2 * (columns // 12)[None] + (columns // 10)[:, None]
    assert noise_sigma(steps) == 0


def test_blocks_grow_as_quality_falls() -> None:
    picture = photo(120, 160)
    found = [blockiness(luma(as_jpeg(picture, quality))) for quality in (95, 75, 50, 25, 10)]
    assert found == sorted(found)
    assert found[0] < 1.1
    assert found[-1] > 2
    # Wherever the grid begins.
    cropped = as_jpeg(picture, 25)[3:, 5:]
    assert blockiness(luma(cropped)) == pytest.approx(found[3], rel=0.15)
    codec = [blockiness(luma(as_h264(picture, crf))) for crf in (10, 44)]
    assert codec[0] < 1.1 < codec[1]


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_blocks_that_were_enlarged_are_found(factor: float) -> None:
    picture = photo(96, 128)
    size = round(128 * factor), round(96 * factor)
    clean, blocky = (
        luma(np.asarray(Image.fromarray(each).resize(size)))
        for each in (picture, as_jpeg(picture, 10))
    )
    assert blockiness(clean) < 1.1
    assert blockiness(blocky) == blockiness(blocky, [8 * factor]) > 1.2
    assert blockiness(blocky, [13.0]) < 1.1


@pytest.mark.parametrize("how", RESAMPLING)
@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_enlargement_empties_the_spectrum(factor: float, how: Image.Resampling) -> None:
    picture = photo(144, 192)
    assert detail_factor(luma(picture)) == 1
    assert detail_factor(luma(enlarged(picture, factor, how))) == pytest.approx(factor, rel=0.25)


def test_a_picture_that_is_wider_than_it_was_is_as_sharp_as_its_columns() -> None:
    picture = photo(144, 192)
    half = Image.fromarray(picture).resize((96, 144), Image.Resampling.LANCZOS)
    assert detail_factor(luma(np.asarray(half.resize((192, 144))))) == 1


@pytest.mark.parametrize("noise", [0.0, 4.0])
@pytest.mark.parametrize("step", [(2, 1), (4, 0), (8, 2)])
def test_fields_of_different_times_comb(step: tuple[int, int], noise: float) -> None:
    drawn = np.random.default_rng(0)
    frames = [luma(each) for each in moving(4, 96, 128, step)]
    frames = [each + drawn.normal(0, noise, each.shape) for each in frames]
    woven = [frames[0].copy(), frames[2].copy()]
    woven[0][1::2], woven[1][1::2] = frames[1][1::2], frames[3][1::2]
    whole, fields = combing(frames[0], frames[1]), combing(*woven)
    assert whole is not None
    assert fields is not None
    assert whole < 0.05
    assert fields > 0.08


def test_what_stands_still_tells_nothing_of_fields() -> None:
    still = luma(photo(64, 64))
    assert combing(still, still) is None
