"""Startup time: commands on one small frame, or on none.

    python benchmarks/startup.py [--runs 9] [--size 64x36]

Each runs in its own process, all in turn, after one warm-up round; prints medians, and the median of the
ratios of `starvsr upscale` to `import torch, av` alone in the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from starvsr.bench.job import write_clip

UPSCALE, BARE = "starvsr upscale", "import torch, av"


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall seconds of a process, and those that its own code ran."""
    began, before = time.perf_counter(), os.times().children_user
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - began, os.times().children_user - before


def main() -> None:
    """Measure all, round by round."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--size", default="64x36")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder, "in.mp4")), str(Path(folder, "out.mp4"))
        write_clip(Path(source), (width, height), 1)
        starvsr, nano = ["-m", "starvsr"], ["--model", "nano"]
        commands = {
            "import starvsr": ["-X", "importtime", "-c", "import starvsr"],
            "starvsr --help": [*starvsr, "--help"],
            "starvsr info": [*starvsr, "info", source],
            "starvsr plan": [*starvsr, "plan", source, *nano],
            UPSCALE: [*starvsr, "upscale", source, target, "--overwrite", "-q", *nano],
            BARE: ["-c", "import torch, av"],
        }
        rounds = [
            {name: seconds(command) for name, command in commands.items()}
            for _ in range(arguments.runs + 1)
        ][1:]
    for name in commands:
        wall, user = (statistics.median(each[name][kind] for each in rounds) for kind in (0, 1))
        print(f"{name:18} {wall:.3f} s wall, {user:.2f} s user")
    ratios = sorted(each[UPSCALE][0] / each[BARE][0] for each in rounds)
    print(f"ratio: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
