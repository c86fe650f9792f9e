"""Shot changes on small pictures; how good they are on real ones is measured in benchmarks/shots.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from starvsr.media.shots import ShotDetector, Small, find_cuts

RNG = np.random.default_rng(3)


def scene(count: int, level: int = 100) -> list[Small]:
    """Frames of one still scene with a little noise."""
    still = RNG.integers(level - 60, level + 60, (3, 32, 32))
    return [(still + RNG.integers(-2, 3, still.shape)).astype(np.int16) for _ in range(count)]


def cuts(frames: Iterable[Small]) -> tuple[int, ...]:
    detector = ShotDetector()
    for frame in frames:
        detector.add_small(frame)
    return detector.cuts()


def test_cuts_between_scenes() -> None:
    assert cuts(scene(20) + scene(7) + scene(30)) == (20, 27)


def test_no_frames_and_one() -> None:
    assert cuts([]) == ()
    assert cuts(scene(1)) == ()


def test_flashes_are_no_cuts() -> None:
    frames = scene(40)
    for i in (10, 20, 21, 30, 31, 32):
        frames[i] = np.minimum(frames[i] + 90, 255).astype(np.int16)
    assert cuts(frames) == ()


def test_fades_are_no_cuts() -> None:
    frames = scene(60)
    gains = np.minimum(1, np.minimum(np.arange(60), np.arange(60)[::-1]) / 8)
    assert cuts((f * g).astype(np.int16) for f, g in zip(frames, gains, strict=True)) == ()


def test_fast_motion_is_no_cut() -> None:
    wide = RNG.integers(0, 256, (3, 32, 400)).astype(np.int16)
    assert cuts(wide[:, :, i * 8 : i * 8 + 32] for i in range(40)) == ()


def test_short_shots_are_merged_and_the_first_is_whole() -> None:
    assert cuts(scene(3) + scene(20)) == ()
    assert len(cuts(scene(20) + scene(5) + scene(20))) == 1


def test_cuts_of_frames_in_memory() -> None:
    shots = [RNG.integers(40, 200, (24, 33, 3), dtype=np.uint8) for _ in range(2)]
    assert find_cuts([shots[0]] * 9 + [shots[1]] * 8) == (9,)
    assert find_cuts(iter([])) == ()
    with pytest.raises(ValueError, match="uint8"):
        find_cuts([shots[0].astype(np.uint16)])
