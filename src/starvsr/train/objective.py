"""What a network is asked for: the velocity of a noised latent, or the restored picture in one step.

Which it is follows from the model's spec (`start`). Times and noise of a clip are functions of the seed and the clip's
number, so they are the same however clips are spread over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from starvsr.errors import UsageError
from starvsr.models.recurrent import Memory, RecurrentNet, warp
from starvsr.schedule import logsnr_cosine_interp
from starvsr.train.clips import Clip
from starvsr.train.config import PixelLossConfig, TrainConfig
from starvsr.train.losses import PAPER, training_loss
from starvsr.types import ModelSpec
from starvsr.upsample import upsample
from starvsr.zoo.load import LoadedModel

Network = Callable[..., Tensor]
"""`(x, t, context, hint) -> v`, as `StarUNet`."""

Terms = dict[str, Tensor]
"""Means over a micro-batch, of which `loss` is what is trained on; the rest, without a gradient, is for the log."""

# Draws of a clip, each its own stream; data have none of these.
_TIME, _NOISE, _POSTERIOR_TRUTH, _POSTERIOR_HINT = range(1, 5)
_CHARBONNIER = 1e-3
_SMOOTHNESS = 0.002
# Of the published metric: the noise of an observer, and as many scales.
_VIF_NOISE, _VIF_SCALES, _VIF_BOX = 2.0, 4, 8


@dataclass
class Objective:
    """The training loss of a model, for a clip at a time or many."""

    model: LoadedModel
    config: TrainConfig
    contexts: Callable[[Sequence[str | None]], Tensor]
    """Texts to `b n c` on the model's device."""
    pixel_loss: PixelLossConfig = field(init=False)

    def __post_init__(self) -> None:
        self.schedule = logsnr_cosine_interp()
        self.loss = self.config.loss or PAPER
        self.pixel_loss = self.config.pixel_loss or PixelLossConfig()
        check_losses(self.model.spec, self.config)

    def __call__(self, network: Network, clip: Clip) -> Terms:
        """The loss of stacked clips (`b t 3 h w`)."""
        device = self.model.device
        truth = rearrange(clip.truth * 2 - 1, "b t c h w -> b c t h w").to(device)
        start = self._upsampled(clip.degraded, (truth.shape[-2], truth.shape[-1])).to(device)
        context = self.contexts(clip.texts)
        with torch.no_grad():
            hint = self._encode(start, clip.numbers, _POSTERIOR_HINT)
        if self.model.spec.start == "clean":
            return self._one_step(network, hint, truth, context)
        return self._velocity(network, hint, truth, context, clip.numbers)

    def _velocity(
        self,
        network: Network,
        hint: Tensor,
        truth: Tensor,
        context: Tensor,
        numbers: Sequence[int],
    ) -> Terms:
        with torch.no_grad():
            x0 = self._encode(truth, numbers, _POSTERIOR_TRUTH)
        times = [int(self._rng(n, _TIME).integers(self.schedule.levels)) for n in numbers]
        t = torch.tensor(times, device=x0.device)
        eps = self._noise(x0, numbers, _NOISE)
        x_t = self.schedule.add_noise(x0, eps, t)
        v_hat = self._predict(network, x_t, t, context, hint).float()
        terms = training_loss(
            v_hat,
            self.schedule.velocity(x0, eps, t),
            t,
            x_t=x_t,
            truth=truth,
            decode=self.model.autoencoder.decode,
            schedule=self.schedule,
            config=self.loss,
        )
        means = {"velocity": terms.velocity, "low": terms.low, "high": terms.high}
        return {
            "loss": terms.total.mean(),
            **{name: values.detach().mean() for name, values in means.items()},
        }

    def _one_step(self, network: Network, z: Tensor, truth: Tensor, context: Tensor) -> Terms:
        time = self.model.spec.noise_level - 1
        t = torch.full((len(z),), time, device=z.device)
        memory = Memory()
        if isinstance(self.model.network, RecurrentNet):
            network = partial(network, memory=memory)
        v = self._predict(network, z, t, context, z).float()
        picture = self.model.autoencoder.decode(self.schedule.x0_from_v(z, v, time))
        terms = pixel_losses(picture, truth, self.pixel_loss)
        if self.pixel_loss.motion and memory.flows:
            motion = motion_loss(z, torch.stack(memory.flows, dim=2))
            terms["loss"] = terms["loss"] + self.pixel_loss.motion * motion
            terms["motion"] = motion.detach()
        return terms

    def _predict(
        self, network: Network, x: Tensor, t: Tensor, context: Tensor, hint: Tensor
    ) -> Tensor:
        context = context.expand(len(x), -1, -1)
        return network(x, t, context, hint if self.model.spec.network.control else None)

    def _upsampled(self, degraded: Tensor, size: tuple[int, int]) -> Tensor:
        """`b t 3 h w` in [0, 1] to `b 3 t H W` in [-1, 1], as the restoration begins."""
        frames = rearrange(degraded * 2 - 1, "b t c h w -> (b t) c h w")
        upsampled = upsample(frames, size, self.model.spec.upsampling)
        return rearrange(upsampled, "(b t) c h w -> b c t h w", b=len(degraded))

    def _encode(self, frames: Tensor, numbers: Sequence[int], stream: int) -> Tensor:
        """Frame by frame, as when restoring: the memory of an encoder for 32 frames is better spent."""
        spec, autoencoder = self.model.spec.autoencoder, self.model.autoencoder
        shape = (
            len(frames),
            autoencoder.latent_channels,
            frames.shape[2],
            *(side // autoencoder.factor for side in frames.shape[3:]),
        )
        noise = None
        if spec.posterior == "sample":
            noise = self._noise(torch.empty(shape, device=frames.device), numbers, stream)
        latents = [
            autoencoder.encode(
                frames[:, :, i : i + 1], None if noise is None else noise[:, :, i : i + 1]
            )
            for i in range(frames.shape[2])
        ]
        return torch.cat(latents, dim=2)

    def _noise(self, like: Tensor, numbers: Sequence[int], stream: int) -> Tensor:
        drawn = [
            self._rng(number, stream).standard_normal(like.shape[1:], dtype=np.float32)
            for number in numbers
        ]
        return torch.from_numpy(np.stack(drawn)).to(like)

    def _rng(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, number, stream])


