"""`python -m tests.kill` kills 40 runs anywhere, runs the same commands again, and prints what came of them.

With `--signal` they are told to end instead; with `--inject` system calls fail in turn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.kill.cases import SIGNALS, Case, run_case, whole_runs
from tests.kill.inject import Outcome, all_injections, inject, is_possible, prepared
from tests.kill.runs import STAGES


def main() -> int:
    """Exit code: 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="seeds to run (default: 0..39)")
    parser.add_argument("--count", type=int, default=40, help="how many seeds (default 40)")
    parser.add_argument("--verbose", action="store_true", help="print every kill")
    parser.add_argument("--signal", choices=SIGNALS, default="SIGKILL", help="what ends a run")
    parser.add_argument("--inject", action="store_true", help="let system calls fail instead")
    parser.add_argument("--most", type=int, help="with --inject: so many of all failures")
    options = parser.parse_args()
    if options.inject:
        return _inject(options.most, everything=options.verbose)
    cases = []
    with tempfile.TemporaryDirectory() as name:
        wholes = whole_runs(Path(name))
        folder = Path(name) / "case"
        folder.mkdir()
        for seed in options.seeds or range(options.count):
            cases.append(run_case(seed, wholes, folder, SIGNALS[options.signal]))
            _say(cases[-1], everything=options.verbose)
    _summarise(cases)
    return int(any(case.failures for case in cases))


def _inject(most: int | None, *, everything: bool) -> int:
    if not is_possible():
        print("skipped: there is no strace, or it may not trace")
        return 0
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="inject-") as name:
        stage, scenes = prepared(Path(name))
        for scene, injection in all_injections(stage, scenes)[:most]:
            outcomes.append(inject(scene, injection, stage))
            if outcomes[-1].failures or everything:
                print(f"{scene.name}: {injection}", *outcomes[-1].failures, sep="\n  ")
                sys.stdout.flush()
    failed = sum(bool(outcome.failures) for outcome in outcomes)
    happened = Counter(outcome.injection.call.name for outcome in outcomes if outcome.happened)
    print(", ".join(f"{count} x {call}" for call, count in happened.most_common()))
    print(f"{len(outcomes)} injections, {happened.total()} happened, {failed} failed")
    return int(failed > 0)


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
