"""A small part of what `python -m tests.fuzz.descriptions` runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.fuzz.descriptions import NASTY, Case, changed, run_case, warm_up
from tests.fuzz.worker import Outcome, Worker
from tests.media.clips import Clip, make

SEEDS = range(60)


@pytest.mark.slow
def test_changed_descriptions(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mkv", Clip(frames=2, width=32, height=24))
    worker = Worker()
    warm_up(clip, tmp_path / "case", worker)
    cases = [run_case(seed, clip, tmp_path / "case", worker) for seed in SEEDS]
    worker.stop()
    failures = [
        f"{case.seed} ({case.what[:100]}): {case.failures}" for case in cases if case.failures
    ]
    assert not failures
    codes = [outcome.code for case in cases for outcome in case.outcomes]
    assert {0, 4} <= set(codes) <= {0, 2, 4}
    assert codes.count(4) > len(codes) // 2
    assert {case.what.split(" of ")[0].split(":")[0] for case in cases} == {
        *("spec", "starvsr_component", "starvsr_vocab", "hashes", "header")
    }


def test_a_seed_is_a_change() -> None:
    text = json.dumps({"a": 1, "b": {"c": [1, 2]}})
    assert changed(text, 7) == changed(text, 7)
    assert len({changed(text, seed)[1] for seed in range(5 * len(NASTY))}) > len(NASTY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": 1}, "ends with code 1"),
        ({"seconds": 6.0}, "6.0 s"),
        ({"peak_bytes": 700 << 20}, "700 MiB"),
        ({"err": "Traceback"}, "traceback"),
    ],
)
def test_what_is_a_failure(changes: dict[str, object], said: str) -> None:
    fine = Outcome(4, "", "error: a is not b: give c\n", 1.0, 1 << 20)
    assert not Case(0, "", (fine,)).failures
    changed_outcome = dataclasses.replace(fine, **changes)  # type: ignore[arg-type]
    assert said in " ".join(Case(0, "", (changed_outcome,)).failures)
