"""STAR's video UNet: degraded or noisy latent in, velocity out."""

from __future__ import annotations

import math

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.models.control import ControlBranch
from starvsr.models.layers import GROUPS, GroupNorm, SpatialConv, TimeEmbedding, add_, silu_, zeroed
from starvsr.models.network import VideoNetwork, check_latent, shape_of
from starvsr.models.shared import Shared
from starvsr.models.stages import Decoder, Encoder, Middle
from starvsr.types import UNetConfig

__all__ = ["StarUNet", "UNetConfig"]


class Head(nn.Module):
    """Group norm, SiLU and the last convolution, back to latent channels."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.width * config.multipliers[0]
        self.norm = GroupNorm(width, per_frame=True)
        self.conv = SpatialConv(width, config.latent_channels)
        zeroed(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f h w latent_channels`."""
        return self.conv(silu_(self.norm(x)))


class StarUNet(VideoNetwork):
    """The network `v(x_t, t, text, hint)` of STAR (arXiv 2501.02976), with LIEM before every global attention.

    Sizes come from `config` alone; `ValueError` if they do not fit together.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        _check_config(config)
        self.config = config
        self.time_embedding = TimeEmbedding(config.width)
        self.encoder = Encoder(config)
        self.middle = Middle(config)
        self.decoder = Decoder(config)
        self.head = Head(config)
        self.control = ControlBranch(config) if config.control else None
        for module in self.modules():
            if isinstance(module, GroupNorm):
                module.num_groups = config.norm_groups
        self.use_channels_last()

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        hint: Tensor | None = None,
        shared: Shared | None = None,
    ) -> Tensor:
        """Velocity `v` of the latent `x` at diffusion time `t`.

        x, hint and the result are `b c f h w`, t is `b` (0..999, integer or float), context is `b n k`, all in
        the dtype and on the device of the weights. The hint belongs to networks with a control branch. With n
        halvings, h must be 2 modulo 2^n and w 0 modulo 2^n. shared: the same one for calls that differ in the context
        alone. Raises `ValueError` otherwise.
        """
        _check_inputs(self.config, x, t, context, hint)
        video = _channels_last(x)
        control = None
        if self.control is not None and hint is not None:
            control = self.control(video, t, context, _channels_last(hint), shared)
        time = F.silu(self.time_embedding(t))
        skips = self.encoder(video, time, context, shared=shared)
        h = self.middle(skips[-1], time, context)
        if control is not None:
            h = add_(h, control.pop())
            skips = [add_(steer, skip) for steer, skip in zip(control, skips, strict=True)]
            del control
        v: Tensor = self.head(self.decoder(h, skips, time, context))
        return rearrange(v, "b f h w c -> b c f h w").contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return rearrange(x, "b c f h w -> b f h w c").contiguous()


def _check_config(config: UNetConfig) -> None:
    if not config.multipliers or config.residual_blocks < 1:
        raise ValueError("a UNet needs at least one level and one residual block a level")
    if config.width < 1 or config.width % GROUPS:
        raise ValueError(f"UNet width {config.width} must be a multiple of {GROUPS}")
    if config.norm_groups < 1 or GROUPS % config.norm_groups:
        raise ValueError(f"norm_groups {config.norm_groups} must be a divisor of {GROUPS}")
    if config.liem not in ("published", "acting", "none"):
        raise ValueError(f"liem {config.liem!r} must be published, acting or none")
    for scale in config.attention_scales:
        if scale <= 0 or math.frexp(scale)[0] != 0.5 or scale > 1:
            raise ValueError(f"attention scale {scale} must be 1, 1/2, 1/4, ...")


def _check_inputs(
    config: UNetConfig, x: Tensor, t: Tensor, context: Tensor, hint: Tensor | None
) -> None:
    multiple, b = 2 ** (config.levels - 1), len(x)
    check_latent(x, config.latent_channels, multiple, 2 % multiple)
    if t.shape != (b,):
        raise ValueError(f"t must contain one time per batch item, ({b},), and is {shape_of(t)}")
    if context.ndim != 3 or context.shape[0] != b or context.shape[1] < 1:
        raise ValueError(
            f"context must be {b} n {config.context_width} with n >= 1, and is {shape_of(context)}"
        )
    if context.shape[2] != config.context_width:
        raise ValueError(
            f"context must be {b} n {config.context_width}, and is {shape_of(context)}"
        )
    if config.control and hint is None:
        raise ValueError("this network has a control branch and needs a hint of the shape of x")
    if not config.control and hint is not None:
        raise ValueError("this network has no control branch and takes no hint")
    if hint is not None and hint.shape != x.shape:
        raise ValueError(f"hint must have the shape of x, {shape_of(x)}, and is {shape_of(hint)}")
