"""`--speed`: what its sets put in place of options, and for which models."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from starvsr.errors import UsageError
from starvsr.options import SamplingOptions, Speed, UpscaleOptions, WindowOptions
from starvsr.plan.plan import make_plan
from starvsr.plan.settings import resolve
from starvsr.plan.speed import SPEEDS, has_speeds, with_speed
from starvsr.specs import NANO, SPECS, STAR_COGVIDEOX, STAR_LIGHT
from tests.conftest import CPU, TOY, video_index, video_info

FASTER: list[Speed] = [name for name in SPEEDS if name != "exact"]


def test_every_name_has_a_set() -> None:
    assert tuple(SPEEDS) == get_args(Speed)


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_exact_puts_nothing(spec: object) -> None:
    given = SamplingOptions(), WindowOptions()
    assert with_speed(spec, *given) == given  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FASTER)
def test_what_is_given_comes_first(name: Speed) -> None:
    sampling = SamplingOptions(
        speed=name, cache=0.0, guidance_interval=(0, 1), steps=20, cfg=2.0, seed=3
    )
    windows = WindowOptions(chunk_overlap=3)
    assert with_speed(STAR_LIGHT, sampling, windows) == (sampling, windows)
    filled, _ = with_speed(STAR_LIGHT, SamplingOptions(speed=name, cache=0.0), windows)
    assert filled == dataclasses.replace(SPEEDS[name].sampling, speed=name, cache=0.0)


def test_each_is_less_work_than_the_one_before() -> None:
    plans = [
        make_plan(
            video_info(320, 180),
            video_index(160),
            STAR_LIGHT,
            CPU,
            UpscaleOptions(sampling=SamplingOptions(speed=name)),
            even=True,
        )
        for name in SPEEDS
    ]
    # Calls of a draft are counted, those of a cache are the most there can be.
    costs = [plan.network_calls * plan.overlap_cost for plan in plans]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.1 * costs[0]


@pytest.mark.parametrize("name", ["fast", "draft"])
def test_chunks_always_share_a_frame(name: Speed) -> None:
    for frames, shared in {1: 0, 2: 1, 7: 1, 8: 1, 16: 2, 32: 4}.items():
        windows = WindowOptions(chunk_frames=frames)
        _, found = with_speed(STAR_LIGHT, SamplingOptions(speed=name), windows)
        assert found.chunk_overlap == shared


@pytest.mark.parametrize("name", FASTER)
@pytest.mark.parametrize("chunk_frames", [None, 1, 2, 3, 7, 32])
def test_windows_can_always_be_laid(name: Speed, chunk_frames: int | None) -> None:
    asked = UpscaleOptions(
        sampling=SamplingOptions(speed=name), windows=WindowOptions(chunk_frames=chunk_frames)
    )
    plan = make_plan(video_info(), video_index(60), TOY, CPU, asked, even=True)
    exact = make_plan(
        video_info(), video_index(60), TOY, CPU, UpscaleOptions(windows=asked.windows), even=True
    )
    assert (plan.speed, exact.speed) == (name, "exact")
    assert plan.cache == (SPEEDS[name].sampling.cache or 0)
    assert plan.network_calls < exact.network_calls


def test_other_models_have_none() -> None:
    for spec in (NANO, STAR_COGVIDEOX, dataclasses.replace(TOY, solver="vpsde_dpmpp_2m")):
        assert not has_speeds(spec)
        sampling, windows = SamplingOptions(speed="fast"), WindowOptions()
        assert with_speed(spec, sampling, windows) == (sampling, windows)
        assert resolve(spec, sampling).without_effect == ("--speed",)
    assert resolve(TOY, SamplingOptions(speed="fast")).without_effect == ()
    options_of_their_own = SamplingOptions(steps=50, cache=0.01, guidance_interval=(0, 0.5))
    assert resolve(STAR_COGVIDEOX, options_of_their_own).calls_per_window == 75


def test_parity_is_exact() -> None:
    with pytest.raises(UsageError, match="--parity and --speed fast contradict"):
        UpscaleOptions(sampling=SamplingOptions(speed="fast"), windows=WindowOptions(parity=True))
