"""LIEM as the paper writes it, and what a layer norm leaves of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.models.liem import FrameGate, SpatialGate, _statistics
from tests.golden.seeded_init import seeded_input


def eq_3(x: Tensor, kernel: Tensor) -> Tensor:
    """`sigmoid(conv([max_c(x), mean_c(x)]))` for x `n c h w`, one pixel and one tap at a time."""
    n, _, h, w = x.shape
    features = torch.stack([x.max(dim=1).values, x.sum(dim=1) / x.shape[1]], dim=1)
    size = kernel.shape[-1]
    padded = F.pad(features, (size // 2,) * 4)
    out = torch.zeros(n, h, w)
    for row in range(size):
        for column in range(size):
            for feature in range(2):
                part = padded[:, feature, row : row + h, column : column + w]
                out += kernel[0, feature, row, column] * part
    return 1 / (1 + torch.exp(-out))


@torch.no_grad()
def test_spatial_gate_is_eq_3() -> None:
    gate, x = SpatialGate(), torch.randn(2, 9, 5, 16)
    expected = eq_3(x.permute(0, 3, 1, 2), gate.weight)
    torch.testing.assert_close(gate(x)[..., 0], expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_frame_gate_weighs_maximum_then_mean() -> None:
    gate, x = FrameGate(), torch.randn(2, 3, 4, 16)
    maximum, mean = gate.weight[0]
    expected = torch.sigmoid(maximum * x.max(-1).values + mean * x.mean(-1))
    torch.testing.assert_close(gate(x)[..., 0], expected)


@torch.no_grad()
@pytest.mark.parametrize("gate", [1.0, 0.1, 0.01, 0.001])
def test_a_layer_norm_sees_a_gate_through_its_epsilon(gate: float) -> None:
    x = torch.randn(50, 64, dtype=torch.float64)
    gated = F.layer_norm(gate * x, (64,), eps=1e-5)
    torch.testing.assert_close(gated, F.layer_norm(x, (64,), eps=1e-5 / gate**2))


@torch.no_grad()
@pytest.mark.parametrize(("gate", "change"), [(0.1, 5e-4), (0.01, 5e-2)])
def test_how_much_a_gate_matters(gate: float, change: float) -> None:
    x = torch.randn(2000, 256, dtype=torch.float64)
    plain = F.layer_norm(x, (256,), eps=1e-5)
    gated = F.layer_norm(gate * x, (256,), eps=1e-5)
    assert float((gated - plain).norm() / plain.norm()) == pytest.approx(change, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 7, 48, 320])
def test_statistics_by_way_of_float32_are_the_same_to_the_bit(
    dtype: torch.dtype, channels: int
) -> None:
    x = seeded_input("x", (2, 3, 5, channels)).to(dtype) * 9
    found = _statistics(x)
    assert found.dtype == dtype
    assert torch.equal(found, torch.stack([x.amax(-1), x.mean(-1)], dim=-1))
