"""The control branch: a second encoder and middle that see the hint and steer the UNet's skips."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from starvsr.models.layers import SpatialConv, TimeEmbedding, zeroed
from starvsr.models.linear import Linear
from starvsr.models.shared import Shared
from starvsr.models.stages import Encoder, Middle, encoder_widths
from starvsr.types import UNetConfig


class ControlBranch(nn.Module):
    """STAR's control branch, with weights of its own throughout.

    The hint (the low-quality latent) enters once, after the first convolution. Every encoder output and the
    middle's output leave through a linear layer; these exits and the hint's convolution start at zero.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths = encoder_widths(config)
        self.time_embedding = TimeEmbedding(config.width)
        self.hint = SpatialConv(config.latent_channels, config.width)
        self.encoder = Encoder(config)
        self.middle = Middle(config)
        self.exits = nn.ModuleList(Linear(width, width) for width in widths)
        self.middle_exit = Linear(widths[-1], widths[-1])
        for layer in (self.hint, *self.exits, self.middle_exit):
            zeroed(layer)

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor, shared: Shared | None = None
    ) -> list[Tensor]:
        """What is added to each of the UNet's encoder outputs, in order, and last to its middle's output.

        x and hint are latents `b f h w c`, t is `b`, context `b n k`; every result is `b f h w c`.
        """
        time = F.silu(self.time_embedding(t))
        outputs = self.encoder(x, time, context, partial(self.hint, hint), shared)
        middle = self.middle_exit(self.middle(outputs[-1], time, context))
        return [*(leave(h) for leave, h in zip(self.exits, outputs, strict=True)), middle]
