"""STAR's training loss: the velocity loss (equation 1) and the Dynamic Frequency loss (equations 5-10).

The frequency loss compares decoded frames with the truth below and above a spatial frequency. Early in sampling (at
large t) only the coarse structure is being decided, so low frequencies weigh most there and high ones later. What the
paper leaves open is a field of `LossConfig`; the released trainer's form, which splits by magnitude instead of by
frequency and passes no gradient, is `RELEASED`.

Everything is computed in float32 at least, whatever the inputs are, and every loss is `(b)`: one value a sample, since
each sample has its own t. Train on the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from starvsr.restore.schedule import NoiseSchedule

SPLITS = ("radial", "magnitude", "none")

QUANTILE_COEFFICIENTS = 10_000
"""The released quantile is that of so many coefficients, drawn with replacement, where there are more."""


@dataclass(frozen=True)
class LossConfig:
    """Every weight of the training loss; the defaults are the paper's, and where it is silent, ours.

    Raises ValueError for values that mean nothing.
    """

    split: str = "radial"
    """What tells low from high: `radial` (spatial frequency), `magnitude` (the released trainer's), or `none` for the
    velocity loss alone."""
    alpha: float = 2.0
    """Of `c(t) = (t / t_max)^alpha`, the share of low frequencies."""
    beta: float = 1.0
    """Of `b(t) = beta (1 - t / t_max)`, the weight of the frequency loss."""
    factor: float = 1.0
    """On the frequency loss besides; the released trainer's unnormalised transform needs 0.01."""
    t_max: int = 999
    through_decoder: bool = True
    """Whether the frequency loss has a gradient."""
    cutoff: float = 0.125
    """Of `radial`: cycles per pixel at which the low-pass mask is one half."""
    edge: float = 0.05
    """Of `radial`: cycles per pixel over which the mask falls from 1 to 0, as a raised cosine."""
    quantile: float = 0.8
    """Of `magnitude`: share of the coefficients that are called low, the weakest ones."""
    slope: float = 10.0
    """Of `magnitude`: steepness of the sigmoid between weak and strong."""
    input_perturbation: float = 0.0
    """By which fraction, at most, noise is stronger than its time says, drawn for each clip (after Ning et al., 2023):
    a sampler's latents have more of it too, which earlier steps left."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split {self.split!r} must be one of {', '.join(SPLITS)}")
        if self.t_max < 1 or self.edge < 0 or self.cutoff <= 0:
            raise ValueError(
                f"t_max {self.t_max} must be at least 1, cutoff {self.cutoff} above 0 and edge {self.edge} 0 or more"
            )
        if min(self.alpha, self.beta, self.factor, self.input_perturbation) < 0:
            raise ValueError(
                f"alpha {self.alpha}, beta {self.beta}, factor {self.factor} and input_perturbation "
                f"{self.input_perturbation} must be 0 or more"
            )
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile {self.quantile} must lie between 0 and 1")


PAPER = LossConfig()
RELEASED = LossConfig(split="magnitude", factor=0.01, through_decoder=False)
VELOCITY_ONLY = LossConfig(split="none")


@dataclass(frozen=True)
class LossTerms:
    """The training loss and what it is made of, each `(b)`."""

    velocity: Tensor
    low: Tensor
    high: Tensor
    frequency: Tensor
    """`factor (c(t) low + (1 - c(t)) high)`, equation 8."""
    weight: Tensor
    """b(t)."""
    total: Tensor
    """`velocity + weight frequency`."""


def training_loss(
    v_hat: Tensor,
    v: Tensor,
    t: Tensor,
    *,
    x_t: Tensor,
    truth: Tensor,
    decode: Callable[[Tensor], Tensor],
    schedule: NoiseSchedule,
    config: LossConfig = PAPER,
) -> LossTerms:
    """`L = L_v + b(t) L_DF` of every sample.

    v_hat, v: predicted and true velocity, `b c t h w`. t: integer times (b), int64. x_t: the network's input, of v's
    shape. truth: `b 3 t H W` in [-1, 1]. decode: latents to frames of truth's shape; not called without a frequency
    loss, and its gradient is what carries that loss to the network.
    """
    velocity = velocity_loss(v_hat, v)
    weight = frequency_weight(t, config).to(velocity)
    if config.split == "none":
        zero = torch.zeros_like(velocity)
        return LossTerms(velocity, zero, zero, zero, weight, velocity)
    with torch.set_grad_enabled(torch.is_grad_enabled() and config.through_decoder):
        x0_hat = schedule.x0_from_v(_wide(x_t), _wide(v_hat), t)
        low, high = frequency_losses(decode(x0_hat), truth, config)
        share = low_share(t, config).to(low)
        frequency = config.factor * (share * low + (1 - share) * high)
    return LossTerms(velocity, low, high, frequency, weight, velocity + weight * frequency)


def velocity_loss(v_hat: Tensor, v: Tensor) -> Tensor:
    """Mean squared error (b) of a velocity, both `b ...` of one shape (equation 1). Raises ValueError for others."""
    _check_shapes(v_hat, v)
    return (_wide(v_hat) - _wide(v)).square().flatten(1).mean(1)


def low_share(t: Tensor, config: LossConfig = PAPER) -> Tensor:
    """`c(t)` (b): 0 at t = 0, 1 at `t_max`. Raises ValueError for times outside 0 .. t_max."""
    return _fraction(t, config) ** config.alpha


def frequency_weight(t: Tensor, config: LossConfig = PAPER) -> Tensor:
    """`b(t)` (b): `beta` at t = 0, 0 at `t_max`. Raises ValueError for times outside 0 .. t_max."""
    return config.beta * (1 - _fraction(t, config))


def frequency_losses(
    decoded: Tensor, truth: Tensor, config: LossConfig = PAPER
) -> tuple[Tensor, Tensor]:
    """`L_LF` and `L_HF` (b each, equations 5-7) of frames `b 3 t h w`.

    `radial`: orthonormal `rfft2` per frame and channel, mean modulus of the difference over all bins under the
    low-pass mask and under its complement. `magnitude`: `rfft2` without a factor, each of the two split by its own
    quantile, mean absolute difference of real and imaginary parts. Raises ValueError if shapes differ, or without a
    split.
    """
    _check_shapes(decoded, truth)
    frames, wanted = _wide(decoded), _wide(truth)
    if config.split == "radial":
        difference = torch.fft.rfft2(frames - wanted, norm="ortho")
        height, width = frames.shape[-2:]
        mask = radial_low_pass(height, width, config.cutoff, config.edge).to(frames)
        size = difference.abs()
        return (size * mask).flatten(1).mean(1), (size * (1 - mask)).flatten(1).mean(1)
    if config.split == "none":
        raise ValueError("a loss without a split has no frequency terms: give radial or magnitude")
    pairs = [
        [split_by_magnitude(torch.fft.rfft2(each), config) for each in sample]
        for sample in zip(frames, wanted, strict=True)
    ]
    low, high = ([_l1(got[i], true[i]) for got, true in pairs] for i in range(2))
    return torch.stack(low), torch.stack(high)


def radial_low_pass(height: int, width: int, cutoff: float, edge: float) -> Tensor:
    """The low-pass mask of `rfft2`'s bins, float32 (height, width // 2 + 1), 1 at frequency 0; 1 - it is the high-pass.

    cutoff, edge: cycles per pixel, measured radially, so that it acts alike in every direction.
    """
    rows = torch.fft.fftfreq(height, dtype=torch.float64)
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)
    radius = torch.hypot(rows[:, None], columns[None, :])
    if edge == 0:
        return (radius <= cutoff).float()
    into_edge = ((radius - (cutoff - edge / 2)) / edge).clamp(0, 1)
    return (0.5 * (1 + torch.cos(math.pi * into_edge))).float()


def split_by_magnitude(
    spectrum: Tensor, config: LossConfig = RELEASED, *, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A complex spectrum of any shape as the sum of its weak and its strong coefficients, as released.

    `weak = F sigmoid(slope (q - |F|))` with q the quantile of all |F|, or of those at `index` (int, into the flattened
    spectrum). Without an index, `QUANTILE_COEFFICIENTS` are drawn where there are more, the same ones every time.
    """
    sizes = spectrum.abs()
    if index is None and sizes.numel() > QUANTILE_COEFFICIENTS:
        seeded = torch.Generator().manual_seed(0)
        index = torch.randint(sizes.numel(), (QUANTILE_COEFFICIENTS,), generator=seeded)
    sampled = sizes.flatten()
    if index is not None:
        sampled = sampled[index.to(sizes.device, torch.int64)]
    threshold = torch.quantile(sampled, config.quantile)
    weak = spectrum * torch.sigmoid(config.slope * (threshold - sizes))
    return weak, spectrum - weak


def _l1(got: Tensor, wanted: Tensor) -> Tensor:
    return torch.view_as_real(got - wanted).abs().mean()


def _fraction(t: Tensor, config: LossConfig) -> Tensor:
    if t.numel() == 0 or int(t.min()) < 0 or int(t.max()) > config.t_max:
        raise ValueError(f"times must be integers in 0 .. {config.t_max}, got {t.tolist()}")
    return t.to(torch.float32) / config.t_max


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check_shapes(got: Tensor, wanted: Tensor) -> None:
    if got.shape != wanted.shape or got.ndim < 2:
        raise ValueError(
            f"shapes must be b ... and equal, got {(*got.shape,)} and {(*wanted.shape,)}"
        )
