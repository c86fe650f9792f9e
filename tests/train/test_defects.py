"""Defects of recordings: each does to a picture what its name says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from starvsr.train.codecs import YUV_FROM_RGB
from starvsr.train.defects import (
    Chroma,
    Sharpening,
    add_grain,
    interlaced,
    sharpen,
    spoil_chroma,
)
from tests.train.clips import moving_clip

CLIP = moving_clip(3, 32, 48)


def yuv(frame: Tensor) -> Tensor:
    planes: Tensor = torch.tensordot(YUV_FROM_RGB, frame, dims=1)
    return planes


def test_woven_fields_are_of_two_times() -> None:
    woven = list(interlaced(CLIP, "weave"))
    assert torch.equal(woven[0], CLIP[0])
    for number in (1, 2):
        assert torch.equal(woven[number][:, 0::2], CLIP[number][:, 0::2])
        assert torch.equal(woven[number][:, 1::2], CLIP[number - 1][:, 1::2])


def test_blended_fields_are_ghosts_of_both_times() -> None:
    dark, light = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    _, ghost = interlaced([dark, light], "blend")
    torch.testing.assert_close(ghost[:, 1:-1], torch.full((3, 6, 8), 0.5))


def test_bobbed_fields_repeat_rows_and_take_turns() -> None:
    bobbed = list(interlaced(CLIP, "bob"))
    for number, frame in enumerate(bobbed):
        kept = CLIP[number][:, number % 2 :: 2]
        assert torch.equal(frame[:, number % 2 :: 2], kept)
        assert torch.equal(
            frame[:, number % 2 + 1 :: 2], kept[:, : frame[:, number % 2 + 1 :: 2].shape[1]]
        )
    assert torch.equal(bobbed[1][:, 0], CLIP[1][:, 1])
    (thin,) = interlaced([CLIP[0][:, :1]], "bob")
    assert torch.equal(thin, CLIP[0][:, :1])


@pytest.mark.parametrize("kind", ["weave", "blend"])
def test_fields_do_not_change_what_is_still_and_flat(kind: str) -> None:
    flat = torch.full((3, 8, 8), 0.3)
    for frame in interlaced([flat] * 3, kind):
        torch.testing.assert_close(frame, flat)


def test_colour_moves_and_luma_stays() -> None:
    frame = 0.5 + 0.2 * (CLIP[0] - 0.5)
    moved = spoil_chroma(frame, Chroma(shift_x=2.0, shift_y=-1.0))
    torch.testing.assert_close(yuv(moved)[0], yuv(frame)[0], rtol=0, atol=0.05)
    torch.testing.assert_close(yuv(moved)[1:, 0:-1, 2:], yuv(frame)[1:, 1:, :-2], rtol=0, atol=0.05)
    half = spoil_chroma(frame, Chroma(shift_x=0.5))
    expected = (yuv(frame)[1:, :, 1:] + yuv(frame)[1:, :, :-1]) / 2
    torch.testing.assert_close(yuv(half)[1:, :, 1:], expected, rtol=0, atol=0.05)


def test_colour_bleeds_along_rows_only() -> None:
    frame = torch.full((3, 24, 24), 0.4)
    frame[0, 12, 12] = 0.8
    bled = yuv(spoil_chroma(frame, Chroma(bleed=2.0)))[2] - yuv(frame)[2, 0, 0]
    row, column = bled[12], bled[:, 12]
    assert float(row[8:17].min()) > 0.1 * float(row[12])
    assert float(column[[10, 11, 13, 14]].abs().max()) < 1e-3 * float(row[12])


def test_grain_is_coarse_and_strongest_in_mid_tones() -> None:
    def grain(light: float, size: float = 1.0) -> Tensor:
        frame = torch.full((3, 96, 96), light)
        rng = np.random.default_rng(0)
        return add_grain(frame, 8.0, size, gray=True, rng=rng) - frame

    assert float(grain(0.5).std()) == pytest.approx(8 / 255, rel=0.02)
    assert float(grain(0.9).std()) == pytest.approx(8 / 255 * 0.36, rel=0.05)
    assert float(grain(0.0).abs().max()) == 0
    middle = grain(0.5)[0]

    def neighbours(values: Tensor) -> float:
        return float((values[:, 1:] * values[:, :-1]).mean() / values.square().mean())

    assert neighbours(middle) > 0.6
    assert neighbours(grain(0.5, size=0.3)[0]) < 0.2
    assert torch.equal(grain(0.5)[0], grain(0.5)[1])


def test_sharpening_makes_halos() -> None:
    frame = torch.full((3, 16, 16), 0.4)
    frame[:, :, 8:] = 0.6
    sharp = sharpen(frame, Sharpening(1.0, 1.0))
    assert float(sharp[0, 8, 7]) < 0.36
    assert float(sharp[0, 8, 8]) > 0.64
    assert float(sharp[0, 8, 1]) == pytest.approx(0.4, abs=1e-3)
    stronger = sharpen(frame, Sharpening(1.0, 1.0), strength=2.0)
    torch.testing.assert_close(stronger, sharpen(frame, Sharpening(2.0, 1.0)))


def test_meaningless_defects_are_refused() -> None:
    with pytest.raises(ValueError, match="bleed -1"):
        Chroma(bleed=-1.0)
    for amount, sigma in ((-1.0, 1.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="sharpening"):
            Sharpening(amount, sigma)
