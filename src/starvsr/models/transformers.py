"""The two kinds of transformer: over the pixels of a frame, and over the frames at a pixel."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.models.attention import Attention, FrameAttention
from starvsr.models.layers import Branch, GroupNorm, add_, zeroed
from starvsr.models.liem import FrameGate, SpatialGate
from starvsr.models.linear import Linear, linear
from starvsr.models.shared import Shared
from starvsr.plan.pieces import HIDDEN_ELEMENTS


class FeedForward(nn.Module):
    """GEGLU: `contract(value(x) gelu(gate(x)))`, four times as wide inside; value and gate are one matrix."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = Linear(width, 8 * width)
        self.contract = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`... c -> ... c`."""
        if torch.is_grad_enabled():
            return self._mix(x)
        # The hidden tokens are eight times the input: a part at a time, they stay small and in the cache.
        tokens = x.flatten(0, -2)
        parts = torch.split(tokens, max(HIDDEN_ELEMENTS // self.contract.in_features, 1))
        return torch.cat([self._mix(part) for part in parts]).view_as(x)

    def _mix(self, x: Tensor) -> Tensor:
        value_weight, gate_weight = self.expand.weight.chunk(2)
        value_bias, gate_bias = self.expand.bias.chunk(2)
        gate = linear(x, gate_weight, gate_bias)
        value = linear(x, value_weight, value_bias)
        if torch.is_grad_enabled():
            hidden = value * F.gelu(gate)
        else:
            hidden = value.mul_(torch.ops.aten.gelu_(gate))
        return self.contract(hidden)


def _normed(x: Tensor, norm: nn.LayerNorm, gate: nn.Module | None, liem: str) -> Tensor:
    """Tokens `... c` as attention takes them: normalised, with LIEM's gate where `UNetConfig.liem` puts it."""
    if gate is None:
        tokens = norm(x)
    elif liem == "acting":
        tokens = gate(x) * norm(x)
    else:
        tokens = norm(gate(x) * x)
    return cast(Tensor, tokens)


class SpatialBlock(nn.Module):
    """Gated self-attention over a frame's pixels, attention to the text, feed-forward."""

    def __init__(self, width: int, head_width: int, context_width: int, liem: str) -> None:
        super().__init__()
        self.liem = liem
        self.gate = None if liem == "none" else SpatialGate()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, head_width)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = Attention(width, head_width, context_width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def see_itself(self, x: Tensor) -> Tensor:
        """The part that comes before the text: x is `b f h w c`, taken over; gives `b f h w c`."""
        frames = rearrange(x, "b f h w c -> (b f) h w c")
        tokens = _normed(frames, self.norm_self, self.gate, self.liem)
        return add_(x, self.self_attention(tokens.flatten(1, 2)).view_as(x))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """The rest, of what `see_itself` gave: x is `b f h w c`, taken over; context is `b n k`; gives `b f h w c`."""
        f, h = x.shape[1:3]
        # All frames see the same text, so the tokens of all of them ask it at once.
        tokens = rearrange(self.norm_cross(x), "b f h w c -> b (f h w) c")
        tokens = self.cross_attention(tokens, context)
        x = add_(x, rearrange(tokens, "b (f h w) c -> b f h w c", f=f, h=h))
        return add_(x, self.feed_forward(self.norm_feed_forward(x)))


class TemporalBlock(nn.Module):
    """Gated self-attention over a pixel's frames, twice, and feed-forward."""

    def __init__(self, width: int, head_width: int, liem: str) -> None:
        super().__init__()
        self.liem = liem
        self.gate_first = None if liem == "none" else FrameGate()
        self.norm_first = nn.LayerNorm(width)
        self.attention_first = FrameAttention(width, head_width)
        self.gate_second = None if liem == "none" else FrameGate()
        self.norm_second = nn.LayerNorm(width)
        self.attention_second = FrameAttention(width, head_width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """x is `b f p c` (p pixels), taken over; gives `b f p c`."""
        tokens = _normed(x, self.norm_first, self.gate_first, self.liem)
        x = add_(x, self.attention_first(tokens))
        tokens = _normed(x, self.norm_second, self.gate_second, self.liem)
        x = add_(x, self.attention_second(tokens))
        del tokens
        return add_(x, self.feed_forward(self.norm_feed_forward(x)))


class SpatialTransformer(Branch):
    """Residual branch of one spatial block between linear projections."""

    def __init__(self, width: int, head_width: int, context_width: int, liem: str) -> None:
        super().__init__()
        self.norm = GroupNorm(width, per_frame=True, eps=1e-6)
        self.entry = Linear(width, width)
        self.block = SpatialBlock(width, head_width, context_width, liem)
        self.exit = Linear(width, width)
        zeroed(self.exit)

    def exit_layer(self) -> nn.Linear:
        """The linear projection back."""
        return self.exit

    def forward(self, x: Tensor, context: Tensor, shared: Shared) -> Tensor:
        """x is `b f h w c`, context `b n k`; gives `b f h w c`."""
        if self.skipped:
            return x
        tokens = shared.until_text(self, lambda: self.block.see_itself(self.entry(self.norm(x))))
        return add_(self.exit(self.block(tokens, context)), x)


class TemporalTransformer(Branch):
    """Residual branch of one temporal block between linear projections."""

    def __init__(
        self, width: int, head_width: int, liem: str, inner_width: int | None = None
    ) -> None:
        super().__init__()
        inner = width if inner_width is None else inner_width
        self.norm = GroupNorm(width, per_frame=False, eps=1e-6)
        self.entry = Linear(width, inner)
        self.block = TemporalBlock(inner, head_width, liem)
        self.exit = Linear(inner, width)
        zeroed(self.exit)

    def exit_layer(self) -> nn.Linear:
        """The linear projection back."""
        return self.exit

    def forward(self, x: Tensor) -> Tensor:
        """`b f h w c -> b f h w c`."""
        if self.skipped:
            return x
        pixels = rearrange(self.norm(x), "b f h w c -> b f (h w) c")
        out = self.exit(self.block(self.entry(pixels)))
        return add_(rearrange(out, "b f (h w) c -> b f h w c", h=x.shape[2]), x)
