"""An adversary for models that restore in one step: a network that learns to tell their pictures from real ones.

It sees several consecutive frames at once, so flicker is among what it learns to spot. Real and restored frames show
the same scene, so each is judged relative to the other, position by position (the relativistic loss of Jolicoeur-
Martineau, 2018, in pairs); a U-Net gives a verdict for every position (Schönfeld et al., 2020), and spectral
normalisation (Miyato et al., 2018) keeps its gradient bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from starvsr.train.features import cut_alike, mismatch

_UNSHUFFLED = 2
_HALVINGS = 2
SIDE_MULTIPLE = _UNSHUFFLED * 2**_HALVINGS
"""Sides of the pictures are multiples of this, pixels, and twice as large at least."""


@dataclass(frozen=True)
class AdversaryConfig:
    """How much the adversary counts, and what it is.

    Raises ValueError for values that mean nothing.
    """

    weight: float = 0.005
    """Weight of the adversarial loss."""
    features: float = 0.05
    """Weight of feature matching: the absolute difference of the adversary's features of both pictures, relative to
    their magnitude, averaged over its layers."""
    warmup_steps: int = 100
    """Steps over which both weights rise from 0; the adversary learns from the first."""
    frames: int = 3
    """Consecutive frames that it sees at once; `[data] frames` is a multiple."""
    width: int = 32
    """Channels at half the pictures' size; twice and four times as many at a quarter and an eighth."""
    lr: float = 4e-4
    betas: tuple[float, float] = (0.5, 0.99)

    def __post_init__(self) -> None:
        for name in ("weight", "features", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} must be 0 or more")
        for name in ("frames", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be 1 or more")
        if self.lr <= 0:
            raise ValueError(f"lr {self.lr} must be above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must be 0 to below 1")


class Judgement(NamedTuple):
    """What the adversary makes of a batch of runs of frames."""

    verdicts: Tensor
    """`b frames h/2 w/2`: higher is more real."""
    features: tuple[Tensor, ...]


class _Convolution(nn.Conv2d):
    """In its input's type, while the weights and their normalisation stay float32."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out: Tensor = self._conv_forward(x, self.weight.to(x.dtype), bias)
        return out


class Discriminator(nn.Module):
    """A U-Net on runs of frames, whose pixels and frames are its input's channels."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()

        def conv(width_in: int, width_out: int, *, halve: bool = False) -> nn.Module:
            size, stride = (4, 2) if halve else (3, 1)
            return spectral_norm(_Convolution(width_in, width_out, size, stride, padding=1))

        # The first and the last are free, so that verdicts have any scale.

        widths = [width * 2**level for level in range(_HALVINGS + 1)]
        pairs = list(pairwise(widths))
        self.entry = _Convolution(3 * _UNSHUFFLED**2 * frames, width, 3, padding=1)
        self.down = nn.ModuleList(conv(a, b, halve=True) for a, b in pairs)
        self.middle = conv(widths[-1], widths[-1])
        self.up = nn.ModuleList(conv(b, a) for a, b in reversed(pairs))
        self.last = conv(width, width)
        self.exit = _Convolution(width, frames, 3, padding=1)

    def forward(self, runs: Tensor) -> Judgement:
        """Runs of frames `b 3 frames h w` in [-1, 1], sides multiples of `SIDE_MULTIPLE`."""
        x = rearrange(
            runs, "b c t (h p) (w q) -> b (t c p q) h w", p=_UNSHUFFLED, q=_UNSHUFFLED
        ).contiguous(memory_format=torch.channels_last)
        x = _activated(self.entry(x))
        ways = [x]
        for conv in self.down:
            ways.append(_activated(conv(ways[-1])))
        x = _activated(self.middle(ways[-1]))
        features = [*ways[1:], x]
        for conv, way in zip(self.up, reversed(ways[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _activated(conv(x)) + way
            features.append(x)
        return Judgement(self.exit(_activated(self.last(x))), tuple(features))


class Adversary:
    """The discriminator, its optimizer, and the losses of both sides."""

    def __init__(
        self, config: AdversaryConfig, device: torch.device, seed: int, *, dtype: torch.dtype
    ) -> None:
        """seed: of its first weights. dtype: in which it computes; its weights are float32."""
        self.config, self.dtype, self.seed = config, dtype, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Discriminator(config.frames, config.width)
        self.network = network.to(device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, betas=config.betas, weight_decay=0.0
        )

    def losses(self, picture: Tensor, real: Tensor, step: int) -> dict[str, Tensor]:
        """Losses of restored pictures against real ones of the same scenes, both `b 3 t h w` in [-1, 1].

        step: from 0. `loss` is the sum of the restoring network's loss, which has no gradient for the adversary, and
        of the adversary's own, which has none for `picture`; the rest, without a gradient, is for the log: `fooled` and
        `matched` of the former, `adversary` the latter.
        """
        picture, real = cut_alike((picture, real), self.seed, step)
        truth = self._judge(real)
        own = F.softplus(self._judge(picture.detach()).verdicts - truth.verdicts).mean()
        with self._frozen():
            seen = self._judge(picture)
        fooled = F.softplus(truth.verdicts.detach() - seen.verdicts).mean()
        matched = mismatch(seen.features, truth.features)
        rise = min(1.0, step / self.config.warmup_steps) if self.config.warmup_steps else 1.0
        loss = own + rise * (self.config.weight * fooled + self.config.features * matched)
        terms = {"fooled": fooled, "matched": matched, "adversary": own}
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}

    def share_gradients(self, reduce: Callable[[Tensor], Tensor]) -> float:
        """Average what was accumulated over all processes, as `reduce` does for a tensor; returns its norm."""
        norms = []
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                parameter.grad = reduce(parameter.grad)
                norms.append(parameter.grad.norm())
        return float(torch.stack(norms).norm())

    def step(self) -> None:
        """Take a step along the accumulated gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _judge(self, pictures: Tensor) -> Judgement:
        runs = rearrange(pictures, "b c (n t) h w -> (b n) c t h w", t=self.config.frames)
        verdicts, features = self.network(runs.to(self.dtype))
        return Judgement(verdicts.float(), tuple(each.float() for each in features))

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self.network.requires_grad_(False)
        try:
            yield
        finally:
            self.network.requires_grad_(True)


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
