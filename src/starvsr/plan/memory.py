"""How much device memory a model needs: its weights, and the peak of what is alive during a call.

The peak is found by walking through the modules of `models` and of diffusers' temporal autoencoder in the order in
which they compute, and counting what each holds: its own tensors, its callers', and the copies that convolutions make
inside. Whoever changes what these modules keep alive has to change the walk, and `tests/test_memory.py`, which
measures both, says so. Pure integers; sizes are in elements unless a name says bytes.

Not counted, since nobody can know it before: what a driver and its libraries take, workspaces of kernels other than
convolutions, and room lost between blocks. `RESERVE_BYTES` stands for these on a device with a memory of its own.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple

from starvsr.plan.memory_cogvideox import (
    CAUSAL_VAE_PARAMETERS,
    causal_vae_peak_bytes,
    cogvideox_hints_bytes,
    cogvideox_peak_bytes,
)
from starvsr.plan.memory_recurrent import recurrent_peak_bytes
from starvsr.plan.pieces import HIDDEN_ELEMENTS, STRIP_ELEMENTS, STRIP_TOKENS
from starvsr.types import CogVideoXConfig, ModelSpec, NetworkConfig, RecurrentConfig, UNetConfig

RESERVE_BYTES = 768 * 2**20
"""What to leave free on a CUDA device: its context (some 400 MiB), workspaces of cuBLAS and cuDNN, fragments. A
guess, since no such device was there to measure."""

HEAP_SHARE = 0.75
"""How much of main memory to plan with where that is the device: the heap keeps blocks that are free, latents and
pictures live there too, and what does not fit is not refused but ends the process."""

_FRAME_KERNEL, _SPATIAL_KERNEL = 3, 9

_VAE_WIDTHS = (128, 256, 512, 512)
_VAE_ENCODER_PARAMETERS, _VAE_DECODER_PARAMETERS = 34_163_664, 63_579_183
_FLOAT32_BYTES = 4


class _Level(NamedTuple):
    """One level of the network for one window."""

    frames: int
    rows: int
    columns: int
    width: int
    """Channels."""
    attention: bool
    head_width: int

    @property
    def tokens(self) -> int:
        return self.frames * self.rows * self.columns

    @property
    def size(self) -> int:
        return self.tokens * self.width


def network_stage_bytes(
    spec: ModelSpec,
    window: tuple[int, int, int],
    bytes_per_element: int,
    offload: str,
    *,
    windows: int = 1,
) -> int:
    """Peak device bytes while the network runs on windows, with the weights that are on the device then.

    window: frames, rows and columns of the latent in the largest; windows: their number in a run. offload: with `none`
    the autoencoder's weights are there too, with `model` only the network's, with `block` only its largest unit's.
    """
    weights = weights_bytes(spec, bytes_per_element, offload=offload)
    if offload == "none":
        weights += autoencoder_weights_bytes(spec, bytes_per_element)
    frames, rows, columns = window
    inputs = (2 if spec.network.control else 1) * spec.network.latent_channels
    held = inputs * frames * rows * columns * bytes_per_element
    if isinstance(spec.network, CogVideoXConfig):
        held += cogvideox_hints_bytes(spec.network, window, windows, bytes_per_element)
    peak = network_peak_bytes(
        spec.network, window, bytes_per_element, text_tokens=spec.context_tokens
    )
    return int(weights + held + peak)


def autoencoder_stage_bytes(
    spec: ModelSpec, picture: tuple[int, int, int], bytes_per_element: int, offload: str
) -> int:
    """Peak device bytes while the autoencoder encodes or decodes, with the weights that are on the device then.

    picture: frames, rows and columns, in latent elements, of the largest block that is decoded at once; encoding sees
    one of its frames at a time, in float32. With offload `none` the network's weights are there too.
    """
    weights = autoencoder_weights_bytes(spec, bytes_per_element)
    if offload == "none":
        weights += weights_bytes(spec, bytes_per_element, offload=offload)
    return weights + autoencoder_peak_bytes(spec, picture, bytes_per_element)


def weights_bytes(spec: ModelSpec, bytes_per_element: int, *, offload: str = "none") -> int:
    """Of the network's weights that are on the device at once: all, or with offload `block` the largest unit's.

    Raises ValueError where nobody has counted them.
    """
    if not spec.parameters:
        raise ValueError(f"the parameters of {spec.name} are not counted: `models.build.counted`")
    return (spec.largest_unit if offload == "block" else spec.parameters) * bytes_per_element


def autoencoder_weights_bytes(spec: ModelSpec, bytes_per_element: int) -> int:
    """Of the autoencoder's weights, as published: a frame's encoder in float32, everything else as the network's."""
    if spec.autoencoder.kind == "pixel_unshuffle":
        return 0
    if spec.autoencoder.kind == "linear":
        block: int = 3 * spec.autoencoder.factor**2
        channels: int = spec.network.latent_channels
        return (2 * block * channels + channels + 3) * _FLOAT32_BYTES
    if spec.autoencoder.kind == "causal_vae":
        return CAUSAL_VAE_PARAMETERS * bytes_per_element
    return _VAE_ENCODER_PARAMETERS * _FLOAT32_BYTES + _VAE_DECODER_PARAMETERS * bytes_per_element


