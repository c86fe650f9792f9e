"""Ceilings and memory of this machine, by what must hold on any."""

from __future__ import annotations

import mmap
import time

import pytest

from starvsr.bench import machine
from starvsr.bench.machine import forget_peak, measure_ceilings, peak_bytes, timed

pytestmark = pytest.mark.usefixtures("one_thread")


def test_ceilings_follow_from_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([0.5, 0.25, 0.125])
    monkeypatch.setattr(machine, "timed", lambda *_: machine.Seconds(9.0, next(taken)))
    found = measure_ceilings()
    assert found.matmul_gflops == pytest.approx(2 * 2048**3 / 0.5 / 1e9)
    assert found.conv_gflops == pytest.approx(2 * 9 * 256 * 256 * 4 * 64 * 64 / 0.25 / 1e9)
    assert found.copy_gbytes == pytest.approx(2 * 0.256 / 0.125)
    assert found.best_gflops == max(found.matmul_gflops, found.conv_gflops)


def test_the_quickest_call_is_told_by_what_others_do_not_disturb() -> None:
    waited = machine.Seconds(wall=3.0, processor=1.0) - machine.Seconds(wall=1.0, processor=0.5)
    assert waited.undisturbed == 0.5
    two_threads = waited + machine.Seconds(wall=0.0, processor=3.0)
    assert two_threads.undisturbed == two_threads.wall == 2.0


def test_the_median_counts_and_the_first_call_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        clock[0] += (100.0, 1.0, 5.0, 2.0)[len(calls) - 1]

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: 2 * clock[0])
    assert timed(call, 3) == machine.Seconds(wall=2.0, processor=4.0)


def test_the_peak_is_of_what_came_since() -> None:
    before = forget_peak()
    # Pages of its own: the heap may have free ones that are resident already.
    with mmap.mmap(-1, 2**26) as block:
        block.write(b"1" * 2**26)
    assert peak_bytes() >= before + 2**25
