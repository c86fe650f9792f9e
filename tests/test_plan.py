"""Plans are pure integers: segments cover every frame, seams are shared exactly, nothing crosses a cut."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from starvsr.errors import UsageError
from starvsr.options import (
    RangeOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.plan import (
    SEGMENT_BYTES,
    Plan,
    calls_per_window,
    frame_range,
    ineffective_options,
    make_plan,
    resolve_windows,
)
from starvsr.sampling import SOLVERS
from starvsr.schedule import logsnr_cosine_interp
from tests.conftest import CPU, NANO, TOY, video_index, video_info


def plan_of(spec=NANO, frames=100, cuts=(), **options) -> Plan:  # type: ignore[no-untyped-def]
    index = video_index(frames, cuts=cuts)
    return make_plan(video_info(), index, spec, CPU, UpscaleOptions(**options), even=True)


@pytest.mark.parametrize("spec", [NANO, TOY], ids=lambda s: s.name)
@pytest.mark.parametrize("frames", [1, 2, 5, 31, 32, 33, 64, 100, 601])
@pytest.mark.parametrize("cuts", [(), (1,), (3, 40), (10, 11, 12)])
def test_segments_cover_every_frame_once(spec, frames, cuts) -> None:  # type: ignore[no-untyped-def]
    cuts = tuple(cut for cut in cuts if cut < frames)
    plan = plan_of(spec, frames, cuts)
    covered: list[int] = []
    for segment in plan.segments:
        assert segment.frames <= spec.segment_frames
        assert segment.core[0] < segment.core[1], "a segment must have a core"
        covered += range(segment.first + segment.head, segment.last)
    assert covered == list(range(frames))
    for before, behind in itertools.pairwise(plan.segments):
        if behind.first in cuts:
            assert before.tail == behind.head == 0
            assert before.last == behind.first
        else:
            assert before.tail == behind.head == spec.context_frames
            assert before.last - before.tail == behind.first
    assert not any(segment.first < cut < segment.last for segment in plan.segments for cut in cuts)


def test_no_scene_detect_ignores_cuts() -> None:
    plan = plan_of(cuts=(10,), windows=WindowOptions(scene_detect=False, segment_frames=100))
    assert [(s.first, s.last) for s in plan.segments] == [(0, 100)]


def test_large_pictures_get_shorter_segments() -> None:
    info, index = video_info(1920, 1080), video_index(100)
    plan = make_plan(info, index, NANO, CPU, UpscaleOptions(), even=True)
    latent_bytes = 4 * 48 * plan.latent[0] * plan.latent[1]
    longest = max(s.frames for s in plan.segments)
    assert 1 <= longest < NANO.segment_frames
    assert longest * latent_bytes < SEGMENT_BYTES
    assert plan.memory_bytes <= SEGMENT_BYTES


def test_windows_of_nano_are_legal_and_cost_at_most_15_percent() -> None:
    for width, height in [(480, 270), (640, 360), (320, 180), (960, 540), (1920, 1080), (720, 576)]:
        plan = make_plan(
            video_info(width, height), video_index(40), NANO, CPU, UpscaleOptions(), even=True
        )
        assert plan.overlap_cost <= 1.15, (width, height, plan.overlap_cost)
        for (a, b), remainder in [(s, 2) for s in plan.rows] + [(s, 0) for s in plan.columns]:
            assert (b - a) % 4 == remainder


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (RangeOptions(), (0, 100)),
        (RangeOptions(start_s=1), (25, 100)),
        (RangeOptions(start_s=1, duration_s=0.4), (25, 35)),
        (RangeOptions(start_s=0.04, end_s=0.12), (1, 3)),
        (RangeOptions(start_s=3.9, frames=50), (98, 100)),
        (RangeOptions(frames=7), (0, 7)),
        (RangeOptions(end_s=99), (0, 100)),
    ],
)
def test_frame_range(options: RangeOptions, expected: tuple[int, int]) -> None:
    for first_pts in (0, 6400, -1024):
        assert frame_range(video_info(), video_index(first_pts=first_pts), options) == expected


def test_a_range_without_frames_is_refused() -> None:
    with pytest.raises(UsageError, match=r"4\.000 s long"):
        frame_range(video_info(), video_index(), RangeOptions(start_s=5))


def test_resolve_windows() -> None:
    windows = resolve_windows(TOY, WindowOptions(tile_px=64, tile_overlap_px=9, chunk_frames=4))
    assert (windows.tile_height, windows.tile_width, windows.tile_overlap) == (32, 32, 5)
    assert (windows.chunk_frames, windows.chunk_overlap) == (4, 2)
    assert resolve_windows(NANO, WindowOptions(tile_px=0)).tile_height is None
    with pytest.raises(UsageError, match="--chunk-overlap 3 is more than half"):
        resolve_windows(TOY, WindowOptions(chunk_frames=4, chunk_overlap=3))
    with pytest.raises(UsageError, match="--tile 16 is too small"):
        resolve_windows(NANO, WindowOptions(tile_px=16))


def test_a_segment_shorter_than_its_context_is_refused() -> None:
    with pytest.raises(UsageError, match="--segment-frames 4 is too short"):
        plan_of(TOY, windows=WindowOptions(segment_frames=4))


@pytest.mark.parametrize("solver", ["dpmpp_2m_sde", "heun"])
@pytest.mark.parametrize("mode", ["fast", "normal"])
@pytest.mark.parametrize("steps", [1, 2, 3, 15, 30])
@pytest.mark.parametrize("noise_level", [400, 501, 502, 900])
def test_calls_equal_what_the_sampler_does(
    solver: str, mode: str, steps: int, noise_level: int
) -> None:
    import torch

    spec = dataclasses.replace(TOY, solver=solver)
    options = SamplingOptions(steps=steps, solver_mode=mode, noise_level=noise_level, cfg=1)
    sigmas = logsnr_cosine_interp().sigmas_for(
        steps,
        noise_level=noise_level,
        solver_mode=mode,
        discard_penultimate=SOLVERS[solver].discard_penultimate,
    )
    calls = 0

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return x * 0

    SOLVERS[solver].sample(denoise, torch.ones(1), sigmas, noise=lambda _: torch.ones(1))
    assert calls_per_window(spec, options) == calls
    guided = dataclasses.replace(options, cfg=7.5)
    assert calls_per_window(spec, guided) == 2 * calls


def test_ineffective_options_are_named() -> None:
    given = SamplingOptions(steps=3, seed=1)
    assert ineffective_options(NANO, given) == ["--steps", "--seed"]
    assert ineffective_options(TOY, given) == []
    assert ineffective_options(NANO, SamplingOptions()) == []


def test_plan_is_json() -> None:
    data = json.loads(str(plan_of(size=SizeOptions(scale=2))))
    assert (data["width"], data["height"], data["frames"]) == (350, 198, 100)
    assert data["segments"][0] == {"index": 0, "first": 0, "last": 25, "head": 0, "tail": 0}
