"""What `memory` counts for the recurrent network: the peak of what is alive during a call.

Frames come one after the other, so beside inputs and results it is one frame's work that counts. Whoever changes what
`models.recurrent` keeps alive has to change this too; `tests/test_memory.py` measures both.
"""

from __future__ import annotations

from starvsr.types import RecurrentConfig

_FLOAT32_BYTES = 4
_CORNERS = 2 * 4
"""Indices and weights of the four pixels that a position is sampled from."""


def recurrent_peak_bytes(
    config: RecurrentConfig, window: tuple[int, int, int], bytes_per_element: int
) -> int:
    """Most bytes that one call on a window (frames, rows, columns) holds beside its input and the weights.

    Counted from the second frame on, with what is remembered of the one before.
    """
    frames, rows, columns = window
    place = rows * columns
    latent, stem, width = config.latent_channels, config.stem_width, config.width
    # Per element of the latent: the frame itself in channels-last order and its features; what is left of the frame
    # before; and the velocities so far.
    carried = stem + width
    held = latent + stem + carried
    # The frame's first layer, and beside it what was remembered: mixed and gated; or being moved, in float32.
    wide = _FLOAT32_BYTES // bytes_per_element
    recalled = width + width * 2 * wide + _CORNERS * wide
    # A block's input, its gated copy, and two convolutions.
    copies = 4 if config.liem else 3
    # The half-sized result, its four pixels side by side, and those in place.
    doubled = config.deep_width // 4 + 2 * width
    # The result without and with what the latent adds to it.
    head = 2 * latent
    halved = max(copies * config.deep_width // 4, doubled)
    # At full size: features, beside the pixels of two latents, apart and joined, and what is made of both.
    pixels = config.full_width * (latent // 3)
    full_size = 2 * pixels + 5 * latent if pixels else 0
    work = max(recalled, copies * width, width + halved, width + head, width + full_size)
    before = (frames - 1) * latent
    together = 2 * frames * latent + carried
    return max(before + held + work, together) * place * bytes_per_element
