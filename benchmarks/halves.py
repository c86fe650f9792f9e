"""Both halves of the guidance: one after the other, sharing what comes before the text, or as one batch of two.

    python benchmarks/halves.py [--full 4x26x32 ...] [--pairs 3]

By the toy, and with `--full` by the full-size network of `unet.py` on latents of frames, rows and columns; on one
thread, in pairs. Seconds are the lesser of wall and CPU time.
"""

from __future__ import annotations

import argparse
import json

import torch
from unet import full

from starvsr.bench.machine import Seconds, describe_machine
from starvsr.bench.network import network_inputs
from starvsr.models.network import VideoNetwork
from starvsr.models.shared import Shared
from starvsr.zoo.load import load_model

TOY_LATENT = (8, 48, 48)


def compare(name: str, net: VideoNetwork, latent: tuple[int, int, int], pairs: int) -> None:
    """Print a line for each pair."""
    arguments = network_inputs(net, latent)
    doubled = [torch.cat([argument] * 2) for argument in arguments]

    def one_by_one() -> None:
        shared = Shared()
        for _ in range(2):
            net(*arguments, shared)

    for _ in range(pairs):
        began = Seconds.now()
        one_by_one()
        between = Seconds.now()
        net(*doubled)
        batch, apart = (Seconds.now() - between).undisturbed, (between - began).undisturbed
        print(
            f"{name} on {latent}: one by one {apart:.2f} s, as a batch {batch:.2f} s, ratio {batch / apart:.3f}",
            flush=True,
        )


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--full", nargs="+", default=[], metavar="FxHxW")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    compare("toy", load_model("toy", device="cpu").network, TOY_LATENT, options.pairs)
    if options.full:
        network = full()
        for latent in options.full:
            frames, rows, columns = map(int, latent.split("x"))
            compare("full", network, (frames, rows, columns), options.pairs)
    print(json.dumps(describe_machine()))


if __name__ == "__main__":
    main()
