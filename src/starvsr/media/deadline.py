"""Calls into libav and file systems that may never return: a demuxer that goes in circles, a disk that does not answer.

Nothing ends such a call from outside. So it is made in a thread of its own, which is left behind when its time is up
or the waiting thread is interrupted: a daemon, so the process can end. Starting one takes about 0.1 ms.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread, local
from typing import Generic, Protocol, TypeVar

from starvsr.errors import InputError, UsageError

VARIABLE = "STARVSR_INPUT_TIMEOUT"
"""Environment variable: seconds that one call may take; 0 is no limit."""
DEFAULT_S = 60.0
"""A disk that has to start turning, or a header at the end of a large file on a slow network, takes less."""

# So often whoever waits looks whether it is to stop; signals are handled then, whichever thread they reached.
_TICK_S = 0.2
# So long an interrupted call is waited for, after which its file can be closed.
_GRACE_S = 0.5

Result = TypeVar("Result")


class Closable(Protocol):
    """What a call works with, such as a container of PyAV's."""

    def close(self) -> None: ...


_stuck: set[Closable] = set()
"""What threads that were left behind still work with: closing it under their hands would crash."""
_here = local()


class TooLongError(InputError):
    """A call has not returned in time. What is wrong may be the disk and not the file."""


class StoppedError(Exception):
    """Waiting was given up because `stopping_with` said so."""


def timeout_s() -> float | None:
    """Seconds that one call may take, by the environment; None is no limit. Raises UsageError for a wrong value."""
    text = os.environ.get(VARIABLE, "").strip()
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(
            f"{VARIABLE}={text[:40]} is no number of seconds: give 60, or another one, or 0 for no limit"
        )
    return seconds or None


def libav_timeout() -> tuple[float | None, None]:
    """What `av.open` takes as `timeout`: most threads that were left behind in it end after a while.

    Not those that never read. Reading has no such limit: libav's clock goes on while the process is stopped.
    """
    seconds = timeout_s()
    return (2 * seconds if seconds else None), None


def within_deadline(
    name: Path | str, call: Callable[[], Result], using: Closable | None = None
) -> Result:
    """What a call returns that reads the file `name`, and that may hang.

    using: what the call works with; others must not touch it meanwhile, and it is closed by `closing_unless_stuck`.
    Raises what the call raises, TooLongError where it takes longer than `timeout_s`, UsageError as that does, and
    StoppedError (see `stopping_with`).
    """
    thread = _Call(call, using)
    try:
        _wait(thread, name, timeout_s())
    except BaseException:
        # First, since another signal may end the waiting.
        if using is not None:
            _stuck.add(using)
        # It may not even have been started.
        with suppress(RuntimeError):
            thread.join(_GRACE_S)
        if using is not None and thread.ended:
            _stuck.discard(using)
        raise
    return thread.outcome()


def _wait(thread: _Call[Result], name: Path | str, limit: float | None) -> None:
    stop: Event | None = getattr(_here, "stop", None)
    waited = 0.0
    thread.start()
    while not thread.ended:
        if stop is not None and stop.is_set():
            raise StoppedError
        if limit is not None and waited >= limit:
            raise TooLongError(
                f"{name} cannot be read: nothing came of it in {limit:g} seconds, so it is damaged or its disk does "
                f"not answer; where the disk is only slow, set the environment variable {VARIABLE} to more seconds"
            )
        thread.join(_TICK_S)
        # By a clock, time would go by while the process is stopped (Ctrl-Z).
        waited += _TICK_S


@contextmanager
def closing_unless_stuck(thing: Closable) -> Iterator[None]:
    """Close something at the end of the `with` block, unless a thread that was left behind still works with it."""
    try:
        yield
    finally:
        if thing not in _stuck:
            thing.close()


@contextmanager
def stopping_with(stop: Event) -> Iterator[None]:
    """In the `with` block `within_deadline`, called by this thread, gives up soon after `stop` is set."""
    before: Event | None = getattr(_here, "stop", None)
    _here.stop = stop
    try:
        yield
    finally:
        _here.stop = before


class _Call(Thread, Generic[Result]):
    """One call, and what came of it."""

    def __init__(self, call: Callable[[], Result], using: Closable | None) -> None:
        super().__init__(daemon=True)
        self.ended = False
        self._using = using
        self._call: Callable[[], Result] | None = call
        self._results: list[Result] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            if self._call is not None:
                self._results.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self.ended = True
            if self._using is not None:
                _stuck.discard(self._using)
            # What the call held must not live as long as its thread's object.
            self._call = self._using = None

    def outcome(self) -> Result:
        """What it returned. Raises what it raised."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        return self._results.pop()
