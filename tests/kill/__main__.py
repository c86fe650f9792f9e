"""`python -m tests.kill` kills 40 runs anywhere, runs the same commands again, and prints what came of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.kill.cases import Case, run_case, whole_runs
from tests.kill.runs import STAGES


def main() -> int:
    """Exit code: 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="seeds to run (default: 0..39)")
    parser.add_argument("--count", type=int, default=40, help="how many seeds (default 40)")
    parser.add_argument("--verbose", action="store_true", help="print every kill")
    options = parser.parse_args()
    cases = []
    with tempfile.TemporaryDirectory() as name:
        wholes = whole_runs(Path(name))
        folder = Path(name) / "case"
        folder.mkdir()
        for seed in options.seeds or range(options.count):
            cases.append(run_case(seed, wholes, folder))
            _say(cases[-1], everything=options.verbose)
    _summarise(cases)
    return int(any(case.failures for case in cases))


def _say(case: Case, *, everything: bool) -> None:
    if case.failures or everything:
        meant = case.wanted or "any time"
        print(f"seed {case.seed}: meant {meant}, killed at {case.stage}, {case.kept} segments kept")
    for failure in case.failures:
        print(f"  FAILED {failure}")
    sys.stdout.flush()


def _summarise(cases: list[Case]) -> None:
    killed = Counter(case.stage for case in cases)
    anywhere = Counter(case.stage for case in cases if not case.wanted)
    for stage in ("start", *STAGES, "over"):
        print(f"{stage:<9} {killed[stage]:>3} killed, {anywhere[stage]} of them at any time")
    failed = sum(bool(case.failures) for case in cases)
    print(f"{len(cases)} killed and gone on with, {failed} failed")


if __name__ == "__main__":
    sys.exit(main())
