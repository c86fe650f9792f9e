"""Every tensor of a call is made on the device of its inputs.

The device `meta` shows it without a card: tensors there have no numbers, and none of another device may join them.
"""

from __future__ import annotations

import contextlib

import pytest
import torch

from starvsr.models.build import empty_network
from starvsr.models.recurrent import Memory
from starvsr.models.shared import Shared
from starvsr.specs import NANO, TOY
from starvsr.types import NetworkConfig
from tests.zoo.published import SMALL_STAR
from tests.zoo.published_cogvideox import SMALL_2B, SMALL_COGVIDEOX

CONFIGS = {
    "star": SMALL_STAR.network,
    "toy": TOY.network,
    "nano": NANO.network,
    "cogvideox": SMALL_COGVIDEOX.network,
    "cogvideox-2b": SMALL_2B,
}


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_a_call_stays_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config: NetworkConfig = CONFIGS[name]
    dtype = torch.float16
    # There is no autocast for a device without numbers.
    monkeypatch.setattr("torch.autocast", lambda *_, **__: contextlib.nullcontext())
    network = empty_network(config).eval().to(dtype)
    x = torch.empty(1, config.latent_channels, 3, 20, 24, dtype=dtype, device="meta")
    text = torch.empty(1, 77, config.context_width, dtype=dtype, device="meta")
    hint = network.see(x) if config.control else None
    t = torch.empty(1, dtype=torch.long, device="meta")
    carried = (Memory(None),) if config.recurrent else (Shared(),) if config.shares else ()
    for _ in range(2):
        out = network(x, t, network.embed(text), hint, *carried)
        assert (out.device.type, out.dtype, out.shape) == ("meta", dtype, x.shape)
