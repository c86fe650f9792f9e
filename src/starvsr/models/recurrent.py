"""A small recurrent network for CPUs: a frame is restored with the state of the frames before it.

It keeps STAR's local gates (LIEM) and leaves out what costs most on a CPU: attention, and norms, so that nothing
depends on the statistics of a window and a gate acts on what follows it (see `liem`). The state is warped by an
estimated motion, and a gate closes where the warped state does not match the frame, so that untracked motion does not
smear. One call restores frames in order; a `Memory` carries the state between calls, so a video cut into runs gives the
same frames as a whole one.

Inside, a frame is `b c h w` in channels-last order.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.models.compiled import Compiler
from starvsr.models.layers import add_, zeroed
from starvsr.models.liem import SpatialGate
from starvsr.models.linear import Linear
from starvsr.models.network import VideoNetwork, check_latent
from starvsr.models.warping import reader
from starvsr.types import RecurrentConfig

_KEPT = -0.1658
"""Fraction of the latent in the velocity with which diffusion time 100 gives the latent back: `(alpha - 1) / sigma`."""


_COLOURS = 3


class State(NamedTuple):
    """The state that a frame leaves for the next."""

    features: Tensor
    """Of the frame alone, `b stem_width h w`."""
    remembered: Tensor
    """Of the frame and all before it, `b width h w`."""


@dataclass
class Memory:
    """What is carried from call to call over the consecutive frames of one shot."""

    state: State | None = None
    """None before the first frame."""
    flows: list[Tensor] = field(default_factory=list)
    """Every frame's motion since the one before it, as `Motion` gives it, while autograd is on; for the first frame
    of a shot there is none."""


class Convolution(nn.Conv2d):
    """3x3, zero-padded."""

    def __init__(self, width_in: int, width_out: int, *, stride: int = 1) -> None:
        super().__init__(width_in, width_out, kernel_size=3, stride=stride, padding=1)


class GatedBlock(nn.Module):
    """Residual block of two convolutions, after a LIEM gate (eqs. 3-4) unless it has none."""

    def __init__(self, width: int, *, gated: bool) -> None:
        super().__init__()
        self.gate = SpatialGate() if gated else None
        self.conv_in = Convolution(width, width)
        self.conv_out = Convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`b c h w -> b c h w`."""
        h = x
        if self.gate is not None:
            pixels = x.permute(0, 2, 3, 1)
            h = (self.gate(pixels) * pixels).permute(0, 3, 1, 2)
        return add_(self.conv_out(_activated(self.conv_in(h))), x)


class Motion(nn.Module):
    """Position of each element in the previous frame, estimated at 1/2 and 1/4 of the latent's size."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.entry = Convolution(2 * features, width)
        self.down = Convolution(width, 2 * width, stride=2)
        self.deep = nn.ModuleList(Convolution(2 * width, 2 * width) for _ in range(2))
        self.merge = Convolution(3 * width, width)
        self.exit = Convolution(width, 2)
        zeroed(self.exit)

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        """Features of both frames, `b c h w`; gives displacements `b 2 h w` float32, columns then rows, in elements."""
        halves = (F.avg_pool2d(frame, 2) for frame in (now, before))
        half = _activated(self.entry(_joined(*halves)))
        deep = _activated(self.down(half))
        for conv in self.deep:
            deep = _activated(conv(deep))
        doubled = F.interpolate(deep, size=half.shape[-2:], mode="nearest")
        flow = self.exit(_activated(self.merge(_joined(half, doubled))))
        return F.interpolate(flow.float(), scale_factor=2, mode="bilinear", align_corners=False)


class FullSize(nn.Module):
    """What is added to a latent by convolutions over pixels, to which the layers before it give blocks of pixels.

    For latents that are pictures with every block of pixels in one place (`pixel_unshuffle`).
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.side, width = _side(config), config.full_width
        self.spread = Linear(config.width, width * self.side**2)
        self.entry = Convolution(2 * _COLOURS, width)
        self.between = Convolution(width, width)
        self.exit = Convolution(width, _COLOURS)
        zeroed(self.exit)

    def forward(self, x: Tensor, *latents: Tensor) -> Tensor:
        """Features `b width h w` and two latents `b c h w` to `b c h w`."""
        pixels = self.exit(_activated(self.between(self._pixels(x, latents))))
        return F.pixel_unshuffle(pixels, self.side)

    def _pixels(self, x: Tensor, latents: tuple[Tensor, ...]) -> Tensor:
        """`b full_width h w`, of which this is all that is kept."""
        spread = _enlarged(self.spread(x.permute(0, 2, 3, 1)), self.side)
        pictures = [F.pixel_shuffle(z, self.side) for z in latents]
        return _activated(add_(self.entry(_joined(*pictures)), spread))


