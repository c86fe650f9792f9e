"""Calls that differ in their text alone: what they share changes no bit, is less work, and takes what is predicted."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from torch import Tensor

from starvsr.bench.network import count_flops
from starvsr.models.build import build_network
from starvsr.models.shared import Shared
from starvsr.models.unet import StarUNet
from starvsr.plan import memory
from starvsr.specs import TOY
from starvsr.types import UNetConfig
from tests.golden.seeded_init import fill_module
from tests.peak_memory import live_bytes
from tests.zoo.published import SMALL_STAR

CONFIGS = {
    "late text": TOY.network,
    "text at once": SMALL_STAR.network,
    "no control": dataclasses.replace(TOY.network, control=False),
    "text in the middle alone": dataclasses.replace(TOY.network, attention_scales=()),
}


def network_of(config: UNetConfig) -> StarUNet:
    network = build_network(config).eval()
    assert isinstance(network, StarUNet)
    fill_module(network, 0)
    return network


def inputs_of(config: UNetConfig, latent: tuple[int, int, int]) -> list[Tensor | None]:
    x, hint = torch.randn(2, 1, config.latent_channels, *latent)
    return [x, torch.tensor([300]), hint if config.control else None]


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_it_changes_no_bit_and_saves_work(name: str) -> None:
    config = CONFIGS[name]
    network = network_of(config)
    x, t, hint = inputs_of(config, (3, 10, 16))
    texts = torch.randn(3, 1, 5, config.context_width)
    shared, flops = Shared(), []
    for text in texts:
        together: list[Tensor] = []
        call = partial(network, x, t, text, hint, shared)
        flops.append(count_flops(lambda: together.append(call())))  # noqa: B023
        assert torch.equal(together[0], network(x, t, text, hint))
    assert flops[1] == flops[2] < 0.95 * flops[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_takes_no_more_memory_than_predicted(name: str) -> None:
    config, window = CONFIGS[name], (4, 26, 32)
    network = network_of(config)
    x, t, hint = inputs_of(config, window)
    texts = torch.randn(2, 1, 77, config.context_width)

    def calls(shared: Shared | None) -> int:
        with torch.inference_mode():
            return live_bytes(lambda: [network(x, t, text, hint, shared) for text in texts])

    more = calls(Shared()) - calls(None)
    assert more <= memory.shared_bytes(config, window, 4)
