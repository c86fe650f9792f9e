"""STAR's video transformer on CogVideoX: noisy latent in, velocity out, with LIEM between norm and attention.

The blocks are diffusers' own; STAR's additions are attention processors. Unlike in the
UNet, no norm of all channels follows a gate: queries and keys are normed head by head, values keep what it did to them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.models.attention import Backend, attention, hide_xformers
from starvsr.models.compiled import Compiler
from starvsr.models.liem import FrameGate, SpatialGate
from starvsr.models.linear import Linear
from starvsr.models.network import VideoNetwork, check_latent, shape_of
from starvsr.types import CogVideoXConfig

PATCH = 2
"""Rows and columns of latent elements that are one token."""
_EPS = 1e-6
_MAX_PERIOD = 10000.0
_PLACES_APART = 1.875
"""Rows and columns of the video from one position to the next, where positions are added to the tokens."""

TokenGrid = tuple[int, int, int]
"""Frames, rows and columns of image tokens, which stand in this order."""


class GatedAttention(nn.Module):
    """A block's attention: LIEM's gates on the image tokens, then all text and image tokens attend to each other.

    It is a processor of diffusers' `Attention`, which has the projections and the norms of queries and keys.
    """

    def __init__(self, liem: bool) -> None:
        super().__init__()
        self.space = SpatialGate() if liem else None
        self.time = FrameGate() if liem else None
        self.backend = Backend.SDPA

    # diffusers passes on only what this names, and does not look at `forward`.
    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None,
        image_rotary_emb: tuple[Tensor, Tensor] | None,
        grid: TokenGrid,
    ) -> tuple[Tensor, Tensor]:
        """Image tokens `b n c`, which fill the grid, and text tokens `b m c`; returns the same. Nothing is masked."""
        text_tokens = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, self._gated(hidden_states, grid)], dim=1)
        q, k, v = (
            rearrange(part, "b n (h d) -> b n h d", h=attn.heads)
            for part in (attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens))
        )
        del tokens
        q, k = attn.norm_q(q), attn.norm_k(k)
        if image_rotary_emb is not None:
            q, k = (_with_places(part, text_tokens, image_rotary_emb) for part in (q, k))
        mixed = rearrange(attention(q, k, v, self.backend), "b n h d -> b n (h d)")
        out: Tensor = attn.to_out[0](mixed)
        return out[:, text_tokens:], out[:, :text_tokens]

    def _gated(self, tokens: Tensor, grid: TokenGrid) -> Tensor:
        """Gated in space, frame by frame, and what that gives once more, token by token."""
        if self.space is None or self.time is None:
            return tokens
        frames, rows, columns = grid
        planes = rearrange(tokens, "b (f h w) c -> (b f) h w c", f=frames, h=rows, w=columns)
        planes = self.space(planes) * planes
        planes = self.time(planes) * planes
        return rearrange(planes, "(b f) h w c -> b (f h w) c", f=frames)


def _with_places(x: Tensor, text_tokens: int, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Heads `b n h d` with rotary position embedding of the image tokens (Su et al., 2021)."""
    cos, sin = turns
    even, odd = (x[:, text_tokens:, :, first::2].float() for first in (0, 1))
    turned = x.clone()
    image = turned[:, text_tokens:]
    image[..., 0::2] = (even * cos).addcmul_(odd, sin, value=-1)
    image[..., 1::2] = (odd * cos).addcmul_(even, sin)
    return turned


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def rotary_turns(grid: TokenGrid, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles by which the image tokens' pairs of channels are turned, `n 1 d/2` float32.

    A quarter of a head's channels encodes the frame, three eighths each the row and the column.
    """
    widths = (head_width // 4, head_width * 3 // 8, head_width * 3 // 8)
    angles = []
    for axis, (length, width) in enumerate(zip(grid, widths, strict=True)):
        rates = _MAX_PERIOD ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        along = torch.arange(length, dtype=torch.float64)[:, None] * rates
        shape = [length if axis == place else 1 for place in range(3)]
        angles.append(along.view(*shape, -1).expand(*grid, -1))
    together = rearrange(torch.cat(angles, dim=-1), "f h w d -> (f h w) 1 d")
    return together.cos().float().to(device), together.sin().float().to(device)


def add_places(image: Tensor, grid: TokenGrid) -> Tensor:
    """Adds sines and cosines of their positions to image tokens `b n width`, in place (CogVideoX-2B's).

    A quarter of the channels encodes the frame, then three eighths each the column and the row.
    """
    frames, rows, columns = grid
    tokens = image.view(len(image), frames, rows, columns, -1)
    quarter, space = image.shape[2] // 4, image.shape[2] * 3 // 8
    tokens[..., :quarter] += _waves(frames, 1, quarter).to(image)[:, None, None]
    tokens[..., quarter : quarter + space] += _waves(columns, _PLACES_APART, space).to(image)
    tokens[..., quarter + space :] += _waves(rows, _PLACES_APART, space).to(image)[:, None]
    return image


def _waves(length: int, apart: float, width: int) -> Tensor:
    """Sines, then cosines, of `length` positions, float64 `length width`."""
    rates = _MAX_PERIOD ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] / apart * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PatchProjection(nn.Conv2d):
    """Patches of the noisy latent and of the hint to one token: a sum of both halves, of which the hint's stays."""

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Pictures `n c h w` to `n width h/2 w/2`: the hint's half, or with that as `seen` the tokens."""
        of_x, of_hint = self.weight.chunk(2, dim=1)
        if seen is None:
            return F.conv2d(x, of_hint, self.bias, self.stride)
        return F.conv2d(x, of_x, stride=self.stride).add_(seen)


class StarCogVideoX(VideoNetwork):
    """The network `v(x_t, t, text, hint)` of STAR's second variant: CogVideoX that sees the degraded latent.

    Parameters are named as in diffusers' `CogVideoXTransformer3DModel`, but for the gates, which are in each block's
    `attn1.processor`. Raises `ValueError` if sizes do not fit together.
    """

    def __init__(self, config: CogVideoXConfig) -> None:
        super().__init__()
        hide_xformers()
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.normalization import AdaLayerNorm
        from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

        if config.head_width % 16:
            raise ValueError(f"head width {config.head_width} is not a multiple of 16")
        self.config, width = config, config.width
        self.time_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, config.time_width)
        self.patch_embed = nn.ModuleDict(
            {
                "proj": PatchProjection(2 * config.latent_channels, width, PATCH, stride=PATCH),
                "text_proj": Linear(config.context_width, width),
            }
        )
        self.transformer_blocks = nn.ModuleList()
        for _ in range(config.layers):
            block: Any = CogVideoXBlock(
                dim=width,
                num_attention_heads=config.heads,
                attention_head_dim=config.head_width,
                time_embed_dim=config.time_width,
                attention_bias=True,
                norm_eps=_EPS,
            )
            block.attn1.set_processor(GatedAttention(config.liem))
            self.transformer_blocks.append(block)
        self.norm_final = nn.LayerNorm(width, eps=_EPS)
        self.norm_out = AdaLayerNorm(
            config.time_width,
            output_dim=2 * width,
            norm_elementwise_affine=True,
            norm_eps=_EPS,
            chunk_dim=1,
        )
        self.proj_out = Linear(width, PATCH**2 * config.latent_channels)
        self.use_channels_last()

    def use_compiler(self, compiled: Compiler) -> None:
        """Compile the blocks with `compiled`: they are alike, so one is compiled for all."""
        for block in self.transformer_blocks:
            block.forward = compiled(block.forward)

    def embed(self, context: Tensor) -> Tensor:
        """Text tokens of an encoder, `b m context_width`, projected to `b m width`."""
        if context.ndim != 3 or context.shape[2] != self.config.context_width:
            raise ValueError(
                f"context must be b n {self.config.context_width}, and is {shape_of(context)}"
            )
        return self.patch_embed["text_proj"](context)

    def see(self, hint: Tensor) -> Tensor:
        """The hint's half of the tokens, `(b f) width h/2 w/2` for `b c f h w`."""
        check_latent(hint, self.config.latent_channels, PATCH, name="hint")
        return self.patch_embed["proj"](rearrange(hint, "b c f h w -> (b f) c h w"))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        """Velocity `v` of the latent `x` at diffusion time `t`.

        x and the result are `b c f h w` with even h and w, t is `b` (0..999), context and hint (the degraded latent,
        without noise) are what `embed` and `see` return, all in the dtype and on the device of the weights. Positions
        are counted from the window's first frame, row and column. Raises `ValueError` otherwise.
        """
        self._check_inputs(x, t, context, hint)
        frames, rows, columns = x.shape[2:]
        grid = frames, rows // PATCH, columns // PATCH
        time = self.time_embedding(self.time_proj(t).to(x.dtype))
        patches = self.patch_embed["proj"](rearrange(x, "b c f h w -> (b f) c h w"), hint)
        image = rearrange(patches, "(b f) c h w -> b (f h w) c", f=frames)
        del patches
        turns = None
        if self.config.rotary:
            turns = rotary_turns(grid, self.config.head_width, x.device)
        else:
            image = add_places(image, grid)
        text = context
        for block in self.transformer_blocks:
            image, text = block(
                image, text, time, image_rotary_emb=turns, attention_kwargs={"grid": grid}
            )
        image = self.proj_out(self.norm_out(self.norm_final(image), temb=time))
        v: Tensor = rearrange(
            image, "b (f h w) (c p q) -> b c f (h p) (w q)", f=frames, h=grid[1], p=PATCH, q=PATCH
        )
        return v.contiguous()

    def _check_inputs(self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> None:
        check_latent(x, self.config.latent_channels, PATCH)
        (b, _, f, h, w), width = x.shape, self.config.width
        if t.shape != (b,):
            raise ValueError(
                f"t must contain one time per batch item, ({b},), and is {shape_of(t)}"
            )
        if context.ndim != 3 or context.shape[0] != b or context.shape[2] != width:
            raise ValueError(f"context must be {b} n {width}, and is {shape_of(context)}")
        if hint.shape != (b * f, width, h // PATCH, w // PATCH):
            raise ValueError(f"hint must be what `see` returns for x, and is {shape_of(hint)}")
