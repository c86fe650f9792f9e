"""What ends a run from outside: the signals, what each raises so that temporary files go, and the exit code."""

from __future__ import annotations

import math
import signal
import time
from types import FrameType

# Removing what is unfinished takes less; a signal after this long is heard again.
CLEANING_S = 2.0


class Ended(BaseException):
    """A signal ends the run; it unwinds like KeyboardInterrupt."""

    exit_code: int
    word: str


class Interrupted(Ended):
    """Only a name for what KeyboardInterrupt, which everybody knows, says in the end; never raised."""

    exit_code = 130
    word = "interrupted"


class Terminated(Ended):
    """SIGTERM."""

    exit_code = 143
    word = "terminated"


class HungUp(Ended):
    """SIGHUP: the terminal was closed, or the connection to it is gone."""

    exit_code = 129
    word = "hung up"


_RAISED: dict[str, type[BaseException]] = {
    "SIGINT": KeyboardInterrupt,
    # Ctrl-Break, and on Windows a console that is closed.
    "SIGBREAK": KeyboardInterrupt,
    "SIGTERM": Terminated,
    "SIGHUP": HungUp,
}


def ended_by(error: BaseException) -> type[Ended]:
    """What ended a run, for its exit code and word."""
    return type(error) if isinstance(error, Ended) else Interrupted


def heed_signals() -> None:
    """Let every signal that ends a run raise, but for those that whoever began it has ignored.

    `nohup` ignores SIGHUP, and a shell Ctrl-C for what runs in the background.
    """
    handler = SignalHandler()
    for number in _numbers():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def heed_no_more() -> None:
    """Behind the last thing that has to be cleaned up, signals end the process at once."""
    for number in _numbers():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _numbers() -> list[signal.Signals]:
    """Those that this system has."""
    return [each for each in signal.Signals if each.name in _RAISED]


class SignalHandler:
    """Raises what a signal stands for; not again at once, which would stop the cleaning up that it began.

    One for all: whoever shuts down sends several, one after the other.
    """

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > CLEANING_S:
            raise _RAISED[signal.Signals(number).name]
