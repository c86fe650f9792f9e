"""NIQE against figures of BasicSR 1.4.2, computed once with its own function."""

from __future__ import annotations

import numpy as np
import pytest

from starvsr.metrics.frame import Plane, correlate
from starvsr.metrics.niqe import measurable, niqe
from tests.metrics.pictures import Picture, blurred, frame, noise, photo


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (photo(300, 500), 5.961873988471535),
        (blurred(photo(300, 500, 2)), 7.110905741608481),
        # Cropped to whole blocks: 192x288 of it count.
        (photo(207, 331, 3), 5.81921028534603),
    ],
    ids=["photo", "blurred", "cropped"],
)
def test_equal_basicsr(picture: Picture, expected: float) -> None:
    # BasicSR halves the picture in single precision.
    assert niqe(frame(picture)) == pytest.approx(expected, abs=5e-6)


def test_only_whole_blocks_count() -> None:
    picture = photo(207, 331, 3)
    changed = picture.copy()
    changed[192:] = 0
    changed[:, 288:] = 255
    assert niqe(frame(changed)) == niqe(frame(picture))


def test_blur_makes_it_worse() -> None:
    picture = photo(200, 300, 4)
    sharp, soft = niqe(frame(picture)), niqe(frame(blurred(blurred(picture))))
    assert sharp is not None and soft is not None
    assert soft > sharp + 1


def test_rounding_errors_of_flat_places_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = photo(192, 288, 5)
    picture[:, 60:200] = (90, 120, 150)
    expected = niqe(frame(picture))

    def inexact(plane: Plane, kernel: Plane, margin: int = 0) -> Plane:
        exact = correlate(plane, kernel, margin)
        return np.asarray(exact + (noise(*exact.shape) - 128) * 1e-14)

    monkeypatch.setattr("starvsr.metrics.scenes.correlate", inexact)
    assert niqe(frame(picture)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((96, 96), False), ((191, 95), False), ((192, 96), True), ((96, 192), True)],
)
def test_two_blocks_are_the_least(size: tuple[int, int], expected: bool) -> None:
    width, height = size
    assert measurable(width, height) is expected
    assert (niqe(frame(photo(height, width))) is not None) is expected


def test_a_flat_picture_has_none() -> None:
    assert niqe(frame(np.full((192, 192, 3), 77, np.uint8))) is None