def network_peak_bytes(
    config: NetworkConfig,
    window: tuple[int, int, int],
    bytes_per_element: int,
    *,
    text_tokens: int = 1,
) -> int:
    """Most bytes that one call of the network on a window (frames, rows, columns) holds beside inputs and weights.

    The batch is one. Every branch is counted as computed, also those that are left out where they are the identity.
    text_tokens: of the context, which count where they are tokens as any other.
    """
    if isinstance(config, CogVideoXConfig):
        return cogvideox_peak_bytes(config, window, text_tokens, bytes_per_element)
    if isinstance(config, RecurrentConfig):
        return recurrent_peak_bytes(config, window, bytes_per_element)
    levels = _levels(config, window)
    latent = levels[0].tokens * config.latent_channels
    stem = levels[0].tokens * config.width
    encoder, outputs = _encoder_peak(config, levels)
    kept, middle = sum(outputs), levels[-1].size
    steering, peak = 0, 0
    if config.control:
        # The latent, the hint and the hint's first layer are held throughout the branch.
        peak = max(
            2 * latent + stem + encoder,
            2 * latent + kept + _middle_peak(levels[-1]),
            2 * latent + 2 * kept + middle,
        )
        steering = kept + middle
    peak = max(
        peak,
        latent + steering + encoder,
        latent + steering + kept + _middle_peak(levels[-1]),
        latent + middle + _decoder_peak(config, levels, outputs),
        latent
        + middle
        + 2 * levels[0].size
        + latent
        + _kernel(levels[0].width, config.latent_channels),
    )
    return int(peak * bytes_per_element)


def shared_bytes(
    config: NetworkConfig, window: tuple[int, int, int], bytes_per_element: int
) -> int:
    """What calls that share what comes before the text (`models.shared`) hold at most beside one call's peak."""
    if not config.shares:
        return 0
    levels = _levels(config, window)
    kept = levels[0].tokens * config.width
    for level, below in zip_longest(levels, levels[1:]):
        if level.attention or below is None:
            # The residual block's result, and the tokens that have seen each other.
            kept += 2 * level.size
            break
        kept += config.residual_blocks * level.size + below.tokens * level.width
    return int(kept * (2 if config.control else 1) * bytes_per_element)


def _levels(config: UNetConfig, window: tuple[int, int, int]) -> list[_Level]:
    frames, rows, columns = window
    levels = []
    for number, multiplier in enumerate(config.multipliers):
        attention = 0.5**number in config.attention_scales
        width = config.width * multiplier
        levels.append(_Level(frames, rows, columns, width, attention, config.head_width))
        rows, columns = (rows + 2) // 2, columns // 2
    return levels


def _encoder_peak(config: UNetConfig, levels: list[_Level]) -> tuple[int, list[int]]:
    """Above what its caller holds; and the sizes of its outputs, in order."""
    first, width = levels[0], config.width
    stem = first.tokens * width
    inner = config.first_heads * config.head_width
    peak = stem + _temporal_peak(first._replace(width=width), inner)
    outputs = [stem]
    for number, level in enumerate(levels):
        for _ in range(config.residual_blocks):
            peak = max(peak, sum(outputs) + _block_peak(level, width))
            outputs.append(level.size)
            width = level.width
        if number + 1 < len(levels):
            halved = levels[number + 1].tokens * width
            peak = max(peak, sum(outputs) + halved + _kernel(width, width))
            outputs.append(halved)
    return peak, outputs


def _middle_peak(level: _Level) -> int:
    entry = _block_peak(level._replace(attention=True), level.width)
    return max(entry, level.size + _residual_peak(level, level.width))


def _decoder_peak(config: UNetConfig, levels: list[_Level], outputs: list[int]) -> int:
    """Above what its caller holds, which is its input; the encoder's outputs are counted here."""
    skips, widths = list(outputs), _output_widths(config)
    peak, width, entered = 0, levels[-1].width, 0
    for number, level in reversed(list(enumerate(levels))):
        # Until a level is left its input is held, though only its first block reads it.
        x = 0
        for _ in range(config.residual_blocks + 1):
            joined = width + widths.pop()
            held = entered + x + level.tokens * joined
            peak = max(peak, sum(skips) + held)
            skips.pop()
            peak = max(peak, sum(skips) + held + _block_peak(level, joined))
            x, width = level.size, level.width
        if number:
            # The doubled video, its copy without two rows, and the convolution of that.
            enlarged = levels[number - 1].tokens * width
            doubling = 4 * level.size + 2 * enlarged + _kernel(width, width)
            peak = max(peak, sum(skips) + entered + x + doubling)
            entered = enlarged
    return peak