def check_losses(spec: ModelSpec, config: TrainConfig) -> None:
    """Raise UsageError for a loss that has no effect on a model."""
    if spec.start == "clean" and config.loss is not None:
        raise UsageError(
            f"[loss] has no effect: the model {spec.name} restores in one step from the clean latent; give [pixel_loss]"
        )
    if spec.start != "clean" and config.pixel_loss is not None:
        raise UsageError(
            f"[pixel_loss] has no effect: the model {spec.name} starts from noise; give [loss]"
        )


def pixel_losses(picture: Tensor, truth: Tensor, config: PixelLossConfig) -> Terms:
    """Losses of restored pictures, both `b 3 t h w` float32 in [-1, 1], picture not clamped."""
    difference = picture - truth
    if config.kind == "l1":
        pixel = difference.abs().mean()
    elif config.kind == "mse":
        pixel = difference.square().mean()
    else:
        pixel = (difference.square() + _CHARBONNIER**2).sqrt().mean()
    terms = {"pixel": pixel}
    loss = config.weight * pixel
    if config.fft:
        spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="ortho"))
        terms["fft"] = spectrum.abs().mean()
        loss = loss + config.fft * terms["fft"]
    if config.temporal and difference.shape[2] > 1:
        terms["temporal"] = difference.diff(dim=2).abs().mean()
        loss = loss + config.temporal * terms["temporal"]
    if config.vif:
        terms["vif"] = 1 - information_fidelity(_luma(picture), _luma(truth))
        loss = loss + config.vif * terms["vif"]
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def motion_loss(z: Tensor, flows: Tensor) -> Tensor:
    """How far frames, each reduced to a pixel per latent element, are from the frames before them moved by `flows`.

    z: a pixel-unshuffled latent `b (3 n) f h w`; flows: `b 2 (f - 1) h w`. A Charbonnier distance, so that what cannot
    be followed counts little, and a slight preference for smooth motion.
    """
    reduced = rearrange(z.detach(), "b (c n) f h w -> b c n f h w", c=3).mean(2)
    now = rearrange(reduced[:, :, 1:], "b c f h w -> (b f) c h w")
    before = rearrange(reduced[:, :, :-1], "b c f h w -> (b f) c h w")
    flow = rearrange(flows, "b c f h w -> (b f) c h w")
    distance = ((warp(before, flow) - now).square() + _CHARBONNIER**2).sqrt().mean()
    rough = flow.diff(dim=-1).abs().mean() + flow.diff(dim=-2).abs().mean()
    return distance + _SMOOTHNESS * rough


def information_fidelity(picture: Tensor, truth: Tensor) -> Tensor:
    """Visual information fidelity of luma `n 1 h w` in 8-bit levels at four scales, their mean (near 0 to 1).

    After Sheikh and Bovik (2006) in the pixel domain, with statistics of overlapping boxes, and gains limited to 1 so
    that mere contrast earns nothing.
    """
    fidelities = []
    for scale in range(_VIF_SCALES):
        if scale:
            picture, truth = F.avg_pool2d(picture, 2), F.avg_pool2d(truth, 2)
        mean_p, mean_t, pp, tt, pt = (
            F.avg_pool2d(x, _VIF_BOX, _VIF_BOX // 2)
            for x in (picture, truth, picture * picture, truth * truth, picture * truth)
        )
        # What rounding makes of flat boxes may be below 0.
        variance_p, variance_t = (pp - mean_p**2).clamp_min(0), (tt - mean_t**2).clamp_min(0)
        covariance = pt - mean_p * mean_t
        gain = (covariance / (variance_t + 1e-3)).clamp(0, 1)
        lost = (variance_p - gain * covariance).clamp_min(0)
        kept = torch.log2(1 + gain**2 * variance_t / (lost + _VIF_NOISE)).sum()
        fidelities.append((kept + 1e-3) / (torch.log2(1 + variance_t / _VIF_NOISE).sum() + 1e-3))
    return torch.stack(fidelities).mean()


def _luma(pictures: Tensor) -> Tensor:
    """`b 3 t h w` RGB in [-1, 1] to `(b t) 1 h w` in 8-bit levels of limited range."""
    weights = pictures.new_tensor([65.481, 128.553, 24.966]) / 2
    return torch.einsum("bcthw,c->bthw", pictures, weights).flatten(0, 1)[:, None] + (16 + 109.5)
