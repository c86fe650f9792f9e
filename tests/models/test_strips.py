"""Attention in strips equals torch's, in every order of memory, and is used where it pays."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.bench.network import count_flops
from starvsr.models import strips
from starvsr.models.attention import attention
from starvsr.models.linear import ONEDNN_AVAILABLE
from starvsr.models.strips import attention_in_strips, pays
from starvsr.plan.pieces import STRIP_TOKENS


def tokens(n: int, *, heads_first: bool = False) -> Tensor:
    """`2 n 3 16`."""
    if heads_first:
        return torch.randn(2, 3, n, 16).transpose(1, 2)
    return torch.randn(2, n, 3, 16)


@pytest.mark.parametrize(("queries", "keys"), [(1, 5), (300, 300), (513, 260)])
@pytest.mark.parametrize("heads_first", [False, True])
def test_equals_torch(queries: int, keys: int, heads_first: bool) -> None:
    q, k, v = (tokens(n, heads_first=heads_first) for n in (queries, keys, keys))
    with torch.no_grad():
        wanted = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        )
        assert torch.allclose(attention_in_strips(q, k, v), wanted.transpose(1, 2), atol=1e-6)


def test_long_rows_make_short_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = tokens(7), tokens(5), tokens(5)
    with torch.no_grad():
        wanted = attention_in_strips(q, k, v)
        monkeypatch.setattr(strips, "STRIP_ELEMENTS", 3)
        assert torch.allclose(attention_in_strips(q, k, v), wanted, atol=1e-6)


@pytest.mark.skipif(not ONEDNN_AVAILABLE, reason="no x86 processor, or torch without oneDNN")
def test_it_is_used_for_many_tokens_without_autograd() -> None:
    many, few = tokens(STRIP_TOKENS), tokens(STRIP_TOKENS - 1)
    assert not pays(many, many)
    with torch.inference_mode():
        assert pays(many, many)
        assert not pays(many, few) and not pays(few, many)
        assert not pays(many.bfloat16(), many.bfloat16())
        assert torch.equal(attention(many, many, many), attention_in_strips(many, many, many))
        flops = count_flops(lambda: attention(many, many, many))
    assert flops == 2 * 2 * 3 * STRIP_TOKENS**2 * (16 + 16)
