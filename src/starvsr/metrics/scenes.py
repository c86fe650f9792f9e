"""Natural scene statistics, used by NIQE and BRISQUE.

In photographs, luma normalised by local mean and contrast is nearly Gaussian, and so, in their way, are products of
neighbours; deviations reveal noise, blur and blocking.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from starvsr.metrics.frame import Plane, correlate, gaussian

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns to the neighbours whose products are described: right, below, and both diagonals."""

_WINDOW = gaussian(3, 7 / 6)
_NOTHING = 1e-9


def normalised(picture: Plane) -> Plane:
    """Luma (height, width) minus its local mean, divided by its local contrast."""
    mean = correlate(picture, _WINDOW, margin=3)
    variance = correlate(picture * picture, _WINDOW, margin=3) - mean * mean
    values = np.asarray((picture - mean) / (np.sqrt(np.abs(variance)) + 1))
    # In flat areas only rounding errors remain, and their signs would be counted.
    values[np.abs(values) < _NOTHING] = 0
    return values


def fit(blocks: Plane) -> tuple[Plane, Plane, Plane]:
    """An asymmetric generalised Gaussian per block `b ...`, by moments: shape, left and right deviation (b each).

    nan for a block without values on either side of 0.
    """
    flat = blocks.reshape(len(blocks), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (
            np.sqrt(np.sum(np.square(flat, where=side, out=np.zeros_like(flat)), axis=1) / count)
            for side in (flat < 0, flat > 0)
            for count in [side.sum(axis=1)]
        )
        lean = left / right
        ratio = np.mean(np.abs(flat), axis=1) ** 2 / np.mean(flat**2, axis=1)
        wanted = ratio * (lean**3 + 1) * (lean + 1) / (lean**2 + 1) ** 2
    shapes, ratios = _shapes()
    found = np.array(
        [shapes[np.argmin((ratios - w) ** 2)] if np.isfinite(w) else np.nan for w in wanted]
    )
    return found, left, right


def fitted_mean(shape: Plane, left: Plane, right: Plane) -> Plane:
    """The mean of the fitted distributions."""
    return np.asarray((right - left) * scale(shape) * (_gamma(2 / shape) / _gamma(1 / shape)))


def scale(shape: Plane) -> Plane:
    """The distributions' scale over their deviation."""
    return np.asarray(np.sqrt(_gamma(1 / shape) / _gamma(3 / shape)))


@lru_cache(maxsize=1)
def _shapes() -> tuple[Plane, Plane]:
    """Shapes 0.2..10 in steps of 0.001, and the moment ratio of each."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, _gamma(2 / shapes) ** 2 / (_gamma(1 / shapes) * _gamma(3 / shapes))


def _gamma(x: Plane) -> Plane:
    return np.array([math.gamma(each) if np.isfinite(each) else np.nan for each in x])
