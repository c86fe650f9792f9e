"""PSNR and SSIM against scikit-image's, and against figures of BasicSR 1.4.2."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from starvsr.errors import InputError
from starvsr.metrics.fidelity import MOST_PSNR, psnr_y, ssim_y
from starvsr.metrics.frame import Frame
from tests.metrics.pictures import Picture, blurred, frame, photo


@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 47), (11, 11)])
def test_equal_scikit_image(height: int, width: int) -> None:
    a, b = frame(blurred(photo(height, width))), frame(photo(height, width))
    expected = peak_signal_noise_ratio(b.luma, a.luma, data_range=255)  # type: ignore[no-untyped-call]
    assert psnr_y(a, b) == pytest.approx(expected, abs=1e-9)
    similar = structural_similarity(  # type: ignore[no-untyped-call]
        b.luma,
        a.luma,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim_y(a, b) == pytest.approx(similar, abs=1e-9)


SOFT = blurred(photo(300, 500, 2))


@pytest.mark.parametrize(
    ("result", "reference", "psnr", "ssim"),
    [
        (blurred(photo(300, 500)), photo(300, 500), 35.429766, 0.8459867),
        (blurred(SOFT), SOFT, 46.131646, 0.9854234),
    ],
    ids=["grain", "smooth"],
)
def test_equal_basicsr(result: Picture, reference: Picture, psnr: float, ssim: float) -> None:
    a, b = frame(result), frame(reference)
    assert psnr_y(a, b) == pytest.approx(psnr, abs=2e-6)
    assert ssim_y(a, b) == pytest.approx(ssim, abs=2e-7)


def test_identical_frames_have_the_most() -> None:
    a = frame(photo(24, 32))
    assert psnr_y(a, a) == MOST_PSNR
    assert ssim_y(a, a) == pytest.approx(1, abs=1e-12)


def test_both_are_symmetric() -> None:
    a, b = frame(photo(24, 32)), frame(photo(24, 32, 2))
    assert psnr_y(a, b) == psnr_y(b, a)
    assert ssim_y(a, b) == pytest.approx(ssim_y(b, a), abs=1e-12)


def test_a_picture_smaller_than_the_window_is_refused() -> None:
    a = frame(photo(10, 32))
    with pytest.raises(
        InputError, match="32x10 is too small to measure: at least 11x11 pixels are needed"
    ):
        ssim_y(a, a)


def test_luma_of_black_white_and_primaries() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    luma = frame(colours.astype(np.uint8)).luma[0]
    assert luma == pytest.approx([16, 235, 81.481, 144.553, 40.966])


def test_16_bits_are_rounded_to_8() -> None:
    levels = np.arange(256, dtype=np.uint16) * 257
    for off in (-128, 0, 128):
        pixels = np.clip(levels.astype(np.int64) + off, 0, 65535).astype(np.uint16)
        rgb = Frame(np.repeat(pixels[None, :, None], 3, axis=2)).rgb
        assert (rgb[0, :, 0] == np.arange(256)).all()
