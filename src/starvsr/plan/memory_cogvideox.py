"""What `memory` counts for STAR on CogVideoX: the peak of what is alive during a call.

The network's is counted layer by layer; of the autoencoder, whose convolutions keep frames for the next call, what was
measured at its published widths. `tests/test_memory.py` measures both.
"""

from __future__ import annotations

import math

from starvsr.plan.pieces import KEPT_HINTS_BYTES
from starvsr.plan.windows import frames_of
from starvsr.types import AutoencoderSpec, CogVideoXConfig

CAUSAL_VAE_PARAMETERS = 215_583_907
_VAE_WIDTH = 128
"""Channels at full size, a frame of which is what the autoencoder's peaks are counted in."""
_FLOAT32_BYTES = 4
_PATCH = 4
"""Latent elements of a token."""


def cogvideox_peak_bytes(
    config: CogVideoXConfig, window: tuple[int, int, int], text_tokens: int, bytes_per_element: int
) -> int:
    """Most bytes that one call on a window (frames, rows, columns) holds beside its inputs and the weights."""
    frames, rows, columns = window
    image = frames * rows * columns // _PATCH
    tokens = image + text_tokens
    # In a feed-forward: the block's input, what attention gave and the sum of both, the normed tokens, the text's once
    # more, and four times as wide the hidden ones in front of and behind the activation.
    held = (12 * tokens + text_tokens) * config.width
    angles = image * config.head_width * _FLOAT32_BYTES if config.rotary else 0
    return held * bytes_per_element + angles


def cogvideox_hints_bytes(
    config: CogVideoXConfig, window: tuple[int, int, int], windows: int, bytes_per_element: int
) -> int:
    """Most bytes of hints that a run of so many windows (frames, rows, columns) holds on the device."""
    one = math.prod(window) // _PATCH * config.width * bytes_per_element
    return min(windows * one, KEPT_HINTS_BYTES + one)


def causal_vae_peak_bytes(
    spec: AutoencoderSpec, picture: tuple[int, int, int], bytes_per_element: int
) -> int:
    """Most bytes that encoding or decoding a run in a tile (latent frames, rows, columns) holds beside the weights."""
    frames, rows, columns = picture
    size = rows * columns * spec.factor**2 * _VAE_WIDTH
    # A block's input, two results, the second with two frames more in front, and one in the making; and two frames of
    # everything that a convolution saw.
    encoding = 5 * frames_of(frames, spec.time_factor) + 15
    # Three latent frames at first, then two with what is kept of those before.
    decoding = 41 if frames == 1 else 135 if frames <= 3 else 179
    return max(encoding, decoding) * size * bytes_per_element
