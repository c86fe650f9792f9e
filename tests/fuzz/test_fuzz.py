"""A small part of what `make fuzz` runs, and that it would notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.cases import failures_of, run_case, whole_files
from tests.fuzz.mutations import MUTATIONS, broken
from tests.fuzz.sources import SOURCES
from tests.fuzz.worker import Outcome, Worker

# One of every source, and every mutation at least twice.
SEEDS = range(40)

Whole = dict[str, tuple[str, bytes]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole_files(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.stop()


@pytest.mark.slow
def test_broken_files(tmp_path: Path, whole: Whole, worker: Worker) -> None:
    """`make fuzz` runs more of them."""
    cases = [run_case(seed, whole, tmp_path, worker) for seed in SEEDS]
    failures = [f"{case.seed} ({case.what}): {case.failures}" for case in cases if case.failures]
    assert not failures
    codes = {case.outcomes["upscale"].code for case in cases}
    assert {0, 3, 8} <= codes, "some are done, some are refused, some lose frames"
    done = [case.what for case in cases]
    assert {what.partition(":")[0] for what in done} == set(SOURCES)
    assert all(any(name in what for what in done) for name in MUTATIONS)


def test_a_seed_is_a_file(whole: Whole) -> None:
    assert broken(7, whole) == broken(7, whole)
    assert len({broken(seed, whole)[2] for seed in range(100)}) > 90


def test_a_process_that_dies_is_noticed_and_replaced(worker: Worker) -> None:
    assert worker.run(["--version"]).code == 0
    worker._process.kill()
    worker._process.join()
    outcome = worker.run(["--version"])
    assert outcome.code == -9
    assert "dies of signal 9" in " ".join(failures_of(outcome))
    assert worker.run(["--version"]).out.startswith("starvsr ")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome(1, "", "error: a", 0, 0), "code 1"),
        (Outcome(3, "", "error: a\nerror: b\n", 0, 0), "2 errors"),
        (Outcome(3, "", "", 0, 0), "0 errors"),
        (Outcome(0, "", "error: a", 0, 0), "1 errors"),
        (Outcome(3, "", "error: a\nTraceback", 0, 0), "traceback"),
        (Outcome(3, "", f"error: {'a' * 999}", 0, 0), "long"),
        (Outcome(0, "", "[h264] from libav", 0, 0), "prints ['[h264] from libav']"),
        (Outcome(0, "\x1b[2J", "", 0, 0), "terminal"),
        (Outcome(0, "", "", 61, 0), "over 60 s"),
        (Outcome(0, "", "", 1, 2 << 30), "2.00 GiB"),
        (Outcome(0, "", "", 60, 0, hung=True), "over 60 s"),
    ],
)
def test_what_is_a_failure(outcome: Outcome, said: str) -> None:
    assert said in " ".join(failures_of(outcome))


def test_what_is_none() -> None:
    assert not failures_of(Outcome(3, "", "error: a is not b: give c\n", 1, 1 << 30))
    assert not failures_of(Outcome(8, "{}\n", "warning: a\nrestoring: 1/1 frames\n", 1, 1 << 30))
