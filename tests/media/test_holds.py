"""Which runs of frames are holds, by how much their blocks differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from starvsr.media.holds import HoldMeter, Plane


def plane(level: float, noise: float = 0.0, seed: int = 0) -> list[Plane]:
    """A plane with one block of another level, and noise."""
    values = np.full((32, 40), 100.0)
    values[8:16, 16:24] = level
    values += np.random.default_rng(seed).uniform(-noise, noise, values.shape)
    return [values.round().astype(np.uint8)]


def held(levels: Sequence[float], *, noise: float = 0.0, cuts: Sequence[int] = ()) -> list[int]:
    meter = HoldMeter()
    for number, level in enumerate(levels):
        meter.add_planes(plane(level, noise, number))
    return sorted(meter.held(cuts))


def on(times: int, drawings: int, step: float = 40) -> list[float]:
    return [100 + step * (number % 2) for number in range(drawings) for _ in range(times)]


def test_drawings_on_twos_and_threes_are_held() -> None:
    for noise in (0, 2, 5):
        assert held(on(2, 12), noise=noise) == list(range(1, 24, 2))
        assert held(on(3, 12), noise=noise) == [n for n in range(36) if n % 3]


def test_one_block_of_another_level_is_another_picture() -> None:
    assert held(on(1, 24)) == []
    levels = on(2, 12)
    levels[9] += 20
    assert 9 not in held(levels)


def test_noise_alone_is_no_hold() -> None:
    """There is nothing behind which it stops."""
    for noise in (1, 4, 10):
        assert held([100] * 40, noise=noise) == []
        # Nor between cuts, or where something passes by twice.
        assert held([*[100] * 40, *[180] * 20], noise=noise, cuts=(20, 40)) == []
        passing = [40 * (n + 1) for n in range(4)]
        assert held([100] * 30 + passing + [100] * 30 + passing + [100] * 30, noise=noise) == []


def test_what_slows_down_is_no_hold() -> None:
    swing = [128 + 90 * np.sin(number / 4) for number in range(80)]
    assert held(swing) == []


def test_few_are_no_proof() -> None:
    moving = [100 + 13.0 * (number * 7 % 11) for number in range(40)]
    once = [*moving[:20], moving[19], *moving[20:]]
    assert held(once) == []
    often = [level for level in moving[:8] for _ in range(2)]
    assert held([*often, *moving[8:]]) == list(range(1, 16, 2))


def test_holds_end_at_cuts() -> None:
    assert held(on(3, 12), cuts=(16,)) == [n for n in range(36) if n % 3 and n != 16]


def test_slow_changes_add_up() -> None:
    """A hold is compared with its first frame."""
    fade = [60 + 3.0 * number for number in range(40)]
    assert held([*on(2, 6), *fade, *on(2, 6)])[6:-6] == []


def test_frames_of_other_kinds_hold_nothing() -> None:
    meter = HoldMeter()
    for number in range(12):
        meter.add_planes([np.zeros((16 + 8 * (number // 2 % 2), 16), np.uint8)])
        meter.add_planes([])
    assert meter.held(()) == frozenset()
    assert HoldMeter().held(()) == frozenset()
