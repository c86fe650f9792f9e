"""What a network is trained to predict: the velocity of a noised latent, or the restored frames in one step.

Which it is follows from the model's spec (`start`). Times and noise of a clip are functions of the seed and the clip's
number, so they are the same however clips are spread over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from starvsr.errors import UsageError
from starvsr.models.recurrent import Memory
from starvsr.restore.schedule import logsnr_cosine_interp
from starvsr.restore.upsample import upsample
from starvsr.train.adversary import Adversary
from starvsr.train.clips import Clip
from starvsr.train.config import PixelLossConfig, TrainConfig
from starvsr.train.features import Features
from starvsr.train.losses import PAPER, training_loss
from starvsr.train.pixel_losses import Terms, motion_loss, pixel_losses, pixel_target
from starvsr.types import ModelSpec
from starvsr.zoo.load import LoadedModel

Network = Callable[..., Tensor]
"""`(x, t, context, hint) -> v`, as `StarUNet`."""

# Draws of a clip, each its own stream; the data uses none of these.
_TIME, _NOISE, _POSTERIOR_TRUTH, _POSTERIOR_HINT, _WORSE, _PERTURBATION = range(1, 7)


@dataclass
class Objective:
    """The training loss of a model, for a clip at a time or many."""

    model: LoadedModel
    config: TrainConfig
    contexts: Callable[[Sequence[str | None]], Tensor]
    """Texts to `b n c` on the model's device."""
    adversary: Adversary | None = None
    features: Features | None = None
    pixel_loss: PixelLossConfig = field(init=False)

    def __post_init__(self) -> None:
        self.schedule = logsnr_cosine_interp()
        self.loss = self.config.loss or PAPER
        self.pixel_loss = self.config.pixel_loss or PixelLossConfig()
        check_losses(self.model.spec, self.config)

    def __call__(self, network: Network, clip: Clip, step: int = 0) -> Terms:
        """The loss of batched clips (`b t 3 h w`) in a step, from 0."""
        device = self.model.device
        target, real = self._targets(self._samples(clip.truth), clip)
        start = self._upsampled(clip.degraded, (target.shape[-2], target.shape[-1])).to(device)
        texts = clip.texts
        if self.config.data.worse:
            target, texts = self._some_worse(target, start, clip)
        context = self.contexts(texts)
        with torch.no_grad():
            hint = self._encode(start, clip.numbers, _POSTERIOR_HINT)
        if self.model.spec.start == "clean":
            return self._one_step(network, hint, (target, real), context, step)
        return self._velocity(network, hint, target, context, clip.numbers)

    def _some_worse(
        self, truth: Tensor, start: Tensor, clip: Clip
    ) -> tuple[Tensor, tuple[str | None, ...]]:
        """Truths, of which some are the input, and the texts that fit them."""
        text = self.model.spec.text
        assert text is not None, "check_losses ensures it"
        share = self.config.data.worse
        drawn = [self._rng(number, _WORSE).random() < share for number in clip.numbers]
        picked = torch.tensor(drawn, device=truth.device)[:, None, None, None, None]
        texts = tuple(
            text.negative_prompt if worse else own
            for worse, own in zip(drawn, clip.texts, strict=True)
        )
        return torch.where(picked, start, truth), texts

    def _velocity(
        self, network: Network, hint: Tensor, truth: Tensor, context: Tensor, numbers: Sequence[int]
    ) -> Terms:
        with torch.no_grad():
            x0 = self._encode(truth, numbers, _POSTERIOR_TRUTH)
        times = [int(self._rng(n, _TIME).integers(self.schedule.levels)) for n in numbers]
        t = torch.tensor(times, device=x0.device)
        eps = self._noise(x0, numbers, _NOISE)
        if self.loss.input_perturbation:
            drawn = [self._rng(n, _PERTURBATION).random() for n in numbers]
            stronger = 1 + self.loss.input_perturbation * torch.tensor(drawn).to(eps)
            eps = eps * stronger[:, None, None, None, None]
        x_t = self.schedule.add_noise(x0, eps, t)
        v_hat = self._predict(network, x_t, t, context, hint).float()
        terms = training_loss(
            v_hat,
            self.schedule.velocity(x0, eps, t),
            t,
            x_t=x_t,
            truth=truth,
            decode=self._decode,
            schedule=self.schedule,
            config=self.loss,
        )
        means = {"velocity": terms.velocity, "low": terms.low, "high": terms.high}
        return {
            "loss": terms.total.mean(),
            **{name: values.detach().mean() for name, values in means.items()},
        }

    def _one_step(
        self,
        network: Network,
        z: Tensor,
        shown: tuple[Tensor, Tensor],
        context: Tensor,
        step: int,
    ) -> Terms:
        """z: the latent of the upsampled input. shown: as `_targets` gives it."""
        time = self.model.spec.noise_level - 1
        t = torch.full((len(z),), time, device=z.device)
        memory = Memory()
        if self.model.spec.network.recurrent:
            network = partial(network, memory=memory)
        v = self._predict(network, z, t, context, z).float()
        picture = self.model.autoencoder.decode(self.schedule.x0_from_v(z, v, time))
        target, real = shown
        block = self.model.autoencoder.factor
        terms = pixel_losses(picture, target, self.pixel_loss, block)
        if self.pixel_loss.motion and memory.flows:
            motion = motion_loss(z, torch.stack(memory.flows, dim=2))
            terms["loss"] = terms["loss"] + self.pixel_loss.motion * motion
            terms["motion"] = motion.detach()
        if self.features is not None and self.config.features is not None:
            unlike = self.features.loss(picture, target, step)
            terms["loss"] = terms["loss"] + self.config.features.weight * unlike
            terms["features"] = unlike.detach()
        if self.adversary is not None:
            against = self.adversary.losses(picture, real, step)
            terms = {**terms, **against, "loss": terms["loss"] + against["loss"]}
        return terms

    def _targets(self, truth: Tensor, clip: Clip) -> tuple[Tensor, Tensor]:
        """What the network learns to give, and what the adversary calls real."""
        target = pixel_target(truth, self.pixel_loss)
        teacher = self.config.teacher
        if teacher is None or clip.taught is None:
            return target, target
        taught = self._samples(clip.taught)
        has = torch.tensor(clip.is_taught, device=truth.device)[:, None, None, None, None]
        real = torch.where(has, taught, target) if teacher.real else target
        return torch.lerp(target, taught, teacher.target * has.float()), real

    def _samples(self, frames: Tensor) -> Tensor:
        """`b t 3 h w` in [0, 1] to `b 3 t h w` in [-1, 1] on the model's device."""
        return rearrange(frames * 2 - 1, "b t c h w -> b c t h w").to(self.model.device)

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
        """Encodes frame by frame, as in restoration, to save memory."""
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

    def _decode(self, latent: Tensor) -> Tensor:
        """Decodes as many frames at once as restoration, with gradient checkpointing per group.

        A decoder's activations take gigabytes per frame at full size.
        """
        decode = self.model.autoencoder.decode
        if self.config.gradient_checkpointing:
            decode = partial(checkpoint, decode, use_reentrant=False, preserve_rng_state=False)
        at_once = self.model.spec.autoencoder.chunk_frames or latent.shape[2]
        groups = torch.split(latent, at_once, dim=2)
        return torch.cat([decode(group) for group in groups], dim=2)

    def _noise(self, like: Tensor, numbers: Sequence[int], stream: int) -> Tensor:
        drawn = [
            self._rng(number, stream).standard_normal(like.shape[1:], dtype=np.float32)
            for number in numbers
        ]
        return torch.from_numpy(np.stack(drawn)).to(like)

    def _rng(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, number, stream])


