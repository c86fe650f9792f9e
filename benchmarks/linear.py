"""How fast linear layers, deep convolutions and attention of the full-size network are on one thread: torch's and ours.

python benchmarks/linear.py
"""

from __future__ import annotations

import argparse
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
from starvsr.models.strips import attention_in_strips

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

TOKENS = ((832, 5), (1040, 10), (4000, 5))
"""Pixels of a frame and heads of 64 channels."""


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


def in_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's attention of `b n h d`."""
    mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return mixed.transpose(1, 2)


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
    for tokens, heads in TOKENS:
        q, k, v = (torch.randn(1, heads, tokens, 64).transpose(1, 2) for _ in range(3))
        flops = 4 * heads * tokens**2 * 64
        compare(f"attention of {tokens}", in_heads, attention_in_strips, (q, k, v), flops)
    print(json.dumps(describe_machine()))


if __name__ == "__main__":
    # Only --help.
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
