"""The recurrent network: cut runs equal whole ones, what is remembered follows the picture, bad input is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.models.recurrent import Memory, RecurrentNet
from starvsr.restore.schedule import logsnr_cosine_interp
from starvsr.types import RecurrentConfig
from tests.golden.seeded_init import fill_module, seeded_input

SMALL = RecurrentConfig(
    latent_channels=12, stem_width=8, width=8, deep_width=16, deep_blocks=1, motion_width=4
)


FULL_SIZE = dataclasses.replace(SMALL, full_width=4)
"""With layers over pixels, of which an element of its latent has 2x2."""


@pytest.fixture(scope="module", params=[SMALL, FULL_SIZE], ids=["small", "full size"])
def net(request: pytest.FixtureRequest) -> RecurrentNet:
    """None of whose parameters is zero."""
    net = RecurrentNet(request.param).eval()
    fill_module(net, 0)
    return net.requires_grad_(False)


def latent(frames: int, rows: int = 8, columns: int = 10, batch: int = 1) -> Tensor:
    return seeded_input("x", (batch, SMALL.latent_channels, frames, rows, columns))


def run(net: RecurrentNet, x: Tensor, memory: Memory | None = None) -> Tensor:
    v: Tensor = net(x, torch.tensor([100]), torch.zeros(1, 1, 1), None, memory)
    return v


@pytest.mark.parametrize("cuts", [[1, 4], [2, 3], [1, 1, 1, 1, 1]])
def test_runs_with_one_memory_equal_a_whole_one(net: RecurrentNet, cuts: list[int]) -> None:
    x, memory = latent(5), Memory()
    pieces = [run(net, piece, memory) for piece in torch.split(x, cuts, dim=2)]
    assert torch.equal(torch.cat(pieces, dim=2), run(net, x))


def test_frames_depend_on_those_before_and_on_none_behind(net: RecurrentNet) -> None:
    x = latent(4)
    changed = x.clone()
    changed[:, :, 1] += 0.3
    before, after = run(net, x), run(net, changed)
    differs = [not torch.equal(before[:, :, i], after[:, :, i]) for i in range(4)]
    assert differs == [False, True, True, True]


def test_the_trust_gate_decides_how_much_is_recalled(net: RecurrentNet) -> None:
    """Of two frames that differ, a closed gate leaves nothing of the first in the second."""
    x = latent(2)
    alone = run(net, x[:, :, 1:])
    weight = net.trust.weight.clone()
    try:
        net.trust.weight.fill_(-1e4)
        closed = run(net, x)[:, :, 1:]
        net.trust.weight.copy_(weight)
        usual = run(net, x)[:, :, 1:]
    finally:
        net.trust.weight.copy_(weight)
    torch.testing.assert_close(closed, alone, rtol=0, atol=1e-6)
    assert (usual - alone).abs().max() > 1e-3


def test_examples_of_a_batch_do_not_mix(net: RecurrentNet) -> None:
    x = latent(3, batch=2)
    for one, together in zip(torch.split(x, 1), torch.split(run(net, x), 1), strict=True):
        torch.testing.assert_close(together, run(net, one), rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [SMALL, FULL_SIZE])
def test_a_new_network_gives_the_latent_back_and_moves_nothing(config: RecurrentConfig) -> None:
    """What it adds is zero at first, so that training starts from plain upsampling."""
    net, memory, x = RecurrentNet(config), Memory(), latent(2)
    torch.testing.assert_close(run(net, x, memory), -0.1658 * x)
    assert len(memory.flows) == 1
    assert not memory.flows[0].any()


def test_what_a_new_network_keeps_is_the_schedules() -> None:
    """At diffusion time 100 the latent `z = x0` asks for the velocity `(alpha - 1) / sigma z`."""
    schedule, z, kept = logsnr_cosine_interp(), torch.tensor([2.0]), RecurrentNet(SMALL).kept
    restored = schedule.x0_from_v(z, kept.detach() * z, 100)
    torch.testing.assert_close(restored, z, rtol=0, atol=1e-4)


def test_layers_at_full_size_treat_every_pixel_of_an_element_alike() -> None:
    """Where the layers before them give nothing, a picture moved by a pixel comes out moved by a pixel."""
    net = RecurrentNet(FULL_SIZE)
    fill_module(net, 0)
    full_size = net.full_size
    assert full_size is not None
    picture = seeded_input("picture", (1, 3, 16, 20))
    features = torch.zeros(1, FULL_SIZE.width, 8, 9)
    torch.nn.init.zeros_(full_size.spread.bias)
    shown = []
    for moved in (0, 1):
        z = F.pixel_unshuffle(picture[..., moved : moved + 18], 2)
        shown.append(F.pixel_shuffle(full_size(features, z, z), 2))
    inside = slice(4, -4)
    torch.testing.assert_close(shown[0][..., 5:-3], shown[1][..., inside], rtol=0, atol=1e-6)
    assert shown[0][..., inside].std() > 1e-3


@pytest.mark.parametrize("config", [SMALL, FULL_SIZE])
def test_every_parameter_has_a_gradient(config: RecurrentConfig) -> None:
    net = RecurrentNet(config)
    fill_module(net, 0)
    run(net, latent(3)).square().mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_without_gates() -> None:
    net = RecurrentNet(dataclasses.replace(SMALL, liem=False))
    fill_module(net, 0)
    assert run(net, latent(2)).shape == latent(2).shape
    gates = [name for name, _ in net.named_parameters() if "gate" in name]
    assert gates == []


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((1, 12, 2, 7, 8), "rows and columns multiples of 2"),
        ((1, 12, 0, 8, 8), "at least one frame"),
        ((1, 11, 2, 8, 8), "must be b 12 f h w"),
        ((12, 2, 8, 8), "must be b 12 f h w"),
    ],
)
def test_other_shapes_are_refused(net: RecurrentNet, shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        run(net, torch.zeros(shape))


def test_a_hint_is_refused(net: RecurrentNet) -> None:
    x = latent(1)
    with pytest.raises(ValueError, match="takes no hint"):
        net(x, torch.tensor([100]), torch.zeros(1, 1, 1), x)


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(SMALL, width=0),
        dataclasses.replace(SMALL, motion_width=0),
        dataclasses.replace(SMALL, deep_blocks=-1),
        dataclasses.replace(SMALL, full_width=-1),
        dataclasses.replace(FULL_SIZE, latent_channels=16),
    ],
)
def test_impossible_sizes_are_refused(config: RecurrentConfig) -> None:
    with pytest.raises(ValueError, match=r"a network|number of blocks|whole pictures"):
        RecurrentNet(config)
