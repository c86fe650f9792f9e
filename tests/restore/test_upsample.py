"""The fast way to an unshuffled enlargement equals the plain one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from starvsr.restore.upsample import upsample, upsample_rows, upsample_unshuffled


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (2, 3), (13, 17)])
@pytest.mark.parametrize("more", [(0, 0), (2, 0), (0, 3), (5, 1)])
def test_unshuffled_equals_plain(
    mode: str, factor: int, height: int, width: int, more: tuple[int, int]
) -> None:
    frames = torch.rand(2, 3, height, width) * 2 - 1
    plain = upsample(frames, (factor * height, factor * width), mode)
    pad = (0, more[1] * factor, 0, more[0] * factor)
    expected = functional.pixel_unshuffle(functional.pad(plain, pad, mode="replicate"), factor)
    result = upsample_unshuffled(frames, factor, (height + more[0], width + more[1]), mode)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_bicubic_is_clamped() -> None:
    edge = torch.tensor([-1.0, -1.0, 1.0, 1.0]).view(1, 1, 1, 4).expand(1, 3, 4, 4)
    unclamped = functional.interpolate(edge, scale_factor=4, mode="bicubic")
    assert unclamped.max() > 1
    assert upsample(edge, (16, 16), "bicubic").max() == 1
    assert upsample_unshuffled(edge, 4, (4, 4), "bicubic").max() == 1


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(96, 80), (61, 40), (24, 20), (11, 9), (7, 333)])
def test_rows_are_those_of_the_whole(mode: str, size: tuple[int, int]) -> None:
    frame = torch.rand(1, 3, 24, 20) * 2 - 1
    whole = upsample(frame, size, mode)
    for rows in ((0, size[0]), (0, 3), (2, 7), (size[0] - 2, size[0])):
        part = upsample_rows(frame, size, mode, rows)
        torch.testing.assert_close(part, whole[:, :, slice(*rows)], rtol=0, atol=1e-5)
