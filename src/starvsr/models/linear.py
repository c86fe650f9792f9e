"""The linear layer of all networks: on the CPU without autograd it uses oneDNN.

On the CPU torch multiplies float32 matrices with MKL, which does not use AMD's full vector width: with AVX-512 it
reached 0.44 of oneDNN's rate, which is also that of convolutions (`benchmarks/linear.py`).
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)

ONEDNN_AVAILABLE = torch.backends.mkldnn.is_available() and platform.machine() in (  # type: ignore[no-untyped-call]
    "x86_64",
    "AMD64",
)
"""On other machines oneDNN has not been measured to be faster."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x weight^T + bias` for x of `... c`, weight `k c` and bias `k`; gives `... k`."""
    if goes_through_onednn(x, weight) and (product := onednn_product()):
        return product(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


@cache
def onednn_product() -> Callable[..., Tensor] | None:
    """The operator that torch.compile emits for a linear layer; None, with a warning, if this torch has none."""
    x = torch.ones(1, 1, device="cpu")
    try:
        # torch has no public name for it, and may rename or change it.
        product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
        product(x, x, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError) as error:
        logger.warning(
            "linear layers are slower on this CPU: torch has no oneDNN product (%s)", error
        )
        return None
    return product


def goes_through_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `linear` uses oneDNN for these; torch.compile makes its own choice."""
    return (
        ONEDNN_AVAILABLE
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and onednn_product() is not None
    )


class Linear(nn.Linear):
    """`nn.Linear`, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """`... c -> ... k`."""
        return linear(x, self.weight, self.bias)
