"""NIQE (Mittal, Soundararajan, Bovik, 2013): how far a frame's statistics are from those of pristine photographs."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from starvsr.metrics.frame import Frame, Plane
from starvsr.metrics.scenes import NEIGHBOURS, fit, fitted_mean, normalised, scale

BLOCK = 96
"""Side of a block, pixels."""


class _Pristine(NamedTuple):
    mean: Plane
    covariance: Plane


def measurable(width: int, height: int) -> bool:
    """Whether a frame has the two blocks that a covariance needs."""
    return (width // BLOCK) * (height // BLOCK) >= 2


def niqe(frame: Frame) -> float | None:
    """NIQE of one frame, lower is better; None if fewer than two blocks have statistics (small or flat frames).

    BT.601 luma rounded to whole levels, cropped to whole blocks of 96x96 from the top left, at full and half size.
    """
    if not measurable(*frame.size):
        return None
    picture = np.rint(frame.luma)
    height, width = (side // BLOCK * BLOCK for side in picture.shape)
    picture = picture[:height, :width]
    full = _block_features(normalised(picture), BLOCK)
    half = _block_features(normalised(_halved(picture)), BLOCK // 2)
    features = np.concatenate([full, half], axis=1)
    whole = features[np.isfinite(features).all(axis=1)]
    if len(whole) < 2:
        return None
    pristine = _pristine()
    # As published: the mean uses partial blocks, the covariance only complete ones.
    distance = pristine.mean - np.nanmean(features, axis=0)
    spread = (pristine.covariance + np.cov(whole, rowvar=False)) / 2
    return float(math.sqrt(distance @ np.linalg.pinv(spread) @ distance))


@lru_cache(maxsize=1)
def _pristine() -> _Pristine:
    with (files(__package__) / "niqe_pristine.npz").open("rb") as file, np.load(file) as stored:
        return _Pristine(stored["mean"], stored["covariance"])


def _block_features(values: Plane, side: int) -> Plane:
    """18 features of every block, (blocks, 18)."""
    rows, columns = (size // side for size in values.shape)
    grid = values.reshape(rows, side, columns, side).transpose(0, 2, 1, 3)
    blocks = grid.reshape(rows * columns, side, side)
    shape, left, right = fit(blocks)
    features = [shape, (left + right) / 2 * scale(shape)]
    for shift in NEIGHBOURS:
        shape, left, right = fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        mean = fitted_mean(shape, left, right)
        features += [shape, mean, left * scale(shape), right * scale(shape)]
    return np.stack(features, axis=1)


def _halved(picture: Plane) -> Plane:
    """Half the size by antialiased bicubic interpolation (MATLAB's imresize), borders mirrored."""
    return _halve_rows(_halve_rows(picture).T).T


def _halve_rows(picture: Plane) -> Plane:
    # The cubic kernel (a = -0.5) stretched to twice its width, at the eight samples around a pixel of the result.
    x = np.abs(np.arange(8) - 3.5) / 2
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x <= 1, near, far)
    weights /= weights.sum()
    padded = np.pad(picture, ((3, 3), (0, 0)), mode="symmetric")
    count = picture.shape[0] // 2
    return np.asarray(sum(w * padded[k : k + 2 * count : 2] for k, w in enumerate(weights)))
