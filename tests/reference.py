"""The method as a plain loop over whole clips: no windows, no tiles, no streaming. What the product must equal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from starvsr.colorfix import adain
from starvsr.noise import FrameNoise
from starvsr.options import SamplingOptions
from starvsr.schedule import logsnr_cosine_interp
from starvsr.windows import legal_latent
from starvsr.zoo.load import LoadedModel

Coding = Callable[[Tensor], Tensor]


def unshuffled(factor: int) -> tuple[Coding, Coding]:
    """Encoder and decoder of a lossless autoencoder, `t c h w` to `t c h w`."""

    def encode(pictures: Tensor) -> Tensor:
        return functional.pixel_unshuffle(pictures, factor)

    def decode(z: Tensor) -> Tensor:
        return functional.pixel_shuffle(z, factor)

    return encode, decode


def plain_loop(
    model: LoadedModel,
    frames: Tensor,
    size: tuple[int, int],
    sampling: SamplingOptions,
    coding: tuple[Coding, Coding],
    *,
    white: tuple[int, int, int, int] | None = None,
    chunks: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """star-method on whole frames: encode, DPM++ 2M SDE, decode, AdaIN. frames `t c h w` in [-1, 1].

    white: pad with these many white pixels left, right, above and below, in place of the border's repeated below and to
    the right. chunks: windows in time, cut in the middle of their overlap; one by default.
    """
    schedule, spec = logsnr_cosine_interp(), model.spec
    factor = spec.autoencoder.factor
    upsampled = functional.interpolate(frames, size=size, mode="bilinear", align_corners=False)
    if white:
        padded = functional.pad(upsampled, white, value=1.0)
    else:
        latent = legal_latent(
            -(-size[0] // factor), -(-size[1] // factor), spec.size_rule, spec.min_size
        )
        pad = (0, factor * latent[1] - size[1], 0, factor * latent[0] - size[0])
        padded = functional.pad(upsampled, pad, mode="replicate")
    z_lr = coding[0](padded).transpose(0, 1)[None]
    sigmas = schedule.sigmas_for(
        sampling.steps or 15,
        noise_level=sampling.noise_level or 900,
        solver_mode=sampling.solver_mode or "fast",
    ).tolist()
    noise = FrameNoise(666 if sampling.seed is None else sampling.seed, 0, z_lr.shape, "cpu")
    cfg = 7.5 if sampling.cfg is None else sampling.cfg
    alpha, sigma_t = (
        a[(sampling.noise_level or 900) - 1] for a in (schedule.alphas, schedule.sigmas)
    )
    x = (alpha * z_lr + sigma_t * noise(0)) * sigmas[0]
    spans = chunks or [(0, len(frames))]
    before, h_before = None, 0.0
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        t = torch.tensor([schedule.network_time(sigma)])
        x_t = x / (1 + sigma**2) ** 0.5
        v = torch.empty_like(x_t)
        start = 0
        for number, (first, last) in enumerate(spans):
            part = slice(first, last)
            behind = spans[number + 1] if number + 1 < len(spans) else (last, last)
            stop = behind[0] + (last - behind[0]) // 2
            chunk = _guided(model, x_t[:, :, part], t, z_lr[:, :, part], cfg)
            v[:, :, start:stop] = chunk[:, :, start - first : stop - first]
            start = stop
        x0 = schedule.alphas[t] * x_t - schedule.sigmas[t] * v
        if sigma_next == 0:
            x = x0
            break
        ratio = sigma_next / sigma
        h = -np.log(ratio)
        d = x0 if before is None else x0 + h / (2 * h_before) * (x0 - before)
        x = ratio**2 * x + (1 - ratio**2) * d + sigma_next * (1 - ratio**2) ** 0.5 * noise(step + 1)
        before, h_before = x0, h
    left, _, top, _ = white or (0, 0, 0, 0)
    pictures = coding[1](x[0].transpose(0, 1))
    return adain(pictures[..., top : top + size[0], left : left + size[1]], frames).clamp(-1, 1)


def _guided(model: LoadedModel, x_t: Tensor, t: Tensor, z_lr: Tensor, cfg: float) -> Tensor:
    v_pos: Tensor = model.network(x_t, t, model.context, z_lr)
    if cfg == 1:
        return v_pos
    v_neg = model.network(x_t, t, model.negative_context, z_lr)
    v = v_neg + cfg * (v_pos - v_neg)
    v_guided: Tensor = v * (0.2 * v_pos.std() / v.std() + 0.8)
    return v_guided
