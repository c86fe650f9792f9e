"""What half precision saves on this CPU, and what `--precision auto` takes.

    python benchmarks/precision.py [--models nano vivid ...] [--rounds 7]

Runs of six frames of 768x432 on one thread, precisions in turn: median CPU seconds a frame, so other processes disturb
little. The last column is bfloat16 over float32.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median

import torch

from starvsr.models.device import device_info
from starvsr.models.recurrent import Memory
from starvsr.plan.settings import PRECISION_VARIABLE, resolve_precision
from starvsr.zoo.load import load_model

LATENT = (1, 48, 6, 108, 192)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["nano"])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    os.environ.pop(PRECISION_VARIABLE, None)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    info, z = device_info("cpu"), torch.randn(LATENT)
    print("| model | auto | fp32 | bf16 | ratio |\n|---|---|---|---|---|")
    for name in args.models:
        loaded = [load_model(name, device="cpu", precision=each) for each in ("fp32", "bf16")]
        seconds: list[list[float]] = [[], []]
        for _ in range(args.rounds):
            for model, spent in zip(loaded, seconds, strict=True):
                x, context = z.to(model.dtype), model.context
                began = time.process_time()
                model.network(x, torch.tensor([100]), context, None, Memory())
                spent.append((time.process_time() - began) / LATENT[2])
        whole, half = map(median, seconds)
        auto = resolve_precision("auto", info, loaded[0].spec)
        print(f"| {name} | {auto} | {whole:.4f} | {half:.4f} | {half / whole:.2f} |")


if __name__ == "__main__":
    main()
