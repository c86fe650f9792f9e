"""Settings: what is None becomes the model's, `--speed` fills in what was not given, and calls are counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from starvsr.errors import UsageError
from starvsr.options import (
    DEFAULT_SEED,
    LookOptions,
    SamplingOptions,
    SolverMode,
    WindowOptions,
)
from starvsr.plan.layout import windows_for
from starvsr.plan.settings import resolve
from starvsr.restore.restorer import Restorer
from starvsr.restore.sampling import SOLVERS
from starvsr.restore.schedule import logsnr_cosine_interp
from starvsr.specs import SPECS, STAR_COGVIDEOX, STAR_LIGHT
from starvsr.types import ModelSpec
from starvsr.zoo.load import load_model
from tests.conftest import NANO, TOY


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_without_options_all_is_the_models_own(spec: ModelSpec) -> None:
    settings = resolve(spec)
    for name in (
        "steps",
        "cfg",
        "cfg_dynamic",
        "cfg_rescale",
        "noise_level",
        "color_fix",
        "windows",
    ):
        assert getattr(settings, name) == getattr(spec, name), name
    assert settings.seed == DEFAULT_SEED
    assert (settings.cache, settings.guidance_interval) == (0, None)
    assert not (settings.tile_given or settings.chunk_frames_given or settings.parity)
    assert settings.without_effect == ()


def test_what_is_given_takes_the_place_of_the_models_own() -> None:
    sampling = SamplingOptions(
        steps=7, solver_mode="normal", cfg=2, cfg_rescale=0, noise_level=3, seed=0, cache=0.5
    )
    windows = WindowOptions(chunk_frames=4, tile_px=0)
    settings = resolve(STAR_COGVIDEOX, sampling, windows, LookOptions(color_fix="none"))
    for name in ("steps", "solver_mode", "cfg", "cfg_rescale", "noise_level", "seed", "cache"):
        assert getattr(settings, name) == getattr(sampling, name), name
    assert not settings.cfg_dynamic, "a scale that is asked for is constant"
    assert settings.color_fix == "none"
    assert settings.tile_given
    assert settings.chunk_frames_given


def test_a_model_of_one_step_takes_no_sampling() -> None:
    given = SamplingOptions(steps=3, cfg=5, noise_level=900, cache=0.1, guidance_interval=(0, 0.5))
    settings = resolve(NANO, given)
    flags = ("--steps", "--cfg", "--noise-level", "--guidance-interval", "--cache")
    assert settings.without_effect == flags
    assert dataclasses.replace(settings, without_effect=()) == resolve(NANO)
    assert settings.calls_per_window == 1


def test_windows() -> None:
    given = WindowOptions(tile_px=64, tile_overlap_px=9, chunk_frames=4)
    windows = resolve(TOY, windows=given).windows
    assert (windows.tile_height, windows.tile_width, windows.tile_overlap) == (32, 32, 5)
    assert (windows.chunk_frames, windows.chunk_overlap) == (4, 2)
    assert resolve(NANO, windows=WindowOptions(tile_px=0)).windows.tile_height is None
    with pytest.raises(UsageError, match="--chunk-overlap 3 is more than half of --chunk-frames 4"):
        resolve(TOY, windows=WindowOptions(chunk_frames=4, chunk_overlap=3))
    with pytest.raises(UsageError, match="--tile 16 is too small"):
        resolve(NANO, windows=WindowOptions(tile_px=16))


def test_chunks_are_shorter_where_pictures_are_large() -> None:
    def chunk_frames(options: WindowOptions, latent: tuple[int, int]) -> int:
        return windows_for(NANO, resolve(NANO, windows=options), latent).chunk_frames

    most, whole = NANO.windows.call_elements // 2, NANO.windows.chunk_frames
    assert chunk_frames(WindowOptions(), (10, 16)) == whole
    assert chunk_frames(WindowOptions(), (2, most // 2)) == 2
    assert chunk_frames(WindowOptions(), (2, 2 * most)) == 1
    assert chunk_frames(WindowOptions(chunk_frames=whole), (2, most)) == whole
    with pytest.raises(UsageError, match="--chunk-overlap 2 is more than half of --chunk-frames 2"):
        chunk_frames(WindowOptions(chunk_overlap=2), (2, most // 2))


def test_an_overlap_that_the_models_tiles_have_no_room_for_is_refused() -> None:
    toy = SPECS["toy"]
    settings = resolve(toy, windows=WindowOptions(tile_overlap_px=100))
    assert windows_for(toy, settings, (24, 48)) == settings.windows, "one tile has no neighbours"
    with pytest.raises(
        UsageError, match="--tile-overlap 100 leaves no room in tiles of 192 pixels"
    ):
        windows_for(toy, settings, (200, 304))


@pytest.mark.parametrize("mode", ["fast", "normal"])
@pytest.mark.parametrize("steps", [1, 2, 3, 15, 30])
@pytest.mark.parametrize("noise_level", [400, 501, 502, 900])
def test_calls_equal_what_the_sampler_does(mode: SolverMode, steps: int, noise_level: int) -> None:
    solver = SOLVERS[TOY.solver]
    options = SamplingOptions(steps=steps, solver_mode=mode, noise_level=noise_level, cfg=1)
    sigmas = logsnr_cosine_interp().sigmas_for(
        steps,
        noise_level=noise_level,
        solver_mode=mode,
        discard_penultimate=solver.discard_penultimate,
    )
    calls = 0

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return x * 0

    solver.sample(denoise, torch.ones(1), sigmas, noise=lambda _: torch.ones(1))
    assert resolve(TOY, options).evaluations == len(sigmas) - 1
    assert resolve(TOY, options).calls_per_window == calls
    guided = dataclasses.replace(options, cfg=7.5)
    assert resolve(TOY, guided).calls_per_window == 2 * calls


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 0.7), (0.0, 0.01), (0.9, 1.0)])
def test_calls_equal_what_a_bound_guidance_does(
    toy_path: Path, interval: tuple[float, float]
) -> None:
    model = load_model(str(toy_path), device="cpu")
    sampling = SamplingOptions(steps=6, guidance_interval=interval)
    calls = []
    handle = model.network.register_forward_hook(lambda *_: calls.append(1))
    Restorer(model, sampling)(torch.rand(1, 3, 9, 12), scale=2)
    handle.remove()
    assert len(calls) == resolve(model.spec, sampling).calls_per_window


@pytest.mark.parametrize(
    ("spec", "sampling", "flags"),
    [
        (NANO, SamplingOptions(steps=3, seed=1), ("--steps", "--seed")),
        (NANO, SamplingOptions(guidance_interval=(0, 0.5)), ("--guidance-interval",)),
        (NANO, SamplingOptions(cache=0.01), ("--cache",)),
        (TOY, SamplingOptions(steps=3, seed=1, cache=0.01), ()),
        (TOY, SamplingOptions(prompt="x"), ("--prompt",)),
        (
            STAR_LIGHT,
            SamplingOptions(cfg=1, cfg_rescale=0.5, negative_prompt="rain"),
            ("--cfg-rescale", "--negative-prompt"),
        ),
    ],
)
def test_options_without_effect_are_named(
    spec: ModelSpec, sampling: SamplingOptions, flags: tuple[str, ...]
) -> None:
    windows = WindowOptions(tile_overlap_px=64)
    assert resolve(spec, sampling, windows).without_effect == flags


def test_a_start_of_noise_has_its_own_levels() -> None:
    noise = dataclasses.replace(
        TOY,
        start="noise",
        schedule="scaled_linear_zero_snr",
        solver="vpsde_dpmpp_2m",
        cfg_dynamic=True,
    )
    sampling = SamplingOptions(noise_level=500, solver_mode="fast")
    windows = WindowOptions(parity=True)
    flags = ("--solver-mode", "--noise-level", "--parity")
    assert resolve(noise, sampling, windows).without_effect == flags
    assert resolve(TOY, sampling, windows).without_effect == ()
    assert resolve(noise, SamplingOptions(steps=7)).calls_per_window == 14
    assert resolve(noise, SamplingOptions(steps=7, cfg=1)).calls_per_window == 7
