"""How fast linear layers and deep convolutions of the full-size network are, by torch and as done here, on one thread.

python benchmarks/linear.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.bench.machine import describe_machine, measure_ceilings, timed
from starvsr.models.convolution import conv2d
from starvsr.models.linear import linear

SHAPES = (
    (3328, 320, 320),
    (3328, 320, 2560),
    (832, 640, 640),
    (832, 2560, 640),
    (208, 1280, 10240),
)
"""Tokens, channels in, channels out: latent 26x32 with 4 frames."""

PICTURES = ((4, 8, 8), (4, 5, 4), (8, 8, 10))
"""Frames, rows and columns at the two lowest levels of that latent, and at the lowest of 50x80 with 8 frames."""
WIDTH = 1280


def compare(
    name: str,
    torch_s: Callable[..., Tensor],
    ours: Callable[..., Tensor],
    arguments: Any,
    flops: int,
) -> None:
    """Print both rates."""
    with torch.inference_mode():
        rates = [flops / timed(partial(call, *arguments), 9).wall / 1e9 for call in (torch_s, ours)]
    print(
        f"{name}: torch {rates[0]:.0f}, ours {rates[1]:.0f} GFLOP/s, ratio {rates[1] / rates[0]:.2f}"
    )


def main() -> None:
    """Print a line for each shape."""
    torch.set_num_threads(1)
    ceilings = measure_ceilings()
    print(
        f"ceilings: product {ceilings.matmul_gflops:.0f}, convolution {ceilings.conv_gflops:.0f} GFLOP/s"
    )
    for tokens, width_in, width_out in SHAPES:
        x = torch.randn(tokens, width_in)
        arguments = x, torch.randn(width_out, width_in), torch.randn(width_out)
        flops = 2 * tokens * width_in * width_out
        compare(
            f"{tokens:>5} x {width_in:>4} -> {width_out:>5}", F.linear, linear, arguments, flops
        )
    weight = torch.randn(WIDTH, WIDTH, 3, 3).to(memory_format=torch.channels_last)
    for frames, rows, columns in PICTURES:
        x = torch.randn(frames, WIDTH, rows, columns).to(memory_format=torch.channels_last)
        patches = x, weight, torch.randn(WIDTH), (1, 1), (1, 1)
        flops = 2 * frames * rows * columns * weight.numel()
        compare(f"3x3 on {frames} x {rows}x{columns}", F.conv2d, conv2d, patches, flops)
    print(json.dumps(describe_machine()))


if __name__ == "__main__":
    main()
