"""How fast one call of a network is, against what this machine can do in the same run.

    python benchmarks/unet.py [--frames 1 4] [--full] [--golden] [--threads N] [--repeats N]

nano's network runs on 108x192 and 136x240 latent elements (768x432 and 960x544 pixels). Its first frame, which
remembers nothing, takes less than the others.
`--full` adds the full-size network (7.6 GiB of seeded weights, about a minute to make) at 26x32 with 4 frames, and
`--golden` checks its outputs against the recorded ones. Other processes on the machine make wall time meaningless:
compare processor time with `--threads 1`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from starvsr.models.network import VideoNetwork
from starvsr.models.unet import StarUNet
from starvsr.types import NetworkConfig, UNetConfig
from starvsr.zoo.convert import from_published, to_published
from starvsr.zoo.load import load_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.golden.seeded_init import seeded_input, seeded_parameter  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
NANO_SIZES = ((108, 192), (136, 240))

# At latent 26x32, 4 frames, float32, one thread (golden README and issue).
ORIGINAL_S, ORIGINAL_CEILINGS, ORIGINAL_GIB = 28.9, (74, 82), 0.32


def seconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Best wall and processor seconds of `repeats` calls after one that does not count."""
    call()
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors)


def ceilings(repeats: int) -> dict[str, float]:
    """GFLOP/s of a large matrix product and of a large channels-last convolution."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    x = torch.randn(4, 256, 64, 64).to(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3).to(memory_format=torch.channels_last)
    cases: dict[str, tuple[Callable[[], object], float]] = {
        "matmul": (lambda: a @ b, 2 * 2048**3),
        "conv": (lambda: torch.conv2d(x, kernel, padding=1), 2 * 4 * 64**2 * 256**2 * 9),
    }
    return {name: flops / seconds(call, repeats)[0] / 1e9 for name, (call, flops) in cases.items()}


def peak_gib() -> float:
    """Peak resident memory of this process since `forget_peak`, or since its start outside Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def forget_peak() -> float:
    """Start measuring the peak anew, where the system can; gives what is resident now."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")
    return peak_gib()


def attention_flops(
    q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *_: object, **__: object
) -> int:
    """Multiplications and additions of both products; torch's counter leaves out the CPU kernel."""
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * k[2] * (width + v[3])


def counted_flops(call: Callable[[], object]) -> int:
    """FLOPs of one call: products and convolutions, not norms and elementwise work."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: attention_flops}) as counter:
        call()
    return int(counter.get_total_flops())


def compare(processor_s: float, memory_gib: float, limits: dict[str, float]) -> None:
    """The original's recorded run of the same call on one thread, scaled by what the machine could do at the time."""
    scaled = processor_s * max(limits.values()) / max(ORIGINAL_CEILINGS)
    print(
        f"beside the original ({ORIGINAL_S} s of processor time where the best ceiling was {max(ORIGINAL_CEILINGS)} "
        f"GFLOP/s, {ORIGINAL_GIB} GiB above the weights): {scaled / ORIGINAL_S:.2f} of the time after scaling by the "
        f"ceilings, {memory_gib / ORIGINAL_GIB:.2f} of the memory"
    )


def measure(
    name: str, net: VideoNetwork, latent: tuple[int, int, int], repeats: int
) -> tuple[float, float]:
    """Time one call on a latent of (frames, rows, columns) and print a line; gives processor seconds and GiB."""
    config: NetworkConfig = net.config
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, config.latent_channels, *latent, generator=generator)
    hint = torch.randn(x.shape, generator=generator) if config.control else None
    tokens = 77 if config.control else 1
    context = torch.randn(1, tokens, config.context_width, generator=generator)
    t = torch.tensor([100])
    before = forget_peak()
    flops = counted_flops(lambda: net(x, t, context, hint))
    wall, processor = seconds(lambda: net(x, t, context, hint), repeats)
    size, memory_gib = "x".join(map(str, latent)), peak_gib() - before
    print(
        f"{name:14} {size:>10}  {flops / 1e9:8.1f} GFLOP  wall {wall:7.3f} s  processor {processor:7.3f} s  "
        f"{flops / wall / 1e9:6.1f} GFLOP/s  memory +{memory_gib:.2f} GiB"
    )
    return processor, memory_gib


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
        "--frames", type=int, nargs="+", default=[1, 4], help="window lengths for nano"
    )
    parser.add_argument("--full", action="store_true", help="time the full-size network too")
    parser.add_argument(
        "--golden", action="store_true", help="check the full-size network's outputs"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    limits = [ceilings(options.repeats)]
    net = load_model("nano", device="cpu").network
    for frames in options.frames:
        for size in NANO_SIZES:
            measure("nano", net, (frames, *size), options.repeats)
    if options.full or options.golden:
        network = full()
        if options.golden:
            check_golden(network)
        if options.full:
            figures = measure("full", network, (4, 26, 32), options.repeats)
    limits.append(ceilings(options.repeats))
    means = {name: statistics.mean(limit[name] for limit in limits) for name in limits[0]}
    for name, mean in means.items():
        print(f"ceiling {name}: {mean:.1f} GFLOP/s")
    if options.full and options.threads == 1:
        compare(*figures, means)
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
