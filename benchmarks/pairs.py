"""This revision compared with another one, in pairs of `starvsr bench` runs that take turns.

    python benchmarks/pairs.py REVISION [--pairs 5] [OPTIONS OF starvsr bench]

Prints the median of the pairs' ratios, this revision over the other (below 1: this one takes less), and all of them: of
every call of the network, of the job's wall and CPU time, and of its peak memory. A call's seconds are the lesser of
wall and CPU time, since other processes on the machine lengthen the wall's. REVISION is checked out into a temporary
folder, must have `starvsr bench`, and runs in this environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starvsr.bench.machine import Seconds

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A folder with the files of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def figures(tree: Path, options: list[str]) -> dict[str, float]:
    """Seconds and bytes of one run of the benchmark with the sources of a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "starvsr", "bench", *options, "--json", "--progress", "none"],
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    job = result["job"]
    return {
        **{
            "call on " + "x".join(map(str, call["latent"])): Seconds(**call["seconds"]).undisturbed
            for call in result["calls"]
        },
        "job, wall": job["wall_s"],
        "job, CPU": job["processor_s"],
        "job, peak memory": job["peak_bytes"],
    }


def main() -> None:
    """Run the pairs and print a line for each metric."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("revision")
    parser.add_argument("--pairs", type=int, default=5)
    arguments, options = parser.parse_known_args()
    ratios: dict[str, list[float]] = {}
    with checked_out(arguments.revision) as other:
        for number in range(arguments.pairs):
            # The second run finds warmer files, or a hotter CPU.
            order = [ROOT, other] if number % 2 else [other, ROOT]
            found = {tree: figures(tree, options) for tree in order}
            for name, value in found[ROOT].items():
                ratios.setdefault(name, []).append(value / found[other][name])
    for name, values in ratios.items():
        shown = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:24} {statistics.median(values):.3f}  ({shown})")


if __name__ == "__main__":
    main()
