"""Deterministic, platform-independent parameter values from key names alone.

The golden files hold only inputs and outputs, never weights: both the
reference run and the run under test fill their parameters with
`fill_module(model, seed)`, so the two models are bit-identical as long as
their `state_dict()` keys and shapes agree.

Only 64-bit integer arithmetic, one exact int->float64 conversion and a few
IEEE float64 operations are used, then one rounding to float32.  No random
library is involved, so the values do not depend on the versions of torch or
numpy, on the CPU, or on the order in which tensors are filled.

Definition
----------
For a key `k` (UTF-8), a seed `s` and element index `i` (C order, from 0):

    base = (crc32(k) * 2**32 + (s mod 2**32)) mod 2**64
    z    = base + (i + 1) * 0x9E3779B97F4A7C15            (mod 2**64)
    z    = (z xor (z >> 30)) * 0xBF58476D1CE4E5B9         (mod 2**64)
    z    = (z xor (z >> 27)) * 0x94D049BB133111EB         (mod 2**64)
    z    =  z xor (z >> 31)                               (SplitMix64)
    u    = (z >> 40) * 2**-24                             (uniform in [0, 1))
    r    = (2 u - 1) * sqrt(3)                            (mean 0, variance 1)

and the value, computed in float64 and rounded once to float32, is, by the
first rule that fits (`fan_in` = product of all dimensions but the first):

    local-information gates  key contains ".local1." or ".local2."
                             0.7 r / sqrt(fan_in), and 2 less for the first
                             input feature at the kernel centre
    matrices and kernels     two or more dimensions
                             r / sqrt(fan_in)
    norm weights             one dimension, key ends in ".weight"
                             1 + 0.1 r
    biases                   everything else
                             0.1 r

The gate rule makes the gates small (about 0.001 to 0.05).  It is chosen on
purpose: each gate is a positive per-token factor in front of a LayerNorm, so it
acts only through that norm's epsilon, and gates near 0.5 would hardly show in
the output.  Layers that training starts from zero get non-zero values like all
others, so that every path contributes to the output.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def unit_noise(key: str, count: int, seed: int = 0) -> np.ndarray:
    """`count` float64 values of mean 0 and variance 1, fixed by key and seed."""
    base = np.uint64((zlib.crc32(key.encode("utf-8")) << 32) | (seed & 0xFFFFFFFF))
    z = np.arange(1, count + 1, dtype=np.uint64)
    shifted = np.empty_like(z)
    with np.errstate(over="ignore"):
        z *= _GAMMA
        z += base
        for shift, factor in ((30, _MIX1), (27, _MIX2)):
            z ^= np.right_shift(z, np.uint64(shift), out=shifted)
            z *= factor
    z ^= np.right_shift(z, np.uint64(31), out=shifted)
    z >>= np.uint64(40)
    noise = z.astype(np.float64)
    noise *= 2.0**-23
    noise -= 1.0
    noise *= math.sqrt(3.0)
    return noise


def seeded_parameter(key: str, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """The float32 tensor that belongs to one parameter key."""
    shape = tuple(int(n) for n in shape)
    r = unit_noise(key, math.prod(shape), seed)
    fan_in = math.prod(shape[1:])
    if ".local1." in key or ".local2." in key:
        values = 0.7 * r / math.sqrt(fan_in)
        centre = (0, 0, *(n // 2 for n in shape[2:]))
        values[np.ravel_multi_index(centre, shape)] -= 2.0
    elif len(shape) >= 2:
        values = r / math.sqrt(fan_in)
    elif key.endswith(".weight"):
        values = 1.0 + 0.1 * r
    else:
        values = 0.1 * r
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def seeded_input(name: str, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """A float32 test input: plain unit noise under the key `input:<name>`."""
    shape = tuple(int(n) for n in shape)
    noise = unit_noise(f"input:{name}", math.prod(shape), seed)
    return torch.from_numpy(noise.astype(np.float32)).reshape(shape)


def seeded_state_dict(
    shapes: Mapping[str, Sequence[int]], seed: int = 0
) -> dict[str, torch.Tensor]:
    """Tensors for every key of a {key: shape} mapping."""
    return {key: seeded_parameter(key, shape, seed) for key, shape in shapes.items()}


@torch.no_grad()
def fill_module(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Overwrite every entry of `module.state_dict()` in place and return it."""
    for key, tensor in module.state_dict().items():
        tensor.copy_(seeded_parameter(key, tensor.shape, seed))
    return module
