"""The memory that `starvsr.memory` predicts against what one call takes on this CPU.

    python benchmarks/memory_model.py [--of small wide nano full autoencoder]

For each window: predicted; alive (tensors that were made, exactly); resident (growth of the process at its peak, with
large blocks returned to the system at once); and resident with the C library's usual heap, which retains much freed
memory. Kernels' copies of weights and inputs count as resident, not as alive. By default small, wide and
nano; `full` is the full-size network (7.6 GiB of seeded weights, minutes), `autoencoder` the temporal one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from starvsr.plan import memory
from starvsr.specs import NANO
from starvsr.types import UNetConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.peak_memory import autoencoder_call, live_bytes, network_call, resident_bytes
from tests.plan.test_memory import WIDE
from tests.zoo.published import SMALL_STAR

Window = tuple[int, int, int]

NETWORKS: list[tuple[str, UNetConfig, list[Window]]] = [
    ("small", SMALL_STAR.network, [(4, 48, 48), (16, 96, 96), (32, 96, 96)]),
    ("wide", WIDE, [(4, 58, 80), (16, 58, 80)]),
    ("nano", NANO.network, [(2, 270, 480), (16, 212, 256)]),
]
FULL: list[Window] = [(4, 26, 32), (8, 50, 80)]
PICTURES: list[Window] = [(1, 32, 32), (2, 20, 24), (3, 24, 32)]


def row(name: str, window: Window, predicted: int, measured: list[int]) -> None:
    """Print a line: sizes in MiB, and the prediction over what was measured."""
    shown = "  ".join(f"{size / 2**20:8.1f} ({predicted / size:.3f})" for size in measured)
    size = "x".join(map(str, window))
    print(f"{name:8} {size:>10}  {predicted / 2**20:9.1f}  {shown}", flush=True)


def measure_network(name: str, config: UNetConfig, windows: list[Window]) -> None:
    """One line for each window."""
    for window in windows:
        predicted = memory.network_peak_bytes(config, window, 4)
        resident = [resident_bytes(config, window), resident_bytes(config, window, heap=True)]
        row(name, window, predicted, [live_bytes(network_call(config)(window)), *resident])


def measure_autoencoder(pictures: list[Window]) -> None:
    """Two lines for each picture."""
    for frames, rows, columns in pictures:
        pixels, window = 64 * rows * columns, (frames, rows, columns)
        for direction, predicted in (
            ("encode", memory.vae_encode_peak_bytes(pixels)),
            ("decode", memory.vae_decode_peak_bytes(frames, pixels, 4)),
        ):
            alive = live_bytes(autoencoder_call(direction)(window))
            resident = [resident_bytes(direction, window, heap=heap) for heap in (False, True)]
            row(direction, window, predicted, [alive, *resident])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    usual = [name for name, _, _ in NETWORKS]
    parser.add_argument("--of", nargs="+", choices=[*usual, "full", "autoencoder"], default=usual)
    names = parser.parse_args().of
    print("float32, MiB    window  predicted     alive             resident          usual heap")
    for name, config, windows in NETWORKS:
        if name in names:
            measure_network(name, config, windows)
    if "full" in names:
        # One copy of the weights at a time has to fit.
        for window in FULL:
            config = UNetConfig()
            predicted = memory.network_peak_bytes(config, window, 4)
            row("full", window, predicted, [resident_bytes(config, window)])
    if "autoencoder" in names:
        measure_autoencoder(PICTURES)


if __name__ == "__main__":
    main()
