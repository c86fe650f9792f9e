"""The stages that the UNet and its control branch are made of: encoder, middle and decoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from starvsr.models.layers import Downsample, ResidualBlock, SpatialConv, Upsample, add_
from starvsr.models.shared import Shared
from starvsr.models.transformers import SpatialTransformer, TemporalTransformer
from starvsr.types import UNetConfig


def level_widths(config: UNetConfig) -> list[int]:
    """Channels of each level."""
    return [config.width * multiplier for multiplier in config.multipliers]


def _has_attention(config: UNetConfig, level: int) -> bool:
    return 0.5**level in config.attention_scales


class Block(nn.Module):
    """A residual block and, where the level has attention, a spatial and a temporal transformer."""

    def __init__(
        self, config: UNetConfig, width_in: int, width_out: int, *, attention: bool
    ) -> None:
        super().__init__()
        head, text = config.head_width, config.context_width
        self.residual = ResidualBlock(width_in, width_out, 4 * config.width)
        self.spatial = self.temporal = None
        if attention:
            self.spatial = SpatialTransformer(width_out, head, text, config.liem)
            self.temporal = TemporalTransformer(width_out, head, config.liem)

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, shared: Shared | None = None
    ) -> Tensor:
        """x is `b f h w c`, time `b e` after its SiLU, context `b n k`; gives `b f h w c`."""
        shared = shared or Shared()
        x = shared.once(self.residual, lambda: self.residual(x, time))
        if self.spatial is not None and self.temporal is not None:
            x = shared.once(self.temporal, partial(self.temporal, self.spatial(x, context, shared)))
        return x


class EncoderLevel(nn.Module):
    """The blocks of one level, and the halving after all levels but the last."""

    def __init__(self, config: UNetConfig, level: int, width_in: int) -> None:
        super().__init__()
        width = level_widths(config)[level]
        attention = _has_attention(config, level)
        widths = [width_in] + [width] * config.residual_blocks
        self.blocks = nn.ModuleList(
            Block(config, before, after, attention=attention) for before, after in pairwise(widths)
        )
        self.down = Downsample(width) if level + 1 < config.levels else None

    def forward(self, x: Tensor, time: Tensor, context: Tensor, shared: Shared) -> list[Tensor]:
        """Outputs of the blocks and of the halving, in order, each `b f h w c`."""
        outputs = []
        for block in self.blocks:
            x = block(x, time, context, shared)
            outputs.append(x)
        if self.down is not None:
            outputs.append(shared.once(self.down, partial(self.down, x)))
        return outputs


class Encoder(nn.Module):
    """The first convolution with its temporal transformer, and the levels downwards."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        inner = config.first_heads * config.head_width
        self.stem = SpatialConv(config.latent_channels, config.width)
        self.stem_temporal = TemporalTransformer(
            config.width, config.head_width, config.liem, inner
        )
        widths_in = [config.width, *level_widths(config)[:-1]]
        self.levels = nn.ModuleList(
            EncoderLevel(config, level, width) for level, width in enumerate(widths_in)
        )

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        context: Tensor,
        hint: Callable[[], Tensor] | None = None,
        shared: Shared | None = None,
    ) -> list[Tensor]:
        """The tensors that the decoder concatenates, in order of creation, each `b f h w c`.

        x is the latent `b f h w c`; what `hint` gives, of the first level's width, is added after the first
        convolution. shared: of calls that differ in the context alone.
        """
        if shared is None:
            shared = Shared()
        else:
            shared.begin()

        def stem() -> Tensor:
            first: Tensor = self.stem(x)
            first = self.stem_temporal(first if hint is None else add_(first, hint()))
            return first

        outputs = [shared.once(self.stem, stem)]
        for level in self.levels:
            outputs += level(outputs[-1], time, context, shared)
        return outputs


def encoder_widths(config: UNetConfig) -> list[int]:
    """Channels of each of the encoder's outputs, in order."""
    widths = [config.width]
    for level, width in enumerate(level_widths(config)):
        widths += [width] * (config.residual_blocks + (level + 1 < config.levels))
    return widths


class Middle(nn.Module):
    """Residual block, both transformers, residual block, at the lowest level's size."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = level_widths(config)[-1]
        self.entry = Block(config, width, width, attention=True)
        self.exit = ResidualBlock(width, width, 4 * config.width)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """`b f h w c -> b f h w c`."""
        return self.exit(self.entry(x, time, context), time)


class DecoderLevel(nn.Module):
    """The blocks of one level, each on a concatenated skip, and the doubling after all levels but the first."""

    def __init__(self, config: UNetConfig, level: int, width_in: int, skips: list[int]) -> None:
        super().__init__()
        width = level_widths(config)[level]
        attention = _has_attention(config, level)
        befores = [width_in] + [width] * config.residual_blocks
        self.blocks = nn.ModuleList(
            Block(config, before + skip, width, attention=attention)
            for before, skip in zip(befores, skips, strict=True)
        )
        self.up = Upsample(width) if level > 0 else None

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor, context: Tensor) -> Tensor:
        """x is `b f h w c`; takes its skips from the end of `skips`."""
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], dim=-1), time, context)
        return x if self.up is None else self.up(x)


class Decoder(nn.Module):
    """The levels upwards, from the lowest; each has one block more than the encoder's."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths, skips = level_widths(config), encoder_widths(config)
        self.levels = nn.ModuleList()
        width = widths[-1]
        for level in reversed(range(config.levels)):
            taken = [skips.pop() for _ in range(config.residual_blocks + 1)]
            self.levels.append(DecoderLevel(config, level, width, taken))
            width = widths[level]

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor, context: Tensor) -> Tensor:
        """x is `b f h w c`; `skips` are the encoder's outputs, and are used up so that each is freed early."""
        for level in self.levels:
            x = level(x, skips, time, context)
        return x
