"""The small golden network, filled once for all tests that only run it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from starvsr.models.unet import StarUNet
from starvsr.zoo.convert import from_published
from tests.golden.seeded_init import seeded_state_dict
from tests.models.helpers import GOLDEN, SMALL, load_golden


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, and lose much while they wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_net() -> StarUNet:
    """The network of the golden cases. Shared: a test that changes it works on a copy."""
    keys = json.loads((GOLDEN / "unet_small_keys.json").read_text())
    with torch.device("meta"):
        net = StarUNet(SMALL).eval()
    net.load_state_dict(from_published(seeded_state_dict(keys)), assign=True)
    return net.requires_grad_(False)


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """Inputs and outputs of the small network's cases."""
    return load_golden("unet_small")
