"""What `--compile` costs and gains: one network call with and without it, in pairs.

    python benchmarks/compiled.py [--model nano] [--latent 1x270x480] [--pairs 5] [--threads 1]

Two processes one after the other: with an empty cache, then with the first one's. Prints wall and CPU seconds of the
first compiled call (those of the C++ compiler included), and for the warm one the median processor seconds of both and
of the pairs' ratios. `--model 64` is STAR's UNet with control branch of that width (320 is full size), seeded.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from starvsr.bench.network import network_inputs, state_before
from starvsr.models.build import build_network
from starvsr.models.compiled import compiler_for
from starvsr.models.network import VideoNetwork
from starvsr.models.offload import assign_weights
from starvsr.models.recurrent import Memory
from starvsr.specs import STAR_LIGHT
from starvsr.zoo.load import load_model

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.golden.seeded_init import fill_module


def networks(name: str) -> tuple[VideoNetwork, VideoNetwork]:
    """Two with the same weights: a model's by its name, or one of the UNet by its width, seeded."""
    if not name.isdigit():
        net = load_model(name, device="cpu", precision="fp32").network
    else:
        config = dataclasses.replace(STAR_LIGHT.network, width=int(name), first_heads=2)
        net = build_network(config).eval().requires_grad_(False)
        fill_module(net, 0)
    with torch.device("meta"):
        twin = build_network(net.config).eval()
    assign_weights(twin, dict(net.named_parameters()))
    net.skip_identity_branches()
    twin.skip_identity_branches()
    return net, twin


def processor_seconds() -> float:
    """CPU time of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def processor_time(call: Callable[[], Tensor]) -> float:
    """Of one call, of this process alone."""
    began = time.process_time()
    call()
    return time.process_time() - began


def measure(arguments: argparse.Namespace) -> None:
    """One process."""
    torch.set_num_threads(arguments.threads)
    net, twin = networks(arguments.model)
    frames, rows, columns = map(int, arguments.latent.split("x"))
    with torch.inference_mode():
        inputs = network_inputs(net, (frames, rows, columns))
        state = state_before(net, inputs)

        def call(network: VideoNetwork) -> Tensor:
            extra = () if state is None else (Memory(state),)
            out: Tensor = network(*inputs, *extra)
            return out

        wanted = call(net)
        began, worked = time.perf_counter(), processor_seconds()
        twin.use_compiler(compiler_for(torch.device("cpu")))
        got = call(twin)
        print(
            f"first compiled call: {time.perf_counter() - began:.1f} s, CPU {processor_seconds() - worked:.1f} s;"
            f" off by {float((got - wanted).norm() / wanted.norm()):.1e}"
        )
        pairs = [
            (processor_time(lambda: call(net)), processor_time(lambda: call(twin)))
            for _ in range(arguments.pairs)
        ]
    if pairs:
        plain, fast = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        print(
            f"a call of {arguments.latent}: {plain:.3f} s, compiled {fast:.3f} s; ratio "
            f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


def main() -> None:
    """Measure cold and warm."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--latent", default="1x270x480")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        measure(arguments)
        return
    given = [f"--model={arguments.model}", f"--latent={arguments.latent}"]
    given.append(f"--threads={arguments.threads}")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder}
        for name, pairs in (("cold", 0), ("warm", arguments.pairs)):
            print(f"{name}:", flush=True)
            command = [sys.executable, __file__, *given, f"--pairs={pairs}", "--here"]
            subprocess.run(command, check=True, env=environment)
        kept = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        print(f"cached on disk: {kept / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
