"""What `memory` counts for STAR on CogVideoX: parameters, and the peak of what is alive during a call.

The network's is counted layer by layer; of the autoencoder, whose convolutions keep frames for the next call, what was
measured at its published widths. `tests/test_memory.py` measures both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from starvsr.plan.windows import frames_of
from starvsr.types import AutoencoderSpec, CogVideoXConfig

CAUSAL_VAE_PARAMETERS = 215_583_907
_VAE_WIDTH = 128
"""Channels at full size, a frame of which is what the autoencoder's peaks are counted in."""
_FLOAT32_BYTES = 4
_PATCH = 4
"""Latent elements of a token."""
_GATES = 2 * 49 + 2

KEPT_HINTS_BYTES = 2**27
"""Of the hint's half of all windows' tokens, which is the same at every step: what is kept on the device. That is two
usual windows in bf16, a segment of 720x480. More would keep weights off a device of 12 GiB; what finds no room is made
again, which is one thirty-thousandth of a call."""


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
    angles = image * config.head_width * _FLOAT32_BYTES
    return held * bytes_per_element + angles


def cogvideox_hints_bytes(
    config: CogVideoXConfig, window: tuple[int, int, int], windows: int, bytes_per_element: int
) -> int:
    """Most bytes of hints that a run of so many windows (frames, rows, columns) holds on the device."""
    one = math.prod(window) // _PATCH * config.width * bytes_per_element
    return min(windows * one, KEPT_HINTS_BYTES + one)


def cogvideox_unit_parameters(config: CogVideoXConfig) -> Iterator[int]:
    """Parameters of each unit that moves to the device as a whole: every layer is one."""
    width, time, latent = config.width, config.time_width, config.latent_channels
    yield _linear(width, time)
    yield _linear(time, time)
    yield _linear(2 * latent * _PATCH, width)
    yield _linear(config.context_width, width)
    for _ in range(config.layers):
        yield from (_linear(time, 6 * width), 2 * width) * 2
        yield from (_linear(width, width),) * 4
        yield from (2 * config.head_width,) * 2
        yield from (_linear(width, 4 * width), _linear(4 * width, width))
        if config.liem:
            yield from (_GATES - 2, 2)
    yield from (2 * width, _linear(time, 2 * width), 2 * width)
    yield _linear(width, _PATCH * latent)


def _linear(width_in: int, width_out: int) -> int:
    return width_in * width_out + width_out


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
