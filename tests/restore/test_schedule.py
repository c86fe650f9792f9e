"""The noise schedule: published levels and maps, and the layout of a run's sigmas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from starvsr.restore.schedule import (
    SNR_SHIFTS,
    NoiseSchedule,
    logsnr_cosine_interp,
    scaled_linear_zero_snr,
)

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEDULE = logsnr_cosine_interp()


# Steps, and what else `sigmas_for` is told, of the published runs.
LAYOUTS: dict[str, tuple[int, dict[str, object]]] = {
    "fast": (15, {}),
    "normal50": (50, {"solver_mode": "normal"}),
    "heun_fast": (15, {"discard_penultimate": False}),
    "heun_normal10": (10, {"solver_mode": "normal", "discard_penultimate": False}),
    "terminal_normal10": (10, {"solver_mode": "normal", "noise_level": 1000}),
    "no_guidance": (10, {"solver_mode": "normal"}),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "sampler.safetensors")


def ulps(a: Tensor, b: Tensor) -> int:
    """Largest distance of two float32 tensors of positive numbers in units in the last place."""
    assert a.dtype == b.dtype == torch.float32 and a.shape == b.shape
    return int((a.view(torch.int32) - b.view(torch.int32)).abs().max())


def layout(steps: int, **options: object) -> Tensor:
    return SCHEDULE.sigmas_for(steps, **options)  # type: ignore[arg-type]


def test_levels_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    listed = json.loads((GOLDEN / "geometry.json").read_text())["sigmas"]
    assert torch.equal(torch.tensor(listed), golden["schedule.sigmas"])
    assert torch.equal(SCHEDULE.sigmas, golden["schedule.sigmas"])
    assert torch.equal(SCHEDULE.alphas, golden["schedule.alphas"])


def test_levels_follow_their_equation() -> None:
    """In float64; float32 rounds the angle (by 1e-7) and, near 1, sigma itself."""
    s = torch.linspace(0, 1, 1000, dtype=torch.float64)
    angle_min, angle_max = math.atan(math.exp(-7.5)), math.atan(math.exp(7.5))
    logsnr = -2 * torch.log(torch.tan(angle_min + s * (angle_max - angle_min)))
    logsnr += 2 * ((1 - s) * math.log(1 / 2) + s * math.log(1 / 4))
    torch.testing.assert_close(
        SCHEDULE.sigmas.double(), torch.sigmoid(-logsnr).sqrt(), rtol=1e-4, atol=1e-7
    )


def test_levels_rise_to_pure_noise() -> None:
    assert SCHEDULE.levels == 1000
    assert bool((SCHEDULE.sigmas.diff() > 0).all()) and bool((SCHEDULE.alphas.diff() < 0).all())
    assert SCHEDULE.sigmas[-1] == 1 and SCHEDULE.alphas[-1] == 0
    torch.testing.assert_close(SCHEDULE.alphas**2 + SCHEDULE.sigmas**2, torch.ones(1000))


def test_forward_and_velocity_maps(golden: dict[str, Tensor]) -> None:
    x0, eps, t = golden["maps.x0"], golden["maps.eps"], golden["maps.t"]
    assert torch.equal(SCHEDULE.add_noise(x0, eps, t), golden["maps.xt"])
    assert torch.equal(
        SCHEDULE.x0_from_v(golden["maps.xt"], golden["maps.v"], t), golden["maps.x0_from_v"]
    )
    v = SCHEDULE.velocity(x0, eps, t)
    # The published trainer divides by sigma_t, which costs digits at t = 0: two orders more than anywhere else.
    torch.testing.assert_close(v[0], golden["maps.velocity"][0], rtol=0, atol=3e-4)
    torch.testing.assert_close(v[1:], golden["maps.velocity"][1:], rtol=0, atol=1e-6)


def test_maps_take_an_integer_time_and_keep_dtype() -> None:
    x0, eps = (
        torch.randn(2, 3, 4, 5, 6, dtype=torch.float64),
        torch.randn(2, 3, 4, 5, 6, dtype=torch.float64),
    )
    for t in (0, 437, 999):
        x_t, v = SCHEDULE.add_noise(x0, eps, t), SCHEDULE.velocity(x0, eps, t)
        assert torch.equal(x_t, SCHEDULE.add_noise(x0, eps, torch.tensor([t, t])))
        assert x_t.dtype == torch.float64
        torch.testing.assert_close(SCHEDULE.x0_from_v(x_t, v, t), x0, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "t", [-1, 1000, torch.tensor([0, 1000]), torch.tensor([], dtype=torch.int64)]
)
def test_times_outside_the_schedule_are_refused(t: int | Tensor) -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"times must be integers in 0 \.\. 999"):
        SCHEDULE.add_noise(x, x, t)


def test_time_and_sigma_maps(golden: dict[str, Tensor]) -> None:
    times, sigmas = golden["maps.t_float"], golden["maps.t_to_sigma"]
    finite = sigmas.isfinite()
    assert torch.equal(SCHEDULE.sigma_at(times).isfinite(), finite)
    assert ulps(SCHEDULE.sigma_at(times)[finite], sigmas[finite]) <= 2
    torch.testing.assert_close(
        SCHEDULE.time_of(sigmas), golden["maps.sigma_to_t"], rtol=0, atol=5e-5
    )


def test_time_and_sigma_are_inverse() -> None:
    times = torch.linspace(0, 998, 4321)
    torch.testing.assert_close(SCHEDULE.time_of(SCHEDULE.sigma_at(times)), times, rtol=0, atol=2e-4)
    outside = torch.tensor([0.0, 1e-9, 3000.0, math.inf])
    assert SCHEDULE.time_of(outside).tolist() == [0, 0, 998, 999]


def test_the_network_is_told_every_integer_time() -> None:
    sigmas = SCHEDULE.sigma_at(torch.arange(1000.0))
    assert [SCHEDULE.network_time(sigma) for sigma in sigmas.tolist()] == list(range(1000))


@pytest.mark.parametrize("time", [-1.0, 999.5, math.nan])
def test_sigma_at_refuses_times_outside(time: float) -> None:
    with pytest.raises(ValueError, match="times must lie in"):
        SCHEDULE.sigma_at(torch.tensor([time]))


@pytest.mark.parametrize("run", LAYOUTS)
def test_published_layouts(golden: dict[str, Tensor], run: str) -> None:
    steps, options = LAYOUTS[run]
    sigmas, published = layout(steps, **options), golden[f"{run}.sigmas"]
    assert sigmas.dtype == torch.float32
    torch.testing.assert_close(sigmas, published, rtol=4e-7, atol=0)
    told = [SCHEDULE.network_time(sigma) for sigma in golden[f"{run}.step_sigma"].tolist()]
    assert told == golden[f"{run}.step_t"][:, 0].tolist()


def test_fast_times_are_the_published_ones() -> None:
    times = SCHEDULE.time_of(layout(15, discard_penultimate=False)[:-1])
    expected = torch.tensor([899, 799, 699, 599] + [500 - 501 / 11 * i for i in range(11)])
    torch.testing.assert_close(times, expected, rtol=0, atol=5e-4)


def test_fast_split_for_every_number_of_steps() -> None:
    for steps in range(1, 61):
        times = SCHEDULE.time_of(layout(steps, discard_penultimate=False)[:-1])
        above = int((times > 500.5).sum())
        assert (above, len(times) - above) == (
            max(1, round(4 * steps / 15)),
            steps - max(1, round(4 * steps / 15)),
        )


@pytest.mark.parametrize("discard", [True, False])
@pytest.mark.parametrize("mode", ["fast", "normal"])
def test_steps_are_honoured_from_every_noise_level(mode: str, discard: bool) -> None:
    # Both ends, the surroundings of the split and a stride between: all thousand would take a minute.
    for noise_level in (*range(1, 12), *range(12, 1000, 89), *range(498, 522, 2), 900, 999, 1000):
        first = SCHEDULE.sigma_at(torch.tensor([noise_level - 1.0]))
        for steps in range(1, 61):
            sigmas = layout(
                steps, noise_level=noise_level, solver_mode=mode, discard_penultimate=discard
            )
            one_less = mode == "fast" and noise_level > 501 and discard and steps > 1
            assert len(sigmas) == steps + 1 - one_less
            assert sigmas[0] == first and sigmas[-1] == 0
            assert bool((sigmas[1:] < sigmas[:-1]).all()) and bool((sigmas[:-1] > 0).all())


def test_fast_is_normal_from_the_split_down() -> None:
    for noise_level in (1, 2, 60, 300, 500, 501):
        for steps in (1, 2, 15, 60):
            for discard in (True, False):
                same = {"noise_level": noise_level, "discard_penultimate": discard}
                fast = layout(steps, solver_mode="fast", **same)
                assert torch.equal(fast, layout(steps, solver_mode="normal", **same))
    assert len(layout(15, noise_level=502)) != len(layout(15, noise_level=501))


def test_one_step_from_a_clean_start() -> None:
    sigmas = layout(1, noise_level=101)
    assert sigmas.tolist() == [SCHEDULE.sigma_at(torch.tensor([100.0])).item(), 0]


def test_steps_that_leave_no_distinct_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="use fewer steps"):
        layout(2000, noise_level=1000, solver_mode="normal")


def test_a_schedule_is_any_pair_of_amplitudes() -> None:
    sigmas = torch.tensor([0.1, 0.6, 0.8])
    schedule = NoiseSchedule(alphas=torch.sqrt(1 - sigmas**2), sigmas=sigmas)
    torch.testing.assert_close(schedule.sigma_at(torch.tensor([2.0])), torch.tensor([0.8 / 0.6]))
    assert [schedule.network_time(sigma) for sigma in (0.01, 0.75, 50.0)] == [0, 1, 2]


def test_the_steps_of_cogvideox_have_the_printed_levels() -> None:
    schedule = scaled_linear_zero_snr(50)
    assert schedule.times == tuple(range(999, 0, -20))
    visited = 1 / (1 + schedule.sigmas.double() ** 2).sqrt()
    assert round(float(visited[-2]), 5) == 0.99108, "at time 19"
    assert visited[0] == 0 and visited[-1] == 1
    whole = scaled_linear_zero_snr(1000)
    assert whole.times == tuple(range(999, -1, -1))
    levels = dict(zip(whole.times, whole.alphas, strict=True))
    assert round(levels[19], 5) == 0.99046
    # Estimates are made with the nearest of all levels, which here belongs to the time before.
    assert schedule.alphas[-2:] == (levels[38], levels[18])


@pytest.mark.parametrize("shift", SNR_SHIFTS.values())
def test_the_steps_of_cogvideox_follow_their_equations(shift: float) -> None:
    """In plain numbers."""
    roots = [0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i / 999 for i in range(1000)]
    levels = [1.0]
    for root in roots:
        levels.append(levels[-1] * (1 - root**2))
    # Of signal and noise, the noise's power counts `shift` times.
    plain = [(level / (level + shift * (1 - level))) ** 0.5 for level in levels[1:]]
    for steps in (2, 7, 50, 333):
        schedule = scaled_linear_zero_snr(steps, shift)
        times = [int(999 - 999 * i / steps + 1e-9) for i in range(steps)]
        assert list(schedule.times) == times
        low, high = plain[999], plain[times[-1]]
        visited = [(plain[t] - low) * high / (high - low) for t in times]
        known = [(a - low) * plain[0] / (plain[0] - low) for a in plain]
        sigmas = [math.inf] + [math.sqrt(1 - a * a) / a for a in visited[1:]] + [0.0]
        torch.testing.assert_close(
            schedule.sigmas.double(), torch.tensor(sigmas).double(), rtol=1e-6, atol=0
        )
        nearest = [min(known, key=lambda level: abs(level - a)) for a in visited]
        assert schedule.alphas == pytest.approx(nearest, abs=1e-12)


@pytest.mark.parametrize("shift", SNR_SHIFTS.values())
def test_all_levels_of_cogvideox_are_those_of_its_scheduler(shift: float) -> None:
    import diffusers

    library: Any = diffusers
    scheduler = library.CogVideoXDPMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=shift,
        timestep_spacing="trailing",
    )
    ours = torch.tensor(scaled_linear_zero_snr(1000, shift).alphas).flip(0)
    torch.testing.assert_close(ours, scheduler.alphas_cumprod.sqrt().to(ours), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_the_network_is_told_the_time_of_every_step(steps: int) -> None:
    schedule = scaled_linear_zero_snr(steps)
    sigmas = schedule.sigmas.tolist()
    assert len(sigmas) == steps + 1
    assert sigmas == sorted(set(sigmas), reverse=True)
    assert [schedule.network_time(sigma) for sigma in sigmas[:-1]] == list(schedule.times)
    x_t, v = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(schedule.x0_from_v(x_t, v, 999), -v), "pure noise tells nothing"


@pytest.mark.parametrize("steps", [0, 1001])
def test_more_steps_than_levels_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=r"steps must be 1 \.\. 1000"):
        scaled_linear_zero_snr(steps)


def test_a_schedule_that_is_first_used_in_inference_mode_serves_training_too() -> None:
    logsnr_cosine_interp.cache_clear()
    with torch.inference_mode():
        logsnr_cosine_interp()
    x_t, v = (torch.ones(1, 2, requires_grad=True) for _ in range(2))
    logsnr_cosine_interp().x0_from_v(x_t, v, 500).sum().backward()  # type: ignore[no-untyped-call]
    assert x_t.grad is not None
