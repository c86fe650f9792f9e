"""Work in several threads: order, errors, and that nobody waits for a thread that hangs."""

from __future__ import annotations

import threading
import time
from threading import Event

import pytest

from starvsr.zoo.parallel import StoppedError, in_parallel


def test_results_are_in_order_and_threads_share_the_work() -> None:
    both = threading.Barrier(2, timeout=30)

    def square(number: int, stop: Event) -> int:
        if number < 2:
            both.wait()
        return number * number

    assert in_parallel(square, range(50), threads=2) == [n * n for n in range(50)]
    assert in_parallel(square, [], threads=2) == []


def test_first_error_is_raised_and_stops_the_others() -> None:
    begun, stopped = [], Event()

    def work(number: int, stop: Event) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("one")
        assert stop.wait(30)
        stopped.set()
        raise StoppedError

    with pytest.raises(ValueError, match="one"):
        in_parallel(work, range(50), threads=2)
    assert stopped.wait(30)
    assert begun == [0, 1]


def test_hanging_thread_is_left_behind_and_does_not_keep_the_process() -> None:
    end, daemons = Event(), []

    def work(number: int, stop: Event) -> None:
        daemons.append(threading.current_thread().daemon)
        if number == 1:
            raise ValueError("one")
        end.wait(60)

    began = time.monotonic()
    with pytest.raises(ValueError, match="one"):
        in_parallel(work, range(2), threads=2)
    # It would be 60 s.
    assert time.monotonic() - began < 30
    assert daemons == [True, True]
    end.set()


def test_interrupt_of_the_caller_stops_the_work() -> None:
    stopped = Event()

    def work(number: int, stop: Event) -> None:
        assert stop.wait(30)
        stopped.set()
        raise StoppedError

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel(work, range(1), threads=1, tick=interrupt)
    assert stopped.wait(30)
