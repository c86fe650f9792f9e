"""BRISQUE against figures of OpenCV 5.0.0's module quality, computed once with its own function and model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from starvsr.metrics.brisque import LEAST_SIDE, brisque
from tests.metrics.pictures import Picture, blurred, frame, noise, photo


def gray(levels: npt.NDArray[np.int64]) -> Picture:
    return np.stack([levels.astype(np.uint8)] * 3, axis=-1)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (photo(300, 500), 21.683242797851562),
        (blurred(photo(300, 500, 2)), 50.17237091064453),
        (photo(40, 48, 4), 12.449666023254395),
        (gray(noise(64, 80)), 94.51486206054688),
    ],
    ids=["photo", "blurred", "small", "noise"],
)
def test_equal_opencv(picture: Picture, expected: float) -> None:
    # OpenCV computes in single precision.
    assert brisque(frame(picture)) == pytest.approx(expected, abs=0.01)


def test_odd_sides_are_cropped() -> None:
    picture = photo(97, 131, 3)
    assert brisque(frame(picture)) == brisque(frame(picture[:96, :130]))


def test_figures_stay_in_their_range() -> None:
    rough = gray(noise(64, 80) // 128 * 255)
    assert brisque(frame(rough)) == 100.0


def test_the_smallest_picture_has_a_figure_and_a_flat_one_has_none() -> None:
    assert brisque(frame(photo(LEAST_SIDE, LEAST_SIDE))) is not None
    assert brisque(frame(np.full((64, 64, 3), 90, np.uint8))) is None
