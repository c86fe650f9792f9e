"""The eight ways a picture can lie."""

from __future__ import annotations

import numpy as np
import pytest

from starvsr.media.orientation import Orientation, from_matrix

ONE = 1 << 16
PICTURE = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3)


def _shown(matrix: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """The picture as the matrix's definition places each sample: at (a x + c y, b x + d y)."""
    a, b, _, c, d = (value // ONE for value in matrix[:5])
    places = {(b * x + d * y, a * x + c * y): PICTURE[y, x] for y in range(2) for x in range(3)}
    rows, columns = ({place[axis] for place in places} for axis in (0, 1))
    shape = (len(rows), len(columns), 3)
    shown = np.zeros(shape, np.uint16)
    for (row, column), sample in places.items():
        shown[row - min(rows), column - min(columns)] = sample
    return shown


@pytest.mark.parametrize("axes", [(1, 0, 0, 1), (0, 1, 1, 0)])
@pytest.mark.parametrize("sign_x", [1, -1])
@pytest.mark.parametrize("sign_y", [1, -1])
def test_all_eight(axes: tuple[int, int, int, int], sign_x: int, sign_y: int) -> None:
    a, b, c, d = (ONE * axis for axis in axes)
    matrix = (a * sign_x, b * sign_y, 0, c * sign_x, d * sign_y, 0, 0, 0, 1 << 30)
    assert np.array_equal(from_matrix(matrix).apply(PICTURE), _shown(matrix))


def test_result_is_contiguous() -> None:
    turned = Orientation(90, True).apply(PICTURE)
    assert turned.flags.c_contiguous and turned.shape == (3, 2, 3)


def test_crooked_and_empty_matrices() -> None:
    assert from_matrix((60000, 26000, 0, -26000, 60000, 0, 0, 0, 1 << 30)) == Orientation()
    assert from_matrix((0,) * 9) == Orientation()