def _block_peak(level: _Level, width_in: int) -> int:
    """Of a residual block and its transformers, above their input of `width_in` channels."""
    peak = _residual_peak(level, width_in)
    if level.attention:
        # The temporal transformer runs while the results of both others are held.
        temporal = 2 * level.size + _temporal_peak(level, level.width)
        peak = max(peak, level.size + _spatial_peak(level), temporal)
    return peak


def _residual_peak(level: _Level, width_in: int) -> int:
    width = level.width
    entry = level.tokens * (width_in + width) + _kernel(width_in, width)
    exit_ = 3 * level.size + _kernel(width, width)
    # A stage's input, norm and convolution beside what the four stages began with.
    frames = 4 * level.size + _kernel(width, width, _FRAME_KERNEL)
    return max(entry, exit_, frames)


def _spatial_peak(level: _Level) -> int:
    # Tokens, their norm, q, k, v, what attention makes of them, and its projection or what it takes to make it.
    attention = 6 * level.size + max(
        level.size, _strips(level.rows * level.columns, level.head_width)
    )
    return max(attention, _feed_forward_peak(level.tokens, level.width))


def _strips(pixels: int, head_width: int) -> int:
    """What a head takes on a processor: queries, keys, values, and a strip of weights before and after the softmax."""
    if pixels < STRIP_TOKENS:
        return 0
    return 3 * pixels * head_width + 2 * min(STRIP_ELEMENTS, STRIP_TOKENS * pixels)


def _temporal_peak(level: _Level, inner: int) -> int:
    # One frame gets all of its own attention, and neither q nor k are made.
    attention = (7 if level.frames > 1 else 4) * level.tokens * inner
    return level.size + max(
        attention,
        _feed_forward_peak(level.tokens, inner),
        level.tokens * inner + level.size,
    )


def _feed_forward_peak(tokens: int, width: int) -> int:
    """Tokens, their norm and the result, and either one part's value and gate or the result once more."""
    part = min(tokens, max(HIDDEN_ELEMENTS // (4 * width), 1))
    return 3 * tokens * width + max(8 * part, tokens) * width


def _kernel(width_in: int, width_out: int, taps: int = _SPATIAL_KERNEL) -> int:
    """Elements of a convolution's weights; a convolution makes a reordered copy of them."""
    return taps * width_in * width_out


def _output_widths(config: UNetConfig) -> list[int]:
    """Channels of each of the encoder's outputs, in order."""
    widths = [config.width]
    for number, multiplier in enumerate(config.multipliers):
        halved = number + 1 < len(config.multipliers)
        widths += [config.width * multiplier] * (config.residual_blocks + halved)
    return widths


def autoencoder_peak_bytes(
    spec: ModelSpec, picture: tuple[int, int, int], bytes_per_element: int
) -> int:
    """Most bytes that encoding one frame or decoding a block (frames, rows, columns of the latent) holds.

    Beside the weights; the larger of the two, for the published widths.
    """
    frames, rows, columns = picture
    pixels = rows * columns * spec.autoencoder.factor**2
    if spec.autoencoder.kind == "pixel_unshuffle":
        # The pixels and the latent, whichever of them is made.
        return 2 * 3 * frames * pixels * _FLOAT32_BYTES
    if spec.autoencoder.kind == "linear":
        # Each of the two also in the order in which the convolutions work, pixels with more than their three channels.
        latent: int = spec.network.latent_channels * frames * rows * columns
        return (4 * 3 * frames * pixels + 3 * latent) * _FLOAT32_BYTES
    if spec.autoencoder.kind == "causal_vae":
        return causal_vae_peak_bytes(spec.autoencoder, picture, bytes_per_element)
    return max(
        vae_encode_peak_bytes(pixels), vae_decode_peak_bytes(frames, pixels, bytes_per_element)
    )


def vae_encode_peak_bytes(pixels: int) -> int:
    """Of encoding one frame: at full size a block's input, its second convolution's and what goes with it."""
    return 5 * pixels * _VAE_WIDTHS[0] * _FLOAT32_BYTES


def vae_decode_peak_bytes(frames: int, pixels: int, bytes_per_element: int) -> int:
    """Of decoding frames of `pixels` pixels together: the last level's convolutions over frames are the largest."""
    size = frames * pixels * _VAE_WIDTHS[0]
    # The level's input has twice the channels and is held until the level is left; then there are a block's input,
    # its spatial half's result, and the input and the result of the convolution.
    held = 2 + 1 + 1 + 1 + 1
    # In float32 it spreads three frames beside each other, else it reorders its input; more than one frame are copied
    # into place before.
    inside = (3 if bytes_per_element == _FLOAT32_BYTES else 1) + (1 if frames > 1 else 0)
    return (held + inside) * size * bytes_per_element
