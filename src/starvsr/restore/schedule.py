"""Noise levels of the diffusion: `x_t = alpha_t x_0 + sigma_t eps`, with `alpha_t^2 + sigma_t^2 = 1`.

Training and sampling share one `NoiseSchedule`. A level goes by two names: its integer time t (0 is almost clean, 999
is pure noise; the network knows only these), and `sigma_k = sigma_t / alpha_t`, the noise on a latent of unit
signal, which the samplers walk along and which is defined between integer times too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import torch
from safetensors.torch import load
from torch import Tensor

FAST_SPLIT_TIME = 500
"""`fast` spends few steps above this time, where only the coarse structure is decided, and most below."""

SCALED_LINEAR_LEVELS = 1000

SNR_SHIFTS = {"scaled_linear_zero_snr": 1.0, "shifted_linear_zero_snr": 3.0}
"""By what a model's schedule divides every signal-to-noise ratio: CogVideoX-5B's and 2B's."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Signal and noise amplitudes of every integer time t = 0 .. T-1: two float32 tensors (T) on the CPU."""

    alphas: Tensor
    sigmas: Tensor

    @property
    def levels(self) -> int:
        """T, the number of integer times."""
        return len(self.sigmas)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """`x_t = alpha_t x_0 + sigma_t eps`.

        `x0` and `eps` are (b ...) of one shape, dtype and device; `t` is an int or an int64 tensor (b) in 0 .. T-1.
        Raises ValueError for a time outside it.
        """
        alpha, sigma = self._at(t, x0)
        return alpha * x0 + sigma * eps

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """`v_t = alpha_t eps - sigma_t x_0`, what the network predicts; arguments as for `add_noise`."""
        alpha, sigma = self._at(t, x0)
        return alpha * eps - sigma * x0

    def x0_from_v(self, x_t: Tensor, v: Tensor, t: Tensor | int) -> Tensor:
        """`x_0 = alpha_t x_t - sigma_t v`, which divides by nothing and so is stable at every t.

        `x_t` and `v` are (b ...) of one shape and device; `t` as for `add_noise`.
        """
        alpha, sigma = self._at(t, x_t)
        # In place of the first product: a large picture's latents fill the caches many times over.
        return (alpha * x_t).sub_(sigma * v)

    def sigma_at(self, t: Tensor) -> Tensor:
        """`sigma_k` (n) at real times `t` (n) in (-1, T-1], linear in log between integer times.

        Below 0 the line through the first two levels is continued. Infinite above T-2 where the last level is pure
        noise. Raises ValueError outside the range.
        """
        if not bool(((t > -1) & (t <= self.levels - 1)).all()):
            raise ValueError(f"times must lie in (-1, {self.levels - 1}], got {t.tolist()}")
        low = t.floor().long().clamp(0, self.levels - 2)
        weight = t - low
        log_low, log_high = self._log_sigmas[low], self._log_sigmas[low + 1]
        # The product 0 * inf at the last finite level is not wanted.
        log_sigma = torch.where(weight == 0, log_low, (1 - weight) * log_low + weight * log_high)
        return log_sigma.exp()

    def time_of(self, sigma: Tensor) -> Tensor:
        """Real times (n) in 0 .. T-1 of `sigma` (n), each a `sigma_k` >= 0 and possibly infinite: the inverse of
        `sigma_at`, clamped to 0 and T-1 outside the schedule's range.
        """
        log_sigma = sigma.log()
        low = torch.searchsorted(self._log_sigmas, log_sigma, right=True) - 1
        low = low.clamp(0, self.levels - 2)
        log_low, log_high = self._log_sigmas[low], self._log_sigmas[low + 1]
        weight = ((log_sigma - log_low) / (log_high - log_low)).clamp(0, 1)
        return low + torch.where(log_sigma >= log_high, 1.0, weight)

    def network_time(self, sigma: float) -> int:
        """The integer time that a network receives at `sigma_k` = `sigma`: `time_of`, rounded."""
        return int(self.time_of(torch.tensor([sigma], dtype=torch.float32)).round())

    def sigmas_for(
        self,
        steps: int,
        *,
        noise_level: int = 900,
        solver_mode: str = "fast",
        discard_penultimate: bool = True,
    ) -> Tensor:
        """The levels `sigma_k` a sampler visits: float32 (n), strictly falling from `noise_level`, ending in 0.

        A sampler makes n - 1 steps of them:

        - `normal`: `steps` steps, spread evenly over the times. With `discard_penultimate` one more time is laid out
          and the last, which is close to 0, left out.
        - `fast`: `max(1, round(4 steps / 15))` times above 500 and the rest from 500 down. `discard_penultimate`
          leaves out the last, so there are `steps - 1` steps (the published `steps` = 15 makes 14); `steps` = 1 is
          one step. A start at or below 500 has nothing to go through fast and is `normal`.

        `noise_level` is the first integer time plus one, 1 .. T. Spacing is trailing: from the first time down in
        steps of `noise_level / n`. Raises ValueError for more steps than there are distinct levels.
        """
        t_max = noise_level - 1
        if solver_mode == "fast" and t_max > FAST_SPLIT_TIME:
            times = _fast_times(steps, t_max)
            discard_penultimate = discard_penultimate and steps > 1
        else:
            times = _even_times(t_max, 0, steps + discard_penultimate)
        if discard_penultimate:
            times = times[:-1]
        sigmas = torch.cat([self.sigma_at(times), torch.zeros(1)])
        if not bool((sigmas[1:] < sigmas[:-1]).all()):
            raise ValueError(
                f"{steps} steps do not fit below noise level {noise_level}; use fewer steps"
            )
        return sigmas

    @cached_property
    def _log_sigmas(self) -> Tensor:
        """log `sigma_k` of every integer time: minus half the log-SNR."""
        return 0.5 * (self.sigmas**2 / self.alphas**2).log()

    def _at(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t, shaped to multiply `like` (b ...)."""
        times = torch.as_tensor(t, dtype=torch.int64).cpu()
        if times.numel() == 0 or int(times.min()) < 0 or int(times.max()) >= self.levels:
            raise ValueError(
                f"times must be integers in 0 .. {self.levels - 1}, got {times.tolist()}"
            )
        shape = (-1,) + (1,) * (like.ndim - 1)
        alpha, sigma = (a[times].to(like).reshape(shape) for a in (self.alphas, self.sigmas))
        return alpha, sigma


@cache
def logsnr_cosine_interp() -> NoiseSchedule:
    """STAR's schedule: log-SNR falls as a cosine schedule's, shifted for large pictures, to zero terminal SNR.

    With s = t / 999, `logsnr(s) = -2 log tan(a + s (b - a))` between 15 and -15, plus `2 log(1 / scale)`, whose value
    goes linearly from scale 2 at s = 0 to scale 4 at s = 1; then sigma is divided by its last value.

    The levels are stored in `schedule.safetensors`, as the original computed them in float32: near t = 999, `alpha =
    sqrt(1 - sigma^2)` amplifies the last bit of sigma (to 3e-4 of alpha at t = 966), CPUs differ in that bit, and a
    video must not depend on which CPU restored it.
    """
    # Kept for training too, which cannot use what was created in inference mode.
    with torch.inference_mode(False):
        levels = load(files("starvsr.restore").joinpath("schedule.safetensors").read_bytes())
    return NoiseSchedule(alphas=levels["alphas"], sigmas=levels["sigmas"])


@dataclass(frozen=True, eq=False)
class StepSchedule:
    """Noise levels of a schedule that depends on the number of steps: those of the steps, and no others.

    Steps go by integer times too. What is computed from a network's velocity at one has amplitudes of its own.
    """

    times: tuple[int, ...]
    """Of every step, falling; the network receives these."""
    sigmas: Tensor
    """`sigma_k` that a sampler visits: float32 (n + 1) for n steps, strictly falling from infinity to 0."""
    alphas: tuple[float, ...]
    """alpha_t by which each step's estimate of x_0 is made of x_t and v."""

    def network_time(self, sigma: float) -> int:
        """The integer time of the step at `sigma_k` = `sigma`, or of the one nearest to it."""
        distances = (
            self._alphas_visited - (0.0 if math.isinf(sigma) else 1 / math.hypot(1, sigma))
        ).abs()
        return self.times[int(distances.argmin())]

    def x0_from_v(self, x_t: Tensor, v: Tensor, t: int) -> Tensor:
        """`x_0 = alpha_t x_t - sigma_t v` at a step's time; `x_t` and `v` are of one shape and device."""
        alpha = self.alphas[self.times.index(t)]
        return alpha * x_t - math.sqrt(1 - alpha**2) * v

    @cached_property
    def _alphas_visited(self) -> Tensor:
        return (1 + self.sigmas[:-1].double() ** 2).rsqrt()


@cache
def scaled_linear_zero_snr(steps: int, shift: float = 1.0) -> StepSchedule:
    """The schedule of STAR on CogVideoX for `steps` steps, spread evenly over the times from 999 down.

    Square roots of betas are linear between those of 0.00085 and 0.012; signal-to-noise ratios are divided by `shift`.
    Zero terminal SNR (Lin et al., 2023) is brought about, as published, on the steps' amplitudes alone, so that the
    last step's stays as it was; estimates of x_0 are made with the nearest amplitude of the same done to all 1000.
    Raises ValueError unless `steps` is 1 .. 1000.
    """
    if not 1 <= steps <= SCALED_LINEAR_LEVELS:
        raise ValueError(f"steps must be 1 .. {SCALED_LINEAR_LEVELS}, got {steps}")
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, SCALED_LINEAR_LEVELS, dtype=torch.float64)
    power = (1 - roots**2).cumprod(0)
    plain = (power / (shift + (1 - shift) * power)).sqrt()
    last = SCALED_LINEAR_LEVELS - 1
    times = [last * (steps - i) // steps for i in range(steps)]
    visited, known = _zero_terminal(plain[times].flip(0)).flip(0), _zero_terminal(plain)
    nearest = (visited[:, None] - known).abs().argmin(1)
    sigmas = (1 - visited**2).sqrt() / visited
    return StepSchedule(
        times=tuple(times),
        sigmas=torch.cat([sigmas, torch.zeros(1)]).float(),
        alphas=tuple(known[nearest].tolist()),
    )


def _zero_terminal(alphas: Tensor) -> Tensor:
    """Falling amplitudes, shifted and stretched so that the last is 0 and the first stays; a single one is the last."""
    first, last = alphas[0], alphas[-1]
    if len(alphas) == 1:
        return torch.zeros_like(alphas)
    return (alphas - last) * (first / (first - last))


def _fast_times(steps: int, t_max: int) -> Tensor:
    # A start just above the split has no room for many times: keep them more than one apart.
    above = min(max(1, round(4 * steps / 15)), t_max - FAST_SPLIT_TIME)
    upper = _even_times(t_max, FAST_SPLIT_TIME, above)
    return torch.cat([upper, _even_times(FAST_SPLIT_TIME, 0, steps - above)])


def _even_times(high: int, low: int, count: int) -> Tensor:
    """`count` falling real times in low .. high, float32."""
    step = (high - low + 1) / count if count else 0.0
    return torch.tensor([high - i * step for i in range(count)], dtype=torch.float32)
