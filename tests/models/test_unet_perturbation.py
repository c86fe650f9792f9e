"""No parameter is idle: whichever is replaced, a golden of the network notices.

Each of the 2247 tensors takes other random values in turn, in the run `traced`. Running the whole network each time
would take minutes, so every part gives back its first result whenever it gets exactly its first inputs and its
weights were not replaced; only what comes after a replaced tensor is computed again, in full and for real.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from starvsr.models.layers import Downsample, ResidualBlock, TimeEmbedding, Upsample
from starvsr.models.transformers import SpatialTransformer, TemporalTransformer
from starvsr.models.unet import Head, StarUNet
from tests.golden.seeded_init import seeded_parameter
from tests.models.helpers import relative_error
from tests.models.test_unet_golden import TOLERANCE

PARTS = (
    Downsample,
    Head,
    ResidualBlock,
    SpatialTransformer,
    TemporalTransformer,
    TimeEmbedding,
    Upsample,
)


class Remembered:
    """A part of the network that repeats its first result while nothing has changed for it."""

    def __init__(self, part: nn.Module) -> None:
        self.compute: Callable[..., Tensor] = part.forward
        self.replaced = False
        self.inputs: list[Tensor] | None = None
        self.result = torch.empty(0)
        self.moved = 0.0
        """How far the latest result computed from the first inputs was from the first."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the part computes."""
        if self.inputs is None:
            self.inputs = [tensor.clone() for tensor in inputs]
            self.result = self.compute(*inputs)
            return self.result.clone()
        same = all(torch.equal(new, old) for new, old in zip(inputs, self.inputs, strict=True))
        if same and not self.replaced:
            return self.result.clone()
        result = self.compute(*inputs)
        if same:
            self.moved = relative_error(result, self.result)
        return result


def parts_of(net: StarUNet) -> dict[str, nn.Module]:
    """Parts by name, such that every parameter is inside exactly one."""
    control = net.control
    assert control is not None
    single = {
        net.encoder.stem,
        control.encoder.stem,
        control.hint,
        *control.exits,
        control.middle_exit,
    }
    return {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, PARTS) or module in single
    }


@pytest.mark.slow
@torch.no_grad()
def test_every_parameter_is_noticed(
    small_net: StarUNet, golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {name: Remembered(part) for name, part in parts_of(small_net).items()}
    for name, part in parts.items():
        monkeypatch.setattr(small_net.get_submodule(name), "forward", part)
    inputs = [golden[f"traced.{name}"] for name in ("x", "t", "y", "hint")]
    first = small_net(*inputs)
    unnoticed = []
    for name, parameter in small_net.named_parameters():
        owner = next(part for place, part in parts.items() if name.startswith(f"{place}."))
        kept = parameter.clone()
        parameter.copy_(seeded_parameter(f"other:{name}", parameter.shape, 1))
        owner.replaced, owner.moved = True, 0.0
        moved = relative_error(small_net(*inputs), first)
        owner.replaced = False
        parameter.copy_(kept)
        # Each part's own result is pinned by a golden as well, as tightly as the network's.
        if max(moved, owner.moved) <= TOLERANCE or moved == 0:
            unnoticed.append(name)
    assert not unnoticed
    assert torch.equal(small_net(*inputs), first)
