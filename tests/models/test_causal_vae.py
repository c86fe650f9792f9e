"""CogVideoX's autoencoder behind our interface, against diffusers' modules used as the published code uses them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from starvsr.models.autoencoder import Autoencoder
from starvsr.models.causal_vae import CausalVAE
from tests.golden.seeded_init import seeded_parameter

CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKLCogVideoX",
    "_diffusers_version": "0.31.0.dev0",
    "block_out_channels": [4, 4, 4, 8],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": 0.7,
    "temporal_compression_ratio": 4,
}


def causal_vae_state(config: dict[str, Any] = CONFIG) -> dict[str, Tensor]:
    """Seeded parameters."""
    with torch.device("meta"):
        module = CausalVAE.build(config)
    return {n: seeded_parameter(n, tuple(t.shape)) for n, t in module.state_dict().items()}


def small_causal_vae(dtype: torch.dtype = torch.float32) -> CausalVAE:
    cpu = torch.device("cpu")
    return CausalVAE.from_state(CONFIG, causal_vae_state(), 0.7, cpu, dtype)


def diffusers_module() -> Any:
    module = CausalVAE.build(CONFIG).eval()
    module.load_state_dict(causal_vae_state())
    return module


@torch.inference_mode()
def test_it_encodes_a_run_at_once() -> None:
    vae, module = small_causal_vae(), diffusers_module()
    coder: Autoencoder = vae
    assert (coder.factor, coder.time_factor, coder.latent_channels) == (8, 4, 4)
    frames = torch.rand(1, 3, 17, 16, 24) * 2 - 1
    # The encoder by itself, without the library's groups.
    parameters, _ = module.encoder(frames)
    mean, log_variance = parameters.chunk(2, dim=1)
    assert mean.shape == (1, 4, 5, 2, 3)
    torch.testing.assert_close(vae.encode(frames), 0.7 * mean)
    noise = torch.randn_like(mean)
    sampled = 0.7 * (mean + torch.exp(log_variance / 2) * noise)
    torch.testing.assert_close(vae.encode(frames, noise), sampled)
    grouped = 0.7 * module.encode(frames).latent_dist.mean
    assert (grouped - 0.7 * mean).abs().max() > 1e-3, "groups have norms of their own"


@torch.inference_mode()
@pytest.mark.parametrize(("length", "groups"), [(1, [1]), (3, [3]), (5, [3, 2]), (7, [3, 2, 2])])
def test_it_decodes_in_the_published_groups(length: int, groups: list[int]) -> None:
    vae, module = small_causal_vae(), diffusers_module()
    z = torch.randn(1, 4, length, 2, 3)
    parts, cache = [], None
    for part in torch.split(z / 0.7, groups, dim=2):
        part, cache = module.decoder(part, conv_cache=cache)
        parts.append(part)
    decoded = vae.decode(z)
    assert decoded.shape == (1, 3, 4 * length - 3, 16, 24)
    torch.testing.assert_close(decoded, torch.cat(parts, dim=2))


@torch.inference_mode()
@pytest.mark.parametrize("length", [2, 4])
def test_an_even_number_is_decoded_with_the_last_repeated(length: int) -> None:
    vae = small_causal_vae()
    z = torch.randn(1, 4, length, 2, 3)
    decoded = vae.decode(z)
    assert decoded.shape[2] == 4 * length - 3
    longer = vae.decode(torch.cat([z, z[:, :, -1:]], dim=2))
    assert torch.equal(decoded, longer[:, :, :-4])


@torch.inference_mode()
def test_half_precision_and_its_overflow(caplog: pytest.LogCaptureFixture) -> None:
    exact, vae = small_causal_vae(), small_causal_vae(torch.float16)
    z = torch.randn(1, 4, 2, 2, 3)
    assert (vae.decode(z) - exact.decode(z)).norm() < 1e-2 * exact.decode(z).norm()
    assert vae.decode(z).dtype == torch.float32 and not caplog.records
    for each in (exact, vae):
        each.module.decoder.conv_in.conv.weight.fill_(6e4)
    results = [vae.decode(z) for _ in range(2)]
    assert all(torch.equal(result, vae.decode(z)) for result in results)
    assert all(result.isfinite().all() for result in results)
    assert len(caplog.records) == 1, "said once"
    assert "continues in float32" in caplog.text


def test_it_refuses_what_does_not_fit() -> None:
    vae, state = small_causal_vae(), causal_vae_state()
    state.pop("decoder.conv_in.conv.bias")
    with pytest.raises(ValueError, match=r"decoder\.conv_in\.conv\.bias"):
        CausalVAE.from_state(CONFIG, state, 0.7, torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match="does not fit its configuration"):
        CausalVAE.from_state({"depth": 3}, {}, 0.7, torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match="4 frames are not 1 more than a multiple of 4"):
        vae.encode(torch.zeros(1, 3, 4, 8, 8))
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode(torch.zeros(1, 3, 1, 8, 12))
    with pytest.raises(ValueError, match="b 4 t h w"):
        vae.decode(torch.zeros(1, 3, 1, 8, 8))
