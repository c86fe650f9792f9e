"""FLOPs and layers of a call against counts by hand."""

from __future__ import annotations

import pytest
import torch

from starvsr.bench.network import REST, count_flops, measure_call, measure_layers
from starvsr.models.build import build_network
from starvsr.types import RecurrentConfig
from tests.conftest import TOY
from tests.zoo.published_cogvideox import SMALL_COGVIDEOX

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = RecurrentConfig(
    latent_channels=3,
    stem_width=4,
    width=8,
    deep_width=8,
    motion_width=4,
    blocks_before=1,
    deep_blocks=1,
    blocks_behind=1,
)
ROWS, COLUMNS = 8, 12


def conv(width_in: int, width_out: int, shrunk: int = 1) -> int:
    """FLOPs of a 3x3 convolution whose result is `shrunk` times smaller each way."""
    return 2 * 9 * width_in * width_out * (ROWS // shrunk) * (COLUMNS // shrunk)


def test_convolutions_are_counted_exactly() -> None:
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    found = count_flops(lambda: layer(torch.zeros(2, 3, ROWS, COLUMNS)))
    assert found == 2 * conv(3, 5)


def test_attention_is_counted() -> None:
    q = torch.zeros(1, 2, 6, 16)
    found = count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert found == 2 * (2 * 6 * 6 * 16 * 2)


def test_a_recurrent_call_follows_on_a_frame() -> None:
    """So that its motion and what it remembers are part of every frame."""
    network = build_network(SMALL).eval()
    one, two = (measure_call(network, (frames, ROWS, COLUMNS), repeats=1) for frames in (1, 2))
    assert two.flops == 2 * one.flops
    layers = {layer.name: layer for layer in measure_layers(network, (2, ROWS, COLUMNS))}
    assert layers["stem"].flops == 2 * conv(3, 4)
    assert layers["down"].flops == 2 * conv(8, 8, 2)
    assert layers["motion.entry"].flops == 2 * conv(8, 4, 2)
    assert layers["recall"].flops == 2 * 2 * 8 * 8 * ROWS * COLUMNS
    assert two.gflops > 0 and all(layer.seconds.wall > 0 for layer in layers.values())


def test_a_network_is_given_what_it_makes_once_for_all_calls() -> None:
    network = build_network(SMALL_COGVIDEOX.network).eval()
    layers = {layer.name: layer for layer in measure_layers(network, (1, ROWS, COLUMNS))}
    width = SMALL_COGVIDEOX.network.width
    assert layers["patch_embed.proj"].flops == 2 * 4 * 4 * width * (ROWS // 2) * (COLUMNS // 2)
    assert "patch_embed.text_proj" not in layers


def test_layers_come_with_the_dearest_first_and_add_up_to_a_call() -> None:
    network = build_network(TOY.network).eval()
    *found, rest = measure_layers(network, (1, 4, 4), repeats=2)
    seconds = [layer.seconds.undisturbed for layer in found]
    assert seconds == sorted(seconds, reverse=True)
    assert rest.name == REST and rest.seconds.wall > 0
    whole = measure_call(network, (1, 4, 4), repeats=1).flops
    of_layers = sum(layer.flops for layer in found)
    # Attention is no layer, and of a few tokens it is little.
    assert 0.5 * whole < of_layers < of_layers + rest.flops == whole
    assert not any(module._forward_hooks for module in network.modules())
