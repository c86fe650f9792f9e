"""The layers of the video UNet: convolutions, norms, the time embedding, residual blocks.

Inside the network a video is `b f h w c`, contiguous, which is torch's channels-last order. So a spatial convolution
sees `(b f) c h w`, a temporal one `b c f (h w)`, spatial attention tokens `(b f) (h w) c` and temporal attention
`b f (h w) c`, all of them views of the same memory.

Without autograd, sums and activations are in place on tensors that are used nowhere else; a module never changes its
inputs unless its docstring says that it takes them over.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.models.convolution import conv2d
from starvsr.models.linear import Linear

_Sides = tuple[int, int]

GROUPS = 32
"""Groups of every group norm, unless a network has fewer; widths are multiples of it."""


def silu_(x: Tensor) -> Tensor:
    """SiLU, in place where autograd does not need `x`."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def add_(x: Tensor, y: Tensor) -> Tensor:
    """`x + y`, in place of x where autograd is off."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def zeroed(layer: nn.Conv2d | nn.Linear) -> None:
    """Initialise a branch's exit with zeros, so that the branch is the identity at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _pictures(x: Tensor, n: int, rows: int, columns: int) -> Tensor:
    """The video `b f h w c` as n pictures `n c rows columns` in channels-last order.

    Flattened first, which sets the strides of dimensions of size 1: torch reads these too when it checks whether a
    tensor is channels-last, and would copy it.
    """
    return x.reshape(-1).view(n, rows, columns, x.shape[-1]).permute(0, 3, 1, 2)


def _video(pictures: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_pictures`: `b f h w c`, sizes as in `like` except for the channels."""
    return pictures.permute(0, 2, 3, 1).reshape(*like.shape[:-1], pictures.shape[1])


class GroupNorm(nn.GroupNorm):
    """Group norm of a video, with statistics of each frame or shared by all frames of a video."""

    def __init__(self, width: int, *, per_frame: bool, eps: float = 1e-5) -> None:
        super().__init__(GROUPS, width, eps)
        self.per_frame = per_frame

    def forward(self, x: Tensor) -> Tensor:
        """x is `b f h w c`; so is the result."""
        b, f, h, w, _ = x.shape
        # Frames stacked vertically are one tall picture.
        pictures = _pictures(x, b * f, h, w) if self.per_frame else _pictures(x, b, f * h, w)
        return _video(F.group_norm(pictures, self.num_groups, self.weight, self.bias, self.eps), x)


class SpatialConv(nn.Conv2d):
    """3x3 convolution of every frame."""

    def __init__(
        self, width_in: int, width_out: int, *, stride: int = 1, padding: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__(width_in, width_out, 3, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f h w c`."""
        b, f, h, w, _ = x.shape
        frames = _pictures(x, b * f, h, w)
        out = conv2d(frames, self.weight, self.bias, self.stride, cast(_Sides, self.padding))
        return rearrange(out, "(b f) c h w -> b f h w c", b=b)


class FrameConv(nn.Conv2d):
    """Convolution over three frames at every pixel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f h w c`."""
        # Frames are the rows and pixels the columns.
        b, f, h, w, _ = x.shape
        pictures = _pictures(x, b, f, h * w)
        out = conv2d(pictures, self.weight, self.bias, padding=cast(_Sides, self.padding))
        return _video(out, x)


class Downsample(nn.Module):
    """Halves a video: rows `h -> (h + 2) / 2` (padded by two rows above and below), columns `w -> w / 2`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = SpatialConv(width, width, stride=2, padding=(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f (h + 2) / 2 w / 2 c`."""
        if x.dtype.itemsize == 2 and x.device.type == "cpu":
            # On CPUs with matrix units (AMX), torch 2.13 returns garbage for this convolution.
            b, f, h, w, _ = x.shape
            frames = _pictures(x.float(), b * f, h, w)
            weight, bias = self.conv.weight.float(), cast(Tensor, self.conv.bias).float()
            halved = F.conv2d(frames, weight, bias, stride=2, padding=self.conv.padding)
            return rearrange(halved.to(x.dtype), "(b f) c h w -> b f h w c", b=b)
        return self.conv(x)


class Upsample(nn.Module):
    """Doubles a video by nearest neighbour, drops the first and the last row, and convolves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = SpatialConv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f 2h-2 2w c`."""
        frames = rearrange(x, "b f h w c -> (b f) c h w")
        doubled = rearrange(F.interpolate(frames, scale_factor=2.0), "n c h w -> n h w c")
        out: Tensor = self.conv(
            rearrange(doubled[:, 1:-1], "(b f) h w c -> b f h w c", b=x.shape[0])
        )
        return out


class TimeEmbedding(nn.Module):
    """Diffusion time as a vector: cosines and sines of `t 10000^(-i / half)`, through two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.first = Linear(width, 4 * width)
        self.second = Linear(4 * width, 4 * width)

    def forward(self, t: Tensor) -> Tensor:
        """t is `b`, 0..999; gives `b 4*width`. The angles are float32 whatever the weights are."""
        half = self.width // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.pow(10000.0, -steps / half)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.first.weight.dtype)
        return self.second(silu_(self.first(waves)))


class Branch(nn.Module):
    """A residual branch, `x + exit(...)`, that can be skipped while its exit is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out = False
        """Skipped without autograd; set by `VideoNetwork.skip_identity_branches`."""

    def exit_layer(self) -> nn.Conv2d | nn.Linear:
        """The last layer, whose result is added to the branch's input."""
        raise NotImplementedError

    @property
    def skipped(self) -> bool:
        """Whether this call need not be computed; with autograd a zero exit still has a gradient."""
        return self.left_out and not torch.is_grad_enabled()

    def is_identity(self) -> bool:
        """Whether the branch adds exactly zero."""
        layer = self.exit_layer()
        return not layer.weight.any() and (layer.bias is None or not layer.bias.any())


class FrameConvStage(nn.Module):
    """Group norm over all frames, SiLU, convolution over three frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = GroupNorm(width, per_frame=False)
        self.conv = FrameConv(width)

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f h w c`."""
        return self.conv(silu_(self.norm(x)))


class FrameConvBranch(Branch):
    """The temporal residual of four stages at the end of every residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(FrameConvStage(width) for _ in range(4))
        zeroed(self.exit_layer())

    def exit_layer(self) -> nn.Conv2d:
        """The last stage's convolution."""
        return cast(FrameConvStage, self.stages[-1]).conv

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f h w c`."""
        if self.skipped:
            return x
        h = x
        for stage in self.stages:
            h = stage(h)
        return add_(h, x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the diffusion time added between them, a skip, and the temporal residual."""

    def __init__(self, width_in: int, width_out: int, time_width: int) -> None:
        super().__init__()
        self.norm_in = GroupNorm(width_in, per_frame=True)
        self.conv_in = SpatialConv(width_in, width_out)
        self.time = Linear(time_width, width_out)
        self.norm_out = GroupNorm(width_out, per_frame=True)
        self.conv_out = SpatialConv(width_out, width_out)
        self.skip = Linear(width_in, width_out) if width_in != width_out else None
        self.temporal_conv = FrameConvBranch(width_out)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x is `b f h w c`, time `b e`, after its SiLU; gives `b f h w c`."""
        h = self.conv_in(silu_(self.norm_in(x)))
        h = add_(h, rearrange(self.time(time), "b c -> b 1 1 1 c"))
        h = self.conv_out(silu_(self.norm_out(h)))
        h = add_(h, x if self.skip is None else self.skip(x))
        return self.temporal_conv(h)
