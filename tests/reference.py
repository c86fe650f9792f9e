"""The method as a plain loop over whole clips: no windows, no tiles, no streaming. What the product must equal.

Each step names the function of NJU-PCALab/STAR 69b8bc5 that it was read from, so that this loop and what it checks do
not share a fault. What the original itself gives is in `golden/pipeline.safetensors` (`test_pipeline_golden.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from starvsr.options import SamplingOptions
from starvsr.plan.windows import legal_latent
from starvsr.restore.colorfix import adain
from starvsr.restore.noise import FrameNoise
from starvsr.restore.schedule import logsnr_cosine_interp
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
    # VideoToVideo_sr.test: bilinear, without antialiasing.
    upsampled = functional.interpolate(frames, size=size, mode="bilinear", align_corners=False)
    if white:
        # pad_to_fit, and the padding with 1 in VideoToVideo_sr.test.
        padded = functional.pad(upsampled, white, value=1.0)
    else:
        # No step of the original's: the border repeated has no edge.
        latent = legal_latent(
            -(-size[0] // factor), -(-size[1] // factor), spec.size_rule, spec.min_size
        )
        pad = (0, factor * latent[1] - size[1], 0, factor * latent[0] - size[0])
        padded = functional.pad(upsampled, pad, mode="replicate")
    # VideoToVideo_sr.vae_encode: frame by frame, the posterior sampled.
    z_lr = coding[0](padded).transpose(0, 1)[None]
    # GaussianDiffusion.sample_sr: the levels of "fast" or "normal", the last one discarded.
    sigmas = schedule.sigmas_for(
        sampling.steps or 15,
        noise_level=sampling.noise_level or 900,
        solver_mode=sampling.solver_mode or "fast",
    ).tolist()
    noise = FrameNoise(666 if sampling.seed is None else sampling.seed, 0, z_lr.shape)
    cfg = 7.5 if sampling.cfg is None else sampling.cfg
    alpha, sigma_t = (
        a[(sampling.noise_level or 900) - 1] for a in (schedule.alphas, schedule.sigmas)
    )
    # GaussianDiffusion.diffuse to t = 899; sample_dpmpp_2m_sde begins with that times the first sigma.
    x = (alpha * z_lr + sigma_t * noise(0)) * sigmas[0]
    spans = chunks or [(0, len(frames))]
    before, h_before = None, 0.0
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        t = torch.tensor([schedule.network_time(sigma)])
        # sample_sr's model_fn: the input scaled by the exact sigma, the time rounded.
        x_t = x / (1 + sigma**2) ** 0.5
        v = torch.empty_like(x_t)
        start = 0
        # sample_sr's model_chunk_fn: guided chunk by chunk, cut in the middle of the overlap.
        for number, (first, last) in enumerate(spans):
            part = slice(first, last)
            behind = spans[number + 1] if number + 1 < len(spans) else (last, last)
            stop = behind[0] + (last - behind[0]) // 2
            chunk = _guided(model, x_t[:, :, part], t, z_lr[:, :, part], cfg)
            v[:, :, start:stop] = chunk[:, :, start - first : stop - first]
            start = stop
        # GaussianDiffusion.get_x0, by the rounded time.
        x0 = schedule.alphas[t] * x_t - schedule.sigmas[t] * v
        if sigma_next == 0:
            x = x0
            break
        # sample_dpmpp_2m_sde: eta 1, midpoint; its last step gives x0.
        ratio = sigma_next / sigma
        h = -np.log(ratio)
        d = x0 if before is None else x0 + h / (2 * h_before) * (x0 - before)
        x = ratio**2 * x + (1 - ratio**2) * d + sigma_next * (1 - ratio**2) ** 0.5 * noise(step + 1)
        before, h_before = x0, h
    left, _, top, _ = white or (0, 0, 0, 0)
    # VideoToVideo_sr.vae_decode_chunk, and the crop in test.
    pictures = coding[1](x[0].transpose(0, 1))[..., top : top + size[0], left : left + size[1]]
    # STAR.enhance_a_video: tensor2vid clamps, then adain_color_fix, which clamps again.
    return adain(pictures.clamp(-1, 1), frames).clamp(-1, 1)


def _guided(model: LoadedModel, x_t: Tensor, t: Tensor, z_lr: Tensor, cfg: float) -> Tensor:
    """GaussianDiffusion.denoise: guidance, and its rescale by 0.2 over all axes but the batch's."""
    v_pos: Tensor = model.network(x_t, t, model.context, z_lr)
    if cfg == 1:
        return v_pos
    v_neg = model.network(x_t, t, model.negative_context, z_lr)
    v = v_neg + cfg * (v_pos - v_neg)
    v_guided: Tensor = v * (0.2 * v_pos.std() / v.std() + 0.8)
    return v_guided
