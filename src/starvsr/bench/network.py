"""One call of a network: its seconds, FLOPs and memory, and those of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from starvsr.bench.machine import Seconds, forget_peak, peak_bytes, timed
from starvsr.models.linear import ONEDNN_AVAILABLE, onednn_product
from starvsr.models.network import VideoNetwork
from starvsr.models.recurrent import Memory
from starvsr.types import NetworkConfig

REST = "the rest"
"""Name of a call's work outside its layers."""

_LEAVES = (nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Work:
    """What something computed, and how long that took."""

    flops: int
    """Products and convolutions; norms and elementwise work are not counted."""
    seconds: Seconds

    @property
    def gflops(self) -> float:
        """FLOPs per undisturbed second, in units of 1e9."""
        return self.flops / self.seconds.undisturbed / 1e9


@dataclass(frozen=True)
class NetworkCall(Work):
    """One call, its seconds the medians of some."""

    latent: tuple[int, int, int]
    """Frames, rows, columns."""
    memory_bytes: int
    """Peak above what was resident before."""


@dataclass(frozen=True)
class Layer(Work):
    """All calls of one layer within one call of the network."""

    name: str


def network_inputs(network: VideoNetwork, latent: tuple[int, int, int]) -> tuple[Any, ...]:
    """Seeded arguments of a call on a latent of (frames, rows, columns), with per-sampling work done."""
    config: NetworkConfig = network.config
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, config.latent_channels, *latent, generator=generator)
    hint = network.see(torch.randn(x.shape, generator=generator)) if config.control else None
    tokens = 77 if config.control else 1
    context = torch.randn(1, tokens, config.context_width, generator=generator)
    return x, torch.tensor([100]), network.embed(context), hint


@torch.inference_mode()
def measure_call(
    network: VideoNetwork, latent: tuple[int, int, int], *, repeats: int = 3
) -> NetworkCall:
    """Count and time a call on a latent of (frames, rows, columns), float32 on the CPU.

    A recurrent network's frames follow others, since a video's first frame, which has no memory, takes less.
    """
    call = _call(network, latent)
    before = forget_peak()
    flops = count_flops(call)
    seconds = timed(call, repeats)
    return NetworkCall(flops, seconds, latent, max(0, peak_bytes() - before))


@torch.inference_mode()
def measure_layers(
    network: VideoNetwork, latent: tuple[int, int, int], *, repeats: int = 3
) -> list[Layer]:
    """Time every convolution and linear layer within the fastest of some calls, the most expensive first.

    Last comes the rest of that call, with which they add up to it: norms, attention, elementwise work, copies.
    """
    call = _call(network, latent)
    with _flop_counter() as counter:
        call()
    counts = counter.get_flop_counts()
    prefix = type(network).__name__
    whole, seconds = min(
        (_time_layers(network, call) for _ in range(repeats)), key=lambda run: run[0].undisturbed
    )
    layers = [
        Layer(sum(counts.get(f"{prefix}.{name}", {}).values()), spent, name)
        for name, spent in seconds.items()
    ]
    flops = int(counter.get_total_flops()) - sum(layer.flops for layer in layers)
    rest = Layer(flops, whole - sum(seconds.values(), start=Seconds(0, 0)), REST)
    return [*sorted(layers, key=lambda layer: -layer.seconds.undisturbed), rest]


def count_flops(call: Callable[[], object]) -> int:
    """FLOPs of one call: products and convolutions, not norms and elementwise work."""
    with _flop_counter() as counter:
        call()
    return int(counter.get_total_flops())


def _flop_counter() -> FlopCounterMode:
    """torch's counter, extended with CPU-only kernels."""
    counted: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops
    }
    if ONEDNN_AVAILABLE and (product := onednn_product()):
        counted[product] = _linear_flops
    return FlopCounterMode(display=False, custom_mapping=counted)


def _attention_flops(
    q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *_: object, **__: object
) -> int:
    """Multiplications and additions of both products."""
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * k[2] * (width + v[3])


def _call(network: VideoNetwork, latent: tuple[int, int, int]) -> Callable[[], object]:
    """A call that can be repeated; of a recurrent network always after the same frame."""
    arguments = network_inputs(network, latent)
    state = state_before(network, arguments)
    return lambda: network(*arguments, *(() if state is None else (Memory(state),)))


def state_before(network: VideoNetwork, arguments: tuple[Any, ...]) -> Any:
    """What a recurrent network remembers of a frame before; None of any other."""
    config: NetworkConfig = network.config
    if not config.recurrent:
        return None
    x, *others = arguments
    memory = Memory(None)
    network(x[:, :, :1], *others, memory)
    return memory.state


def _linear_flops(x: tuple[int, ...], weight: tuple[int, ...], *_: object, **__: object) -> int:
    """Multiplications and additions."""
    return 2 * math.prod(x) * weight[0]


def _time_layers(
    network: VideoNetwork, call: Callable[[], object]
) -> tuple[Seconds, dict[str, Seconds]]:
    """What one call took, and each of its leaves."""
    seconds: dict[str, Seconds] = {}
    with _timed_leaves(network, seconds):
        began = Seconds.now()
        call()
        return Seconds.now() - began, seconds


@contextmanager
def _timed_leaves(network: VideoNetwork, seconds: dict[str, Seconds]) -> Iterator[None]:
    """Adds the time of every leaf's calls to `seconds`."""
    handles = []
    began: dict[str, Seconds] = {}
    for name, module in network.named_modules():
        if not isinstance(module, _LEAVES):
            continue

        def before(_: nn.Module, __: tuple[Tensor, ...], name: str = name) -> None:
            began[name] = Seconds.now()

        def after(_: nn.Module, __: tuple[Tensor, ...], ___: Tensor, name: str = name) -> None:
            seconds[name] = seconds.get(name, Seconds(0, 0)) + (Seconds.now() - began[name])

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
