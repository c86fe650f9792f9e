"""The autoencoders: the lossless one is exact, the temporal one is diffusers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from starvsr.models.autoencoder import (
    Autoencoder,
    LinearAutoencoder,
    PixelUnshuffle,
    TemporalVAE,
)
from tests.golden.seeded_init import seeded_parameter


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_round_trip_is_exact(factor: int) -> None:
    coder: Autoencoder = PixelUnshuffle(factor)
    frames = torch.rand(2, 3, 5, 4 * factor, 3 * factor) * 2 - 1
    latent = coder.encode(frames)
    assert latent.shape == (2, coder.latent_channels, 5, 4, 3)
    assert torch.equal(coder.decode(latent), frames)


def test_channels_are_those_of_pixel_unshuffle() -> None:
    frames = torch.rand(1, 3, 2, 8, 8)
    latent = PixelUnshuffle(4).encode(frames)
    for frame in range(2):
        assert torch.equal(latent[:, :, frame], F.pixel_unshuffle(frames[:, :, frame], 4))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        PixelUnshuffle(4).encode(torch.zeros(1, 3, 1, 8, 6))
    with pytest.raises(ValueError, match="b 3 t h w"):
        PixelUnshuffle(4).encode(torch.zeros(1, 1, 1, 8, 8))
    with pytest.raises(ValueError, match="b 48 t h w"):
        PixelUnshuffle(4).decode(torch.zeros(1, 4, 1, 8, 8))
    with pytest.raises(ValueError, match="at least 1"):
        PixelUnshuffle(0)


BLOCKS: dict[str, Any] = {"factor": 4, "latent_channels": 6}
CPU = torch.device("cpu")


@torch.inference_mode()
def test_a_linear_autoencoder_codes_every_block_by_itself() -> None:
    state = LinearAutoencoder.build(BLOCKS).state_dict()
    coder: Autoencoder = LinearAutoencoder.from_state(BLOCKS, state, 0.5, CPU, torch.float32)
    assert (coder.factor, coder.latent_channels) == (4, 6)
    frames = torch.rand(2, 3, 3, 8, 12) * 2 - 1
    latent = coder.encode(frames, torch.randn(2, 6, 3, 2, 3))
    assert latent.shape == (2, 6, 3, 2, 3)
    pictures = coder.decode(latent)
    assert pictures.shape == frames.shape
    block = frames[1, :, 2, 4:, 8:]
    z = (state["encoder.weight"] * block).sum((1, 2, 3)) + state["encoder.bias"]
    torch.testing.assert_close(latent[1, :, 2, 1, 2], 0.5 * z)
    made = (state["decoder.weight"] * z[:, None, None, None]).sum(0)
    wanted = made + state["decoder.bias"][:, None, None]
    torch.testing.assert_close(pictures[1, :, 2, 4:, 8:], wanted)


@torch.inference_mode()
def test_a_linear_autoencoder_may_be_exact() -> None:
    config = {"factor": 2, "latent_channels": 12}
    state = LinearAutoencoder.build(config).state_dict()
    every_pixel = torch.eye(12).reshape(12, 3, 2, 2)
    state = {name: every_pixel if "weight" in name else 0 * value for name, value in state.items()}
    coder = LinearAutoencoder.from_state(config, state, 1.0, CPU, torch.float32)
    frames = torch.rand(1, 3, 2, 4, 6)
    assert torch.equal(coder.encode(frames), PixelUnshuffle(2).encode(frames))
    assert torch.equal(coder.decode(coder.encode(frames)), frames)


def test_a_linear_autoencoder_computes_in_float32() -> None:
    state = LinearAutoencoder.build(BLOCKS).half().state_dict()
    coder = LinearAutoencoder.from_state(BLOCKS, state, 1.0, CPU, torch.bfloat16)
    assert coder.decode(coder.encode(torch.rand(1, 3, 1, 4, 4))).dtype == torch.float32
    assert {each.dtype for each in coder.module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "config",
    [
        {**BLOCKS, "latent_channels": 5},
        {**BLOCKS, "colour": 3},
        {},
        *({**BLOCKS, "factor": factor} for factor in ([4, 4], True, 0, -4, 4.0, "4", 1 << 20)),
    ],
)
def test_a_linear_autoencoder_of_another_configuration_is_refused(config: dict[str, Any]) -> None:
    state = LinearAutoencoder.build(BLOCKS).state_dict()
    with pytest.raises(ValueError, match="does not fit its configuration"):
        LinearAutoencoder.from_state(config, state, 1.0, CPU, torch.float32)


def small_vae(dtype: torch.dtype = torch.float32) -> tuple[TemporalVAE, Any]:
    """Ours and diffusers' own, with the same seeded weights."""
    module = TemporalVAE.build(
        {
            "block_out_channels": (32,) * 4,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "layers_per_block": 1,
        }
    ).eval()
    for name, value in module.state_dict().items():
        value.copy_(seeded_parameter(name, value.shape))
    config = {**module.config, "_class_name": "AutoencoderKLTemporalDecoder"}
    cpu = torch.device("cpu")
    state = {name: value.clone() for name, value in module.state_dict().items()}
    return TemporalVAE.from_state(config, state, 0.18215, cpu, dtype), module


