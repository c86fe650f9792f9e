"""The full set: `python -m tests.fuzz` runs 300 broken files, or the seeds given, and prints what came of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz.cases import Case, run_case, whole_files
from tests.fuzz.worker import Worker


def main() -> int:
    """Exit code: 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="seeds to run (default: 0..299)")
    parser.add_argument("--count", type=int, default=300, help="how many seeds (default 300)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args()
    seeds = options.seeds or range(options.first, options.first + options.count)
    cases = []
    worker = Worker()
    with tempfile.TemporaryDirectory() as name:
        whole = whole_files(Path(name))
        folder = Path(name) / "case"
        folder.mkdir()
        for seed in seeds:
            cases.append(run_case(seed, whole, folder, worker))
            _say(cases[-1], everything=options.verbose)
    worker.stop()
    _summarise(cases)
    return int(any(case.failures for case in cases))


def _say(case: Case, *, everything: bool) -> None:
    if case.failures or everything:
        print(f"seed {case.seed} ({case.what})")
    for failure in case.failures:
        print(f"  FAILED {failure}")
    if everything:
        for command, outcome in case.outcomes.items():
            print(f"  {command}: {outcome.code} in {outcome.seconds:.1f} s, {outcome.err.strip()}")
    sys.stdout.flush()


def _summarise(cases: list[Case]) -> None:
    for command in cases[0].outcomes:
        codes = Counter(case.outcomes[command].code for case in cases)
        print(
            f"{command:<12}", ", ".join(f"{n} x code {code}" for code, n in sorted(codes.items()))
        )
    outcomes = [outcome for case in cases for outcome in case.outcomes.values()]
    slowest = max(outcome.seconds for outcome in outcomes)
    peak = max(outcome.peak_bytes for outcome in outcomes)
    print(
        f"{sum(outcome.kept for outcome in outcomes)} x parts kept, since the copied streams do not fit the container"
    )
    failed = sum(bool(case.failures) for case in cases)
    print(
        f"{len(cases)} files, slowest command {slowest:.1f} s, most memory {peak / 2**20:.0f} MiB, {failed} failed"
    )


if __name__ == "__main__":
    sys.exit(main())
