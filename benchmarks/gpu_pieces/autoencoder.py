"""Piece `autoencoder`: encoding and decoding with the temporal autoencoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch

from gpu_pieces.calls import rates
from gpu_pieces.setting import DTYPES, Case, Peaks, Setting, timed
from gpu_pieces.weights import drawn_vae, vae_config
from starvsr.bench.network import count_flops
from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.causal_vae import CausalVAE
from starvsr.plan.memory import vae_decode_peak_bytes, vae_encode_peak_bytes
from starvsr.plan.windows import frames_of

Picture = tuple[int, int, int]

PICTURES: tuple[Picture, ...] = ((6, 90, 160), (6, 80, 80), (6, 40, 40), (6, 160, 160))
"""Frames, rows and columns of latents that are decoded together; one of their frames is encoded."""
DRY_PICTURE: Picture = (2, 4, 6)


def cases(setting: Setting) -> Iterator[Case]:
    """Both directions at the sizes that plans have."""
    for precision in DTYPES:
        for picture in setting.pick(PICTURES, (DRY_PICTURE,)):
            size = "x".join(map(str, picture))
            # The encoder is in float32 whatever is asked for.
            directions = ("encode", "decode") if precision == "fp32" else ("decode",)
            for direction in directions:
                run = partial(_measure, setting, precision, direction, picture)
                yield Case(f"{direction} {size} {precision}", run)


@torch.inference_mode()
def _measure(
    setting: Setting, precision: str, direction: str, picture: Picture
) -> Mapping[str, Any]:
    setting.release()
    dtype = DTYPES[precision]
    vae = drawn_vae(TemporalVAE, vae_config(setting), setting.device, dtype)
    result = dict(measured_direction(setting, vae, direction, picture))
    frames, pixels = picture[0], picture[1] * picture[2] * vae.factor**2
    predicted = (
        vae_encode_peak_bytes(pixels)
        if direction == "encode"
        else vae_decode_peak_bytes(frames, pixels, dtype.itemsize)
    )
    flops = _flops(vae_config(setting), direction, picture)
    return {
        **result,
        "planned_bytes": predicted,
        **rates(setting, precision, flops, result["seconds"]),
    }


def measured_direction(
    setting: Setting, vae: TemporalVAE | CausalVAE, direction: str, picture: Picture
) -> dict[str, Any]:
    """Seconds and memory of encoding (one frame, or all where time is coded too) or decoding a block of latents."""
    frames, rows, columns = picture
    coded = frames_of(frames, vae.time_factor) if vae.time_factor > 1 else 1
    pixels = torch.randn(
        1, 3, coded, rows * vae.factor, columns * vae.factor, device=setting.device
    )
    latent = torch.randn(1, vae.latent_channels, *picture, device=setting.device)
    call = partial(vae.encode, pixels) if direction == "encode" else partial(vae.decode, latent)
    with Peaks(setting) as peaks:
        first, seconds = timed(setting, call)
    return {
        "seconds": seconds,
        "first_s": first,
        "frames": coded if direction == "encode" else frames_of(frames, vae.time_factor),
        **peaks.described(),
        # It changes to float32 where half precision overflows.
        "type": str(next(vae.module.decoder.parameters()).dtype).removeprefix("torch."),
    }


def _flops(config: Mapping[str, Any], direction: str, picture: Picture) -> int:
    frames, rows, columns = picture
    with torch.device("meta"):
        module = TemporalVAE.build(config).to("meta")
        factor = 2 ** (len(module.config.block_out_channels) - 1)
        if direction == "encode":
            pixels = torch.zeros(1, 3, rows * factor, columns * factor)
            return count_flops(lambda: module.encode(pixels))
        latents = torch.zeros(frames, module.config.latent_channels, rows, columns)
        return count_flops(lambda: module.decode(latents, num_frames=frames))
