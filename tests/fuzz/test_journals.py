"""A small part of what `make fuzz` does with journals, and that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.journals import MUTATIONS, broken_off, failures_of, run_case
from tests.fuzz.worker import Outcome, Worker


@pytest.mark.slow
def test_tampered_journals(tmp_path: Path) -> None:
    """`make fuzz` runs more of them."""
    job, worker = broken_off(tmp_path), Worker()
    try:
        cases = [run_case(seed, job, worker) for seed in range(2 * len(MUTATIONS))]
    finally:
        worker.stop()
    assert [f"{case.seed} ({case.what}): {case.failures}" for case in cases if case.failures] == []
    codes = {outcome.code for case in cases for outcome in case.outcomes.values()}
    assert {0, 9} <= codes


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome(1, "", "error: a", 0, 0), "code 1"),
        (Outcome(9, "", "", 31, 0), "takes 31.0 s"),
        (Outcome(9, "", "", 1, 601 << 20), "takes 601 MiB"),
    ],
)
def test_what_is_a_failure(outcome: Outcome, said: str) -> None:
    assert said in " ".join(failures_of(outcome))
    assert not failures_of(Outcome(9, "", "error: a", 1, 1))
