"""From a noised latent to a restored one: bare loops over `denoise(x, sigma) -> x0`.

A sampler is a pure function `(denoise, x, sigmas, *, noise)`. It works on `x = x_0 + sigma eps`, whose noise is `sigma`
(`sigma_k` of the schedule) times a unit normal; at an infinite sigma, possible only as the first, `x` is the unit noise
itself. Nothing random is drawn here and no shape is assumed: batch, windows and guidance are up to `denoise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from starvsr.plan.settings import Settings
from starvsr.restore.schedule import (
    SNR_SHIFTS,
    NoiseSchedule,
    StepSchedule,
    logsnr_cosine_interp,
    scaled_linear_zero_snr,
)
from starvsr.types import ModelSpec

Network = Callable[[Tensor, Tensor], Tensor]
"""`v(x_t, t)`: predicted velocity of `x_t` (b ...) at the integer times `t`, int64 (b)."""

Denoise = Callable[[Tensor, float], Tensor]
"""`denoise(x, sigma)`: the estimate of x_0, of the shape of `x`."""

Levels = NoiseSchedule | StepSchedule
"""The noise levels of a run's steps."""

Noise = Callable[[int], Tensor]
"""`noise(step)`: unit normal noise of the shape of `x` for step `step` = 0, 1, ...; independent between steps."""


class Sampler(Protocol):
    """The one signature of all samplers; see the module's docstring.

    `x` is float32; `sigmas` (n) falls strictly and makes n - 1 steps. Returns the latent at the last sigma, which is
    the last estimate of x_0 where that is 0. Raises ValueError for other `sigmas`.
    """

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise) -> Tensor: ...


def v_denoiser(network: Network, schedule: Levels) -> Denoise:
    """Turns a network that predicts velocity into `denoise(x, sigma)`: `x_0 = alpha_t x_t - sigma_t v(x_t, t)`.

    The network's input is `x_t = x / sqrt(1 + sigma^2)` with the exact sigma; t, alpha_t and sigma_t are those of the
    nearest integer time, the only ones that it has been trained on.
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        t = schedule.network_time(sigma)
        x_t = x if math.isinf(sigma) else x / math.hypot(1, sigma)
        times = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        return schedule.x0_from_v(x_t, network(x_t, times), t)

    return denoise


def scale_noised(x_t: Tensor, sigma: float) -> Tensor:
    """A sampler's start from a noised latent `x_t = alpha_t z + sigma_t eps`: `sigma x_t`, as if it were pure noise.

    Exact scaling would divide by alpha_t; this is what published results were made with (the network's first input
    is `x_t` times 0.999 at t = 899).
    """
    return x_t if math.isinf(sigma) else x_t * sigma


def one_step(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise | None = None) -> Tensor:
    """One estimate of x_0 at the first sigma. `sigmas` is (sigma, 0); `noise` is not used."""
    levels = _checked(sigmas)
    if len(levels) != 2 or levels[1] != 0:
        raise ValueError(f"one_step takes one sigma and a final 0, got {levels}; set steps to 1")
    return denoise(x, levels[0])


def sample_dpmpp_2m_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise) -> Tensor:
    """SDE-DPM-Solver++(2M) of Lu et al. (2022), eta = 1, midpoint form.

    With r = sigma_next / sigma, h = -log r and D the estimates of x_0:
    `x <- r^2 x + (1 - r^2) (D + h / (2 h_prev) (D - D_prev)) + sigma_next sqrt(1 - r^2) eps`.
    An infinite sigma is left by an Euler step, `x <- D + sigma_next x`, which draws nothing.
    """
    return _dpmpp_2m_sde(denoise, x, sigmas, noise, draws_first=False)


def sample_vpsde_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise) -> Tensor:
    """CogVideoX's form of `sample_dpmpp_2m_sde`: an infinite sigma is left by `x <- D + sigma_next eps`.

    It is published for `x_t = alpha_t x`, and is the same there.
    """
    return _dpmpp_2m_sde(denoise, x, sigmas, noise, draws_first=True)


def _dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, *, draws_first: bool
) -> Tensor:
    x0_prev: Tensor | None = None
    h_prev = 0.0
    for i, (sigma, sigma_next) in enumerate(pairwise(_checked(sigmas))):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            return x0
        if math.isinf(sigma):
            # Its infinite h cannot enter the history.
            x = x0 + sigma_next * (noise(i).to(x) if draws_first else x)
            continue
        h = math.log(sigma / sigma_next)
        gain = -math.expm1(-2 * h)
        x = math.exp(-2 * h) * x + gain * x0
        if x0_prev is not None:
            x = x + (gain * h / (2 * h_prev)) * (x0 - x0_prev)
        x = x + (sigma_next * math.sqrt(gain)) * noise(i).to(x)
        x0_prev, h_prev = x0, h
    return x


@dataclass(frozen=True)
class Solver:
    """A sampler and its demands on the layout of sigmas."""

    sample: Sampler
    discard_penultimate: bool
    """Passed to `NoiseSchedule.sigmas_for`: whether the published set-up leaves out the last level before 0."""


SOLVERS: dict[str, Solver] = {
    "one_step": Solver(one_step, discard_penultimate=True),
    "dpmpp_2m_sde": Solver(sample_dpmpp_2m_sde, discard_penultimate=True),
    "vpsde_dpmpp_2m": Solver(sample_vpsde_dpmpp_2m, discard_penultimate=False),
}


def visited_levels(spec: ModelSpec, settings: Settings) -> tuple[Levels, Tensor]:
    """A model's noise levels, and those that its solver visits. Raises ValueError if they are invalid."""
    if shift := SNR_SHIFTS.get(spec.schedule):
        levels = scaled_linear_zero_snr(settings.steps, shift)
        return levels, levels.sigmas
    schedule = logsnr_cosine_interp()
    return schedule, schedule.sigmas_for(
        settings.steps,
        noise_level=settings.noise_level,
        solver_mode=settings.solver_mode,
        discard_penultimate=SOLVERS[spec.solver].discard_penultimate,
    )


def _checked(sigmas: Tensor) -> list[float]:
    """Python floats, so that no step waits for the device and none depends on its arithmetic."""
    levels: list[float] = sigmas.tolist() if sigmas.ndim == 1 else []
    falling = all(a > b for a, b in pairwise(levels))
    if len(levels) < 2 or not falling or levels[-1] < 0:
        raise ValueError(
            f"sigmas must be one strictly falling row of two or more, none negative, got {sigmas.tolist()}"
        )
    return levels
