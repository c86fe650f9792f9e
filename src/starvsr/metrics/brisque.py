"""BRISQUE (Mittal, Moorthy, Bovik, 2012): perceived distortion of a frame, learned from opinion scores."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from starvsr.metrics.frame import Frame, Plane
from starvsr.metrics.scenes import NEIGHBOURS, fit, fitted_mean, normalised

LEAST_SIDE = 16
"""Pixels; at half size, smaller frames have too few for statistics."""

_MOST = 100.0
_KERNEL_WIDTH = 0.05
# The cubic kernel (a = -0.75) half a sample from its centre.
_HALF = np.array([-3, 19, 19, -3]) / 32


class _Opinions(NamedTuple):
    """A support vector regression, and the range of its features."""

    vectors: Plane
    weights: Plane
    offset: float
    low: Plane
    high: Plane


def brisque(frame: Frame) -> float | None:
    """BRISQUE of one frame, 0..100, lower is better; None for flat frames, which have no statistics.

    BT.601 full-range grey rounded to whole levels, cropped to even sides, at full and half size.
    """
    height, width = (side // 2 * 2 for side in frame.gray.shape)
    picture = frame.gray[:height, :width].astype(np.float64)
    features = np.concatenate([_features(picture), _features(_halved(picture))])
    if not np.isfinite(features).all():
        return None
    model = _opinions()
    place = 2 * (features - model.low) / (model.high - model.low) - 1
    near = np.exp(-_KERNEL_WIDTH * np.square(model.vectors - place).sum(1))
    return float(np.clip(model.weights @ near - model.offset, 0.0, _MOST))


@lru_cache(maxsize=1)
def _opinions() -> _Opinions:
    with (files(__package__) / "brisque_live.npz").open("rb") as file, np.load(file) as stored:
        low, high = stored["range"].astype(np.float64)
        vectors = stored["vectors"].astype(np.float64)
        return _Opinions(vectors, stored["weights"], float(stored["offset"]), low, high)


def _features(picture: Plane) -> Plane:
    """18 features of a frame."""
    values = normalised(picture)
    shape, left, right = fit(values[None])
    features = [shape, (left**2 + right**2) / 2]
    for down, across in NEIGHBOURS:
        shape, left, right = fit((values * _shifted(values, down, across))[None])
        features += [shape, fitted_mean(shape, left, right), left**2, right**2]
    return np.concatenate(features)


def _shifted(values: Plane, down: int, across: int) -> Plane:
    """The value at that offset from every position, and 0 outside."""
    around = np.pad(values, 1)
    height, width = values.shape
    return around[1 + down : 1 + down + height, 1 + across : 1 + across + width]


def _halved(picture: Plane) -> Plane:
    """Half the size by bicubic interpolation without antialiasing, borders repeated, as the model was made for."""
    return _halve_rows(_halve_rows(picture).T).T


def _halve_rows(picture: Plane) -> Plane:
    padded = np.pad(picture, ((1, 1), (0, 0)), mode="edge")
    count = picture.shape[0]
    return np.asarray(sum(w * padded[k : k + count : 2] for k, w in enumerate(_HALF)))
