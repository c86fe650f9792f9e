"""Shifts of a pixel or a frame are noticed; softness, noise and stillness are not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from starvsr.evaluate.alignment import Alignment, AlignmentCheck
from starvsr.train.presets import PRESETS
from starvsr.train.recipes import draw
from tests.metrics.pictures import Picture, blurred, frame, moving, noise

SIZE = (96, 160)


def checked(result: list[Picture], reference: list[Picture]) -> Alignment:
    check = AlignmentCheck(len(result))
    for a, b in zip(result, reference, strict=True):
        check.add(frame(a).luma, frame(b).luma)
    return check.finish()


def cropped(clip: list[Picture], right: int, down: int) -> list[Picture]:
    """A window of a larger clip, so that the content lies so much further right and down."""
    height, width = SIZE
    return [each[20 - down : 20 - down + height, 20 - right : 20 - right + width] for each in clip]


def large(count: int = 12, step: tuple[int, int] = (2, 1)) -> list[Picture]:
    return moving(count, SIZE[0] + 40, SIZE[1] + 40, step)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, -1), (-3, 2), (7, 5)])
def test_a_shift_by_whole_pixels_is_noticed(right: int, down: int) -> None:
    # Still, or a shift would look like the motion of a frame.
    clip = large(step=(0, 0))
    result = [blurred(each) for each in cropped(clip, right, down)]
    found = checked(result, cropped(clip, 0, 0))
    assert (found.right, found.down) == pytest.approx((right, down), abs=0.15)
    assert found.late == 0
    assert "shifted by" in found.warnings()[0]


def test_half_a_pixel_is_noticed() -> None:
    clip = large(step=(0, 0))
    halves = [
        ((a.astype(int) + b) // 2).astype(np.uint8)
        for a, b in zip(cropped(clip, 1, 0), cropped(clip, 2, 0), strict=True)
    ]
    found = checked(halves, cropped(clip, 0, 0))
    assert (found.right, found.down) == pytest.approx((1.5, 0), abs=0.15)
    assert found.warnings() == [
        "the result is shifted by +1.5 pixels to the right and +0.0 down: "
        "the metrics compare positions that do not match"
    ]


@pytest.mark.parametrize(
    ("late", "said"), [(1, "1 frame late"), (-1, "1 frame early"), (3, "3 frames late")]
)
def test_a_shift_in_time_is_noticed(late: int, said: str) -> None:
    clip = cropped(large(20), 0, 0)
    result = [blurred(each) for each in clip[5 - late : 15 - late]]
    found = checked(result, clip[5:15])
    assert found.late == late
    assert found.warnings() == [
        f"the result is {said}: the metrics compare frames that do not match"
    ]


@pytest.mark.parametrize("step", [(0, 0), (2, 1)])
def test_soft_and_noisy_results_are_not_shifted(step: tuple[int, int]) -> None:
    clip = cropped(large(step=step), 0, 0)
    grain = noise(*SIZE, 77)[..., None] // 6 - 21
    results = {
        "same": clip,
        "soft": [blurred(blurred(blurred(each))) for each in clip],
        "noisy": [
            np.clip(each + np.roll(grain, n, 0), 0, 255).astype(np.uint8)
            for n, each in enumerate(clip)
        ],
        "darker": [each // 2 for each in clip],
    }
    for name, result in results.items():
        found = checked(result, clip)
        assert found.warnings() == [], (name, found)
        assert (found.right, found.down) == pytest.approx((0, 0), abs=0.2), name


def poor_result(clip: list[Picture], preset: str, seed: int) -> list[Picture]:
    """Degraded to a quarter of the size, and plainly enlarged."""
    truth = torch.from_numpy(np.stack(clip)).permute(0, 3, 1, 2) / 255
    poor = draw(PRESETS[preset], np.random.default_rng(seed)).apply(truth)
    large_again = F.interpolate(poor, size=SIZE, mode="bicubic").clamp(0, 1)
    return [*(large_again * 255).round().byte().permute(0, 2, 3, 1).numpy()]


@pytest.mark.parametrize("seed", range(6))
def test_errors_of_a_poor_input_are_no_shift(seed: int) -> None:
    clip = cropped(large(8, (0, 0)), 0, 0)
    assert checked(poor_result(clip, "heavy", seed), clip).warnings() == []


@pytest.mark.parametrize(
    ("preset", "seed"), [*(("light", seed) for seed in range(6)), ("heavy", 4)]
)
def test_a_shift_of_a_poor_result_is_noticed(preset: str, seed: int) -> None:
    clip = cropped(large(8, (0, 0)), 0, 0)
    shifted = [np.roll(each, 1, axis=1) for each in poor_result(clip, preset, seed)]
    found = checked(shifted, clip)
    assert found.right == pytest.approx(1, abs=0.35)
    assert "shifted by" in found.warnings()[0]


def test_flat_and_unrelated_pictures_say_nothing() -> None:
    flat = [np.full((*SIZE, 3), 90, np.uint8)] * 4
    assert checked(flat, flat) == Alignment(0.0, 0.0, 0)
    first = [np.repeat(noise(*SIZE, n)[..., None], 3, 2).astype(np.uint8) for n in range(4)]
    other = [np.repeat(noise(*SIZE, n)[..., None], 3, 2).astype(np.uint8) for n in range(9, 13)]
    assert checked(first, other).warnings() == []


def test_one_frame() -> None:
    clip = cropped(large(1), 0, 0)
    assert checked(clip, clip).warnings() == []
