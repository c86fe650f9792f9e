"""Attention: the one function that computes it, its backends, and the modules around it."""

from __future__ import annotations

import enum
from importlib import import_module

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.models import strips
from starvsr.models.linear import Linear

_MAX_BATCH = 65535
"""CUDA kernels launch one grid row per batch entry, and a grid has at most this many
(https://github.com/pytorch/pytorch/issues/142228); attention over time has an entry per pixel."""


class Backend(enum.Enum):
    """Which kernel computes attention."""

    SDPA = "sdpa"
    """`torch.nn.functional.scaled_dot_product_attention`; everywhere."""
    XFORMERS = "xformers"
    """`xformers.ops.memory_efficient_attention`; CUDA only."""


def select_backend(name: str, device: torch.device) -> Backend:
    """Choose the backend for a device, once.

    `name` is `auto`, `sdpa` or `xformers`. `auto` takes xformers only on CUDA, where it imports and runs;
    on any other device it is not even imported.

    Raises `ValueError` for another name, and for `xformers` where it does not run.
    """
    if name not in ("auto", *(backend.value for backend in Backend)):
        raise ValueError(f"unknown attention backend {name!r}: choose auto, sdpa or xformers")
    if name == "sdpa" or (name == "auto" and device.type != "cuda"):
        return Backend.SDPA
    if device.type != "cuda":
        raise ValueError(
            f"attention backend xformers needs a CUDA device, and this is {device.type}: choose auto or sdpa"
        )
    fault = _xformers_fault(device)
    if fault is None:
        return Backend.XFORMERS
    if name == "xformers":
        raise ValueError(
            f"attention backend xformers does not run here ({fault}): choose auto or sdpa"
        )
    return Backend.SDPA


def _xformers_fault(device: torch.device) -> str | None:
    """What keeps xformers from running on `device`, or None."""
    try:
        ops = import_module("xformers.ops")
        probe = torch.zeros(1, 8, 1, 64, dtype=torch.float16, device=device)
        ops.memory_efficient_attention(probe, probe, probe)
    except Exception as error:  # a binary built for another torch can fail in any way
        return f"{type(error).__name__}: {error}"
    return None


def hide_xformers() -> None:
    """Keep diffusers from importing xformers, which warns at length if built for another torch and is not used here.

    Call before the first import of diffusers.
    """
    from diffusers.utils import import_utils

    import_utils._xformers_available = False


def attention(q: Tensor, k: Tensor, v: Tensor, backend: Backend = Backend.SDPA) -> Tensor:
    """`softmax(q k^T / sqrt(d)) v` for each batch entry and head.

    q is `b n h d`; k and v are `b m h d`; the result is `b n h d`. Any strides will do as long as `d` is
    contiguous, so heads and tokens are never copied into another order first.
    """
    if q.device.type != "cpu" and q.shape[0] > _MAX_BATCH:
        starts = range(0, q.shape[0], _MAX_BATCH)
        parts = (slice(start, start + _MAX_BATCH) for start in starts)
        return torch.cat([attention(q[part], k[part], v[part], backend) for part in parts])
    if backend is Backend.XFORMERS:
        return import_module("xformers.ops").memory_efficient_attention(q, k, v)
    if strips.pays(q, k):
        return strips.attention_in_strips(q, k, v)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention of tokens `b n c` to themselves or to a context `b m k`. q, k, v have no bias."""

    def __init__(self, width: int, head_width: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % head_width:
            raise ValueError(
                f"attention width {width} is not a multiple of the head width {head_width}"
            )
        source = width if context_width is None else context_width
        self.heads = width // head_width
        self.backend = Backend.SDPA
        self.q = Linear(width, width, bias=False)
        self.k = Linear(source, width, bias=False)
        self.v = Linear(source, width, bias=False)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x is `b n c`, context `b m k` (x itself by default); gives `b n c`."""
        source = x if context is None else context
        if source.shape[1] == 1:
            # With one token the attention weight is 1, whatever q and k are.
            alone: Tensor = self.out(self.v(source))
            return alone.expand(-1, x.shape[1], -1)
        q, k, v = (
            rearrange(part, "b n (h d) -> b n h d", h=self.heads)
            for part in (self.q(x), self.k(source), self.v(source))
        )
        mixed = rearrange(attention(q, k, v, self.backend), "b n h d -> b n (h d)")
        return self.out(mixed)


class FrameAttention(Attention):
    """Multi-head self-attention over the frames of each pixel; it is permutation-equivariant."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x is `b f p c` (p pixels); gives `b f p c`."""
        if context is not None:
            raise ValueError("attention over frames takes no context")
        if x.shape[1] == 1:
            return self.out(self.v(x))
        # The projections are per token, so only their results change order, and for one video as views.
        q, k, v = (
            rearrange(project(x), "b f p (h d) -> (b p) f h d", h=self.heads)
            for project in (self.q, self.k, self.v)
        )
        mixed = attention(q, k, v, self.backend)
        return self.out(rearrange(mixed, "(b p) f h d -> b f p (h d)", b=x.shape[0]))
