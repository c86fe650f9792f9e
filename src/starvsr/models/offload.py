"""Weights that stay in main memory (home) and are moved to the device only when used.

Home is best a memory-mapped file, whose pages the system can drop. Weights are converted to their working type and
memory format, so results are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from starvsr.models.layers import Branch, Downsample, ResidualBlock, TimeEmbedding, Upsample
from starvsr.models.transformers import SpatialTransformer, TemporalTransformer

_UNITS = (
    ResidualBlock,
    SpatialTransformer,
    TemporalTransformer,
    Downsample,
    Upsample,
    TimeEmbedding,
)
"""Modules whose weights move together; outside of them, every module that has weights of its own is a unit."""


def placed(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A weight as it is used: on its device, in its type, kernels channels-last; itself where it already is."""
    order = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(device=device, dtype=dtype, memory_format=order)


def assign_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make `weights` the network's parameters as they are: no copy, no change of type, device or order.

    `weights` has every parameter by name, none of which requires a gradient then. Raises KeyError if one is missing.
    """
    for place, module in network.named_modules():
        for name, _ in list(module.named_parameters(recurse=False)):
            value = weights[f"{place}.{name}".lstrip(".")]
            setattr(module, name, nn.Parameter(value, requires_grad=False))


class Offloaded:
    """Weights of a module that stay at home, where they are now, except while in use.

    They never change: device copies are dropped, not copied back.
    """

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """device, dtype: where and in what type the weights work."""
        self.device, self.dtype = device, dtype
        self._homes = [(parameter, parameter.data) for parameter in module.parameters()]

    def bring(self) -> None:
        """Copy the weights to the device."""
        # A parameter cannot hold a tensor that was made in inference mode.
        with torch.inference_mode(False), torch.no_grad():
            for parameter, home in self._homes:
                parameter.data = placed(home, self.device, self.dtype)

    def send_home(self) -> None:
        """Free the weights on the device."""
        with torch.inference_mode(False), torch.no_grad():
            for parameter, home in self._homes:
                parameter.data = home

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The weights are on the device within."""
        try:
            self.bring()
            yield
        finally:
            self.send_home()


def units(network: nn.Module) -> Iterator[nn.Module]:
    """The modules whose weights move together; every weight of the network is in exactly one."""
    if isinstance(network, _UNITS) or any(True for _ in network.parameters(recurse=False)):
        yield network
        return
    for child in network.children():
        yield from units(child)


def offload_blocks(network: nn.Module, device: torch.device, dtype: torch.dtype) -> int:
    """From now on every unit of the network is moved to the device only for its own call; returns their number.

    Skipped branches are not moved.
    """
    parts = list(units(network))
    for unit in parts:
        _offload(unit, Offloaded(unit, device, dtype))
    return len(parts)


def _offload(unit: nn.Module, weights: Offloaded) -> None:
    def before(module: nn.Module, _: object) -> None:
        if not (isinstance(module, Branch) and module.skipped):
            weights.bring()

    def after(*_: object) -> None:
        weights.send_home()

    unit.register_forward_pre_hook(before)
    # Also if the call fails, above all for lack of memory.
    unit.register_forward_hook(after, always_call=True)
