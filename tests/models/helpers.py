"""What the tests of the network share."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from starvsr.models.unet import StarUNet
from starvsr.types import UNetConfig
from tests.golden.seeded_init import fill_module, seeded_input

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SMALL = UNetConfig(width=64, head_width=32, first_heads=3)
"""The network of `unet_small.safetensors`."""
TINY = UNetConfig(
    width=32,
    multipliers=(1, 2),
    residual_blocks=1,
    head_width=16,
    first_heads=3,
    context_width=24,
    attention_scales=(0.5,),
)
"""Everything there is, as small as it gets."""


def load_golden(name: str) -> dict[str, Tensor]:
    """The tensors of a golden file."""
    return load_file(GOLDEN / f"{name}.safetensors")


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Relative L2 distance."""
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def seeded_net(config: UNetConfig, seed: int = 0) -> StarUNet:
    """A network none of whose parameters is zero."""
    net = StarUNet(config).eval()
    fill_module(net, seed)
    return net


def seeded_inputs(
    config: UNetConfig, size: tuple[int, int, int], *, batch: int = 1, tokens: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """x, t, context and hint for a latent of (frames, rows, columns)."""
    shape = (batch, config.latent_channels, *size)
    hint = seeded_input("hint", shape) if config.control else None
    times = torch.tensor([500, 37, 999])[:batch]
    return (
        seeded_input("x", shape),
        times,
        seeded_input("y", (batch, tokens, config.context_width)),
        hint,
    )
