"""The samplers against published runs with a fixed function as network, and against their own equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from starvsr.restore.guidance import guide
from starvsr.restore.sampling import (
    SOLVERS,
    Denoise,
    Network,
    one_step,
    sample_dpmpp_2m_sde,
    sample_vpsde_dpmpp_2m,
    scale_noised,
    v_denoiser,
)
from starvsr.restore.schedule import logsnr_cosine_interp, scaled_linear_zero_snr

SCHEDULE = logsnr_cosine_interp()

# solver, steps, options of the layout
RUNS: dict[str, tuple[str, int, dict[str, object]]] = {
    "fast": ("dpmpp_2m_sde", 15, {}),
    "normal50": ("dpmpp_2m_sde", 50, {"solver_mode": "normal"}),
    "fast_chunks": ("dpmpp_2m_sde", 15, {}),
    "fast_batch2": ("dpmpp_2m_sde", 15, {}),
    "terminal_normal10": ("dpmpp_2m_sde", 10, {"solver_mode": "normal", "noise_level": 1000}),
    "no_guidance": ("dpmpp_2m_sde", 10, {"solver_mode": "normal"}),
}
CHUNKS = ((0, 8), (4, 12), (8, 20))

Chunk = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(Path(__file__).parents[1] / "golden" / "sampler.safetensors")


def published_function(x: Tensor, t: Tensor, y: Tensor, hint: Tensor) -> Tensor:
    """The function that stood in for the network when the runs were recorded."""
    s = y.mean(dim=(-2, -1)).reshape(-1, 1, 1, 1, 1)
    u = (t.to(x) / 1000).reshape(-1, 1, 1, 1, 1)
    v = torch.tanh(0.9 * x + 0.4 * hint - 0.3 * x.mean(dim=2, keepdim=True) + s) * (0.5 + 0.5 * u)
    return v - 0.2 * hint * (1 - u)


def hard_cut(chunk: Chunk, x: Tensor, t: Tensor, hint: Tensor) -> Tensor:
    """Runs `chunk` on overlapping chunks of frames and cuts over from one to the next in mid-overlap."""
    overlap = CHUNKS[0][1] - CHUNKS[1][0]
    parts = []
    for i, (start, end) in enumerate(CHUNKS):
        part = chunk(x[:, :, start:end], t, hint[:, :, start:end])
        first = 0 if i == 0 else overlap // 2
        last = end - start - (0 if end == x.shape[2] else (overlap + 1) // 2)
        parts.append(part[:, :, first:last])
    return torch.cat(parts, dim=2)


def published_network(case: dict[str, Tensor], *, chunked: bool, scale: float) -> Network:
    y, y_neg, hint = case["y"], case["y_neg"], case["hint"]

    def chunk(x: Tensor, t: Tensor, hint: Tensor) -> Tensor:
        v_pos, v_neg = (published_function(x, t, words, hint) for words in (y, y_neg))
        return v_pos if scale == 1 else guide(v_pos, v_neg, scale=scale, rescale=0.2)

    if chunked:
        return lambda x, t: hard_cut(chunk, x, t, hint)
    return lambda x, t: chunk(x, t, hint)


@dataclass
class Recorder:
    """A network and its denoiser that remember every evaluation."""

    network: Network
    x_t: list[Tensor] = field(default_factory=list)
    t: list[Tensor] = field(default_factory=list)
    sigma: list[float] = field(default_factory=list)
    x0: list[Tensor] = field(default_factory=list)

    def v(self, x: Tensor, t: Tensor) -> Tensor:
        self.x_t.append(x)
        self.t.append(t)
        return self.network(x, t)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        x0 = v_denoiser(self.v, SCHEDULE)(x, sigma)
        self.sigma.append(sigma)
        self.x0.append(x0)
        return x0


def stored_noise(case: dict[str, Tensor], sigmas: Tensor) -> Callable[[int], Tensor]:
    """The recorded noises; the step from an infinite sigma draws none."""
    skipped = int(sigmas[0].isinf())
    return lambda step: case["brownian"][step - skipped]


def relative_error(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("run", RUNS)
def test_published_runs_step_by_step(golden: dict[str, Tensor], run: str) -> None:
    case = {
        name.partition(".")[2]: tensor
        for name, tensor in golden.items()
        if name.startswith(f"{run}.")
    }
    name, steps, options = RUNS[run]
    solver = SOLVERS[name]
    sigmas = SCHEDULE.sigmas_for(
        steps,
        discard_penultimate=solver.discard_penultimate,
        **options,  # type: ignore[arg-type]
    )
    scale = 1.0 if run == "no_guidance" else 7.5
    seen = Recorder(published_network(case, chunked=run == "fast_chunks", scale=scale))
    start = scale_noised(case["noise"], float(sigmas[0]))
    result = solver.sample(seen.denoise, start, sigmas, noise=stored_noise(case, sigmas))

    assert torch.equal(torch.stack(seen.t), case["step_t"])
    torch.testing.assert_close(torch.tensor(seen.sigma), case["step_sigma"], rtol=4e-6, atol=0)
    assert len(seen.x_t) == len(case["step_xt"])
    for i in range(len(seen.x_t)):
        assert relative_error(seen.x_t[i], case["step_xt"][i]) < 1e-5
        assert relative_error(seen.x0[i], case["step_x0"][i]) < 1e-5
    assert relative_error(result, case["result"]) < 1e-5


def shrink(x: Tensor, sigma: float) -> Tensor:
    """The exact denoiser of unit normal data: `x_0 = x / (1 + sigma^2)`."""
    return x / (1 + sigma**2)


def wavy(x: Tensor, sigma: float) -> Tensor:
    return torch.tanh(x / (1 + sigma**2)) + 0.1 * torch.sin(x / (1 + sigma))


def noise_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Callable[[int], Tensor]:
    return lambda step: torch.randn(
        shape, dtype=dtype, generator=torch.Generator().manual_seed(step)
    )


def dpmpp_2m_sde_rederived(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Callable[[int], Tensor]
) -> Tensor:
    """Straight from the paper: lambda = -log sigma, exponential weights, midpoint slope; float64 throughout."""
    lam = [-math.log(s) if 0 < s < math.inf else math.nan for s in sigmas.tolist()]
    old: Tensor | None = None
    for i in range(len(sigmas) - 1):
        sigma, sigma_next = float(sigmas[i]), float(sigmas[i + 1])
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            return x0
        h = lam[i + 1] - lam[i]
        next_x = (sigma_next / sigma) * math.exp(-h) * x + (1 - math.exp(-2 * h)) * x0
        if old is not None:
            r = (lam[i] - lam[i - 1]) / h
            next_x += 0.5 * (1 - math.exp(-2 * h)) / r * (x0 - old)
        x = next_x + sigma_next * math.sqrt(1 - math.exp(-2 * h)) * noise(i)
        old = x0
    return x


@pytest.mark.parametrize("steps", [2, 3, 15, 40])
def test_dpmpp_agrees_with_a_float64_rederivation(steps: int) -> None:
    sigmas = SCHEDULE.sigmas_for(steps)
    x = (
        torch.randn(2, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
        * sigmas[0]
    )
    noise = noise_of((2, 4, 5, 6), torch.float64)
    expected = dpmpp_2m_sde_rederived(wavy, x, sigmas, noise)
    assert relative_error(sample_dpmpp_2m_sde(wavy, x, sigmas, noise=noise), expected) < 1e-12
    assert (
        relative_error(sample_dpmpp_2m_sde(wavy, x.float(), sigmas, noise=noise), expected) < 1e-6
    )


def test_dpmpp_keeps_the_distribution() -> None:
    """On unit normal data the exact denoiser must give unit normal samples back, at any sigma on the way."""
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) * math.hypot(1, 20.0)
    sigmas = torch.logspace(math.log10(20.0), -1, 60)
    out = sample_dpmpp_2m_sde(shrink, x, sigmas, noise=noise_of((20_000,)))
    assert float(out.std()) == pytest.approx(math.hypot(1, 0.1), rel=0.02)
    assert abs(float(out.mean())) < 0.02


def test_one_step_is_the_velocity_equation() -> None:
    x_t = torch.randn(2, 48, 3, 10, 8)
    times: list[Tensor] = []

    def v(x: Tensor, t: Tensor) -> Tensor:
        times.append(t)
        return torch.sin(3 * x)

    sigmas = SCHEDULE.sigmas_for(1, noise_level=101)
    out = one_step(v_denoiser(v, SCHEDULE), x_t * math.hypot(1, float(sigmas[0])), sigmas)
    alpha, sigma = SCHEDULE.alphas[100], SCHEDULE.sigmas[100]
    assert times[0].tolist() == [100, 100] and times[0].dtype == torch.int64
    torch.testing.assert_close(out, alpha * x_t - sigma * torch.sin(3 * x_t), rtol=1e-6, atol=1e-6)
    assert alpha == pytest.approx(0.9465, abs=5e-5) and sigma == pytest.approx(0.3226, abs=5e-5)


def test_v_denoiser_recovers_the_clean_latent() -> None:
    """With the true velocity the estimate is exact at integer times, from pure noise too."""
    x0, eps = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    for t in (0, 100, 500, 899, 999):
        sigma = float(SCHEDULE.sigma_at(torch.tensor([float(t)])))
        x = eps if math.isinf(sigma) else x0 + sigma * eps
        denoise = v_denoiser(lambda x_t, times: SCHEDULE.velocity(x0, eps, times), SCHEDULE)
        torch.testing.assert_close(denoise(x, sigma), x0, rtol=0, atol=1e-4)


def test_scaled_starts() -> None:
    z = torch.randn(2, 3)
    torch.testing.assert_close(scale_noised(z, 23.5), 23.5 * z)
    assert torch.equal(scale_noised(z, math.inf), z)


@pytest.mark.parametrize("name", SOLVERS)
def test_samplers_are_pure(name: str) -> None:
    solver = SOLVERS[name]
    sigmas = SCHEDULE.sigmas_for(1 if name == "one_step" else 15)
    x = torch.randn(2, 3) * sigmas[0]
    kept, state = x.clone(), torch.get_rng_state()
    first = solver.sample(wavy, x, sigmas, noise=noise_of((2, 3)))
    assert torch.equal(first, solver.sample(wavy, x, sigmas, noise=noise_of((2, 3))))
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_drawn_once_a_step_and_not_for_the_last() -> None:
    drawn: list[int] = []

    def noise(step: int) -> Tensor:
        drawn.append(step)
        return torch.zeros(2, 3)

    sample_dpmpp_2m_sde(
        wavy, torch.ones(2, 3), torch.tensor([math.inf, 9.0, 4.0, 1.0, 0.0]), noise=noise
    )
    assert drawn == [1, 2]


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    "sigmas",
    [
        [],
        [1.0],
        [1.0, 2.0],
        [2.0, 1.0, 1.0],
        [1.0, -1.0],
        [math.inf, math.inf, 1.0],
        [math.nan, 0.0],
        [[2.0, 0.0]],
    ],
)
def test_malformed_sigmas_are_refused(name: str, sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="strictly falling"):
        SOLVERS[name].sample(wavy, torch.ones(2), torch.tensor(sigmas), noise=noise_of((2,)))


@pytest.mark.parametrize("sigmas", [[3.0, 2.0, 0.0], [3.0, 1.0]])
def test_one_step_takes_one_step(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="set steps to 1"):
        one_step(wavy, torch.ones(2), torch.tensor(sigmas))


def published_vpsde(
    network: Network, x: Tensor, noises: list[Tensor], steps: int, shift: float = 1.0
) -> Tensor:
    """CogVideoX's sampler as its description has it, on `x_t` itself, in float64 and with levels of its own."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    power = (1 - betas).cumprod(0)
    plain = (power / (shift + (1 - shift) * power)).sqrt()
    times = [int(999 - i * 999 / steps) for i in range(steps)]
    first, last = plain[times[-1]], plain[999]
    alphas = [*((plain[times] - last) * first / (first - last)).tolist(), 1.0]
    table = (plain - last) * plain[0] / (plain[0] - last)
    x0_prev, h_prev = None, math.inf
    for i, t in enumerate(times):
        a, a_next = alphas[i], alphas[i + 1]
        known = float(table[(table - a).abs().argmin()])
        v = network(x, torch.full((len(x),), t))
        x0 = known * x - math.sqrt(1 - known**2) * v
        if i + 1 == steps:
            return x0
        log_snr = math.log(a / math.sqrt(1 - a**2)) if a else -math.inf
        h = math.log(a_next / math.sqrt(1 - a_next**2)) - log_snr
        m0 = math.sqrt((1 - a_next**2) / (1 - a**2)) * math.exp(-h)
        m1 = math.expm1(-2 * h) * a_next
        d = x0
        if x0_prev is not None and math.isfinite(h_prev):
            r = h_prev / h
            d = (1 + 1 / (2 * r)) * x0 - x0_prev / (2 * r)
        x = m0 * x - m1 * d
        x = x + math.sqrt(1 - a_next**2) * math.sqrt(1 - math.exp(-2 * h)) * noises[i]
        x0_prev, h_prev = x0, h
    raise AssertionError("no step")


@pytest.mark.parametrize("steps", [2, 3, 15, 50])
def test_cogvideox_sampler_is_the_described_one(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    shape = (2, 4, 3, 5, 6)
    x, hint, *noises = torch.randn(steps + 1, *shape, dtype=torch.float64, generator=generator)
    y = torch.randn(2, 7, 8, dtype=torch.float64, generator=generator)
    wanted = published_vpsde(lambda x, t: published_function(x, t, y, hint), x, noises, steps)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return published_function(x, t, y.float(), hint.float())

    schedule = scaled_linear_zero_snr(steps)
    result = sample_vpsde_dpmpp_2m(
        v_denoiser(network, schedule), x.float(), schedule.sigmas, noise=lambda i: noises[i]
    )
    assert (result - wanted).norm() < 1e-5 * wanted.norm()
    other = sample_dpmpp_2m_sde(
        v_denoiser(network, schedule), x.float(), schedule.sigmas, noise=lambda i: noises[i]
    )
    assert (other - wanted).norm() > 1e-3 * wanted.norm(), "its first step draws nothing"
