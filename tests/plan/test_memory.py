"""The memory model against what is measured on this processor."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from starvsr.models.autoencoder import LinearAutoencoder, PixelUnshuffle, TemporalVAE
from starvsr.models.build import counted, empty_network
from starvsr.models.causal_vae import CausalVAE
from starvsr.models.cogvideox import StarCogVideoX
from starvsr.plan import memory
from starvsr.plan.pieces import KEPT_HINTS_BYTES
from starvsr.plan.windows import frames_of
from starvsr.specs import NANO, SPECS, STAR_COGVIDEOX, STAR_LIGHT, TOY
from starvsr.types import AutoencoderSpec, CogVideoXConfig, ModelSpec, UNetConfig
from tests.peak_memory import RESET, TEXT_TOKENS, live_bytes, network_call, resident_bytes, seeded
from tests.zoo.published import SMALL_STAR

WIDE = UNetConfig(
    width=64,
    multipliers=(1, 2, 4),
    head_width=32,
    first_heads=4,
    context_width=64,
    attention_scales=(1.0, 0.5),
)
"""With an inner width of the first transformer that is twice the channels, as at full size."""

OFFLOADS = ("none", "model", "block")
COGVIDEOX = CogVideoXConfig(layers=2, heads=4, head_width=32, time_width=32, context_width=24)
CONFIGS = {
    "small": SMALL_STAR.network,
    "wide": WIDE,
    "nano": NANO.network,
    "nano at full size": dataclasses.replace(NANO.network, full_width=16),
    "cogvideox": COGVIDEOX,
    "cogvideox-added": dataclasses.replace(COGVIDEOX, rotary=False),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_parameters_of_named_models(spec: ModelSpec) -> None:
    fresh = counted(dataclasses.replace(spec, parameters=0, largest_unit=0))
    assert (spec.parameters, spec.largest_unit) == (fresh.parameters, fresh.largest_unit)
    network = empty_network(spec.network)
    assert spec.parameters == sum(p.numel() for p in network.parameters())
    with pytest.raises(ValueError, match="not counted"):
        memory.weights_bytes(dataclasses.replace(spec, parameters=0), 2)


def test_parameters_of_the_autoencoder() -> None:
    with torch.device("meta"):
        module = TemporalVAE.build(
            {
                "block_out_channels": (128, 256, 512, 512),
                "down_block_types": ("DownEncoderBlock2D",) * 4,
                "layers_per_block": 2,
            }
        )
    encoder, decoder = (
        sum(p.numel() for part in parts for p in part.parameters())
        for parts in ((module.encoder, module.quant_conv), (module.decoder,))
    )
    assert encoder + decoder == sum(p.numel() for p in module.parameters())
    assert memory.autoencoder_weights_bytes(STAR_LIGHT, 2) == 4 * encoder + 2 * decoder
    assert memory.autoencoder_weights_bytes(NANO, 2) == 0


@pytest.mark.parametrize(("factor", "channels"), [(4, 12), (1, 64), (4, 256), (8, 4)])
def test_a_linear_autoencoder_takes_what_is_planned(factor: int, channels: int) -> None:
    spec = dataclasses.replace(
        TOY,
        network=dataclasses.replace(TOY.network, latent_channels=channels),
        autoencoder=dataclasses.replace(TOY.autoencoder, factor=factor),
    )
    config = {"factor": factor, "latent_channels": channels}
    state = LinearAutoencoder.build(config).state_dict()
    parameters = sum(value.numel() for value in state.values())
    assert memory.autoencoder_weights_bytes(spec, 2) == 4 * parameters
    coder = LinearAutoencoder.from_state(config, state, 1.0, torch.device("cpu"), torch.float32)
    predicted = memory.autoencoder_peak_bytes(spec, (2, 12, 16), 4)
    frames = torch.zeros(1, 3, 2, 12 * factor, 16 * factor)
    latent = torch.zeros(1, channels, 2, 12, 16)
    measured = max(
        live_bytes(lambda: coder.encode(frames)), live_bytes(lambda: coder.decode(latent))
    )
    assert measured <= predicted < 4 * measured


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("small", (4, 24, 24)),
        ("small", (1, 24, 24)),
        ("small", (12, 32, 40)),
        ("wide", (4, 26, 24)),
        pytest.param("wide", (4, 66, 64), marks=pytest.mark.slow),
        ("nano", (2, 48, 64)),
        ("nano", (8, 90, 96)),
        ("nano at full size", (8, 90, 96)),
        ("cogvideox", (1, 8, 8)),
        ("cogvideox", (7, 20, 32)),
        ("cogvideox-added", (7, 20, 32)),
    ],
)
def test_network_peak_is_what_is_alive(name: str, window: tuple[int, int, int]) -> None:
    config = CONFIGS[name]
    measured = live_bytes(network_call(config)(window))
    predicted = memory.network_peak_bytes(config, window, 4, text_tokens=TEXT_TOKENS)
    assert predicted == pytest.approx(measured, rel=0.02)


@pytest.mark.skipif(not RESET.exists(), reason="needs a system that tells the resident peak")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "window"),
    [("wide", (36, 26, 48)), ("nano at full size", (16, 212, 128))],
)
def test_network_peak_is_what_becomes_resident(name: str, window: tuple[int, int, int]) -> None:
    config = CONFIGS[name]
    predicted = memory.network_peak_bytes(config, window, 4)
    assert predicted > 150e6
    assert predicted == pytest.approx(resident_bytes(config, window), rel=0.1)


@pytest.mark.skipif(not RESET.exists(), reason="needs a system that tells the resident peak")
@pytest.mark.slow
def test_autoencoder_peaks_are_what_becomes_resident() -> None:
    predicted = memory.vae_encode_peak_bytes(64 * 40 * 24)
    assert predicted > 150e6
    assert predicted == pytest.approx(resident_bytes("encode", (1, 40, 24)), rel=0.1)
    predicted = memory.vae_decode_peak_bytes(2, 64 * 20 * 18, 4)
    assert predicted > 150e6
    assert predicted == pytest.approx(resident_bytes("decode", (2, 20, 18)), rel=0.1)


CAUSAL = dataclasses.replace(
    STAR_LIGHT,
    autoencoder=AutoencoderSpec(kind="causal_vae", factor=8, time_factor=4),
    context_tokens=226,
    network=STAR_COGVIDEOX.network,
    parameters=STAR_COGVIDEOX.parameters,
    largest_unit=STAR_COGVIDEOX.largest_unit,
)


def test_parameters_of_the_causal_autoencoder() -> None:
    with torch.device("meta"):
        module = CausalVAE.build({})
    count = sum(p.numel() for p in module.parameters())
    assert memory.autoencoder_weights_bytes(CAUSAL, 2) == 2 * count


@pytest.mark.slow
@pytest.mark.parametrize("picture", [(1, 3, 4), (3, 3, 4), (5, 2, 2)])
def test_causal_autoencoder_peaks_are_what_is_alive(picture: tuple[int, int, int]) -> None:
    module = CausalVAE.build({})
    seeded(module, torch.float32)
    vae = CausalVAE(module, 0.7)
    frames, rows, columns = picture
    pixels = torch.zeros(1, 3, frames_of(frames, 4), 8 * rows, 8 * columns)
    measured = max(
        live_bytes(lambda: vae.encode(pixels)),
        live_bytes(lambda: vae.decode(torch.zeros(1, 16, frames, rows, columns))),
    )
    predicted = memory.autoencoder_peak_bytes(CAUSAL, picture, 4)
    assert predicted == pytest.approx(measured, rel=0.03)
    longer = memory.autoencoder_peak_bytes(CAUSAL, (11, rows, columns), 4)
    assert longer > 215 * 128 * 64 * rows * columns * 4, "encoding sees all frames"


def test_text_takes_memory_where_it_is_tokens_as_any_other() -> None:
    few, many = (
        memory.network_peak_bytes(COGVIDEOX, (1, 8, 8), 2, text_tokens=n) for n in (1, 226)
    )
    assert many > 5 * few
    window = (7, 60, 90)
    peaks = {o: memory.network_stage_bytes(CAUSAL, window, 2, o) for o in OFFLOADS}
    assert 0.7e9 < peaks["block"] < peaks["model"] < peaks["none"] < 13e9


def test_hints_that_are_kept_take_memory_up_to_a_limit() -> None:
    window, one = (7, 60, 90), 9450 * 3072 * 2
    first, second, many, more = (
        memory.network_stage_bytes(CAUSAL, window, 2, "block", windows=n) for n in (1, 2, 50, 60)
    )
    assert second - first == one
    assert many == more == first + KEPT_HINTS_BYTES
    assert StarCogVideoX(COGVIDEOX).see(torch.zeros(1, 16, *window)).nbytes == 9450 * 128 * 4
    unet = {memory.network_stage_bytes(STAR_LIGHT, window, 2, "none", windows=n) for n in (1, 50)}
    assert len(unet) == 1


def test_peak_scales_with_the_type_and_the_window() -> None:
    config = UNetConfig()
    one = memory.network_peak_bytes(config, (8, 50, 80), 2)
    assert memory.network_peak_bytes(config, (8, 50, 80), 4) == 2 * one
    assert 1.8 * one < memory.network_peak_bytes(config, (16, 50, 80), 2) <= 2 * one


def test_stages_count_the_weights_that_are_there() -> None:
    window, weights = (8, 50, 80), memory.weights_bytes(STAR_LIGHT, 2)
    vae = memory.autoencoder_weights_bytes(STAR_LIGHT, 2)
    peaks = {o: memory.network_stage_bytes(STAR_LIGHT, window, 2, o) for o in OFFLOADS}
    assert peaks["none"] - peaks["model"] == vae
    largest = STAR_LIGHT.largest_unit
    assert peaks["model"] - peaks["block"] == weights - 2 * largest
    inputs = 2 * 4 * 8 * 50 * 80 * 2
    activations = memory.network_peak_bytes(STAR_LIGHT.network, window, 2)
    assert peaks["model"] == weights + activations + inputs

    peaks = {o: memory.autoencoder_stage_bytes(STAR_LIGHT, window, 2, o) for o in OFFLOADS}
    assert peaks["none"] - peaks["model"] == weights
    assert peaks["model"] == peaks["block"]
    assert peaks["model"] - vae == memory.vae_decode_peak_bytes(8, 64 * 50 * 80, 2)
    # One frame is decoded in less than it takes to encode it, which is done in float32.
    one = memory.autoencoder_stage_bytes(STAR_LIGHT, (1, 50, 80), 2, "model")
    assert one - vae == memory.vae_encode_peak_bytes(64 * 50 * 80)


def test_pixel_unshuffle_holds_pixels_and_latents() -> None:
    frames, autoencoder = torch.zeros(1, 3, 3, 64, 96), PixelUnshuffle(4)
    latent = autoencoder.encode(frames)
    made = {live_bytes(lambda: autoencoder.encode(frames))}
    made.add(live_bytes(lambda: autoencoder.decode(latent)))
    assert made == {latent.nbytes}
    predicted = memory.autoencoder_stage_bytes(NANO, (3, 16, 24), 2, "model")
    assert predicted == frames.nbytes + latent.nbytes


def test_a_network_without_control_holds_less() -> None:
    without = dataclasses.replace(WIDE, control=False)
    window = (4, 26, 24)
    assert memory.network_peak_bytes(without, window, 4) < memory.network_peak_bytes(
        WIDE, window, 4
    )
