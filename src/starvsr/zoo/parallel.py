"""Work in several threads that an interrupt need not wait for.

A thread may be inside a connection that only a timeout ends, and threads of a pool keep the process from
ending until then. These are daemons: asked to stop, given a moment, and abandoned.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from threading import Event, Thread
from typing import TypeVar

TICK_S = 0.2
_GRACE_S = 0.5

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Work stopped because it was asked to."""


def in_parallel(
    work: Callable[[Argument, Event], Result],
    arguments: Sequence[Argument],
    *,
    threads: int,
    tick: Callable[[], None] = lambda: None,
) -> list[Result]:
    """The results of `work` for all arguments, in their order.

    work: gets an argument and an event; once that is set it must write nothing more and raise StoppedError soon.
    tick: called every `TICK_S` and at the end, in the calling thread. Raises the first error of `work`, or what
    interrupts the calling thread.
    """
    stop = Event()
    futures: list[Future[Result]] = [Future() for _ in arguments]
    waiting = deque(zip(futures, arguments, strict=True))

    def go_through() -> None:
        while waiting and not stop.is_set():
            try:
                future, argument = waiting.popleft()
            except IndexError:
                return
            try:
                future.set_result(work(argument, stop))
            except BaseException as error:
                # In this order the error comes before those that it causes.
                future.set_exception(error)
                stop.set()

    workers = [Thread(target=go_through, daemon=True) for _ in futures[:threads]]
    try:
        for worker in workers:
            worker.start()
        _watch(futures, tick)
    finally:
        stop.set()
        end = time.monotonic() + _GRACE_S
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
    return [future.result() for future in futures]


def _watch(futures: Sequence[Future[Result]], tick: Callable[[], None]) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=TICK_S, return_when=FIRST_EXCEPTION)
        tick()
        for error in (future.exception() for future in done):
            if error is not None and not isinstance(error, StoppedError):
                raise error
