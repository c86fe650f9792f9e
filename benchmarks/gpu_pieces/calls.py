"""Calls of a network on the device: inputs, FLOPs, time and memory beside the ceilings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from operator import mul
from typing import Any

import torch
from torch import Tensor

from gpu_pieces.setting import DTYPES, Peaks, Setting, timed
from starvsr.bench.network import count_flops
from starvsr.models.build import build_network
from starvsr.models.compiled import compiling_s
from starvsr.models.network import VideoNetwork
from starvsr.models.shared import Shared
from starvsr.types import NetworkConfig

Window = tuple[int, int, int]

_COUNTED = (2, 3, 4)
"""Frames; with one, attention over frames is none."""


class Inputs:
    """Random arguments of calls on one window, two contexts among them, all on the device."""

    def __init__(
        self,
        network: VideoNetwork,
        tokens: int,
        window: Window,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        generator = torch.Generator(device).manual_seed(0)
        config: NetworkConfig = network.config
        draw = partial(torch.randn, generator=generator, device=device)
        self.network, self.dtype = network, dtype
        self.x = draw(1, config.latent_channels, *window).to(dtype)
        self.t = torch.tensor([500], device=device)
        self.hint = network.see(draw(self.x.shape).to(dtype)) if config.control else None
        self.contexts = [
            network.embed(draw(1, tokens, config.context_width).to(dtype)) for _ in range(2)
        ]

    def one(self, *extra: Any) -> Tensor:
        """A call with the first context."""
        out: Tensor = self.network(self.x, self.t, self.contexts[0], self.hint, *extra)
        return out

    def both(self, *, share: bool) -> Tensor:
        """Both halves of the guidance, which share what precedes the text if asked."""
        shared = (Shared(),) if share else ()
        for context in self.contexts:
            out: Tensor = self.network(self.x, self.t, context, self.hint, *shared)
        return out


def flops_of(config: NetworkConfig, window: Window, tokens: int) -> tuple[int, int]:
    """Of one call, and of the second half of the guidance, counted without computing.

    Counting takes as long as frames are many. But for what does not depend on frames, and attention over them, which
    goes with their square, all goes with their number, so three counts give any other.
    """
    frames, *size = window
    if frames <= _COUNTED[-1]:
        return _counted(config, window, tokens)
    few = [_counted(config, (number, *size), tokens) for number in _COUNTED]
    a, b, c = _COUNTED
    factors = (
        (frames - b) * (frames - c) // ((a - b) * (a - c)),
        (frames - a) * (frames - c) // ((b - a) * (b - c)),
        (frames - a) * (frames - b) // ((c - a) * (c - b)),
    )
    first, second = (sum(map(mul, factors, each)) for each in zip(*few, strict=True))
    return first, second


@cache
def _counted(config: NetworkConfig, window: Window, tokens: int) -> tuple[int, int]:
    with torch.device("meta"), torch.inference_mode():
        network = build_network(config).eval()
        x = torch.zeros(1, config.latent_channels, *window)
        context = network.embed(torch.zeros(1, tokens, config.context_width))
        inputs = x, torch.zeros(1), context, network.see(x) if config.control else None
        shared = (Shared(),) if config.shares else ()
        first, second = (count_flops(lambda: network(*inputs, *shared)) for _ in range(2))
    return first, second


def rates(setting: Setting, precision: str, flops: int, seconds: float) -> dict[str, float]:
    """Beside the measured ceilings of this precision."""
    limits = setting.ceilings(precision)
    tflops = flops / seconds / 1e12
    return {
        "tflop": flops / 1e12,
        "tflops": tflops,
        "of_matmul": tflops / limits.matmul_tflops,
        "of_conv": tflops / limits.conv_tflops,
    }


@torch.inference_mode()
def measured_call(
    setting: Setting, precision: str, call: Callable[[], Tensor], flops: int
) -> dict[str, Any]:
    """Seconds, memory, rates if FLOPs are known, and whether the numbers are finite."""
    compiled = compiling_s()
    with Peaks(setting) as peaks:
        first, seconds = timed(setting, call)
    return {
        "seconds": seconds,
        "first_s": first,
        "compile_s": compiling_s() - compiled,
        **(rates(setting, precision, flops, seconds) if flops else {}),
        **peaks.described(),
        "finite": bool(call().isfinite().all()),
    }


@torch.inference_mode()
def measured_network(
    setting: Setting, precision: str, network: VideoNetwork, tokens: int, window: Window
) -> Mapping[str, Any]:
    """One call of a network, and both halves of the guidance."""
    inputs = Inputs(network, tokens, window, setting.device, DTYPES[precision])
    config: NetworkConfig = network.config
    first, second = flops_of(config, window, tokens)
    result = measured_call(setting, precision, inputs.one, first)
    if config.shares:
        _, result["both_s"] = timed(setting, lambda: inputs.both(share=True))
        result["both_tflops"] = (first + second) / result["both_s"] / 1e12
    return result


@torch.inference_mode()
def kernels(setting: Setting, call: Callable[[], object], most: int = 25) -> list[dict[str, Any]]:
    """Where the time of a call goes: the kernels that took most, of a CPU its operators."""
    from torch.profiler import ProfilerActivity, profile

    on_device = setting.device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    call()
    setting.wait()
    with profile(activities=kinds) as seen:
        call()
        setting.wait()
    wanted = "CUDA" if on_device else "CPU"
    field = "self_device_time_total" if on_device else "self_cpu_time_total"
    rows = [each for each in seen.key_averages() if each.device_type.name == wanted]
    total = sum(getattr(each, field) for each in rows) or 1
    rows.sort(key=lambda each: -getattr(each, field))
    return [
        {
            "name": each.key[:90],
            "calls": each.count,
            "ms": getattr(each, field) / 1000,
            "share": getattr(each, field) / total,
        }
        for each in rows[:most]
    ]
