"""Signals that end a run: what each raises, so that temporary files are removed, and the exit codes."""

from __future__ import annotations

import _thread
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Longer than the cleanup takes; a later signal is handled again.
CLEANING_S = 2.0
_AGAIN_S = 0.1


class Ended(BaseException):
    """A signal ends the run; it unwinds like KeyboardInterrupt. Its text, if any, says what is kept."""

    exit_code: int
    word: str


class Interrupted(Ended):
    """Exit code and message of KeyboardInterrupt; raised itself only to say what is kept."""

    exit_code = 130
    word = "interrupted"


class Terminated(Ended):
    """SIGTERM."""

    exit_code = 143
    word = "terminated"


class HungUp(Ended):
    """SIGHUP: the terminal was closed or disconnected."""

    exit_code = 129
    word = "hung up"


_RAISED: dict[str, type[BaseException]] = {
    "SIGINT": KeyboardInterrupt,
    # Ctrl-Break, and closing the console on Windows.
    "SIGBREAK": KeyboardInterrupt,
    "SIGTERM": Terminated,
    "SIGHUP": HungUp,
}


def ended_by(error: BaseException) -> type[Ended]:
    """The class that has the exit code and word of what ended a run."""
    return type(error) if isinstance(error, Ended) else Interrupted


def heed_signals() -> None:
    """Make every signal that ends a run raise, except those ignored by the parent process.

    `nohup` ignores SIGHUP, and a shell ignores Ctrl-C for background jobs.
    """
    handler = SignalHandler()
    for number in _numbers():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
    _raise_again_what_is_dropped(handler)


def _raise_again_what_is_dropped(handler: SignalHandler) -> None:
    """Python drops what is raised in a destructor or a callback; there the signal is delivered once more, later."""
    usual = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        number = handler.pending
        if number is None or dropped.exc_type is not _RAISED[number.name]:
            usual(dropped)
            return
        handler.forget()
        again = threading.Timer(_AGAIN_S, _signal_main_thread, [number])
        again.daemon = True
        again.start()

    sys.unraisablehook = hook


@contextmanager
def signals_first() -> Iterator[None]:
    """In the `with` block, what a signal raised is raised again where a library replaced it by an error of its own.

    C++ code may ignore what Python code raised, and then fail for that; torch 2.13 does where it reads a storage. An
    error that was raised while the signal's was handled, such as one of the cleanup, remains.
    """
    try:
        yield
    except Exception as error:
        raised = next(filter(None, (handler.just_raised() for handler in _handlers())), None)
        if raised is None or any(isinstance(each, raised) for each in _before(error)):
            raise
        raise raised from error


def _handlers() -> Iterator[SignalHandler]:
    for number in _numbers():
        handler = signal.getsignal(number)
        if isinstance(handler, SignalHandler):
            yield handler


def _before(error: BaseException) -> Iterator[BaseException]:
    """What an error was made of, what was being handled when it was raised, and so on."""
    seen, waiting = {id(error)}, [error]
    while waiting:
        each = waiting.pop()
        for before in (each.__cause__, each.__context__):
            if before is not None and id(before) not in seen:
                seen.add(id(before))
                waiting.append(before)
                yield before


def heed_no_more() -> None:
    """After the last cleanup, let signals end the process at once."""
    for number in _numbers():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _numbers() -> list[signal.Signals]:
    """The handled signals that this system has."""
    return [each for each in signal.Signals if each.name in _RAISED]


def _signal_main_thread(number: signal.Signals) -> None:
    """Unlike a simulated signal, one sent to the thread also ends what it waits in; Windows cannot send one."""
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, number)


class SignalHandler:
    """Raises a signal's exception; ignores repeats for `CLEANING_S`, which would interrupt the cleanup.

    All signals share one handler, since a shutdown sends several in succession.
    """

    def __init__(self) -> None:
        self._last = -math.inf
        self.pending: signal.Signals | None = None
        """The last signal that raised."""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > CLEANING_S:
            self.pending = signal.Signals(number)
            raise _RAISED[self.pending.name]

    def just_raised(self) -> type[BaseException] | None:
        """What it raised so recently that no cleanup after it takes as long."""
        if self.pending is None or time.monotonic() - self._last > CLEANING_S:
            return None
        return _RAISED[self.pending.name]

    def forget(self) -> None:
        """Handle the next signal, however soon it comes."""
        self._last = -math.inf