def check_losses(spec: ModelSpec, config: TrainConfig) -> None:
    """Raise UsageError for a loss that has no effect on a model, or that has no value at all of its times."""
    latest = logsnr_cosine_interp().levels - 1
    if config.loss is not None and config.loss.t_max < latest:
        raise UsageError(
            f"[loss] t_max = {config.loss.t_max} is not allowed: times go up to {latest}, give that or more"
        )
    if spec.start == "clean" and config.loss is not None:
        raise UsageError(
            f"[loss] has no effect: the model {spec.name} restores in one step from the clean latent; give [pixel_loss]"
        )
    if spec.start != "clean" and config.pixel_loss is not None:
        raise UsageError(
            f"[pixel_loss] has no effect: the model {spec.name} starts from noise; give [loss]"
        )
    for table in ("adversary", "features"):
        if spec.start != "clean" and getattr(config, table) is not None:
            raise UsageError(
                f"[{table}] has no effect: the model {spec.name} starts from noise; leave it out"
            )
    if config.data.frames == 1 and config.pixel_loss is not None:
        for key in ("temporal", "motion"):
            if value := getattr(config.pixel_loss, key):
                raise UsageError(
                    f"[pixel_loss] {key} = {value} has no effect on single frames: give [data] frames of 2 or more"
                )
    if config.parts == "temporal" and spec.network.recurrent and config.data.frames == 1:
        raise UsageError(
            f"parts = 'temporal' trains nothing of the model {spec.name} on single frames: give [data] frames of 2 or "
            "more"
        )
    if config.data.worse and (spec.start == "clean" or spec.text is None):
        raise UsageError(
            f"[data] worse = {config.data.worse} has no effect: the model {spec.name} has no negative prompt"
        )
