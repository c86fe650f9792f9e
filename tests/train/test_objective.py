"""What is trained on: the losses of both kinds of model, and draws that belong to clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from starvsr.errors import UsageError
from starvsr.models.autoencoder import PixelUnshuffle
from starvsr.restore.restorer import Restorer
from starvsr.restore.schedule import logsnr_cosine_interp
from starvsr.restore.sharpen import sharpened
from starvsr.specs import NANO, STAR_LIGHT
from starvsr.train.clips import Clip
from starvsr.train.config import (
    BankConfig,
    DataConfig,
    ModelConfig,
    PixelLossConfig,
    TrainConfig,
)
from starvsr.train.losses import VELOCITY_ONLY
from starvsr.train.model import checkpoint_blocks, trained_parameters
from starvsr.train.objective import Objective, check_losses
from starvsr.train.pixel_losses import lattice_loss, motion_loss, pixel_losses, pixel_target
from starvsr.train.teacher import TeacherConfig
from starvsr.types import RecurrentConfig, SizeRule, TextSpec
from starvsr.zoo.load import load_model
from tests.conftest import TOY
from tests.train.toys import TINY, config_of, write_model


def stacked(batch: int, frames: int = 2, side: int = 16) -> Clip:
    rng = torch.Generator().manual_seed(4)
    truth = torch.rand(batch, frames, 3, side, side, generator=rng)
    degraded = torch.rand(batch, frames, 3, side // 2, side // 2, generator=rng)
    return Clip(truth, degraded, (None,) * batch, tuple(range(batch)))


def gradients(path: Path, *, recomputed: bool, clip: Clip) -> dict[str, Tensor]:
    model = load_model(str(path), device="cpu")
    trained = trained_parameters(model.network, "all")
    if recomputed:
        checkpoint_blocks(model.network)
    config = TrainConfig(model=ModelConfig(str(path)))
    objective = Objective(model, config, lambda _: model.context)
    objective(model.network, clip)["loss"].backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in trained.items() if p.grad is not None}


def test_recomputed_blocks_give_the_same_gradients(tmp_path: Path) -> None:
    path = write_model(tmp_path / "toy.safetensors", TOY)
    plain = gradients(path, recomputed=False, clip=stacked(2))
    again = gradients(path, recomputed=True, clip=stacked(2))
    assert plain.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in plain.items())


class Keeping(PixelUnshuffle):
    """Its decoder keeps something for the gradient; how many frames each call had is noted."""

    def __init__(self, factor: int) -> None:
        super().__init__(factor)
        self.frames: list[int] = []

    def decode(self, latent: Tensor) -> Tensor:
        self.frames.append(latent.shape[2])
        return super().decode(latent).tanh()


def test_frames_are_decoded_in_groups_and_again_for_their_gradient(tmp_path: Path) -> None:
    """At full size what a decoder keeps of a whole clip fits on no device."""
    path = write_model(tmp_path / "toy.safetensors", TOY)
    loaded = load_model(str(path), device="cpu")
    spec = dataclasses.replace(
        loaded.spec, autoencoder=dataclasses.replace(loaded.spec.autoencoder, chunk_frames=2)
    )
    found = []
    for recomputed, calls in ((False, [2, 1]), (True, [2, 1, 1, 2])):
        autoencoder = Keeping(spec.autoencoder.factor)
        model = dataclasses.replace(loaded, spec=spec, autoencoder=autoencoder)
        config = TrainConfig(ModelConfig(str(path)), gradient_checkpointing=recomputed)
        objective = Objective(model, config, lambda _: loaded.context)
        weight = torch.zeros((), requires_grad=True)

        def network(x: Tensor, *_: object, weight: Tensor = weight) -> Tensor:
            return x * weight

        loss = objective(network, stacked(2, frames=3))["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        assert autoencoder.frames == calls
        found.append((loss, weight.grad))
    assert found[0] == found[1]


def test_the_loss_of_noised_models_is_the_velocitys(tmp_path: Path) -> None:
    path = write_model(tmp_path / "toy.safetensors", TOY)
    model = load_model(str(path), device="cpu")
    config = TrainConfig(model=ModelConfig(str(path)), loss=VELOCITY_ONLY)
    objective = Objective(model, config, lambda _: model.context)
    calls: list[tuple[Tensor, ...]] = []

    def network(x: Tensor, t: Tensor, context: Tensor, hint: Tensor | None) -> Tensor:
        assert hint is not None
        calls.append((x, t, context, hint))
        return torch.zeros_like(x)

    clip = stacked(3)
    terms = objective(network, clip)
    again = objective(network, clip)
    assert torch.equal(terms["loss"], again["loss"])
    (x_t, t, context, hint), second = calls
    assert all(torch.equal(a, b) for a, b in zip(calls[0], second, strict=True))
    assert context.shape == (3, 1, 16)
    assert len(set(t.tolist())) == 3
    x0 = model.autoencoder.encode((clip.truth * 2 - 1).transpose(1, 2))
    schedule = objective.schedule
    alpha, sigma = (a[t].view(-1, 1, 1, 1, 1) for a in (schedule.alphas, schedule.sigmas))
    eps = (x_t - alpha * x0) / sigma
    assert float(eps.std()) == pytest.approx(1, abs=0.1)
    v = schedule.velocity(x0, eps, t)
    torch.testing.assert_close(terms["velocity"], v.square().mean())
    assert hint.shape == x_t.shape
    # A clip's draws are its own, whatever it is stacked with.
    alone = Clip(clip.truth[1:2], clip.degraded[1:2], (None,), (1,))
    objective(network, alone)
    torch.testing.assert_close(calls[-1][0], x_t[1:2])
    assert calls[-1][1].tolist() == t[1:2].tolist()


def test_noise_may_be_stronger_than_its_time_says(tmp_path: Path) -> None:
    path = write_model(tmp_path / "toy.safetensors", TOY)
    model = load_model(str(path), device="cpu")
    clip = stacked(3, frames=4)
    x0 = model.autoencoder.encode((clip.truth * 2 - 1).transpose(1, 2))
    schedule, seen = logsnr_cosine_interp(), []

    def network(x: Tensor, t: Tensor, context: Tensor, hint: Tensor | None) -> Tensor:
        seen.append(x)
        alpha, sigma = (a[t].view(-1, 1, 1, 1, 1) for a in (schedule.alphas, schedule.sigmas))
        return (alpha * x - x0) / sigma

    for most in (0.0, 0.5):
        loss = dataclasses.replace(VELOCITY_ONLY, input_perturbation=most)
        config = TrainConfig(model=ModelConfig(str(path)), loss=loss)
        objective = Objective(model, config, lambda _: model.context)
        # Who knows the clean latent has nothing to lose.
        assert float(objective(network, clip)["loss"]) < 1e-6
    times = [int(objective._rng(n, 1).integers(schedule.levels)) for n in clip.numbers]
    clean = schedule.alphas[times].view(-1, 1, 1, 1, 1) * x0
    plain, stronger = ((x - clean).flatten(1).std(1) for x in seen)
    ratios = (stronger / plain).tolist()
    assert all(1 < ratio < 1.5 for ratio in ratios)
    assert len({round(ratio, 3) for ratio in ratios}) == 3


def test_the_restoration_and_the_trainer_compute_the_same_picture(root: Path) -> None:
    """What is trained on is what `Restorer` gives for the same frames."""
    model = load_model(str(root / "tiny.safetensors"), device="cpu")
    config = config_of(root, pixel_loss=PixelLossConfig(kind="mse", fft=0.0))
    objective = Objective(model, config, lambda _: model.context)
    clip = stacked(1, frames=1)
    restored = Restorer(model)(clip.degraded[0], scale=2)
    with torch.no_grad():
        loss = objective(model.network, dataclasses.replace(clip, truth=restored[None]))["loss"]
    # Only what the restorer clamps differs.
    assert float(loss) < 1e-3
    far = objective(model.network, clip)["loss"]
    assert float(far) > 10 * float(loss)


def test_some_truths_are_the_input_under_the_negative_prompt(tmp_path: Path) -> None:
    spec = dataclasses.replace(TOY, text=TextSpec("none", "sharp", "", "blurry"))
    model = dataclasses.replace(
        load_model(str(write_model(tmp_path / "toy.safetensors", TOY)), device="cpu"), spec=spec
    )
    schedule = logsnr_cosine_interp()

    def gives_the_input_back(x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        # v = (alpha x - x0) / sigma; alpha is what is left of x0 without noise.
        one = torch.ones_like(x)
        alpha = schedule.add_noise(one, 0 * one, t)
        sigma = schedule.add_noise(0 * one, one, t)
        return (alpha * x - hint) / sigma

    said: list[tuple[str | None, ...]] = []

    def contexts(texts: Sequence[str | None]) -> Tensor:
        said.append(tuple(texts))
        return model.context

    losses = {}
    for share in (0.0, 0.5, 1.0):
        data = dataclasses.replace(config_of(tmp_path).data, worse=share)
        config = TrainConfig(data=data, loss=VELOCITY_ONLY)
        terms = Objective(model, config, contexts)(gives_the_input_back, stacked(12))
        losses[share] = float(terms["velocity"])
    assert losses[1.0] < 1e-6
    assert losses[1.0] < losses[0.5] < losses[0.0]
    assert said[0] == (None,) * 12
    assert said[2] == ("blurry",) * 12
    assert 2 <= said[1].count("blurry") <= 10
    assert said[1].count(None) == 12 - said[1].count("blurry")


def test_a_model_that_starts_from_noise_learns_from_a_teacher(tmp_path: Path) -> None:
    """The velocity towards its pictures is without a loss, where there are some."""
    model = load_model(str(write_model(tmp_path / "toy.safetensors", TOY)), device="cpu")
    plain = stacked(6)
    pictures = plain.truth.flip(-1)
    clip = dataclasses.replace(plain, taught=pictures, is_taught=(True,) * 6)
    schedule = logsnr_cosine_interp()
    x0 = model.autoencoder.encode((pictures * 2 - 1).transpose(1, 2))

    def gives_the_pictures(x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        one = torch.ones_like(x)
        alpha, sigma = schedule.add_noise(one, 0 * one, t), schedule.add_noise(0 * one, one, t)
        return (alpha * x - x0) / sigma

    losses = {}
    for target in (0.5, 1.0):
        teacher = TeacherConfig("up.param", real=False, target=target)
        config = TrainConfig(
            data=DataConfig(frames=2, bank=BankConfig(frames=2)),
            loss=VELOCITY_ONLY,
            teacher=teacher,
        )
        check_losses(TOY, config)
        terms = Objective(model, config, lambda _: model.context)(gives_the_pictures, clip)
        losses[target] = float(terms["velocity"])
    assert losses[1.0] < 1e-6
    assert losses[0.5] > 1e-3


def test_worse_needs_a_negative_prompt() -> None:
    config = TrainConfig(data=DataConfig(worse=0.1))
    for spec in (NANO, TOY):
        with pytest.raises(UsageError, match=r"worse = 0\.1 has no effect"):
            check_losses(spec, config)
    check_losses(STAR_LIGHT, config)


def test_pixel_losses_by_their_definitions() -> None:
    picture = torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    truth = torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    difference = (picture - truth).double()
    spectrum = torch.fft.fft2(difference) / 8
    half = spectrum[..., :5]
    fft = (half.real.abs().mean() + half.imag.abs().mean()) / 2
    temporal = (difference[:, :, 1:] - difference[:, :, :-1]).abs().mean()
    config = PixelLossConfig(weight=2.0, fft=0.5, temporal=0.25)
    terms = pixel_losses(picture, truth, config, 4)
    expected = 2 * difference.abs().mean() + 0.5 * fft + 0.25 * temporal
    assert float(terms["loss"]) == pytest.approx(float(expected), rel=1e-5)
    squared = pixel_losses(picture, truth, PixelLossConfig(kind="mse", fft=0.0), 4)
    assert float(squared["loss"]) == pytest.approx(float(difference.square().mean()), rel=1e-5)
    smooth = pixel_losses(picture, truth, PixelLossConfig(kind="charbonnier", fft=0.0), 4)
    assert float(smooth["loss"]) == pytest.approx(float(difference.abs().mean()), rel=1e-2)


def test_a_model_is_trained_towards_a_sharpened_truth() -> None:
    truth = 0.5 * (2 * torch.rand(2, 3, 2, 24, 24, generator=torch.Generator().manual_seed(0)) - 1)
    sharp = sharpened(truth, 0.5, sigma=1.5)
    config = PixelLossConfig(kind="mse", fft=0.0, sharpen=0.5)
    target = pixel_target(truth, config)
    assert float(pixel_losses(sharp, target, config, 4)["loss"]) == 0
    assert float(pixel_losses(truth, target, config, 4)["loss"]) > 0
    assert pixel_target(truth, PixelLossConfig()) is truth


def test_the_motion_loss_is_least_where_motion_is_right() -> None:
    """A latent whose frames move two elements to the right."""
    wide = torch.nn.functional.avg_pool2d(
        torch.rand(1, 12, 16, 28, generator=torch.Generator().manual_seed(0)), 3, 1, 1
    )
    z = torch.stack([wide[..., 4 - 2 * i : 24 - 2 * i] for i in range(3)], dim=2)
    flows = torch.zeros(1, 2, 2, 16, 20)
    losses = {}
    for columns in (-3, -2, -1, 0, 2):
        flows[:, 0] = columns
        losses[columns] = float(motion_loss(z, flows))
    assert min(losses, key=losses.__getitem__) == -2
    rough = flows.clone()
    rough[:, 0] = -2
    rough[..., ::2] += 0.05
    assert float(motion_loss(z, rough)) > losses[-2]


def test_estimated_motion_is_trained(tmp_path: Path) -> None:
    spec = dataclasses.replace(
        TINY,
        network=RecurrentConfig(
            latent_channels=12, stem_width=4, width=4, deep_width=8, motion_width=4
        ),
        size_rule=SizeRule(2, 0),
    )
    path = write_model(tmp_path / "moving.safetensors", spec)
    model = load_model(str(path), device="cpu")
    loss = PixelLossConfig(weight=0.0, fft=0.0, motion=0.5)
    config = TrainConfig(pixel_loss=loss, data=DataConfig(frames=3))
    parameters = trained_parameters(model.network, "all")
    terms = Objective(model, config, lambda _: model.context)(model.network, stacked(2, frames=3))
    assert terms["loss"].item() == pytest.approx(0.5 * terms["motion"].item())
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    trained = {
        name for name, p in parameters.items() if p.grad is not None and p.grad.abs().max() > 0
    }
    assert any(name.startswith("motion.") for name in trained)
    assert not any(name.startswith("head.") for name in trained)
    with torch.no_grad():
        still = Objective(model, config, lambda _: model.context)(model.network, stacked(1, 1))
    assert "motion" not in still


def test_a_lattice_costs_more_than_the_same_pixels_elsewhere() -> None:
    """One place of 16 is brighter by 0.16: by 0.15 than the mean of all, the others by -0.01."""
    lattice = torch.zeros(2, 3, 2, 32, 48)
    lattice[..., 1::4, 2::4] = 0.16
    assert float(lattice_loss(lattice, 4)) == pytest.approx(2 * 0.15 / 16, rel=1e-5)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(32 * 48, generator=generator)
    scattered = lattice.flatten(-2)[..., order].reshape(lattice.shape)
    assert float(lattice_loss(scattered, 4)) < 0.5 * float(lattice_loss(lattice, 4))
    assert float(lattice_loss(torch.full_like(lattice, 0.16), 4)) == pytest.approx(0, abs=1e-7)
    terms = pixel_losses(lattice, torch.zeros_like(lattice), PixelLossConfig(fft=0, lattice=2), 4)
    assert float(terms["loss"]) == pytest.approx(0.01 + 2 * float(terms["lattice"]), rel=1e-5)
