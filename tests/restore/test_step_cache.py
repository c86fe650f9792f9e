"""The cache of estimates: what is left out, and how much that moves the result."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from starvsr.restore.sampling import sample_dpmpp_2m_sde, sample_vpsde_dpmpp_2m
from starvsr.restore.schedule import logsnr_cosine_interp, scaled_linear_zero_snr
from starvsr.restore.step_cache import ReusingDenoiser

STEPS = 14
SIGMAS = logsnr_cosine_interp().sigmas_for(15, discard_penultimate=True)
SHAPE = (1, 2, 3, 8, 8)
TARGET = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def noise(step: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(step))


class Settling:
    """An estimate that settles as the noise goes, wrong by `error` at one step; counts its calls."""

    def __init__(self, at: float = -1.0, error: float = 0.0) -> None:
        self.at, self.error, self.calls = at, error, 0

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.calls += 1
        estimate = TARGET * (1 + 0.1 * min(sigma, 20.0))
        return estimate + self.error if sigma == self.at else estimate


def sampled(bound: float, sigmas: Tensor = SIGMAS) -> tuple[Tensor, int, list[float]]:
    """Result, computed estimates, levels of those that were left out."""
    inner = Settling()
    left_out: list[float] = []
    reusing = ReusingDenoiser(inner, sigmas, bound=bound, on_reuse=left_out.append)
    sample = sample_vpsde_dpmpp_2m if math.isinf(sigmas[0]) else sample_dpmpp_2m_sde
    return sample(reusing, noise(99), sigmas, noise=noise), inner.calls, left_out


def test_a_bound_of_zero_changes_no_bit() -> None:
    plain = sample_dpmpp_2m_sde(Settling(), noise(99), SIGMAS, noise=noise)
    result, calls, left_out = sampled(0.0)
    assert torch.equal(result, plain)
    assert (calls, left_out) == (STEPS, [])


def test_larger_bounds_leave_out_more() -> None:
    calls = [sampled(bound)[1] for bound in (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    assert calls == sorted(calls, reverse=True)
    assert calls[0] == STEPS
    assert len(set(calls)) > 3
    for bound in (1e-3, 1.0):
        _, computed, left_out = sampled(bound)
        assert computed + len(left_out) == STEPS


@pytest.mark.parametrize(
    "sigmas", [SIGMAS, scaled_linear_zero_snr(20).sigmas], ids=["star", "zero"]
)
def test_the_first_two_and_the_last_are_always_computed(sigmas: Tensor) -> None:
    _, calls, left_out = sampled(1e9, sigmas)
    first = 3 if math.isinf(sigmas[0]) else 2
    assert calls == first + 1
    assert left_out == sigmas[first:-2].tolist()


@pytest.mark.parametrize("step", [2, 5, 8, 9])
def test_an_error_is_forgotten_as_reckoned(step: int) -> None:
    """Of an error at one step the last level's x gets its weight, but for the solver's second order."""
    sigma, sigma_next, last = (float(SIGMAS[i]) for i in (step, step + 1, STEPS - 1))
    seen: list[Tensor] = []

    def noted(inner: Settling) -> Tensor:
        def denoise(x: Tensor, at: float) -> Tensor:
            if at == last:
                seen.append(x)
            return inner(x, at)

        return sample_dpmpp_2m_sde(denoise, noise(99), SIGMAS, noise=noise)

    noted(Settling())
    noted(Settling(at=sigma, error=1.0))
    moved = float((seen[1] - seen[0]).mean())
    weight = (1 - (sigma_next / sigma) ** 2) * (last / sigma_next) ** 2
    assert 0.4 * weight < moved < 2 * weight


def test_a_still_estimate_and_an_empty_one_go_through() -> None:
    for value in (0.0, 1.0):
        left_out: list[float] = []
        still = torch.full(SHAPE, value)
        reusing = ReusingDenoiser(
            lambda *_, still=still: still, SIGMAS, bound=0.01, on_reuse=left_out.append
        )
        result = sample_dpmpp_2m_sde(reusing, noise(99), SIGMAS, noise=noise)
        assert torch.equal(result, still)
        assert len(left_out) == (STEPS - 3 if value else 0)
