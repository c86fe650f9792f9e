"""PSNR and SSIM on luma."""

from __future__ import annotations

import math

import numpy as np

from starvsr.metrics.frame import Frame, Plane, correlate, gaussian

MOST_PSNR = 100.0
"""dB of identical frames, whose ratio has no bound; a mean over frames needs a number."""

WINDOW_SIDE = 11
"""Pixels of SSIM's window, and of the smallest picture that has an SSIM."""

_PEAK = 255.0
_WINDOW = gaussian(WINDOW_SIDE // 2, 1.5)
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def psnr_y(result: Frame, reference: Frame) -> float:
    """Peak signal-to-noise ratio of BT.601 luma, dB, peak 255, all pixels; at most `MOST_PSNR`."""
    return psnr(float(np.mean((result.luma - reference.luma) ** 2)))


def psnr(error: float) -> float:
    """The peak signal-to-noise ratio of a mean squared error, dB, peak 255; at most `MOST_PSNR`."""
    return min(MOST_PSNR, 10 * math.log10(_PEAK**2 / error)) if error else MOST_PSNR


def ssim_y(result: Frame, reference: Frame) -> float:
    """Structural similarity of BT.601 luma (Wang et al., 2004), -1..1: 11x11 Gaussian window of deviation 1.5.

    Population statistics, peak 255, mean over all positions where the window is inside the frame. Raises InputError for
    frames smaller than the window.
    """
    x, y = result.luma, reference.luma

    def mean(plane: Plane) -> Plane:
        return correlate(plane, _WINDOW)

    mean_x, mean_y = mean(x), mean(y)
    squares = mean_x**2 + mean_y**2
    product = mean_x * mean_y
    variances = mean(x * x + y * y) - squares
    covariance = mean(x * y) - product
    similar = (2 * product + _C1) * (2 * covariance + _C2)
    return float(np.mean(similar / ((squares + _C1) * (variances + _C2))))
