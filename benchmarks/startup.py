"""How long `starvsr upscale` takes on one small frame, beside `import torch, av` alone.

    python benchmarks/startup.py [--runs 9] [--size 64x36]

Both are processes of their own, in turn, after one of each that does not count; prints medians and the median of the
pairs' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from starvsr.bench.job import write_clip


def seconds(command: list[str]) -> float:
    """Wall seconds of a process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure both, pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--size", default="64x36")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.mp4"), Path(folder, "out.mp4")
        write_clip(source, (width, height), 1)
        job = ["-m", "starvsr", "upscale", str(source), str(target), "--overwrite", "-q"]
        ours = [sys.executable, *job, "--model", "nano"]
        bare = [sys.executable, "-c", "import torch, av"]
        pairs = [(seconds(ours), seconds(bare)) for _ in range(arguments.runs + 1)][1:]
    print(
        f"starvsr upscale, 1 frame of {arguments.size}: {statistics.median(a for a, _ in pairs):.3f} s"
    )
    print(f"import torch, av:{statistics.median(b for _, b in pairs):22.3f} s")
    ratios = sorted(a / b for a, b in pairs)
    print(f"ratio: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
