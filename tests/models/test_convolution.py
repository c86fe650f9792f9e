"""Convolutions of few pixels equal torch's, in every order of memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.bench.network import count_flops
from starvsr.models import convolution
from starvsr.models.convolution import FEW_PIXELS, conv2d
from starvsr.models.linear import ONEDNN_AVAILABLE

KERNELS = [(3, 3, (1, 1)), (3, 1, (1, 0)), (1, 1, (0, 0)), (3, 3, (0, 2))]


@pytest.fixture(autouse=True)
def few_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)


@pytest.mark.parametrize(("rows", "columns", "padding"), KERNELS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_torch(
    rows: int, columns: int, padding: tuple[int, int], channels_last: bool, bias: bool
) -> None:
    x, weight = torch.randn(2, 5, 7, 6), torch.randn(4, 5, rows, columns)
    if channels_last:
        x, weight = (part.to(memory_format=torch.channels_last) for part in (x, weight))
    addend = torch.randn(4) if bias else None
    with torch.no_grad():
        ours = conv2d(x, weight, addend, padding=padding)
        assert torch.allclose(ours, F.conv2d(x, weight, addend, padding=padding), atol=1e-5)


@pytest.mark.skipif(not ONEDNN_AVAILABLE, reason="no x86 processor, or torch without oneDNN")
def test_only_few_pixels_become_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    product = convolution._product

    def noted(x: Tensor, *rest: Any) -> Tensor:
        made.append(x.shape[3])
        return product(x, *rest)

    monkeypatch.setattr(convolution, "_product", noted)
    weight = torch.randn(4, 5, 3, 3)
    for width in (FEW_PIXELS // 2, FEW_PIXELS // 2 + 1):
        with torch.no_grad():
            conv2d(torch.randn(1, 5, 2, width), weight, None, padding=(1, 1))
            conv2d(torch.randn(1, 5, 2, width), weight, None, stride=(2, 2), padding=(1, 1))
    conv2d(torch.randn(1, 5, 2, 2), weight, None, padding=(1, 1))
    assert made == [FEW_PIXELS // 2]


def test_its_products_are_counted() -> None:
    x, weight = torch.randn(2, 5, 7, 6), torch.randn(4, 5, 3, 3)
    with torch.inference_mode():
        assert count_flops(lambda: conv2d(x, weight, None, padding=(1, 1))) == 2 * 84 * 45 * 4
