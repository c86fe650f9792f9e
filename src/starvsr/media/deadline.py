"""Calls into libav and file systems that may never return: a demuxer in an endless loop, a disk that does not respond.

Nothing can end such a call from outside. So it runs in its own thread, which is abandoned when the time is up
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
"""Environment variable: seconds that one call may take; 0 means no limit."""
DEFAULT_S = 60.0
"""Enough for a disk that has to spin up, or a header at the end of a large file on a slow network."""

# How often the waiting thread checks whether to stop; signals are handled then, whichever thread they reached.
_TICK_S = 0.2
# How long to wait for an interrupted call, after which its file can be closed.
_GRACE_S = 0.5

Result = TypeVar("Result")


class Closable(Protocol):
    """The object that a call uses, such as a PyAV container."""

    def close(self) -> None: ...


_stuck: set[Closable] = set()
"""Objects that abandoned threads still use: closing them meanwhile would crash."""
_here = local()


class TooLongError(InputError):
    """A call has not returned in time. The cause may be the disk and not the file."""


class StoppedError(Exception):
    """`stopping_with` ended the wait."""


def timeout_s() -> float | None:
    """Seconds that one call may take (from the environment); None is no limit. Raises UsageError for a wrong value."""
    text = os.environ.get(VARIABLE, "").strip()
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(
            f"{VARIABLE}={text[:40]} is not a number of seconds: give 60, or another one, or 0 for no limit"
        )
    return seconds or None


def libav_timeout() -> tuple[float | None, None]:
    """The `timeout` for `av.open`: most threads that were abandoned in it end after a while.

    Those that never read do not. Reading has no such limit: libav's clock runs on while the process is stopped.
    """
    seconds = timeout_s()
    return (2 * seconds if seconds else None), None


def within_deadline(
    name: Path | str, call: Callable[[], Result], using: Closable | None = None
) -> Result:
    """The result of a call that reads the file `name` and may hang.

    using: the object that the call uses; nothing else may touch it meanwhile, and `closing_unless_stuck` closes it.
    Raises what the call raises, TooLongError if it takes longer than `timeout_s`, UsageError as that does, and
    StoppedError (see `stopping_with`).
    """
    thread = _Call(call, using)
    try:
        _wait(thread, name, timeout_s())
    except BaseException:
        # First, since another signal may interrupt the wait.
        if using is not None:
            _stuck.add(using)
        # It may not even have started.
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
                f"{name} cannot be read: no result in {limit:g} seconds, so it is damaged or its disk does "
                f"not respond; if the disk is only slow, set the environment variable {VARIABLE} to more seconds"
            )
        thread.join(_TICK_S)
        # A clock would run on while the process is stopped (Ctrl-Z).
        waited += _TICK_S


@contextmanager
def closing_unless_stuck(thing: Closable) -> Iterator[None]:
    """Close an object at the end of the `with` block, unless an abandoned thread still uses it."""
    try:
        yield
    finally:
        if thing not in _stuck:
            thing.close()


@contextmanager
def stopping_with(stop: Event) -> Iterator[None]:
    """In the `with` block `within_deadline`, called by this thread, stops waiting soon after `stop` is set."""
    before: Event | None = getattr(_here, "stop", None)
    _here.stop = stop
    try:
        yield
    finally:
        _here.stop = before


class _Call(Thread, Generic[Result]):
    """One call and its result."""

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
            # The call's objects must not live as long as its thread object.
            self._call = self._using = None

    def outcome(self) -> Result:
        """The call's result. Raises what the call raised."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        return self._results.pop()
