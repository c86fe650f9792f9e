"""Alpha beside the network: it follows the picture, and what it hides does not show."""

from __future__ import annotations

import numpy as np
import pytest

from starvsr.restore.transparency import Frame, join_alpha, split_alpha

RED = np.array([50000, 2000, 3000], np.uint16)


def disc(hidden: int = 0) -> Frame:
    """A red disc with a soft edge; `hidden` is the colour under the transparent area."""
    rows, columns = np.mgrid[0:32, 0:40] - np.array([16, 20])[:, None, None]
    inside = np.clip(10 - np.hypot(rows, columns), 0, 1)
    frame = np.full((32, 40, 4), hidden, np.uint16)
    frame[inside > 0, :3] = RED
    frame[..., 3] = np.rint(inside * 65535)
    return frame


@pytest.mark.parametrize("hidden", [0, 65535])
def test_what_is_hidden_takes_the_colour_beside_it(hidden: int) -> None:
    (picture,), (alpha,) = split_alpha([disc(hidden)])
    assert np.abs(picture.astype(int) - RED).max() <= 1
    assert np.array_equal(alpha, disc()[..., 3])


def test_the_nearest_colour_is_taken() -> None:
    frame = np.zeros((16, 64, 4), np.uint16)
    frame[:, :8] = [60000, 0, 0, 65535]
    frame[:, -8:] = [0, 60000, 0, 65535]
    (picture,), _ = split_alpha([frame])
    assert np.array_equal(picture[:, :8], frame[:, :8, :3])
    assert (picture[:, 8:16, 0] > 50000).all() and (picture[:, -16:-8, 1] > 50000).all()
    assert (picture[..., :2].sum(axis=-1, dtype=int) > 55000).all()


def test_visible_colours_are_not_touched() -> None:
    frame = np.random.default_rng(0).integers(0, 65536, (9, 13, 4)).astype(np.uint16)
    frame[..., 3] = np.maximum(frame[..., 3], 1)
    (picture,), _ = split_alpha([frame])
    assert np.array_equal(picture, frame[..., :3])
    frame[..., 3] = 0
    (picture,), _ = split_alpha([frame])
    assert np.array_equal(picture, frame[..., :3])


@pytest.mark.parametrize(("rows", "columns"), [(64, 80), (32, 40), (17, 23), (1, 1)])
def test_alpha_is_resized_with_the_picture(rows: int, columns: int) -> None:
    _, (alpha,) = split_alpha([disc()])
    joined = join_alpha(np.zeros((rows, columns, 3), np.uint16), alpha)
    assert joined.shape == (rows, columns, 4) and joined.dtype == np.uint16
    assert abs(joined[..., 3].mean() - alpha.mean()) < 700 or rows == 1
    if (rows, columns) == (32, 40):
        assert np.array_equal(joined[..., 3], alpha)
    if rows == 64:
        assert (joined[0, :, 3] == 0).all() and joined[32, 40, 3] == 65535