@torch.inference_mode()
def test_vae_is_diffusers_behind_our_interface() -> None:
    vae, module = small_vae()
    coder: Autoencoder = vae
    assert (coder.factor, coder.latent_channels) == (8, 4)
    frames = torch.rand(1, 3, 3, 16, 24) * 2 - 1
    posterior = module.encode(frames[0].transpose(0, 1)).latent_dist
    mean = coder.encode(frames)
    assert torch.equal(mean[0].transpose(0, 1), posterior.mean * 0.18215)
    noise = torch.randn(1, 4, 3, 2, 3)
    sampled = coder.encode(frames, noise)[0].transpose(0, 1)
    expected = (posterior.mean + posterior.std * noise[0].transpose(0, 1)) * 0.18215
    assert torch.equal(sampled, expected)
    assert not torch.equal(sampled, mean[0].transpose(0, 1))
    decoded = coder.decode(mean)
    expected = module.decode(mean[0].transpose(0, 1) / 0.18215, num_frames=3).sample
    assert torch.equal(decoded[0].transpose(0, 1), expected)


@torch.inference_mode()
def test_vae_mixes_the_frames_of_a_call() -> None:
    vae, _ = small_vae()
    z = torch.randn(1, 4, 4, 2, 3)
    together, alone = vae.decode(z), vae.decode(z[:, :, 1:2])
    assert (together[:, :, 1] - alone[:, :, 0]).abs().max() > 1e-3


@torch.inference_mode()
def test_vae_goes_over_to_float32_where_half_overflows(caplog: pytest.LogCaptureFixture) -> None:
    exact, _ = small_vae()
    vae, _ = small_vae(torch.float16)
    z = torch.randn(1, 4, 2, 2, 3)
    assert (vae.decode(z) - exact.decode(z)).norm() < 1e-2 * exact.decode(z).norm()
    assert not caplog.records
    for decoder in (exact.module.decoder, vae.module.decoder):
        decoder.conv_in.weight.mul_(4e5 if decoder is vae.module.decoder else 1)
    exact.module.decoder.conv_in.weight.copy_(vae.module.decoder.conv_in.weight.clamp(-6e4, 6e4))
    vae.module.decoder.conv_in.weight.clamp_(-6e4, 6e4)
    results = [vae.decode(z) for _ in range(2)]
    assert all(result.isfinite().all() for result in results)
    assert len(caplog.records) == 1, "said once"
    assert "continues in float32" in caplog.text


def test_vae_refuses_what_does_not_fit() -> None:
    vae, module = small_vae()
    state = module.state_dict()
    state.pop("decoder.conv_in.bias")
    with pytest.raises(ValueError, match=r"decoder\.conv_in\.bias"):
        TemporalVAE.from_state(module.config, state, 1.0, torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode(torch.zeros(1, 3, 1, 8, 12))
    with pytest.raises(ValueError, match="b 4 t h w"):
        vae.decode(torch.zeros(1, 3, 1, 8, 8))
