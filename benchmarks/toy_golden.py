"""Write `tests/golden/toy.safetensors`: the embedded toy's output for the sample, as in `tests/restore/test_toy.py`.

    python benchmarks/toy_golden.py

Run it once for new weights of the toy or a new sample, never to make a failing test pass.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.restore.test_toy import CASES, GOLDEN, STORED, prompted, restored

from starvsr.zoo.load import load_model


def main() -> None:
    """Run every case."""
    torch.set_num_threads(1)
    toy = load_model("toy", device="cpu")
    results = {}
    for case, (words, sampling) in CASES.items():
        model = prompted(words) if words else toy
        pictures = restored(model, **sampling)[STORED]
        results[case] = (pictures * 255).round().byte().contiguous()
    save_file(results, GOLDEN)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    # Only --help.
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
