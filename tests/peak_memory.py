"""Measuring how much memory a call takes on this processor: what is alive, and what is resident.

Run as a program it prints the resident peak of one call in bytes; `resident_bytes` runs it so, in a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from starvsr.job.heap import return_large_blocks
from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.build import build_network
from starvsr.types import NetworkConfig, RecurrentConfig, UNetConfig

ROOT = Path(__file__).resolve().parent.parent
TEXT_TOKENS = 77
RESET = Path("/proc/self/clear_refs")


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are made inside and still alive; not what kernels take for themselves."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and note its results' memory, if it is new."""
        given = {id(s) for s in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            key = id(storage)
            if key not in given and key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                weakref.finalize(storage, self._sizes.pop, key)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return result


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_iter(tree) if isinstance(leaf, Tensor)]


def live_bytes(call: Callable[[], object]) -> int:
    """Most bytes of tensors that `call` made and that were alive at once."""
    live = LiveBytes()
    with torch.no_grad(), live:
        call()
    return live.peak


def seeded(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """With weights of numbers that are quick to make, ready to run."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.requires_grad_(False).uniform_(-0.02, 0.02)
    module.train(False)
    # diffusers' modules warn of any cast, also of one that changes nothing.
    return module if dtype == torch.float32 else module.to(dtype)


def network_call(
    config: NetworkConfig, dtype: torch.dtype = torch.float32
) -> Callable[[tuple[int, int, int]], Callable[[], object]]:
    """From a window to one call of the seeded network on it."""
    network = build_network(config)
    seeded(network, dtype)
    context = network.embed(torch.zeros(1, TEXT_TOKENS, config.context_width, dtype=dtype))

    def on(window: tuple[int, int, int]) -> Callable[[], object]:
        x = torch.randn(1, config.latent_channels, *window).to(dtype)
        hint = network.see(x.clone()) if config.control else None
        return lambda: network(x, torch.tensor([500]), context, hint)

    return on


def autoencoder_call(
    direction: str, dtype: torch.dtype = torch.float32
) -> Callable[[tuple[int, int, int]], Callable[[], object]]:
    """From a picture (frames, rows, columns of the latent) to `encode` of one of its frames or `decode` of all."""
    module: Any = TemporalVAE.build(
        {
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "layers_per_block": 2,
        }
    )
    module = seeded(module, dtype)

    def on(picture: tuple[int, int, int]) -> Callable[[], object]:
        frames, rows, columns = picture
        if direction == "encode":
            pixels = torch.randn(1, 3, 8 * rows, 8 * columns).to(dtype)
            return lambda: module.encode(pixels).latent_dist.mean
        z = torch.randn(frames, 4, rows, columns).to(dtype)
        return lambda: module.decode(z, frames).sample

    return on


def resident_bytes(
    what: NetworkConfig | str,
    window: tuple[int, int, int],
    dtype: str = "float32",
    *,
    heap: bool = False,
) -> int:
    """By how much one call raises the resident memory of a process of its own, at its peak.

    what: the network of a configuration, or `encode` or `decode` of the autoencoder. heap: leave large blocks to the C
    library's heap, which keeps what was freed, how much depending on the order of sizes.
    """
    named = what if isinstance(what, str) else dataclasses.asdict(what)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.peak_memory", json.dumps([named, window, dtype, heap])],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _config(fields: dict[str, Any]) -> NetworkConfig:
    return RecurrentConfig(**fields) if "stem_width" in fields else UNetConfig(**fields)


def main() -> None:
    """Print the resident peak of the call that the argument describes, over what was resident before."""
    named, window, dtype_name, heap = json.loads(sys.argv[1])
    if not heap:
        return_large_blocks()
    dtype = getattr(torch, dtype_name)
    torch.set_num_threads(1)
    on = (
        autoencoder_call(named, dtype)
        if isinstance(named, str)
        else network_call(_config(named), dtype)
    )
    least = (1, 2, 2) if isinstance(named, str) else (1, 10, 8)
    with torch.no_grad():
        # The first call of every kind of layer sets up what stays.
        on(least)()
        call = on(tuple(window))
        before = _status_bytes("VmRSS")
        RESET.write_text("5")
        call()
    sys.stdout.write(f"{_status_bytes('VmHWM') - before}\n")


if __name__ == "__main__":
    main()
