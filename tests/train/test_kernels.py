"""Blur kernels by their definitions, and the convolution against a direct one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from starvsr.train.kernels import SHAPES, Kernel, blur, taps
from tests.train.clips import moving_clip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [7, 13, 21])
def test_kernels_sum_to_one_and_are_symmetric(shape: str, size: int) -> None:
    kernel = Kernel(shape, size, sigma_x=2.0, sigma_y=1.0, angle=0.7, beta=1.5, cutoff=1.2)
    values = taps(kernel)
    assert values.shape == (size, size)
    assert float(values.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(values, values.flip(0, 1))


def test_a_gaussian_has_its_sigmas_along_its_axes() -> None:
    values = taps(Kernel("gaussian", 41, sigma_x=4.0, sigma_y=1.5)).double()
    offsets = torch.arange(-20, 21).double()
    assert float((values.sum(0) * offsets**2).sum()) == pytest.approx(16, rel=1e-3)
    assert float((values.sum(1) * offsets**2).sum()) == pytest.approx(2.25, rel=1e-3)
    upright = taps(Kernel("gaussian", 41, sigma_x=4.0, sigma_y=1.5, angle=math.pi / 2)).double()
    torch.testing.assert_close(upright, values.T)


def test_beta_of_one_is_the_gaussian() -> None:
    plain = taps(Kernel("gaussian", 15, 2.0, 3.0, 0.3))
    torch.testing.assert_close(taps(Kernel("generalized", 15, 2.0, 3.0, 0.3, beta=1.0)), plain)
    assert not torch.allclose(taps(Kernel("generalized", 15, 2.0, 3.0, 0.3, beta=3.0)), plain)


def test_a_plateau_is_one_over_one_plus_the_distance() -> None:
    values = taps(Kernel("plateau", 9, 2.0, 2.0, beta=1.0))
    assert float(values[4, 6] / values[4, 4]) == pytest.approx(0.5)
    assert float(values[4, 8] / values[4, 4]) == pytest.approx(1 / 5)


def test_a_sinc_passes_what_is_below_its_cutoff() -> None:
    columns = torch.arange(200.0)

    def passed(radians: float) -> float:
        wave = torch.sin(radians * columns).expand(1, 40, 200)
        middle = blur(wave, Kernel("sinc", 41, cutoff=1.0))[0, 20, 50:150]
        return float(middle.abs().max())

    assert passed(0.5) == pytest.approx(1, abs=0.1)
    assert passed(1.8) < 0.1


def test_widening_is_a_larger_sigma() -> None:
    narrow, wide = Kernel("gaussian", 15, 2.0, 1.0), Kernel("gaussian", 15, 3.0, 1.5)
    torch.testing.assert_close(taps(narrow, 1.5), taps(wide))
    sinc = Kernel("sinc", 15, cutoff=1.5)
    torch.testing.assert_close(taps(sinc, 1.5), taps(Kernel("sinc", 15, cutoff=1.0)))


@pytest.mark.parametrize("size", [1, 7, 21])
@pytest.mark.parametrize("sides", [(64, 80), (37, 51), (5, 4)])
def test_blur_equals_a_direct_convolution(size: int, sides: tuple[int, int]) -> None:
    frame = moving_clip(1, 64, 80)[0][:, : sides[0], : sides[1]]
    kernel = Kernel("gaussian", size, 3.0, 1.0, 0.4)
    padded = F.pad(frame[:, None], (size // 2,) * 4, mode="replicate")
    direct = F.conv2d(padded, taps(kernel)[None, None])[:, 0]
    torch.testing.assert_close(blur(frame, kernel), direct, rtol=0, atol=1e-5)


def test_a_flat_frame_stays_flat() -> None:
    frame = torch.full((3, 20, 30), 0.3)
    for shape in SHAPES:
        torch.testing.assert_close(
            blur(frame, Kernel(shape, 11, cutoff=1.0)), frame, rtol=0, atol=1e-5
        )


def test_meaningless_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="one of gaussian"):
        Kernel("box", 7)
    with pytest.raises(ValueError, match="odd"):
        Kernel("gaussian", 8)
