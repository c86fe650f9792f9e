"""Attention on the CPU as two oneDNN products for a strip of queries at a time.

torch's kernel multiplies by MKL (see `linear`): on one core of an EPYC with AVX-512 it reached 59 GFLOP/s for 4,000
tokens, strips of 256 queries 99 (`benchmarks/linear.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from starvsr.models.linear import goes_through_onednn, linear
from starvsr.plan.pieces import STRIP_ELEMENTS, STRIP_TOKENS


def pays(q: Tensor, k: Tensor) -> bool:
    """Whether `attention_in_strips` is the faster way for these, `b n h d` and `b m h d`."""
    return min(q.shape[1], k.shape[1]) >= STRIP_TOKENS and goes_through_onednn(q, k)


def attention_in_strips(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(d)) v` for q of `b n h d`, k and v of `b m h d`; gives `b n h d`."""
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    length = min(STRIP_TOKENS, max(1, STRIP_ELEMENTS // k.shape[1]))
    for entry in range(q.shape[0]):
        for head in range(q.shape[2]):
            queries = torch.split(q[entry, :, head] * q.shape[3] ** -0.5, length)
            keys, values = k[entry, :, head].contiguous(), v[entry, :, head].T.contiguous()
            mixed = torch.split(out[entry, :, head], length)
            for strip, target in zip(queries, mixed, strict=True):
                target.copy_(linear(linear(strip, keys).softmax(-1), values))
    return out
