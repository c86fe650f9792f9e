"""Warping error and tOF on pictures whose motion is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from starvsr.metrics import temporal
from starvsr.metrics.temporal import OpticalFlow, TemporalErrors, followed, warped
from tests.metrics.pictures import Picture, blurred, frame, moving

SIZE = (96, 128)


def errors(
    result: list[Picture], reference: list[Picture]
) -> list[tuple[float | None, float | None]]:
    """E*warp and tOF of every frame but the first, which has none."""
    meter = TemporalErrors()
    for a, b in zip(result, reference, strict=True):
        meter.add(frame(a), frame(b))
    curves = meter.finish()
    first, *found = zip(curves["e_warp"], curves["tof"], strict=True)
    assert first == (None, None)
    return found


def means(result: list[Picture], reference: list[Picture]) -> tuple[float, float]:
    e_warp, tof = zip(*errors(result, reference), strict=True)
    return float(np.mean([e for e in e_warp if e is not None])), float(np.mean(tof))


def test_flow_finds_the_motion() -> None:
    first, second = map(frame, moving(2, *SIZE, step=(2, 1)))
    flow = OpticalFlow()(first, second)
    assert flow.shape == (*SIZE, 2)
    assert np.median(flow, axis=(0, 1)) == pytest.approx([2, 1], abs=0.1)


def test_warping_along_the_flow_takes_the_next_frame_back() -> None:
    first, second = moving(2, *SIZE, step=(2, 1))
    flow = np.full((*SIZE, 2), (2, 1), np.float32)
    back = warped(second.astype(np.float32), flow)
    assert np.array_equal(back[:-1, :-2], first[:-1, :-2])


def test_pixels_that_leave_the_picture_are_not_followed() -> None:
    there, back = (np.full((*SIZE, 2), (sign * 2, sign), np.float32) for sign in (1, -1))
    visible = followed(there, back)
    assert visible[:-1, :-2].all()
    assert not visible[-1].any() and not visible[:, -2:].any()
    # A way back that ends elsewhere is none.
    assert not followed(there, there).any()


def test_a_result_that_moves_like_its_reference_has_hardly_an_error() -> None:
    clip = moving(4, *SIZE)
    e_warp, tof = means(clip, clip)
    assert tof == 0
    assert e_warp < 1


def test_flicker_is_an_error_of_warping() -> None:
    clip = moving(4, *SIZE)
    flicker = [
        (each.astype(np.int64) * (10 - number % 2) // 10).astype(np.uint8)
        for number, each in enumerate(clip)
    ]
    squared = np.mean([(0.1 * (c / 255)) ** 2 for c in clip]) * 1000
    e_warp, tof = means(flicker, clip)
    assert e_warp == pytest.approx(squared, rel=0.2)
    assert tof < 0.5


def test_a_frozen_result_has_the_whole_motion_as_tof() -> None:
    clip = moving(4, *SIZE, step=(2, 1))
    e_warp, tof = means([clip[0]] * 4, clip)
    assert tof == pytest.approx(math.sqrt(5), rel=0.15)
    assert e_warp > 3


def test_a_soft_result_warps_better_than_its_reference() -> None:
    clip = moving(4, *SIZE)
    assert means([blurred(each) for each in clip], clip)[0] < means(clip, clip)[0] + 0.01


def test_figures_do_not_depend_on_threads() -> None:
    import cv2

    clip = moving(3, *SIZE)
    result = [blurred(each) for each in clip]
    first = errors(result, clip)
    cv2.setNumThreads(4)
    assert errors(result, clip) == first


def test_where_nothing_can_be_followed_there_is_no_warping_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(temporal, "followed", lambda there, _: np.zeros(there.shape[:2], bool))
    clip = moving(2, *SIZE)
    assert errors(clip, clip) == [(None, 0.0)]
