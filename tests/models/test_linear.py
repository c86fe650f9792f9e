"""Linear layers through oneDNN: the same numbers as torch's, and only where autograd does not need them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.bench.network import count_flops
from starvsr.models.linear import ONEDNN_AVAILABLE, Linear, linear, onednn_product


def kernels(layer: Linear, x: Tensor) -> set[str]:
    """Names of the operators that a call goes through."""
    with torch.profiler.profile() as profile:
        layer(x)
    return {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 5, 7)])
def test_equals_torch(shape: tuple[int, ...], bias: bool) -> None:
    layer = Linear(7, 11, bias=bias)
    x = torch.randn(shape)
    with torch.no_grad():
        assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-6)


def test_other_orders_in_memory() -> None:
    layer = Linear(6, 4)
    x = torch.randn(2, 6, 5).transpose(1, 2)
    half = layer.weight.chunk(2)[1]
    with torch.no_grad():
        assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-6)
        assert torch.allclose(linear(x, half), F.linear(x, half), atol=1e-6)


def test_nothing_gives_nothing() -> None:
    with torch.no_grad():
        assert Linear(7, 11)(torch.empty(0, 7)).shape == (0, 11)


def test_gradients() -> None:
    layer = Linear(7, 11)
    layer(torch.randn(3, 7)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


@pytest.mark.skipif(not ONEDNN_AVAILABLE, reason="no x86 processor, or torch without oneDNN")
def test_goes_through_onednn_without_autograd_in_float32() -> None:
    layer, x = Linear(7, 11), torch.randn(3, 7)
    assert "mkldnn::_linear_pointwise" not in kernels(layer, x)
    with torch.inference_mode():
        assert "mkldnn::_linear_pointwise" in kernels(layer, x)
        assert "mkldnn::_linear_pointwise" not in kernels(layer.bfloat16(), x.bfloat16())


@pytest.mark.skipif(not ONEDNN_AVAILABLE, reason="no x86 processor, or torch without oneDNN")
@pytest.mark.parametrize("product", [None, torch.ops.aten.relu], ids=["gone", "another"])
def test_a_torch_without_the_operator_computes_the_same(
    product: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer, x = Linear(7, 11), torch.randn(3, 7)
    operators = SimpleNamespace(**({"_linear_pointwise": product} if product else {}))
    onednn_product.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    try:
        with torch.no_grad():
            results = [layer(x) for _ in range(2)]
            assert count_flops(lambda: layer(x)) == 2 * 3 * 7 * 11
        assert all(torch.equal(result, F.linear(x, layer.weight, layer.bias)) for result in results)
        assert len(caplog.records) == 1, "said once"
        assert "no oneDNN product" in caplog.text
    finally:
        onednn_product.cache_clear()


def test_products_are_counted() -> None:
    layer, x = Linear(7, 11), torch.randn(2, 3, 7)
    with torch.inference_mode():
        assert count_flops(lambda: layer(x)) == 2 * 6 * 7 * 11


def test_compiled_code_is_left_to_the_compiler() -> None:
    layer, x = Linear(7, 11), torch.randn(3, 7)
    compiled = torch.compile(layer, backend="eager")
    with torch.no_grad():
        with torch.profiler.profile() as profile:
            out = compiled(x)
        assert torch.allclose(out, layer(x), atol=1e-6)
    assert "mkldnn::_linear_pointwise" not in {event.key for event in profile.key_averages()}
