"""How fast the linear layers of the full-size network are: by torch (MKL) and by oneDNN, on one thread.

python benchmarks/linear.py
"""

from __future__ import annotations

import json
from functools import partial

import torch
import torch.nn.functional as F

from starvsr.bench.machine import describe_machine, measure_ceilings, timed
from starvsr.models.linear import linear

SHAPES = (
    (3328, 320, 320),
    (3328, 320, 2560),
    (832, 640, 640),
    (832, 2560, 640),
    (208, 1280, 10240),
)
"""Tokens, channels in, channels out: latent 26x32 with 4 frames."""


def main() -> None:
    """Print a line for each shape."""
    torch.set_num_threads(1)
    ceilings = measure_ceilings()
    print(
        f"ceilings: product {ceilings.matmul_gflops:.0f}, convolution {ceilings.conv_gflops:.0f} GFLOP/s"
    )
    for tokens, width_in, width_out in SHAPES:
        x, weight, bias = (
            torch.randn(shape)
            for shape in ((tokens, width_in), (width_out, width_in), (width_out,))
        )
        gflop = 2 * tokens * width_in * width_out / 1e9
        with torch.inference_mode():
            rates = [
                gflop / timed(partial(call, x, weight, bias), 9).wall for call in (F.linear, linear)
            ]
        print(
            f"{tokens:>5} x {width_in:>4} -> {width_out:>5}: torch {rates[0]:4.0f}, oneDNN {rates[1]:4.0f} GFLOP/s, "
            f"ratio {rates[1] / rates[0]:.2f}"
        )
    print(json.dumps(describe_machine()))


if __name__ == "__main__":
    main()
