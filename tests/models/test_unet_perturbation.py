"""No parameter is idle: whichever is replaced, a golden of the network notices.

Each of the 2247 tensors takes other random values in turn, on the inputs of the case `traced`. 2247 calls of the whole
network would take minutes, so the parameters of one part (a residual block, a transformer, ...) are tried together:
the part is computed once for each on its recorded inputs, and those results that a golden of the part would hardly
notice go through the rest of the network as the items of one batch, which do not see each other. Parts before the
replaced one return what they did at first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from starvsr.models.layers import Downsample, ResidualBlock, TimeEmbedding, Upsample
from starvsr.models.transformers import SpatialTransformer, TemporalTransformer
from starvsr.models.unet import Head, StarUNet
from tests.golden.seeded_init import seeded_parameter
from tests.models.helpers import relative_error
from tests.models.test_unet_golden import CASES, TOLERANCE, run

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
    """A part of the network that repeats its first result for its first inputs, and can be told another."""

    def __init__(self, part: nn.Module) -> None:
        self.compute: Callable[..., Tensor] = part.forward
        self.inputs: list[Any] | None = None
        self.first = torch.empty(0)
        self.told: Tensor | None = None

    def __call__(self, *inputs: Any) -> Tensor:
        """What the part computes for each item of the batch."""
        if self.inputs is None:
            self.inputs = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
            self.first = self.compute(*inputs)
            return self.first.clone()
        if self.told is not None:
            return self.told.clone()
        pairs = zip(inputs, self.inputs, strict=True)
        tensors = [(new, old) for new, old in pairs if isinstance(new, Tensor)]
        if all(torch.equal(new, old.expand_as(new)) for new, old in tensors):
            return self.first.repeat(len(inputs[0]), *[1] * (self.first.ndim - 1))
        return self.compute(*inputs)


def parts_of(net: StarUNet) -> dict[str, nn.Module]:
    """Parts by name, such that every parameter is inside exactly one."""
    control = net.control
    assert control is not None
    single: set[nn.Module] = {net.encoder.stem, control.encoder.stem, control.hint}
    single |= {*control.exits, control.middle_exit}
    return {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, PARTS) or module in single
    }


@contextmanager
def replaced(parameter: nn.Parameter, name: str) -> Iterator[None]:
    """Give the parameter other random values for a while."""
    kept = parameter.clone()
    parameter.copy_(seeded_parameter(f"other:{name}", parameter.shape, 1))
    yield
    parameter.copy_(kept)


def idle_parameters(net: StarUNet, inputs: list[Tensor]) -> tuple[list[str], int]:
    """Parameters that move neither the output nor their part's result by the tolerance, and how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        parts = {name: (module, Remembered(module)) for name, module in parts_of(net).items()}
        for module, remembered in parts.values():
            patch.setattr(module, "forward", remembered)
        first = net(*inputs)
        idle, seen = [], 0
        for place, (module, part) in parts.items():
            names, results = [], []
            for name, parameter in module.named_parameters(prefix=place):
                with replaced(parameter, name):
                    assert part.inputs is not None
                    names.append(name)
                    results.append(part.compute(*part.inputs))
            errors = [relative_error(result, part.first) for result in results]
            # The part's own result has a golden too, just as tight as the network's; where that notices a parameter,
            # the least of these changes tells whether anything of the part reaches the output.
            noticed = [i for i, error in enumerate(errors) if error > TOLERANCE]
            shown = [i for i in range(len(names)) if i not in noticed]
            shown += sorted(noticed, key=errors.__getitem__)[:1]
            part.told = torch.cat([results[i] for i in shown])
            outputs = net(
                *(tensor.repeat(len(shown), *[1] * (tensor.ndim - 1)) for tensor in inputs)
            )
            part.told = None
            seen += len(names)
            moved = {
                i: relative_error(output, first[0])
                for i, output in zip(shown, outputs, strict=True)
            }
            idle += [names[i] for i in shown if i not in noticed and moved[i] <= TOLERANCE]
            if not all(moved[i] for i in shown if i in noticed):
                idle += [names[i] for i in noticed]
    return idle, seen


@pytest.mark.slow
@torch.no_grad()
def test_every_parameter_is_noticed(small_net: StarUNet, golden: dict[str, Tensor]) -> None:
    inputs = [golden[f"traced.{name}"] for name in ("x", "t", "y", "hint")]
    idle, seen = idle_parameters(small_net, inputs)
    assert seen == len(list(small_net.parameters())) == 2247
    # With two frames there is little for attention over time to choose from; longer cases show the rest.
    unnoticed = []
    for name in idle:
        with replaced(small_net.get_parameter(name), name):
            errors = (
                relative_error(run(small_net, golden, case), golden[f"{case}.out"])
                for case in CASES
            )
            if not any(error > TOLERANCE for error in errors):
                unnoticed.append(name)
    assert not unnoticed
    assert relative_error(run(small_net, golden, "traced"), golden["traced.out"]) < TOLERANCE
