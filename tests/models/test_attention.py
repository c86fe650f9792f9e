"""Every backend of attention against the formula, and the choice between them."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import Tensor

from starvsr.models import attention as module
from starvsr.models.attention import Attention, Backend, FrameAttention, attention, select_backend
from starvsr.models.unet import StarUNet
from tests.models.helpers import TINY, relative_error

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of `b n h d` as it is defined."""
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)


def fake_xformers(monkeypatch: pytest.MonkeyPatch, kernel: object) -> None:
    """Put a package of that name in the way of imports."""
    ops = types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


@pytest.mark.parametrize("backend", list(Backend))
@pytest.mark.parametrize(("n", "m"), [(7, 7), (40, 3), (1, 5), (4, 1)])
def test_backends_compute_attention(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, n: int, m: int
) -> None:
    fake_xformers(monkeypatch, reference)
    q, k, v = torch.randn(3, n, 2, 16), torch.randn(3, m, 2, 16), torch.randn(3, m, 2, 16)
    assert relative_error(attention(q, k, v, backend), reference(q, k, v)) < 1e-6


def here() -> list[tuple[torch.device, Backend]]:
    """Every backend that runs on this machine, with the device that it runs on."""
    found = [(CPU, Backend.SDPA)]
    if torch.cuda.is_available():
        found += [(CUDA, Backend.SDPA)]
        if module._xformers_fault(CUDA) is None:
            found += [(CUDA, Backend.XFORMERS)]
    return found


@pytest.mark.parametrize(("device", "backend"), here())
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)]
)
@pytest.mark.parametrize(("n", "m"), [(64, 64), (40, 77), (3, 5), (1, 1)])
def test_every_backend_of_this_machine_in_every_precision(
    device: torch.device, backend: Backend, dtype: torch.dtype, bound: float, n: int, m: int
) -> None:
    q, k, v = (torch.randn(3, length, 2, 64, device=device).to(dtype) for length in (n, m, m))
    out = attention(q, k, v, backend)
    assert out.dtype == dtype
    assert relative_error(out, reference(q.double(), k.double(), v.double())) < bound


def test_any_order_of_batch_tokens_and_heads() -> None:
    q, k, v = torch.randn(3, 5, 11, 2, 16).transpose(1, 2).unbind()
    assert not q.is_contiguous()
    assert relative_error(attention(q, k, v), reference(q, k, v)) < 1e-6


def test_more_batch_entries_than_a_grid_has_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def kernel(q: Tensor, _k: Tensor, _v: Tensor) -> Tensor:
        sizes.append(q.shape[0])
        return q

    fake_xformers(monkeypatch, kernel)
    monkeypatch.setattr(module, "_MAX_BATCH", 4)
    q = torch.empty(10, 2, 1, 8, device="meta")
    assert attention(q, q, q, Backend.XFORMERS).shape == q.shape
    assert sizes == [4, 4, 2]


class TestChoice:
    """`select_backend`."""

    def test_cpu_takes_sdpa_without_looking_for_xformers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(name: str) -> None:
            raise AssertionError(f"{name} imported")

        monkeypatch.setattr(module, "import_module", refuse)
        for name in ("auto", "sdpa"):
            assert select_backend(name, CPU) is Backend.SDPA
        assert select_backend("sdpa", CUDA) is Backend.SDPA
        with pytest.raises(ValueError, match="needs a CUDA device, and this is cpu"):
            select_backend("xformers", CPU)

    def test_cuda_takes_xformers_where_it_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_xformers_fault", lambda _device: None)
        assert select_backend("auto", CUDA) is Backend.XFORMERS
        assert select_backend("xformers", CUDA) is Backend.XFORMERS

    def test_cuda_without_xformers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "xformers.ops", None)
        assert select_backend("auto", CUDA) is Backend.SDPA
        with pytest.raises(ValueError, match="does not run here"):
            select_backend("xformers", CUDA)

    def test_xformers_that_imports_but_does_not_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Tensor) -> Tensor:
            raise NotImplementedError("no kernel")

        fake_xformers(monkeypatch, broken)
        assert module._xformers_fault(CPU) == "NotImplementedError: no kernel"

    def test_unknown_name(self) -> None:
        with pytest.raises(ValueError, match="choose auto, sdpa or xformers"):
            select_backend("flash", CPU)

    def test_network_carries_the_choice(self) -> None:
        with torch.device("meta"):
            net = StarUNet(TINY)
        net.use_attention(Backend.XFORMERS)
        carried = [part.backend for part in net.modules() if isinstance(part, Attention)]
        assert carried and set(carried) == {Backend.XFORMERS}


@torch.no_grad()
def test_one_source_token_needs_no_query() -> None:
    layer = Attention(32, 16, context_width=8)
    x, context = torch.randn(2, 6, 32), torch.randn(2, 1, 8)
    shortcut = layer(x, context)
    assert shortcut.shape == x.shape
    assert relative_error(shortcut, layer(x, context.expand(-1, 2, -1))) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 33])
def test_attention_over_frames_is_attention_at_each_pixel(batch: int, frames: int) -> None:
    layer = FrameAttention(32, 16)
    x = torch.randn(batch, frames, 6, 32)
    out = layer(x)
    for pixel in range(6):
        # Attention does not know an order, and does not change if every token comes twice.
        alone = Attention.forward(layer, x[:, :, pixel].repeat(1, 2, 1))[:, :frames]
        assert relative_error(out[:, :, pixel], alone) < 1e-5


def test_attention_over_frames_takes_no_context() -> None:
    with pytest.raises(ValueError, match="takes no context"):
        FrameAttention(32, 16)(torch.randn(1, 2, 3, 32), torch.randn(1, 2, 32))