class RecurrentNet(VideoNetwork):
    """The velocity of a clean degraded latent, frame after frame.

    Sizes come from `config` alone; `ValueError` where they do not fit together.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        _check_config(config)
        self.config = config
        features, width, deep = config.stem_width, config.width, config.deep_width
        self.stem = Convolution(config.latent_channels, features)
        self.motion = Motion(features, config.motion_width)
        self.entry = Convolution(features, width)
        self.recall = Linear(width, width, bias=False)
        self.trust = SpatialGate()
        self.before = _blocks(config.blocks_before, width, config.liem)
        self.down = Convolution(width, deep, stride=2)
        self.deep = _blocks(config.deep_blocks, deep, config.liem)
        self.up = Linear(deep, 4 * width)
        self.behind = _blocks(config.blocks_behind, width, config.liem)
        self.head = Convolution(width, config.latent_channels)
        zeroed(self.head)
        self.full_size = FullSize(config) if config.full_width else None
        self.kept = nn.Parameter(torch.tensor([_KEPT]))
        self.use_channels_last()

    def use_compiler(self, compiled: Compiler) -> None:
        """Compile the computation of frames, except a shot's first, which has no state."""
        self._next = compiled(self._next)  # type: ignore[method-assign]

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        hint: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Velocity `v` of consecutive frames of one shot.

        x and the result are `b c f h w`, h and w even, in the dtype and on the device of the weights. Diffusion time,
        context and hint are what every network takes; this one supports one time and no prompt. memory: of the previous
        frames; updated with these. Raises `ValueError` for another shape, or a hint.
        """
        if hint is not None:
            raise ValueError("this network has no control branch and takes no hint")
        check_latent(x, self.config.latent_channels, 2)
        memory = memory or Memory()
        velocities = []
        for z in x.unbind(2):
            frame = self._frame if memory.state is None else self._next
            v, memory.state = frame(
                z.contiguous(memory_format=torch.channels_last), memory.state, memory.flows
            )
            velocities.append(v)
        return torch.stack(velocities, dim=2)

    def _next(self, z: Tensor, before: State | None, flows: list[Tensor]) -> tuple[Tensor, State]:
        return self._frame(z, before, flows)

    def _frame(self, z: Tensor, before: State | None, flows: list[Tensor]) -> tuple[Tensor, State]:
        features = _activated(self.stem(z))
        x = self.entry(features)
        if before is not None:
            flow = self.motion(features, before.features)
            if torch.is_grad_enabled():
                flows.append(flow)
            x = add_(x, self._recalled(features, before, flow))
        x = _through(self.before, _activated(x))
        x = add_(x, self._halved(x))
        x = _through(self.behind, x)
        added = self.head(x)
        if self.full_size is not None:
            added = add_(added, self.full_size(x, added, z))
        return torch.addcmul(added, z, self.kept), State(features, x)

    def _recalled(self, features: Tensor, before: State, flow: Tensor) -> Tensor:
        """The previous frames' state at each position (`b c h w`), as far as its features agree with this frame's."""
        read = reader(flow)
        # `b h w 1` in (0, 1).
        trust = self.trust((features - read(before.features)).abs().permute(0, 2, 3, 1))
        recalled: Tensor = self.recall(read(before.remembered).permute(0, 2, 3, 1)) * trust
        return recalled.permute(0, 3, 1, 2)

    def _halved(self, x: Tensor) -> Tensor:
        """What is made of `x` (`b c h w`) at half its size, at its size."""
        deep = _through(self.deep, _activated(self.down(x)))
        return _enlarged(self.up(deep.permute(0, 2, 3, 1)), 2)


def _blocks(count: int, width: int, gated: bool) -> nn.ModuleList:
    return nn.ModuleList(GatedBlock(width, gated=gated) for _ in range(count))


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def _activated(x: Tensor) -> Tensor:
    """Leaky ReLU, in place where autograd does not need `x`."""
    return F.leaky_relu(x, 0.1, inplace=not torch.is_grad_enabled())


def _joined(x: Tensor, y: Tensor) -> Tensor:
    """Channels of both, `b c h w`. Joined as pixels, since torch would leave channels-last order."""
    pixels = torch.cat([x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)], dim=-1)
    return pixels.permute(0, 3, 1, 2)


def _enlarged(pixels: Tensor, side: int) -> Tensor:
    """`b h w (side side c)` to `b c (side h) (side w)`."""
    tall = rearrange(pixels, "b h w (p q c) -> b (h p) (w q) c", p=side, q=side)
    return tall.permute(0, 3, 1, 2)


def _side(config: RecurrentConfig) -> int:
    """Rows and columns of pixels in an element of the latent."""
    return math.isqrt(config.latent_channels // _COLOURS)


def is_deeper(config: RecurrentConfig, base: RecurrentConfig) -> bool:
    """Whether a network has the base's sizes, at least as many blocks everywhere, and perhaps layers at full size."""
    depths = ("blocks_before", "deep_blocks", "blocks_behind")
    fewer = {name: min(getattr(config, name), getattr(base, name)) for name in depths}
    if not base.full_width:
        fewer["full_width"] = 0
    return dataclasses.replace(config, **fewer) == base


def deepened(fresh: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a deeper network that computes what the base does: what it has more changes nothing.

    fresh: new weights of the deeper network; base: of one that it is deeper than.
    """
    state = {**fresh, **base}
    for name in fresh.keys() - base.keys():
        if ".conv_out." in name or ".exit." in name:
            state[name] = torch.zeros_like(fresh[name])
    return state


def _check_config(config: RecurrentConfig) -> None:
    widths = (config.latent_channels, config.stem_width, config.width, config.deep_width)
    if min(*widths, config.motion_width) < 1:
        raise ValueError(f"a network needs at least one channel everywhere, and this is {config}")
    depths = (config.blocks_before, config.deep_blocks, config.blocks_behind)
    if min(*depths, config.full_width) < 0:
        raise ValueError(f"a number of blocks or channels cannot be negative, and this is {config}")
    if config.full_width and _COLOURS * _side(config) ** 2 != config.latent_channels:
        raise ValueError(
            f"layers at full size need a latent of whole pictures, 3 times a square of channels, and this is {config}"
        )
