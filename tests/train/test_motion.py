"""Camera motion over stills: inside the picture, smooth, and equally sharp wherever it stops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from starvsr.train.motion import CameraPath, blob_mask, draw_path, render


def corners(path: CameraPath, number: int, view: tuple[int, int]) -> list[tuple[float, float]]:
    sine, cosine = math.sin(path.angle[number]), math.cos(path.angle[number])
    found = []
    for down in (-view[0] / 2, view[0] / 2):
        for right in (-view[1] / 2, view[1] / 2):
            down_px, right_px = path.zoom[number] * down, path.zoom[number] * right
            found.append(
                (
                    path.rows[number] + down_px * cosine + right_px * sine,
                    path.columns[number] - down_px * sine + right_px * cosine,
                )
            )
    return found


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    frames=st.integers(1, 40),
    view=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    room=st.tuples(st.integers(0, 200), st.integers(0, 200)),
    zoom=st.floats(0.5, 3),
    strength=st.floats(0, 4),
)
def test_every_view_lies_in_the_still(
    seed: int,
    frames: int,
    view: tuple[int, int],
    room: tuple[int, int],
    zoom: float,
    strength: float,
) -> None:
    still = (view[0] + room[0], view[1] + room[1])
    rng = np.random.default_rng(seed)
    path = draw_path(rng, frames, view, still, zoom=zoom, strength=strength)
    assert path.frames == frames
    for number in range(frames):
        assert path.zoom[number] >= 1 - 1e-9
        for row, column in corners(path, number, view):
            assert -1e-6 <= row <= still[0] + 1e-6
            assert -1e-6 <= column <= still[1] + 1e-6


def test_a_view_larger_than_the_still_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        draw_path(np.random.default_rng(0), 2, (9, 8), (8, 8))


def test_motion_is_smooth_and_its_strength_counts() -> None:
    def path(strength: float) -> CameraPath:
        return draw_path(np.random.default_rng(3), 16, (20, 20), (400, 400), strength=strength)

    moving, still = path(1.0), path(0.0)
    assert np.ptp(still.rows) == np.ptp(still.columns) == np.ptp(still.angle) == 0
    assert np.ptp(moving.rows) + np.ptp(moving.columns) > 1
    for values in (moving.rows, moving.columns):
        steps = np.diff(values)
        assert np.abs(np.diff(steps)).max() < 0.6


def standing(row: float, column: float, zoom: float = 1.0, angle: float = 0.0) -> CameraPath:
    return CameraPath(*(np.array([value]) for value in (row, column, zoom, angle)))


def grating(columns: Tensor, frequency: float) -> Tensor:
    return torch.cos(2 * math.pi * frequency * columns)


@pytest.mark.parametrize("shift", [0.0, 0.125, 0.25, 0.3, 0.5, 0.77])
@pytest.mark.parametrize("frequency", [0.05, 0.2, 0.35])
def test_fine_detail_keeps_its_contrast_between_pixels(shift: float, frequency: float) -> None:
    still = grating(torch.arange(200) + 0.5, frequency).expand(3, 120, 200)
    seen = render(still, standing(60.0, 100.0 + shift), (20, 40))[0]
    expected = grating(80.0 + shift + torch.arange(40) + 0.5, frequency)
    assert float((seen - expected).abs().max()) < 0.04


def test_what_a_wide_view_cannot_show_is_gone_and_does_not_alias() -> None:
    columns = torch.arange(400) + 0.5
    # Above the highest frequency of a view of half the density, and well below it.
    for frequency, share in ((0.4, 0.1), (0.05, 0.95)):
        still = grating(columns, frequency).expand(3, 120, 400)
        seen = render(still, standing(60.0, 200.3, zoom=2.0), (20, 60))
        ratio = float(seen.std()) / float(still.std())
        assert ratio < share if share < 0.5 else ratio > share


def test_a_turn_is_clockwise_and_about_the_centre() -> None:
    still = torch.zeros(1, 64, 64)
    still[:, 30:34, 44:48] = 1.0
    seen = render(still, standing(32.0, 32.0, angle=math.pi / 2), (40, 40))[0, 0]
    # To a camera whose right hand points down, what is to the right is above.
    row, column = divmod(int(seen.argmax()), 40)
    assert abs(column - 20) <= 2
    assert abs(row - 6) <= 2


def test_a_view_at_the_border_repeats_it() -> None:
    seen = render(torch.full((3, 24, 24), 0.25), standing(8.0, 8.0), (16, 16))
    torch.testing.assert_close(seen, torch.full_like(seen, 0.25), rtol=0, atol=1e-5)


def test_a_foreground_has_an_inside_an_outside_and_moves() -> None:
    mask = blob_mask(np.random.default_rng(1), 12, (40, 50))
    assert mask.shape == (12, 1, 40, 50)
    assert float(mask.min()) == 0
    assert float(mask.max()) == 1
    assert not torch.equal(mask[0], mask[-1])
    # Smoothly: no pixel between neighbouring frames but at the edge.
    assert float((mask[1:] - mask[:-1]).abs().mean()) < 0.2
