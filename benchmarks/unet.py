"""How fast one call of a network is, relative to this machine's ceilings in the same run.

    python benchmarks/unet.py [--frames 1 4] [--full [4x26x32 8x50x80]] [--golden] [--threads N] [--repeats N]

nano runs on 108x192 and 136x240 latent elements (768x432 and 960x544 pixels), on frames that follow on others.
`--full` adds the full-size network (7.6 GiB of seeded weights, about a minute to make) on latents of frames, rows and
columns, 4x26x32 by default, and `--golden` checks its outputs against the recorded ones. Other processes on the machine
make wall time meaningless: compare CPU time with `--threads 1`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from starvsr.bench.machine import describe_machine, measure_ceilings
from starvsr.bench.network import NetworkCall, measure_call
from starvsr.models.unet import StarUNet
from starvsr.types import UNetConfig
from starvsr.zoo.convert import from_published, to_published
from starvsr.zoo.load import load_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.golden.seeded_init import seeded_input, seeded_parameter  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
NANO_SIZES = ((108, 192), (136, 240))

# float32, one thread (golden README and issue).
ORIGINAL_LATENT = (4, 26, 32)
ORIGINAL_S, ORIGINAL_CEILINGS, ORIGINAL_GIB = 28.9, (74, 82), 0.32


def compare(call: NetworkCall, best_gflops: float) -> None:
    """The original's recorded run of the same call on one thread, scaled by what the machine could do at the time."""
    scaled = call.seconds.processor * best_gflops / max(ORIGINAL_CEILINGS)
    memory_gib = call.memory_bytes / 2**30
    print(
        f"compared with the original ({ORIGINAL_S} s of CPU time at a best ceiling of {max(ORIGINAL_CEILINGS)} "
        f"GFLOP/s, {ORIGINAL_GIB} GiB above the weights): {scaled / ORIGINAL_S:.2f} of the time after scaling by the "
        f"ceilings, {memory_gib / ORIGINAL_GIB:.2f} of the memory"
    )


def show(name: str, call: NetworkCall) -> None:
    """One line."""
    size = "x".join(map(str, call.latent))
    print(
        f"{name:14} {size:>10}  {call.flops / 1e9:8.1f} GFLOP  wall {call.seconds.wall:7.3f} s  "
        f"CPU {call.seconds.processor:7.3f} s  {call.gflops:6.1f} GFLOP/s  "
        f"memory +{call.memory_bytes / 2**30:.2f} GiB"
    )


def full(seed: int = 0) -> StarUNet:
    """The full-size network with the weights of the golden runs."""
    with torch.device("meta"):
        net = StarUNet(UNetConfig()).eval()
    shapes = {name: tensor.shape for name, tensor in to_published(net.state_dict()).items()}
    published: dict[str, Tensor] = {
        k: seeded_parameter(k, shape, seed) for k, shape in shapes.items()
    }
    net.load_state_dict(from_published(published), assign=True)
    return net


def check_golden(net: StarUNet) -> None:
    """Print the distance of the full-size network to its recorded outputs."""
    with safe_open(GOLDEN / "unet_full.safetensors", "pt") as recorded:
        for case, shape, tokens in (
            ("full_tiny", (1, 4, 2, 10, 8), 7),
            ("full", (1, 4, 4, 26, 32), 77),
        ):
            wanted = recorded.get_tensor(f"{case}.out")
            out = net(
                seeded_input(f"{case}.x", shape, 0),
                recorded.get_tensor(f"{case}.t"),
                seeded_input(f"{case}.y", (1, tokens, 1024), 0),
                seeded_input(f"{case}.hint", shape, 0),
            )
            print(f"{case}: relative L2 error {((out - wanted).norm() / wanted.norm()).item():.2e}")


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--frames", type=int, nargs="*", default=[1, 4], help="window lengths for nano"
    )
    parser.add_argument(
        "--full", nargs="*", help="time the full-size network too, on these latents"
    )
    parser.add_argument(
        "--golden", action="store_true", help="check the full-size network's outputs"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    limits = [measure_ceilings(options.repeats)]
    net = load_model("nano", device="cpu", precision="fp32").network
    for frames in options.frames:
        for size in NANO_SIZES:
            show("nano", measure_call(net, (frames, *size), repeats=options.repeats))
    calls: list[NetworkCall] = []
    if options.full is not None or options.golden:
        network = full()
        if options.golden:
            check_golden(network)
        if options.full is not None:
            for latent in options.full or ["x".join(map(str, ORIGINAL_LATENT))]:
                frames, rows, columns = map(int, latent.split("x"))
                calls.append(
                    measure_call(network, (frames, rows, columns), repeats=options.repeats)
                )
                show("full", calls[-1])
    limits.append(measure_ceilings(options.repeats))
    for name in ("matmul_gflops", "conv_gflops"):
        mean = statistics.mean(getattr(limit, name) for limit in limits)
        print(f"ceiling {name.removesuffix('_gflops')}: {mean:.1f} GFLOP/s")
    best = statistics.mean(limit.best_gflops for limit in limits)
    for call in calls:
        print(f"full on {call.latent}: {call.gflops / best:.0%} of the ceiling")
        if call.latent == ORIGINAL_LATENT and options.threads == 1:
            compare(call, best)
    print(json.dumps(describe_machine()))


if __name__ == "__main__":
    main()
