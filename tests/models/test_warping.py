"""Pictures read at displaced places: where, in which type, and the same through bags as by `grid_sample`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from starvsr.models.linear import ONEDNN_AVAILABLE
from starvsr.models.warping import reader, warp
from tests.golden.seeded_init import seeded_input


def sampled(x: Tensor, flow: Tensor) -> Tensor:
    """By `grid_sample`, which is what autograd needs."""
    with torch.enable_grad():
        return warp(x, flow).detach()


@pytest.mark.parametrize("grad", [True, False])
def test_reads_at_the_place_plus_the_displacement(grad: bool) -> None:
    x = seeded_input("x", (2, 3, 6, 7))
    right = torch.zeros(2, 2, 6, 7)
    right[:, 0] = 1
    half_down = torch.zeros(2, 2, 6, 7)
    half_down[:, 1] = 0.5
    with torch.set_grad_enabled(grad):
        moved, between = warp(x, right), warp(x, half_down)
    torch.testing.assert_close(moved[..., :-1], x[..., 1:])
    torch.testing.assert_close(moved[..., -1], x[..., -1])
    torch.testing.assert_close(between[..., :-1, :], (x[..., :-1, :] + x[..., 1:, :]) / 2)


@pytest.mark.parametrize("grad", [True, False])
def test_keeps_the_type_and_reads_in_float32(grad: bool) -> None:
    x = seeded_input("x", (1, 1, 2, 400))
    flow = torch.full((1, 2, 2, 400), 0.25)
    flow[:, 1] = 0
    with torch.set_grad_enabled(grad):
        half, whole = warp(x.bfloat16(), flow), warp(x.bfloat16().float(), flow)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, whole.bfloat16())


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 48, 18, 30), (3, 5, 9, 17), (2, 1, 1, 1)])
def test_same_without_autograd(shape: tuple[int, ...], order: torch.memory_format) -> None:
    """Also far outside. On a processor with fused operations these are the same bits."""
    x = seeded_input("x", shape).contiguous(memory_format=order)
    flow = 20 * seeded_input("flow", (shape[0], 2, *shape[2:]))
    with torch.no_grad():
        torch.testing.assert_close(warp(x, flow), sampled(x, flow), rtol=0, atol=1e-5)


def test_several_pictures_by_one_flow() -> None:
    x, y = seeded_input("x", (2, 4, 6, 8)), seeded_input("y", (2, 7, 6, 8))
    flow = seeded_input("flow", (2, 2, 6, 8))
    with torch.no_grad():
        read = reader(flow)
        assert torch.equal(read(x), warp(x, flow))
        assert torch.equal(read(y), warp(y, flow))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_displacements_that_are_no_numbers_or_huge_read_nothing_outside(bad: float) -> None:
    x = seeded_input("x", (1, 3, 4, 4))
    flow = torch.zeros(1, 2, 4, 4)
    flow[:, :, 1, 2] = bad
    with torch.no_grad():
        read = warp(x, flow)
    elsewhere = torch.ones(4, 4, dtype=torch.bool)
    elsewhere[1, 2] = False
    torch.testing.assert_close(read[..., elsewhere], x[..., elsewhere])
    if bad != bad:
        assert read[..., 1, 2].isnan().all()


@pytest.mark.skipif(not ONEDNN_AVAILABLE, reason="no x86 processor, or torch without oneDNN")
def test_goes_through_bags_without_autograd() -> None:
    x, flow = seeded_input("x", (1, 3, 4, 4)), torch.zeros(1, 2, 4, 4)
    for grad in (True, False):
        with torch.set_grad_enabled(grad), torch.profiler.profile() as profile:
            warp(x, flow)
        names = {event.key for event in profile.key_averages()}
        assert ("aten::_embedding_bag_forward_only" in names) is not grad
        assert ("aten::grid_sampler_2d" in names) is grad
