"""The training loss: the released form against recorded numbers, the paper's against its definition."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
from einops import rearrange
from torch import Tensor

from starvsr.models.autoencoder import PixelUnshuffle
from starvsr.restore.schedule import logsnr_cosine_interp
from starvsr.train.losses import (
    PAPER,
    QUANTILE_COEFFICIENTS,
    RELEASED,
    VELOCITY_ONLY,
    LossConfig,
    LossTerms,
    frequency_losses,
    frequency_weight,
    low_share,
    radial_low_pass,
    split_by_magnitude,
    training_loss,
    velocity_loss,
)
from tests.models.helpers import load_golden, relative_error
from tests.models.test_autoencoder import small_vae

TERMS = ("velocity", "low", "high", "share", "frequency", "weight", "total")
SCHEDULE = logsnr_cosine_interp()
UNSHUFFLE = PixelUnshuffle(2)


@cache
def golden() -> dict[str, Tensor]:
    return load_golden("df_loss")


def spectrum(video: Tensor) -> Tensor:
    transformed: Tensor = torch.fft.rfft2(rearrange(video, "1 c t h w -> t c h w"))
    return transformed


def terms(
    v_hat: Tensor, config: LossConfig = PAPER, t: tuple[int, ...] = (400, 700), seed: int = 0
) -> LossTerms:
    """The loss at small size: latents `2 12 2 8 8`, frames `2 3 2 16 16`."""
    generator = torch.Generator().manual_seed(seed)
    x_t, v = (torch.randn(v_hat.shape, generator=generator).to(v_hat) for _ in range(2))
    truth = torch.randn(2, 3, 2, 16, 16, generator=generator).to(v_hat)
    return training_loss(
        v_hat,
        v,
        torch.tensor(t),
        x_t=x_t,
        truth=truth,
        decode=UNSHUFFLE.decode,
        schedule=SCHEDULE,
        config=config,
    )


def prediction(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 12, 2, 8, 8, generator=torch.Generator().manual_seed(9)).to(dtype)


@pytest.mark.parametrize("which", ["gt", "pred"])
def test_magnitude_split_is_the_recorded_one(which: str) -> None:
    g = golden()
    low, high = split_by_magnitude(spectrum(g[f"{which}_video"]))
    assert relative_error(torch.view_as_real(low), g[f"{which}_low"]) < 1e-5
    assert relative_error(torch.view_as_real(high), g[f"{which}_high"]) < 1e-5


@pytest.mark.parametrize("number", range(7))
def test_released_terms_are_the_recorded_ones(number: int) -> None:
    g = golden()
    t = g["t"][number : number + 1]
    low, high = frequency_losses(g["pred_video"], g["gt_video"], RELEASED)
    share, weight = low_share(t, RELEASED), frequency_weight(t, RELEASED)
    frequency = RELEASED.factor * (share * low + (1 - share) * high)
    velocity = velocity_loss(g["v_pred"], g["v_target"])
    total = velocity + weight * frequency
    got = torch.stack([velocity, low, high, share, frequency, weight, total])[:, 0]
    torch.testing.assert_close(got, g["terms"][number], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("number", range(7))
def test_released_composition_through_the_whole_loss(number: int) -> None:
    g = golden()
    v_hat = g["v_pred"]
    got = training_loss(
        v_hat,
        g["v_target"],
        g["t"][number : number + 1],
        x_t=torch.zeros_like(v_hat),
        truth=g["gt_video"],
        decode=lambda _: g["pred_video"],
        schedule=SCHEDULE,
        config=RELEASED,
    )
    recorded = dict(zip(TERMS, g["terms"][number], strict=True))
    for name in ("velocity", "low", "high", "frequency", "weight", "total"):
        torch.testing.assert_close(
            getattr(got, name)[0], recorded[name], rtol=1e-5, atol=1e-9, msg=name
        )


def test_quantile_of_drawn_coefficients_is_the_recorded_one() -> None:
    g = golden()
    wide = torch.fft.rfft2(g["big_video"])
    assert wide.numel() > QUANTILE_COEFFICIENTS == len(g["big_index"])
    low, high = split_by_magnitude(wide, index=g["big_index"])
    for part, name in ((low, "big_low_mean_abs"), (high, "big_high_mean_abs")):
        torch.testing.assert_close(
            torch.view_as_real(part).abs().mean()[None], g[name], rtol=1e-5, atol=0
        )
    by_all, _ = split_by_magnitude(wide, index=torch.arange(wide.numel()))
    assert not torch.equal(by_all, low)


def test_the_same_coefficients_are_drawn_every_time() -> None:
    wide = torch.fft.rfft2(golden()["big_video"])
    low, _ = split_by_magnitude(wide, RELEASED)
    torch.manual_seed(1)
    assert torch.equal(low, split_by_magnitude(wide, RELEASED)[0])


@pytest.mark.parametrize("config", [PAPER, RELEASED])
def test_ends_of_the_time_weights(config: LossConfig) -> None:
    t = torch.tensor([0, 999])
    assert low_share(t, config).tolist() == [0.0, 1.0]
    assert frequency_weight(t, config).tolist() == [1.0, 0.0]
    middle = torch.tensor([333])
    assert float(low_share(middle, config)) == pytest.approx(1 / 9, rel=1e-6)
    assert float(frequency_weight(middle, config)) == pytest.approx(2 / 3, rel=1e-6)


@pytest.mark.parametrize("t", [-1, 1000])
def test_times_outside_are_refused(t: int) -> None:
    with pytest.raises(ValueError, match=r"0 \.\. 999"):
        low_share(torch.tensor([t]))


@pytest.mark.parametrize("size", [(16, 16), (17, 32), (32, 15)])
def test_radial_mask_by_its_definition(size: tuple[int, int]) -> None:
    height, width = size
    mask = radial_low_pass(height, width, 0.125, 0.05)
    assert mask.shape == (height, width // 2 + 1)
    assert mask[0, 0] == 1
    for row in range(height):
        for column in range(width // 2 + 1):
            down = min(row, height - row) / height
            radius = (down**2 + (column / width) ** 2) ** 0.5
            value = float(mask[row, column])
            if radius <= 0.1:
                assert value == 1
            elif radius >= 0.15:
                assert value == 0
            else:
                assert 0 < value < 1
    # The edge falls as a cosine: half way at the cut-off, the rest symmetrical about it.
    line = radial_low_pass(1, 2000, 0.125, 0.05)[0]
    assert float(line[250]) == pytest.approx(0.5, abs=1e-6)
    torch.testing.assert_close(line[200:301] + line[200:301].flip(0), torch.ones(101))


def test_without_an_edge_the_mask_is_a_step() -> None:
    assert set(radial_low_pass(32, 32, 0.2, 0.0).flatten().tolist()) == {0.0, 1.0}


def test_low_and_high_add_up_to_the_whole_difference() -> None:
    a, b = (
        torch.randn(2, 3, 2, 16, 24, generator=torch.Generator().manual_seed(i)) for i in (1, 2)
    )
    low, high = frequency_losses(a, b)
    whole = torch.fft.rfft2(a - b, norm="ortho").abs().flatten(1).mean(1)
    torch.testing.assert_close(low + high, whole)
    spectra = torch.fft.rfft2(a)
    weak, strong = split_by_magnitude(spectra)
    torch.testing.assert_close(weak + strong, spectra)


@pytest.mark.parametrize(("cycles", "is_low"), [(1, True), (14, False)])
def test_a_wave_counts_where_its_frequency_is(cycles: int, is_low: bool) -> None:
    columns = torch.arange(32) / 32
    wave = torch.cos(2 * torch.pi * cycles * columns).expand(1, 3, 2, 32, 32)
    low, high = frequency_losses(wave, torch.zeros_like(wave))
    near, far = (low, high) if is_low else (high, low)
    # One bin of 32 x 17 holds all of it: 32 x 32 / 2 of the plain transform, over 32 of the orthonormal one.
    assert float(near) == pytest.approx(16 / (32 * 17), rel=1e-4)
    assert float(far) < 1e-5


@pytest.mark.parametrize("split", ["radial", "magnitude"])
def test_gradient_equals_finite_differences(split: str) -> None:
    config = LossConfig(split=split, slope=1.0)
    v_hat = prediction(torch.float64).requires_grad_()
    terms(v_hat, config).total.sum().backward()  # type: ignore[no-untyped-call]
    assert v_hat.grad is not None
    for seed in range(3):
        step = torch.randn(v_hat.shape, generator=torch.Generator().manual_seed(seed)).double()
        # The schedule and t are float32, the rest is not.
        epsilon = 1e-5
        with torch.no_grad():
            ahead = terms(v_hat + epsilon * step, config).total.sum()
            behind = terms(v_hat - epsilon * step, config).total.sum()
        slope = float((ahead - behind) / (2 * epsilon))
        assert float((v_hat.grad * step).sum()) == pytest.approx(slope, rel=1e-4)


def test_the_frequency_loss_alone_has_a_gradient_and_the_released_has_none() -> None:
    v_hat = prediction().requires_grad_()
    assert terms(v_hat).frequency.requires_grad
    released = terms(v_hat, RELEASED)
    assert not released.frequency.requires_grad
    (gradient,) = torch.autograd.grad(released.total.sum(), v_hat)
    (velocity_only,) = torch.autograd.grad(terms(v_hat, VELOCITY_ONLY).total.sum(), v_hat)
    assert torch.equal(gradient, velocity_only)
    (full,) = torch.autograd.grad(terms(v_hat).total.sum(), v_hat)
    assert relative_error(full, velocity_only) > 1e-2


def test_the_gradient_comes_through_the_temporal_autoencoder() -> None:
    decode = small_vae()[0].decode
    generator = torch.Generator().manual_seed(0)
    v, v_hat, step = (torch.randn(1, 4, 2, 2, 3, generator=generator) for _ in range(3))
    truth = torch.rand(1, 3, 2, 16, 24, generator=generator) * 2 - 1
    t = torch.tensor([300])

    def frequency(at: Tensor) -> Tensor:
        return training_loss(
            at, v, t, x_t=v, truth=truth, decode=decode, schedule=SCHEDULE
        ).frequency.sum()

    v_hat.requires_grad_()
    (gradient,) = torch.autograd.grad(frequency(v_hat), v_hat)
    with torch.no_grad():
        slope = (frequency(v_hat + 1e-2 * step) - frequency(v_hat - 1e-2 * step)) / 2e-2
    assert float((gradient * step).sum()) == pytest.approx(float(slope), rel=0.02)
    assert abs(float(slope)) > 1e-4


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    v_hat = prediction().requires_grad_()
    with torch.no_grad():
        assert not terms(v_hat).total.requires_grad


def test_a_perfect_prediction_has_no_loss() -> None:
    clean = prediction()
    eps = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([100, 900])
    got = training_loss(
        SCHEDULE.velocity(clean, eps, t),
        SCHEDULE.velocity(clean, eps, t),
        t,
        x_t=SCHEDULE.add_noise(clean, eps, t),
        truth=UNSHUFFLE.decode(clean),
        decode=UNSHUFFLE.decode,
        schedule=SCHEDULE,
    )
    assert got.velocity.tolist() == [0, 0]
    assert float(got.total.max()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("split", ["radial", "magnitude"])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, split: str) -> None:
    config = LossConfig(split=split)
    half = prediction(dtype)
    # Inputs that halves hold exactly, so that only the arithmetic could differ.
    inputs = [prediction(dtype) * scale for scale in (0.5, 2.0)]
    truth = UNSHUFFLE.decode(half)

    def loss(*, widened: bool) -> Tensor:
        v_hat, v, x_t, frames = (
            each.float() if widened else each for each in (half, inputs[0], inputs[1], truth)
        )
        t = torch.tensor([10, 500])
        return training_loss(
            v_hat,
            v,
            t,
            x_t=x_t,
            truth=frames,
            decode=UNSHUFFLE.decode,
            schedule=SCHEDULE,
            config=config,
        ).total

    assert loss(widened=False).dtype == torch.float32
    assert torch.equal(loss(widened=False), loss(widened=True))


def test_every_sample_has_its_own_time() -> None:
    both, v_hat = terms(prediction(), t=(0, 999)), prediction()
    assert float(both.total[1]) == float(both.velocity[1])
    assert float(both.frequency[0]) == pytest.approx(float(both.high[0]))
    assert float(both.frequency[1]) == pytest.approx(float(both.low[1]))
    assert float(both.total[0]) == pytest.approx(float(both.velocity[0] + both.high[0]))
    assert velocity_loss(v_hat, v_hat * 0).shape == (2,)


def test_the_decoder_is_left_alone_without_a_frequency_loss() -> None:
    def refuse(_: Tensor) -> Tensor:
        raise AssertionError("decoded")

    v = prediction()
    got = training_loss(
        v,
        v * 2,
        torch.tensor([0, 1]),
        x_t=v,
        truth=v,
        decode=refuse,
        schedule=SCHEDULE,
        config=VELOCITY_ONLY,
    )
    assert torch.equal(got.total, got.velocity)
    assert not got.frequency.any()


@pytest.mark.parametrize(
    "change",
    [
        {"split": "fourier"},
        {"t_max": 0},
        {"edge": -0.1},
        {"cutoff": 0.0},
        {"quantile": 1.0},
        {"quantile": 0.0},
    ],
)
def test_meaningless_configurations_are_refused(change: dict[str, float | str]) -> None:
    with pytest.raises(ValueError, match="must"):
        dataclasses.replace(PAPER, **change)  # type: ignore[arg-type]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="equal"):
        velocity_loss(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="equal"):
        frequency_losses(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 3, 2, 8, 9))
    with pytest.raises(ValueError, match="no frequency terms"):
        frequency_losses(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 3, 2, 8, 8), VELOCITY_ONLY)
