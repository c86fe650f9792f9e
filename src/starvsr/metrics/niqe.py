"""NIQE (Mittal, Soundararajan, Bovik, 2013): how far a frame's statistics are from those of pristine photographs."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from starvsr.metrics.frame import Frame, Plane, correlate, gaussian

BLOCK = 96
"""Side of a block, pixels."""

_WINDOW = gaussian(3, 7 / 6)
_NOTHING = 1e-9
# Neighbours whose products are described: right, below, and both diagonals.
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


class _Pristine(NamedTuple):
    mean: Plane
    covariance: Plane


def measurable(width: int, height: int) -> bool:
    """Whether a picture holds the two blocks that a covariance needs at least."""
    return (width // BLOCK) * (height // BLOCK) >= 2


def niqe(frame: Frame) -> float | None:
    """NIQE of one frame, lower is better; None where fewer than two blocks have statistics (small or flat pictures).

    BT.601 luma rounded to whole levels, cropped to whole blocks of 96x96 from the top left, at full and half size.
    """
    if not measurable(*frame.size):
        return None
    picture = np.rint(frame.luma)
    height, width = (side // BLOCK * BLOCK for side in picture.shape)
    picture = picture[:height, :width]
    full = _block_features(_normalised(picture), BLOCK)
    half = _block_features(_normalised(_halved(picture)), BLOCK // 2)
    features = np.concatenate([full, half], axis=1)
    whole = features[np.isfinite(features).all(axis=1)]
    if len(whole) < 2:
        return None
    pristine = _pristine()
    # As published: the mean takes what a block has, the covariance only blocks that have everything.
    distance = pristine.mean - np.nanmean(features, axis=0)
    spread = (pristine.covariance + np.cov(whole, rowvar=False)) / 2
    return float(math.sqrt(distance @ np.linalg.pinv(spread) @ distance))


@lru_cache(maxsize=1)
def _pristine() -> _Pristine:
    with (files(__package__) / "niqe_pristine.npz").open("rb") as file, np.load(file) as stored:
        return _Pristine(stored["mean"], stored["covariance"])


def _normalised(picture: Plane) -> Plane:
    """Mean-subtracted, contrast-normalised values."""
    mean = correlate(picture, _WINDOW, margin=3)
    variance = correlate(picture * picture, _WINDOW, margin=3) - mean * mean
    values = np.asarray((picture - mean) / (np.sqrt(np.abs(variance)) + 1))
    # Where a picture is flat only rounding errors are left, and their signs would be counted.
    values[np.abs(values) < _NOTHING] = 0
    return values


def _block_features(values: Plane, side: int) -> Plane:
    """18 features of every block, (blocks, 18)."""
    rows, columns = (size // side for size in values.shape)
    grid = values.reshape(rows, side, columns, side).transpose(0, 2, 1, 3)
    blocks = grid.reshape(rows * columns, side, side)
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        shape, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        mean = (right - left) * (_gamma(2 / shape) / _gamma(1 / shape))
        features += [shape, mean, left, right]
    return np.stack(features, axis=1)


def _fit(blocks: Plane) -> tuple[Plane, Plane, Plane]:
    """An asymmetric generalised Gaussian per block, by moments: shape, left and right scale; nan for a flat one."""
    flat = blocks.reshape(len(blocks), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (
            np.sqrt(np.sum(np.square(flat, where=side, out=np.zeros_like(flat)), axis=1) / count)
            for side in (flat < 0, flat > 0)
            for count in [side.sum(axis=1)]
        )
        skew = left / right
        ratio = np.mean(np.abs(flat), axis=1) ** 2 / np.mean(flat**2, axis=1)
        wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, ratios = _shapes()
    found = np.array(
        [shapes[np.argmin((ratios - w) ** 2)] if np.isfinite(w) else np.nan for w in wanted]
    )
    scale = np.sqrt(_gamma(1 / found) / _gamma(3 / found))
    return found, left * scale, right * scale


@lru_cache(maxsize=1)
def _shapes() -> tuple[Plane, Plane]:
    """Shapes 0.2..10 in steps of 0.001, and the moment ratio of each."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, _gamma(2 / shapes) ** 2 / (_gamma(1 / shapes) * _gamma(3 / shapes))


def _gamma(x: Plane) -> Plane:
    return np.array([math.gamma(each) if np.isfinite(each) else np.nan for each in x])


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
